"""Collection schemas: what a row of a collection looks like.

Rows travel and rest as Arrow record batches whose columns are named by field name. The Arrow type
of each field type stands in :func:`arrow_type`: JSON (and the dynamic field ``$meta``) is UTF-8
text in a binary column, a Geometry is its WKB, a Timestamptz is an int64 of microseconds in UTC,
vectors are what :mod:`elanus.model.vectors` says.

An array of structs is no column of its own: each field of the struct is one, an Array or an
ArrayOfVector with the name ``struct[field]``. All of one struct have as many elements in a row.
"""

from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa

from elanus.model.geometry import wkb_of
from elanus.model.types import DataType, FunctionType
from elanus.model.vectors import vector_arrow_type

DYNAMIC_FIELD = "$meta"
ROW_ID_FIELD = "RowID"
TIMESTAMP_FIELD = "Timestamp"
SYSTEM_FIELDS = (ROW_ID_FIELD, TIMESTAMP_FIELD)
FIRST_FIELD_ID = 100

SCALAR_ARROW_TYPES: dict[DataType, Any] = {
    DataType.BOOL: pa.bool_(),
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FLOAT: pa.float32(),
    DataType.DOUBLE: pa.float64(),
    DataType.VARCHAR: pa.string(),
    DataType.TIMESTAMPTZ: pa.int64(),
}
"""Of each plain scalar: of a column, of an Array's elements, of a constant in a filter."""

_COLUMNS = {
    **SCALAR_ARROW_TYPES,
    DataType.JSON: pa.binary(),
    DataType.GEOMETRY: pa.binary(),
}


class FieldSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field. ``default_value`` is a plain Python value (a geometry's WKT, a timestamp's
    microseconds once its collection exists); None means that there is none."""

    name: str
    data_type: DataType
    field_id: int = 0
    description: str = ""
    is_primary: bool = False
    auto_id: bool = False
    is_partition_key: bool = False
    is_clustering_key: bool = False
    is_dynamic: bool = False
    is_function_output: bool = False
    nullable: bool = False
    default_value: bool | int | float | str | None = None
    element_type: DataType = DataType.NONE
    type_params: dict[str, str] = {}
    struct: str = ""
    """The array of structs that the field is a part of; empty: of none."""

    @property
    def local_name(self) -> str:
        """The name within the struct, if it is part of one."""
        return self.name[len(self.struct) + 1 : -1] if self.struct else self.name

    @property
    def of_elements(self) -> "FieldSchema":
        """Of an ArrayOfVector: the field of its vectors, one after another."""
        return msgspec.structs.replace(
            self, data_type=self.element_type, element_type=DataType.NONE, nullable=False
        )

    @property
    def dim(self) -> int:
        """Of a vector; 0 of a sparse one, which has none."""
        if self.data_type is DataType.SPARSE_FLOAT_VECTOR:
            return 0
        return int(self.type_params["dim"])

    @property
    def max_length(self) -> int:
        """Longest VarChar in bytes."""
        return int(self.type_params["max_length"])

    @property
    def enable_match(self) -> bool:
        """Whether text_match and phrase_match may read a VarChar."""
        return self.type_params.get("enable_match", "").lower() == "true"

    @property
    def max_capacity(self) -> int:
        """Most elements of an Array or ArrayOfVector."""
        return int(self.type_params["max_capacity"])


def struct_field_name(struct: str, local_name: str) -> str:
    """The name of the column of a struct's field."""
    return f"{struct}[{local_name}]"


class StructSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An array of structs; its fields are those of the collection with its name as ``struct``."""

    name: str
    field_id: int = 0
    description: str = ""
    type_params: dict[str, str] = {}
    nullable: bool = False


class FunctionSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Makes the values of ``output_fields`` of those of ``input_fields`` as rows are written."""

    name: str
    type: FunctionType
    input_fields: tuple[str, ...]
    output_fields: tuple[str, ...]
    function_id: int = 0
    description: str = ""


class CollectionSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The fields of a collection, the dynamic field ``$meta`` among them if it is enabled.

    The fields of structs come last, those of a struct one after another.
    """

    name: str
    fields: tuple[FieldSchema, ...]
    structs: tuple[StructSchema, ...] = ()
    functions: tuple[FunctionSchema, ...] = ()
    description: str = ""
    enable_dynamic_field: bool = False
    version: int = 0

    @cached_property
    def by_name(self) -> dict[str, FieldSchema]:
        return {field.name: field for field in self.fields}

    @cached_property
    def names(self) -> frozenset[str]:
        """Of all fields and structs."""
        return frozenset(self.by_name) | {struct.name for struct in self.structs}

    @cached_property
    def primary(self) -> FieldSchema:
        return next(field for field in self.fields if field.is_primary)

    @cached_property
    def partition_key(self) -> FieldSchema | None:
        return next((field for field in self.fields if field.is_partition_key), None)

    @cached_property
    def vector_fields(self) -> tuple[FieldSchema, ...]:
        return tuple(field for field in self.fields if field.data_type.is_vector)

    @cached_property
    def text_of(self) -> dict[str, FieldSchema]:
        """The text field whose BM25 vectors each field has, by that field's name."""
        return {
            function.output_fields[0]: self.by_name[function.input_fields[0]]
            for function in self.functions
            if function.type is FunctionType.BM25
        }

    @cached_property
    def parts_of(self) -> dict[str, tuple[FieldSchema, ...]]:
        """The fields of each struct, by its name."""
        return {
            struct.name: tuple(field for field in self.fields if field.struct == struct.name)
            for struct in self.structs
        }

    @cached_property
    def user_fields(self) -> tuple[FieldSchema, ...]:
        """Every field but ``$meta``, in schema order."""
        return tuple(field for field in self.fields if not field.is_dynamic)

    @cached_property
    def arrow(self) -> Any:
        """The ``pyarrow.Schema`` of a batch of complete rows, in field order."""
        return pa.schema(
            [pa.field(f.name, arrow_type(f), nullable=f.nullable) for f in self.fields]
        )


def default_scalar(field: FieldSchema) -> Any:
    """The default of a field as a ``pyarrow.Scalar`` of its type, or None."""
    value: Any = field.default_value
    if value is None:
        return None
    if field.data_type is DataType.GEOMETRY:
        value = wkb_of(str(value))
    elif field.data_type is DataType.JSON:
        value = str(value).encode()
    return pa.scalar(value, arrow_type(field))


def arrow_type(field: FieldSchema) -> Any:
    """The ``pyarrow.DataType`` that holds a column of this field."""
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        return pa.list_(arrow_type(field.of_elements))
    if field.data_type.is_vector:
        return vector_arrow_type(field.data_type, field.dim)
    if field.data_type is DataType.ARRAY:
        return pa.list_(_COLUMNS[field.element_type])
    return _COLUMNS[field.data_type]
