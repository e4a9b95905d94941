"""The directory of unfinished work."""

from pathlib import Path

import msgspec

from elanus.config.settings import LocalStorageSettings, Settings
from elanus.roles.storage import empty_scratch
from elanus.storage.disk import LocalDisk


def test_files_and_directories_of_a_crash_are_gone(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        Settings(), local_storage=LocalStorageSettings(path=str(tmp_path))
    )
    scratch = empty_scratch(LocalDisk(), settings)
    (scratch / "half.index").write_bytes(b"x")
    (scratch / "build" / "deep").mkdir(parents=True)
    (scratch / "build" / "deep" / "codes").write_bytes(b"x")
    assert list(empty_scratch(LocalDisk(), settings).iterdir()) == []
