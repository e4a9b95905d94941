"""The documentation of every setting, made from its declaration."""

from typing import Any, get_args

import msgspec
import yaml

from elanus.config.loading import key_types, variable_of
from elanus.config.settings import Settings

HIDDEN = "********"


def descriptions() -> dict[str, str]:
    """Key → what it means."""
    return {key: _description(annotated) for key, annotated in key_types()}


def is_secret(key: str) -> bool:
    """Whether the value of ``key`` must not be shown."""
    extras = [part.extra for part in _metas(dict(key_types())[key])]
    return any(extra is not None and extra.get("secret") for extra in extras)


def value_of(settings: Settings, key: str) -> Any:
    node: Any = msgspec.to_builtins(settings)
    for name in key.split("."):
        node = node[name]
    return node


def as_yaml(settings: Settings) -> str:
    """An ``elanus.yaml`` with every key at its present value, each with its documentation."""
    lines: list[str] = []
    open_sections: list[str] = []
    for key, description in descriptions().items():
        *sections, leaf = key.split(".")
        shared = 0
        while shared < len(sections) and sections[: shared + 1] == open_sections[: shared + 1]:
            shared += 1
        lines += [f"{'  ' * depth}{sections[depth]}:" for depth in range(shared, len(sections))]
        open_sections = sections
        indent = "  " * len(sections)
        shown = value_of(settings, key)
        if is_secret(key) and shown != value_of(Settings(), key):
            shown = HIDDEN
        value = yaml.safe_dump(shown).removesuffix("...\n").strip()
        lines += [f"{indent}# {description}", f"{indent}{leaf}: {value}"]
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """docs/configuration.md."""
    defaults = Settings()
    lines = [
        "# Configuration",
        "",
        "Every setting can stand in `elanus.yaml` (sections nested), in the environment, or on the",
        "command line as `--set key=value`; the later of these wins. `elanus config` prints the",
        "settings in effect in the form of an `elanus.yaml`.",
        "",
        "| key | default | environment variable | meaning |",
        "|---|---|---|---|",
    ]
    for key, description in descriptions().items():
        default = value_of(defaults, key)
        shown = str(default).lower() if isinstance(default, bool) else default
        lines.append(f"| `{key}` | `{shown}` | `{variable_of(key)}` | {description} |")
    return "\n".join(lines) + "\n"


def _description(annotated: Any) -> str:
    for part in _metas(annotated):
        if part.description:
            return part.description
    raise TypeError(f"{annotated} has no description")


def _metas(annotated: Any) -> list[msgspec.Meta]:
    return [part for part in get_args(annotated)[1:] if isinstance(part, msgspec.Meta)]
