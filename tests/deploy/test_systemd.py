"""The units, as systemd itself reads them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from elanus.config.settings import Settings
from tests.services.fixtures import missing
from tests.services.packages import PROJECT

FOLDER = PROJECT / "deploy" / "systemd"
UNITS = ["elanus-standalone.service", "elanus-role@.service"]


@pytest.mark.services
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_no_complaint(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    path = tmp_path / unit.replace("@.", "@query.")
    # Only the program's place is another here.
    text = (FOLDER / unit).read_text()
    assert "ExecStart=/opt/elanus/bin/elanus run " in text
    path.write_text(text.replace("/opt/elanus/bin/elanus", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line for line in result.stderr.splitlines() if path.name in line] == []
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_stop_has_time_to_hand_over(unit: str) -> None:
    text = (FOLDER / unit).read_text()
    (timeout_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    needed_s = Settings().cluster.drain_timeout + 30 if "@" in unit else 30
    assert int(timeout_s) >= needed_s
    assert "\nKillSignal=SIGTERM\n" in text
    assert "\nRestart=on-failure\n" in text


def test_nothing_listens_beyond_loopback_unless_told() -> None:
    settings = Settings()
    hosts = {settings.proxy.host, settings.cluster.host, settings.metrics.host}
    assert hosts == {"127.0.0.1"}
