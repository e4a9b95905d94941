"""Files of scalar indexes: which structure serves an index type, how it is built and opened.

============================ =============================================================
BITMAP, HYBRID               bitmaps of a column of at most 100 distinct values
NGRAM                        runs of characters
RTREE                        bounds of geometries
INVERTED, cast to JSON       sorted values of each path
all others, and many values  sorted values
============================ =============================================================
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.json_cast import STRING_TO_DOUBLE
from elanus.engine.index.arrays import open_arrays_of, write_arrays
from elanus.engine.index.scalar.base import ColumnIndex, path_of, valid_rows
from elanus.engine.index.scalar.bitmap import BitmapIndex, bitmap_arrays
from elanus.engine.index.scalar.json_path import path_values
from elanus.engine.index.scalar.json_tree import JsonTreeIndex, tree_arrays
from elanus.engine.index.scalar.ngram import NgramIndex, ngram_arrays
from elanus.engine.index.scalar.rtree import RtreeIndex, rtree_arrays
from elanus.engine.index.scalar.sorted import SortedIndex, sorted_arrays
from elanus.errors import CorruptData

_KIND = "a scalar index"
JSON_CAST = "JSON"
"""The cast that keeps values of all kinds, at all paths."""
_STRUCTURES: dict[str, type[ColumnIndex]] = {
    "bitmap": BitmapIndex,
    "json tree": JsonTreeIndex,
    "ngram": NgramIndex,
    "rtree": RtreeIndex,
    "sorted": SortedIndex,
}

Facts = dict[str, int | str]
Arrays = dict[str, npt.NDArray[Any]]


def build_scalar_index(
    index_type: str, params: Mapping[str, str], column: pa.Array, out_path: str
) -> int:
    """Build over a whole column of the field's Arrow type and write ``out_path``; the number of
    rows. A JSON column needs ``json_path`` (a JSON pointer) and ``json_cast_type``."""
    facts: Facts = {"rows": len(column), "index_type": index_type}
    if index_type == "RTREE":
        arrays = rtree_arrays(column)
        facts["structure"] = "rtree"
    elif params.get("json_cast_type") == JSON_CAST:
        arrays = tree_arrays(column, path_of(params["json_path"]), facts)
        facts["structure"] = "json tree"
    else:
        values, rows = _values(params, column, facts)
        arrays = _arrays(index_type, params, values, rows, facts)
    write_arrays(out_path, _KIND, facts, {**arrays, **valid_rows(column)})
    return len(column)


def _values(
    params: Mapping[str, str], column: pa.Array, facts: Facts
) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The values to index, without nulls, and the row of each."""
    cast = params.get("json_cast_type", "")
    if cast:
        casts_strings = params.get("json_cast_function") == STRING_TO_DOUBLE
        path = path_of(params["json_path"])
        found = path_values(column, path, cast, casts_strings=casts_strings)
        facts |= {"pointer": params["json_path"], "cast": cast}
        facts["casts_strings"] = int(casts_strings)
        facts |= {"is_array": int(cast.startswith("ARRAY_")), "exact": int(found.is_exact)}
        return found.values, found.rows
    if pa.types.is_list(column.type):
        facts["is_array"] = 1
        return column.flatten(), np.asarray(pc.list_parent_indices(column)).astype(np.int64)
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    return (column if len(rows) == len(column) else column.drop_null()), rows


def _arrays(
    index_type: str,
    params: Mapping[str, str],
    values: pa.Array,
    rows: npt.NDArray[np.int64],
    facts: Facts,
) -> Arrays:
    row_count = int(facts["rows"])
    if index_type == "NGRAM":
        shortest, longest = int(params["min_gram"]), int(params["max_gram"])
        facts |= {"structure": "ngram", "min_gram": shortest, "max_gram": longest}
        return ngram_arrays(values, rows, shortest, longest)
    if index_type in ("BITMAP", "HYBRID") and not facts.get("is_array") and "cast" not in facts:
        bitmaps = bitmap_arrays(values, rows, row_count)
        if bitmaps is not None:
            facts["structure"] = "bitmap"
            return bitmaps
    facts["structure"] = "sorted"
    return sorted_arrays(values, rows, row_count)


def open_scalar_index(path: str, row_count: int) -> ColumnIndex:
    """Map the index file at ``path``. Raises CorruptData if it isn't a whole index over
    ``row_count`` rows."""
    file = open_arrays_of(path, _KIND, row_count)
    structure = _STRUCTURES.get(str(file.facts.get("structure")))
    if structure is None:
        raise CorruptData(f"index file {path} has an unknown structure")
    try:
        return structure(row_count, file.facts, file.arrays)
    except (KeyError, ValueError) as error:
        raise CorruptData(f"index file {path} lacks {error}") from error
