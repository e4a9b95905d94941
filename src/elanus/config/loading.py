"""Settings from ``elanus.yaml``, the environment and flags; the later of these wins.

An environment variable is ``ELANUS_`` and the key upper-cased with ``_`` for ``.``:
``ELANUS_PROXY_PORT=19531`` sets ``proxy.port``. What is unknown or invalid is an error that names
the key, where it was given, and the nearest key that exists.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from elanus.config.settings import Settings

ENVIRONMENT_PREFIX = "ELANUS_"
NOT_SETTINGS = {"ELANUS_FAILPOINTS", "ELANUS_CONFIG"}


class ConfigError(Exception):
    """A setting that can't be used, with where it was given."""


def load_settings(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Settings:
    """``flags`` maps keys such as ``proxy.port`` to values. Raises ConfigError."""
    types = dict(key_types())
    values: dict[str, tuple[Any, str]] = {}
    if path is not None:
        for key, value in _read_file(path, types):
            values[_known(key, types, str(path))] = (value, str(path))
    by_variable = {variable_of(key): key for key in types}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in NOT_SETTINGS:
            if variable not in by_variable:
                raise ConfigError(
                    f"unknown environment variable {variable}"
                    + _did_you_mean(variable, list(by_variable))
                )
            values[by_variable[variable]] = (text, f"environment variable {variable}")
    for key, value in flags.items():
        values[_known(key, types, "the command line")] = (value, "the command line")
    return _build(values, types)


def variable_of(key: str) -> str:
    """``proxy.port`` → ``ELANUS_PROXY_PORT``."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def key_types(section: Any = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, annotated type) of every setting, in the order of declaration."""
    for field in msgspec.structs.fields(section):
        key = prefix + field.encode_name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from key_types(field.type, key + ".")
        else:
            yield key, field.type


def _read_file(path: Path, types: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections such as 'proxy:', found {content!r}")
    yield from _flatten(content, "", types, path)


def _flatten(
    content: dict[Any, Any], prefix: str, types: Mapping[str, Any], path: Path
) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        is_section = any(known.startswith(key + ".") for known in types)
        if is_section and isinstance(value, dict):
            yield from _flatten(value, key + ".", types, path)
        elif is_section and value is None:
            continue
        elif is_section:
            raise ConfigError(f"{key} in {path} is a section, it can't have the value {value!r}")
        else:
            yield key, value


def _known(key: str, types: Mapping[str, Any], where: str) -> str:
    if key in types:
        return key
    raise ConfigError(f"unknown setting {key} in {where}" + _did_you_mean(key, list(types)))


def _did_you_mean(name: str, candidates: list[str]) -> str:
    lowered = {candidate.lower(): candidate for candidate in candidates}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f"; did you mean {lowered[nearest[0]]}?" if nearest else ""


def _build(values: Mapping[str, tuple[Any, str]], types: Mapping[str, Any]) -> Settings:
    tree: dict[str, Any] = {}
    for key, (value, where) in values.items():
        try:
            converted = msgspec.convert(value, types[key], strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{key} = {value!r} in {where} is not valid: {error}") from error
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = converted
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"settings don't fit each other: {error}") from error
