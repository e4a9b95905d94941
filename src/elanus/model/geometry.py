"""Geometries: well-known text outside, well-known binary (little-endian) inside.

Everything works on whole columns; shapely releases the GIL. It is imported when the first geometry
is met: servers without geometries need neither its time nor its memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.errors import InvalidParameter

Objects = npt.NDArray[np.object_]


class InvalidGeometry(ValueError):
    """A text that is no well-known text; the message is the parser's."""


def wkb_of(text: str) -> bytes:
    """The WKB of a WKT. Raises InvalidGeometry."""
    import shapely

    try:
        return bytes(shapely.to_wkb(shapely.from_wkt(text), byte_order=1))
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise InvalidGeometry(str(error)) from error


def wkbs_of(texts: Sequence[str], field_name: str) -> Objects:
    """object (n,) of bytes. Raises InvalidParameter, with the row, for what is no WKT."""
    import shapely

    given = np.array(texts, np.object_)
    try:
        return np.asarray(shapely.to_wkb(shapely.from_wkt(given), byte_order=1), np.object_)
    except (shapely.errors.ShapelyError, TypeError):
        return np.array([_checked(text, at, field_name) for at, text in enumerate(texts)])


def wkts_of(values: Sequence[bytes | None]) -> list[str | None]:
    """WKT of each WKB with the shortest digits that give the same numbers; None stays None."""
    import shapely

    shapes = shapely.from_wkb(np.array(values, np.object_))
    texts = shapely.to_wkt(shapes, rounding_precision=-1, trim=True, output_dimension=4)
    return list(texts.tolist())


def shapes_of(values: Any) -> Any:
    """Geometries of WKBs, object (n,); None for None and for what can't be read."""
    import shapely

    return shapely.from_wkb(values, on_invalid="ignore")


def _checked(text: str, row: int, field_name: str) -> bytes:
    try:
        return wkb_of(text)
    except InvalidGeometry as error:
        raise InvalidParameter(
            f"invalid geometry text of field {field_name}, row number: {row}: {error}",
            expected="well-known text",
            actual=text[:64],
        ) from error


def point_of(text: str) -> tuple[float, float]:
    """(x, y) of the WKT of a point. Raises InvalidGeometry for anything else."""
    import shapely

    shape = shapely.from_wkb(wkb_of(text))
    if shape.geom_type != "Point" or shape.is_empty:
        raise InvalidGeometry(f"expected a POINT, got: {text}")
    return float(shape.x), float(shape.y)
