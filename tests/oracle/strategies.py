"""Random schemas, rows and filters, as plain values: what the oracle tests draw from.

A filter is a nested tuple that ``reference`` renders to text and decides row by row.
"""

import struct
from typing import Any

from hypothesis import strategies as st

from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import DataType
from tests.oracle import reference

TYPES = {
    "id": ("int64", DataType.INT64),
    "i8": ("int8", DataType.INT8),
    "i64": ("int64", DataType.INT64),
    "f": ("float", DataType.FLOAT),
    "d": ("double", DataType.DOUBLE),
    "b": ("bool", DataType.BOOL),
    "s": ("string", DataType.VARCHAR),
    "j": ("json", DataType.JSON),
    "ai": ("[]int64", DataType.INT64),
    "as": ("[]string", DataType.VARCHAR),
    "af": ("[]float", DataType.FLOAT),
    "t": ("time", DataType.TIMESTAMPTZ),
    "x": ("text", DataType.VARCHAR),
    "g": ("geometry", DataType.GEOMETRY),
    "c[n]": ("[]int64", DataType.INT64),
    "c[w]": ("[]string", DataType.VARCHAR),
    "$meta": ("json", DataType.JSON),
}
KINDS = {name: kind for name, (kind, _) in TYPES.items()}
KINDS["k"] = "json"


def field(name: str) -> FieldSchema:
    kind, data_type = TYPES[name]
    array = kind.startswith("[]")
    return FieldSchema(
        name=name,
        data_type=DataType.ARRAY if array else data_type,
        element_type=data_type if array else DataType.NONE,
        is_primary=name == "id",
        nullable=name not in ("id", "$meta"),
        is_dynamic=name == "$meta",
        type_params={"enable_match": "true"} if kind == "text" else {},
        struct=name.partition("[")[0] if name.endswith("]") else "",
    )


STRUCT = StructSchema(name="c", nullable=True)
SCHEMA = CollectionSchema(
    name="rows",
    fields=tuple(map(field, TYPES)),
    structs=(STRUCT,),
    enable_dynamic_field=True,
)

small = st.integers(-4, 4)
texts = st.text("ab%_\\é\n", max_size=4)
singles = st.sampled_from([0.0, 0.5, -1.5, 0.1, 1.0, 3.0, 1e30]).map(
    lambda x: struct.unpack("f", struct.pack("f", x))[0]
)
doubles = st.sampled_from([0.0, 0.5, -1.5, 0.1, 1.0, 3.0, 1e300])
numbers = small | doubles
scalars = st.booleans() | numbers | st.sampled_from(["a", "1", "ab", ""])
documents = st.recursive(
    st.none() | scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner)
    ),
    max_leaves=6,
)
values = st.one_of(scalars, numbers, st.lists(scalars | numbers, max_size=3), documents)
objects = st.fixed_dictionaries({}, optional=dict.fromkeys(("a", "b", "k"), values))
SECOND = 1_000_000
moments = st.integers(-4, 4).map(
    lambda days: days * 86_400 * SECOND + 500_000 * days
) | st.integers(-(10**15), 10**15)
sentences = st.lists(st.sampled_from(["red", "Apple", "pie", "red-wine", "é"]), max_size=5).map(
    " ".join
)
corners = st.tuples(st.integers(-3, 3), st.integers(-3, 3))
VALUES = {
    "time": moments,
    "text": sentences,
    "geometry": corners,
    "int8": small | st.sampled_from([-128, 127]),
    "int64": small | st.sampled_from([-(2**63), 2**63 - 1]),
    "float": singles,
    "double": doubles,
    "bool": st.booleans(),
    "string": texts,
    "json": st.one_of(objects, objects, st.lists(values, max_size=2), documents),
}


def column_values(name: str) -> st.SearchStrategy[Any]:
    kind = KINDS[name]
    if name == "$meta":
        return objects
    base = st.lists(VALUES[kind[2:]], max_size=3) if kind.startswith("[]") else VALUES[kind]
    return base if name == "id" else st.none() | base


DULL: dict[str, Any] = dict.fromkeys(TYPES) | {"id": 0, "$meta": {}}
orders = st.sampled_from(list(reference.OPERATORS))
equalities = st.sampled_from(["==", "!="])
CONSTANTS = {
    "int8": small | st.sampled_from([1000, -129]),
    "int64": small | st.sampled_from([-(2**63), 2**63 - 1]),
    "float": numbers,
    "double": numbers,
    "string": texts,
    "json": scalars,
    "bool": st.booleans(),
}
paths = st.sampled_from(["a", "b", "a", "b", 0]).map(lambda key: [key]) | st.lists(
    st.sampled_from(["a", "b", 0, 1]), min_size=1, max_size=2
)


@st.composite
def places(draw: st.DrawFn) -> tuple[tuple, str]:
    """A column or a place within one, and the type of its values."""
    name = draw(st.sampled_from([*KINDS, "j", "k"]))
    kind = KINDS[name]
    if name == "k":
        return (name, *draw(st.just([]) | paths)), kind
    if kind == "json":
        return (name, *draw(paths)), kind
    if kind.startswith("[]") and draw(st.booleans()):
        return (name, draw(st.integers(0, 3))), kind[2:]
    return (name,), kind


members = st.sampled_from([((name,), kind) for name, kind in reference.MEMBERS.items()])
"""Of the element that a predicate on elements is about."""


@st.composite
def leaves(draw: st.DrawFn, among: Any = None) -> tuple:
    if among is None and draw(st.integers(0, 11)) == 0:
        return draw(element_leaves())
    place, kind = draw(places() if among is None else among)
    if kind.startswith("[]"):
        return draw(array_leaves(place, CONSTANTS[kind[2:]]))
    if kind in ("time", "text", "geometry"):
        return draw(special_leaves(place, kind))
    constant = CONSTANTS[kind]
    forms = ["compare", "flipped", "in"]
    if kind != "bool":
        forms.append("range")
    if kind not in ("bool", "string"):
        forms.append("arithmetic")
    if kind in ("string", "json"):
        forms += ["like", "matches"]
    if among is None and len(place) == 1 and kind not in ("bool", "json", "string"):
        forms.append("columns")
    if kind == "json":
        forms += ["exists", "null", "array", "array"]
    elif among is None and len(place) == 1:
        forms.append("null")
    form = draw(st.sampled_from(forms))
    if form == "exists":
        return ("exists", place)
    if form == "null":
        return ("null", place, draw(st.booleans()))
    if form == "array":
        return draw(array_leaves(place, scalars, whole=False))
    if form in ("compare", "flipped"):
        value = draw(constant)
        operators = equalities if isinstance(value, bool) else orders
        return (form, place, draw(operators), value)
    if form == "in":
        return ("in", place, draw(st.lists(constant, max_size=9)), draw(st.booleans()))
    if form == "like":
        return ("like", place, draw(texts.filter(lambda text: not text.endswith("\\"))))
    if form == "matches":
        return ("matches", place, draw(st.sampled_from(sorted(reference.EXPRESSIONS))))
    if form == "range":
        bound = numbers if kind == "json" else constant
        low, high = sorted((draw(bound), draw(bound)))
        return (
            "range",
            place,
            low,
            "<=",
            "<=" if low == high else draw(st.sampled_from(["<", "<="])),
            high,
        )
    if form == "columns":
        other = draw(st.sampled_from(["i8", "d"] if kind != "int64" else ["i8", "i64"]))
        return ("columns", place, draw(orders), other)
    return draw(arithmetic(place, kind))


@st.composite
def special_leaves(draw: st.DrawFn, place: tuple, kind: str) -> tuple:
    """Predicates of timestamps, of texts that are matched, and of points."""
    if draw(st.integers(0, 5)) == 0:
        return ("null", place, draw(st.booleans()))
    if kind == "time":
        step = draw(st.none() | st.tuples(st.sampled_from("+-"), *[st.integers(0, 30)] * 3))
        return ("time", place, step, draw(orders), draw(moments))
    if kind == "text":
        if draw(st.booleans()):
            return ("match", place, draw(sentences), draw(st.integers(1, 3)))
        return ("phrase", place, draw(sentences), draw(st.integers(0, 3)))
    low, size = draw(corners), draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return ("box", place, draw(st.sampled_from(["within", "intersects", "touches"])), low, size)


@st.composite
def arithmetic(draw: st.DrawFn, place: tuple, kind: str) -> tuple:
    whole = kind.startswith("int")
    operand = draw(small if whole or kind == "json" else numbers)
    operators = ["+", "-", "*"]
    if operand != 0:
        operators.append("/")
        if whole:
            operators.append("%")
    value = draw(small if whole else numbers)
    return ("arithmetic", place, draw(st.sampled_from(operators)), operand, draw(orders), value)


@st.composite
def array_leaves(draw: st.DrawFn, place: tuple, constant: Any, whole: bool = True) -> tuple:
    forms = ["length", "contains", "contains_any", "contains_all"]
    form = draw(st.sampled_from([*forms, "whole", "whole"] if whole else forms))
    if form == "length":
        return ("length", place, draw(orders), draw(st.integers(0, 3)))
    if form == "contains":
        return ("contains", place, draw(constant))
    some = st.lists(constant, max_size=3)
    if form != "whole":
        return (form, place, draw(some))
    if draw(st.booleans()):
        return ("compare", place, draw(equalities), draw(some))
    return ("in", place, draw(st.lists(some, max_size=3)), draw(st.booleans()))


def trees(leaf: Any, most: int) -> Any:
    """Filters of at most so many leaves."""
    return st.recursive(
        leaf,
        lambda inner: (
            st.tuples(st.just("not"), inner)
            | st.lists(inner, min_size=2, max_size=4).map(lambda parts: ("and", *parts))
            | st.lists(inner, min_size=2, max_size=4).map(lambda parts: ("or", *parts))
        ),
        max_leaves=most,
    )


@st.composite
def element_leaves(draw: st.DrawFn) -> tuple:
    quantifier = draw(st.sampled_from(["any", "all", "least", "most", "exact"]))
    threshold = draw(st.integers(1 if quantifier == "least" else 0, 3))
    return ("elements", ("c",), quantifier, threshold, draw(trees(leaves(members), 3)))


filters = trees(leaves(), 6)


def dynamic(tree: tuple) -> tuple:
    """The bare key ``k`` is ``$meta["k"]``."""
    if tree[0] in ("and", "or", "not"):
        return (tree[0], *map(dynamic, tree[1:]))
    if tree[1][0] == "k":
        return (tree[0], ("$meta", *tree[1]), *tree[2:])
    return tree


def names_in(tree: tuple) -> set[str]:
    """The columns that a filter reads."""
    if tree[0] in ("and", "or", "not"):
        return set().union(*map(names_in, tree[1:]))
    if tree[0] == "elements":
        return {f"c[{name[2:-1]}]" for name in reference.MEMBERS}
    names = {"$meta" if tree[1][0] == "k" else tree[1][0]}
    return names | {tree[3]} if tree[0] == "columns" else names


def aligned(row: dict[str, Any]) -> dict[str, Any]:
    """With as many elements in each part of its array of structs, or without any."""
    parts = [name for name in row if name.startswith("c[")]
    if len(parts) < 2:
        return row
    if any(row[name] is None for name in parts):
        return row | dict.fromkeys(parts)
    shortest = min(len(row[name]) for name in parts)
    return row | {name: row[name][:shortest] for name in parts}


@st.composite
def cases(draw: st.DrawFn, trees: st.SearchStrategy[tuple]) -> tuple[tuple, list[dict[str, Any]]]:
    """A filter and rows; the columns that the filter doesn't read are dull."""
    tree = draw(trees)
    read = {name: column_values(name) for name in sorted(names_in(tree))}
    rows = draw(st.lists(st.fixed_dictionaries(read), min_size=1, max_size=12))
    return tree, [DULL | aligned(row) for row in rows]
