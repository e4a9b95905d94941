"""What an import asks for, checked, and cut into tasks. Pure functions."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from elanus.config.settings import Settings
from elanus.errors import ImportFailed, InternalError
from elanus.model.imports import FILE_SUFFIXES, NUMPY_SUFFIX, ImportGroup, ImportJobRequest
from elanus.storage.objects.keys import check_key

_GIGABYTE = 1 << 30
_MEGABYTE = 1 << 20


def check_files(request: ImportJobRequest, settings: Settings) -> None:
    """Raises ImportFailed for files that can't be imported, whatever is in them."""
    limit = settings.data_coord.imports.max_import_file_num_per_req
    if not request.groups or not all(request.groups):
        raise ImportFailed("an import needs files, and each of its sets at least one")
    if len(request.groups) > limit:
        raise ImportFailed(
            f"The max number of import files should not exceed {limit}, "
            f"but got {len(request.groups)}"
        )
    for files in request.groups:
        suffixes = {PurePosixPath(file).suffix.lower() for file in files}
        if not suffixes <= set(FILE_SUFFIXES) or (NUMPY_SUFFIX in suffixes and len(suffixes) > 1):
            raise ImportFailed(f"unexpected file type, files=[{' '.join(files)}]")
        for file in files:
            object_key(file, settings)
    if len(request.separator) != 1 or request.separator in '\r\n"\0':
        raise ImportFailed(f"unsupported csv separator: {request.separator!r}")


def object_key(file: str, settings: Settings) -> str:
    """The key of a file in the object store. Raises ImportFailed for what can be none."""
    key = file.strip().removeprefix("/")
    root = settings.minio.root_path.strip("/")
    if settings.common.storage_type == "remote" and root:
        key = key.removeprefix(f"{root}/")
    try:
        return check_key(key)
    except InternalError as error:
        raise ImportFailed(
            f"file {file!r} is no path below the root of the object store"
        ) from error


def check_size(file: str, size_bytes: int, settings: Settings) -> None:
    """Raises ImportFailed for a file that is too large."""
    limit = settings.data_coord.imports.max_import_file_size
    if size_bytes > limit * _GIGABYTE:
        raise ImportFailed(
            f"The import file size has reached the maximum limit allowed for importing, file={file}"
            f", fileSize={size_bytes}, limit={limit} GB"
        )


def in_tasks(groups: Sequence[ImportGroup], settings: Settings) -> list[list[int]]:
    """Numbers of groups, cut where the files of a task reach their size."""
    limit = settings.data_coord.imports.max_size_per_task * _MEGABYTE
    tasks: list[list[int]] = []
    room = 0
    for number, group in enumerate(groups):
        if not tasks or group.size_bytes > room:
            tasks.append([])
            room = limit
        tasks[-1].append(number)
        room -= group.size_bytes
    return tasks
