"""Whatever the text, the compiler answers quickly, with a plan or an error of the user's.

``make fuzz`` goes on for longer.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz import texts

SOURCES = {
    "grammar": (texts.grammatical, 400),
    "soup": (texts.soups, 400),
    "changed": (texts.changed(), 400),
    "raw": (texts.raw, 300),
    "repeated": (texts.repeated(), 40),
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_text(source: str) -> None:
    strategy, examples = SOURCES[source]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy, st.just(source))
    def run(text: str, _source: str) -> None:
        texts.check(text)

    run()
