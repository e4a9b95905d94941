"""What all tests share: real servers to test with, and how thorough the property tests are.

The default profile is the one of CI: always the same examples, and no health check on speed, since
machines are noisy. ``HYPOTHESIS_PROFILE=nightly make test`` looks for new ones, many more of them.
"""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real_processes", "tests.services.fixtures"]

PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, suppress_health_check=PATIENT
)
settings.register_profile(
    "nightly", deadline=None, max_examples=2_000, suppress_health_check=PATIENT
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
