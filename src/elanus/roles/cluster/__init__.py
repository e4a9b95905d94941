"""The composition of a cluster: each role in a process of its own, met over RPC."""
