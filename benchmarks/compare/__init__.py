"""Elanus beside the real Milvus: same machine, same client, same data, same parameters, one run."""
