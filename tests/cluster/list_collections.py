"""Runs with the client's environment: ``list_collections.py <uri>``. Prints what there is."""

import sys

from pymilvus import MilvusClient

print(*MilvusClient(uri=sys.argv[1]).list_collections())
