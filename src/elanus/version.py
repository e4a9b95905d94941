"""The version of Elanus, and the Milvus version whose protocol it speaks."""

VERSION = "0.1.0"
MILVUS_COMPATIBLE_VERSION = "2.6.11"
