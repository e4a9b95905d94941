"""Functions of a schema or of a search."""

from typing import Any

from elanus.access.rest.bodies import Body, as_texts
from elanus.errors import InvalidParameter
from elanus.wire.protocol import schema
from elanus.wire.schema import dict_to_pairs

_TYPES = schema.FunctionSchema.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name


def function_message(body: Body) -> Any:
    """A schema.FunctionSchema message. Raises InvalidParameter for an unknown type."""
    name = body.required_text("type")
    if name not in _TYPES:
        raise InvalidParameter(f"invalid parameter, function type {name} is invalid")
    return schema.FunctionSchema(
        name=body.required_text("name"),
        description=body.text("description"),
        type=_TYPES[name].number,
        input_field_names=body.texts("inputFieldNames"),
        output_field_names=body.texts("outputFieldNames"),
        params=dict_to_pairs(as_texts(body.mapping("params"))),
    )


def function_score(body: Body) -> Any:
    """The schema.FunctionScore message of a search, None without one."""
    if "functionScore" not in body:
        return None
    score = body.part("functionScore")
    return schema.FunctionScore(
        functions=[function_message(function) for function in score.parts("functions")],
        params=dict_to_pairs(as_texts(score.mapping("params"))),
    )
