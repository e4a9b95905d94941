"""Settings of tiered storage: which files of a loaded segment are local, and when they go."""

from typing import Annotated

from msgspec import Meta

from elanus.config.section import Section

Warmup = Annotated[
    str,
    Meta(
        pattern="^(sync|disable)$",
        description="sync = fetched from a remote object store when a segment is loaded, "
        "disable = when a read first needs it.",
    ),
]
WaterLevel = Annotated[float, Meta(gt=0, le=1)]


class WarmupSettings(Section, frozen=True, kw_only=True):
    scalar_field: Warmup = "sync"
    scalar_index: Warmup = "sync"
    vector_field: Warmup = "sync"
    vector_index: Warmup = "sync"


class TieredStorageSettings(Section, frozen=True, kw_only=True):
    warmup: WarmupSettings = WarmupSettings()
    eviction_enabled: Annotated[
        bool,
        Meta(
            description="Let files of loaded segments go from the local cache and fetch them again "
            "when a read needs them. Without it what is loaded stays on the disk, whatever "
            "localStorage.cache.maxSize is."
        ),
    ] = True
    disk_low_watermark_ratio: Annotated[
        WaterLevel,
        Meta(description="Part of localStorage.cache.maxSize down to which files are evicted."),
    ] = 0.75
    disk_high_watermark_ratio: Annotated[
        WaterLevel,
        Meta(description="Part of localStorage.cache.maxSize from which files are evicted."),
    ] = 0.8

    def __post_init__(self) -> None:
        low, high = self.disk_low_watermark_ratio, self.disk_high_watermark_ratio
        if low > high:
            raise ValueError(f"diskLowWatermarkRatio {low} is above diskHighWatermarkRatio {high}")


class SegcoreSettings(Section, frozen=True, kw_only=True):
    tiered_storage: TieredStorageSettings = TieredStorageSettings()
