"""Settings come from file, environment and flags, and mistakes are named."""

from pathlib import Path

import pytest

from elanus.config.describe import as_markdown, as_yaml, descriptions
from elanus.config.loading import ConfigError, key_types, load_settings
from elanus.config.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "elanus.yaml"
    path.write_text("proxy:\n  port: 1111\n  http:\n    enabled: false\nlog:\n  level: debug\n")
    return path


def test_without_anything_the_defaults_hold() -> None:
    assert load_settings(None, {}, {}) == Settings()


def test_flag_wins_over_environment_and_environment_over_file(file: Path) -> None:
    environment = {"ELANUS_PROXY_PORT": "2222", "ELANUS_LOG_LEVEL": "error"}
    settings = load_settings(file, environment, {"proxy.port": 3333})
    assert settings.proxy.port == 3333
    assert settings.log.level == "error"
    assert settings.proxy.http.enabled is False


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "elanus.yaml"
    path.write_text("proxy:\n  prot: 1\n")
    with pytest.raises(ConfigError, match=r"proxy\.prot.*did you mean proxy\.port\?"):
        load_settings(path, {}, {})


def test_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean ELANUS_PROXY_PORT"):
        load_settings(None, {"ELANUS_PROXY_PROT": "1"}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [("proxy.port", 70_000), ("proxy.port", "many"), ("log.level", "loud"), ("wal.sync", "maybe")],
)
def test_invalid_value_names_key_and_place(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{key} = .* in the command line is not valid"):
        load_settings(None, {}, {key: value})


@pytest.mark.parametrize("text", ["[1, 2]", "proxy: 5", "a: [", "\x00"])
def test_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "elanus.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"elanus\.yaml"):
        load_settings(path, {}, {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        load_settings(tmp_path / "absent.yaml", {}, {})


def test_printed_settings_load_as_themselves(tmp_path: Path) -> None:
    settings = load_settings(None, {}, {"proxy.port": 5, "log.level": "error", "wal.sync": False})
    path = tmp_path / "elanus.yaml"
    path.write_text(as_yaml(settings))
    assert load_settings(path, {}, {}) == settings


def test_every_key_is_documented() -> None:
    assert set(descriptions()) == {key for key, _ in key_types()}
    assert DOCUMENT.read_text() == as_markdown(), "run: make docs"


def test_settings_that_contradict_each_other_are_refused() -> None:
    flags = {"queryNode.segcore.tieredStorage.diskLowWatermarkRatio": 0.9}
    with pytest.raises(ConfigError, match=r"diskLowWatermarkRatio 0\.9 is above"):
        load_settings(None, {}, flags)
