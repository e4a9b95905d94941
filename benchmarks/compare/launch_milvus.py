"""Started with the environment that has the ``milvus`` package: run its server and print its pid.

The server outlives this process, so that it can be killed like any other.
"""

import os
import sys

from milvus import MilvusServer

server = MilvusServer(wait_for_started=False)
server.set_base_dir(sys.argv[1])
server.listen_port = int(sys.argv[2])
server.start()
print(server.server_proc.pid, server.webservice_port, flush=True)
os._exit(0)
