"""Wire conversion, views against the stock protobuf classes: ``python benchmarks/wire.py``.

Decodes and encodes an insert of 5,000 vectors of 768 floats and a search result with 100 of them.
Prints milliseconds (best of a few rounds) and ratios; the stock classes are timed on what a server
has to do with them: from bytes to a NumPy array and back.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import __version__ as protobuf_version
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.wire import protocol
from elanus.wire.columns import decode_column, encode_column
from elanus.wire.protocol import milvus

DIM = 768
INSERT_ROWS = 5_000
RESULT_ROWS = 100
ROUNDS = 5


def main() -> None:
    field_data = _stock("milvus.proto.schema.FieldData")
    insert = _stock("milvus.proto.milvus.InsertRequest")
    field = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)})
    print(f"protobuf {protobuf_version}, dim {DIM}")
    for rows in (INSERT_ROWS, RESULT_ROWS):
        vectors = np.random.default_rng(7).random((rows, DIM), dtype=np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        sent = encode_column(field, column)
        data = milvus.InsertRequest(fields_data=[sent]).SerializeToString()

        def decode_view(data: bytes = data) -> Any:
            return decode_column(milvus.InsertRequest.FromString(data).fields_data[0]).values

        def decode_stock(data: bytes = data) -> Any:
            read = insert.FromString(data).fields_data[0].vectors
            return np.array(read.float_vector.data, np.float32).reshape(-1, DIM)

        def encode_view(column: Any = column) -> bytes:
            written: bytes = encode_column(field, column).SerializeToString()
            return written

        def encode_stock(vectors: Any = vectors) -> bytes:
            message = field_data(type=int(DataType.FLOAT_VECTOR), field_name="v")
            message.vectors.dim = DIM
            message.vectors.float_vector.data.extend(vectors.ravel())
            written: bytes = message.SerializeToString()
            return written

        np.testing.assert_array_equal(decode_view(), decode_stock())
        if encode_view() != encode_stock():
            raise AssertionError("the view and the stock classes wrote different bytes")
        _report(f"decode {rows:,} vectors", decode_view, decode_stock)
        _report(f"encode {rows:,} vectors", encode_view, encode_stock)


def _report(what: str, view: Callable[[], Any], stock: Callable[[], Any]) -> None:
    view_ms, stock_ms = _best_ms(view), _best_ms(stock)
    print(
        f"{what:24} view {view_ms:8.3f} ms   stock {stock_ms:8.3f} ms   "
        f"ratio {stock_ms / view_ms:7.1f}"
    )


def _best_ms(action: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def _stock(full_name: str) -> Any:
    """The class that protoc would generate."""
    path = Path(protocol.__file__).with_name("_descriptors.binpb")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


if __name__ == "__main__":
    main()
