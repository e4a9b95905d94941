"""Tests of real processes get a second try where a process, and not an answer, was the trouble.

Foreign servers, busy machines and the kernel fail in ways that nobody here decides: a broker that
is not back in time is no finding. An assertion is one, always, so a test that ends with it is not
repeated. What did not pass on the first try stands in the summary with its cause.
"""

from pathlib import Path

import pytest

FOLDERS = {"cluster", "conformance", "contract", "crash", "deploy", "integration", "services"}
"""Whose tests start processes."""
TRIES = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] in FOLDERS:
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1, rerun_except=["AssertionError"]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("rerun", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        cause = report.longreprtext if crash is None else crash.message
        line = f"NOT ON THE FIRST TRY: {report.nodeid}: {cause.splitlines()[0]}"
        terminalreporter.write_line(line, yellow=True, bold=True)
