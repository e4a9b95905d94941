"""The methods of an interface as messages, read from the interface itself, so that it and its
RPC binding can't differ.

A request is the call's arguments by name, an answer the returned value. A method is called
``/elanus.<Interface>/<method>``.
"""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

import msgspec


@dataclass(frozen=True, slots=True)
class Method:
    """``request``: a struct type with the parameters; ``answer``: the returned value's type."""

    name: str
    path: str
    request: type[msgspec.Struct]
    answer: Any
    signature: inspect.Signature
    positional: tuple[str, ...]
    keywords: tuple[str, ...]

    def bind(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> msgspec.Struct:
        """The request of a call. Raises TypeError as the call itself would."""
        if not keywords and not self.keywords and len(arguments) == len(self.positional):
            return self.request(**dict(zip(self.positional, arguments, strict=True)))
        bound = self.signature.bind(None, *arguments, **keywords).arguments
        del bound["self"]
        return self.request(**bound)

    def arguments(self, request: msgspec.Struct) -> tuple[list[Any], dict[str, Any]]:
        """Those of the call, by place where they may be: implementations choose their names."""
        if len(self.positional) == 1 and not self.keywords:
            return [getattr(request, self.positional[0])], {}
        positional = [getattr(request, name) for name in self.positional]
        return positional, {name: getattr(request, name) for name in self.keywords}


@cache
def methods_of(interface: type) -> dict[str, Method]:
    """The async methods of a role's interface, by name."""
    found = inspect.getmembers(interface, inspect.iscoroutinefunction)
    return {name: _method(interface, name, function) for name, function in found}


def _method(interface: type, name: str, function: Any) -> Method:
    signature = inspect.signature(function)
    hints = get_type_hints(function)
    fields: list[Any] = []
    for parameter in list(signature.parameters.values())[1:]:
        kind = hints[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    request = msgspec.defstruct(f"{interface.__name__}.{name}", fields, kw_only=True, frozen=True)
    path = f"/elanus.{interface.__name__}/{name}"
    only_by_name = inspect.Parameter.KEYWORD_ONLY
    parameters = list(signature.parameters.values())[1:]
    positional = tuple(p.name for p in parameters if p.kind is not only_by_name)
    keywords = tuple(p.name for p in parameters if p.kind is only_by_name)
    return Method(name, path, request, hints["return"], signature, positional, keywords)
