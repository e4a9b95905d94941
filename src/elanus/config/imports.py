"""Settings of bulk imports: ``dataCoord.import``."""

from typing import Annotated

import msgspec
from msgspec import Meta

from elanus.config.section import Positive, Section


class ImportSettings(Section, frozen=True, kw_only=True):
    max_import_file_num_per_req: Annotated[
        Positive, Meta(description="Most files, or sets of NumPy files, of one import.")
    ] = 1_024
    max_import_file_size: Annotated[
        Positive, Meta(description="Largest file of an import, GB.")
    ] = msgspec.field(default=16, name="maxImportFileSizeInGB")
    max_size_per_task: Annotated[
        Positive,
        Meta(description="Files of an import are given to data nodes in tasks of this size, MB."),
    ] = msgspec.field(default=16_384, name="maxSizeInMBPerImportTask")
    max_import_job_num: Annotated[
        Positive, Meta(description="Most imports that wait or run at the same time.")
    ] = 1_024
    timeout: Annotated[
        Positive,
        Meta(description="Time after which an import fails, unless it says its own timeout, s."),
    ] = 36_000
    task_retention: Annotated[
        Positive, Meta(description="Time for which the outcome of an import is remembered, s.")
    ] = 10_800
