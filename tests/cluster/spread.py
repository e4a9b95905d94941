"""Runs with the client's environment: ``spread.py <uri>``. A collection on several logs."""

import sys

from pymilvus import DataType, MilvusClient

client = MilvusClient(uri=sys.argv[1])
schema = MilvusClient.create_schema(auto_id=False)
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
client.create_collection("spread", schema=schema, num_shards=4)
