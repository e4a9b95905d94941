"""Fuzzes the filter compiler for a given time: ``python -m tests.fuzz --minutes 10``.

Texts come from a grammar of the language, from soups of its tokens, from known filters with pieces
put in, and from nowhere. Each must end in a plan that can be evaluated or in an error of the user's
with its place, and soon. What fails is printed by Hypothesis, with how to repeat it.
"""

import argparse
import random
import time

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.texts import any_filter, check

ROUND = 400
"""Examples between two looks at the clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the first round")
    arguments = parser.parse_args()
    first = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    end = time.monotonic() + 60 * arguments.minutes
    rounds = 0
    while time.monotonic() < end:
        number = first + rounds

        @seed(number)
        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(any_filter, st.just(number))
        def fuzz(text: str, _round: int) -> None:
            check(text)

        fuzz()
        rounds += 1
    print(f"{rounds * ROUND:,} texts from seed {first}: no crash, no hang")


if __name__ == "__main__":
    main()
