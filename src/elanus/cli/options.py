"""What the commands share: options that several of them have, settings from them, the ways out."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from elanus.config.loading import ConfigError, load_settings
from elanus.config.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="ELANUS_CONFIG", help="Settings file (elanus.yaml)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, for example log.level=debug."),
]
UriOption = Annotated[str, typer.Option("--uri", help="Address of the server.")]
DEFAULT_URI = "http://127.0.0.1:19530"
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory [default: ./elanus-data].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def assignments(texts: list[str] | None, option: str = "--set") -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator:
            fail(f"{option} {text}: expected KEY=VALUE, for example {option} log.level=debug")
        flags[key] = yaml.safe_load(value)
    return flags


def load(
    config: Path | None, flags: dict[str, Any], environment: Mapping[str, str] = os.environ
) -> Settings:
    try:
        return load_settings(config, environment, flags)
    except ConfigError as error:
        fail(str(error))
        raise AssertionError from error


def fail(message: str) -> None:
    typer.echo(f"elanus: {message}", err=True)
    raise typer.Exit(2)


def exit_now(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # The object store's native threads can abort during interpreter shutdown; all is closed here.
    os._exit(code)
