"""How long the stages of a read took."""

from elanus.runtime.world import World


class Stages:
    """Seconds spent in each stage of a read, by name."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._last_s = world.clock.monotonic_s()
        self.seconds: dict[str, float] = {}

    def done(self, stage: str) -> None:
        now_s = self._clock.monotonic_s()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now_s - self._last_s
        self._last_s = now_s
