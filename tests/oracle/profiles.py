"""How many examples the oracle tests try: ``ELANUS_TEST_PROFILE=nightly`` for many.

The numbers are pairs of a filter and rows, over all oracle tests together.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

PAIRS = {"ci": 1_000, "nightly": 24_000}
PROFILE = os.environ.get("ELANUS_TEST_PROFILE", "ci")


def examples(share: float) -> Any:
    """The settings of a test that tries ``share`` of the pairs. CI's are always the same ones."""
    return settings(
        max_examples=max(1, int(PAIRS[PROFILE] * share)),
        deadline=None,
        derandomize=PROFILE == "ci",
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
