"""What a sealed segment takes in memory beside its mapped files."""

from elanus.engine.index.kinds import interim_bytes_per_row
from elanus.model.schema import CollectionSchema

_DELETE_TIMESTAMP_BYTES = 8


def resident_bytes_per_row(schema: CollectionSchema) -> int:
    """Memory that a mapped row may take beside its file: a delete timestamp and codes in interim
    indexes."""
    codes = map(interim_bytes_per_row, schema.vector_fields)
    return _DELETE_TIMESTAMP_BYTES + sum(codes)
