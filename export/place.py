"""Where a bundle is built and how it reaches the model repository: beside it, then in one atomic step, whatever is killed when.

    model_repository/<policy>/          what is served: always whole
    .<policy>.exporting/                beside the repository, on the same file system: the bundle being built

Whoever holds the lock on the second folder is alive; an unlocked one is what a killed export left, and goes at the next. Of a
manifest it knows, whatever its schema, which family and version are there and the file names; it knows no network.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle import exported_files, folder_names
from export.contract.manifest import MANIFEST_FILE

_SUFFIX = ".exporting"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class PlaceRefused(Exception):  # noqa: N818 -- reads as what happened
    """A bundle cannot be put where it was asked to go: one line that says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The bundle that is in a place now, as its manifest tells."""

    family: str
    version: int
    files: frozenset[str]


@contextmanager
def workplace(repository: Path, policy: str) -> Iterator[Path]:
    """An empty folder beside `repository` for this export alone. Raises PlaceRefused when another one is at work."""
    repository.mkdir(parents=True, exist_ok=True)
    if repository.stat().st_dev != repository.parent.stat().st_dev:
        raise PlaceRefused(f"{repository} is a file system of its own: export elsewhere with --repository, then copy the bundle")
    _clear_leftovers(repository)
    folder = repository.parent / f".{policy}{_SUFFIX}"
    with _locked(folder) as is_mine:
        if not is_mine:
            raise PlaceRefused(f"another export of {policy!r} is at work in {folder}; wait for it or stop it")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    """Raises PlaceRefused when `folder` holds what no export has written: it would be lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PlaceRefused(f"{folder} is not a folder; move it away")
    found = present(folder)
    names = [path.relative_to(folder) for path in (exported_files(folder) if found else sorted(folder.rglob("*")))]
    strange = [name.as_posix() for name in names if found is None or name.as_posix() not in found.files]
    if strange:
        raise PlaceRefused(f"{folder} holds {strange[0]}, which no export has written; move it away or give another --name")


def refuse_other(folder: Path, family: str, version: int) -> None:
    """Raises PlaceRefused when the bundle in `folder` is of another family, or of a later version than the one to come."""
    found = present(folder)
    if found is None:
        return
    if found.family != family:
        raise PlaceRefused(f"{folder} holds a policy of family {found.family}, not {family}: choose another --name or remove it")
    if found.version > version:
        raise PlaceRefused(f"{folder} holds version {found.version}: give it again with --version, or a later one, or remove it")


def present(folder: Path) -> Present | None:
    """The bundle in `folder`; None where there is none of ours."""
    try:
        found: Any = json.loads((folder / MANIFEST_FILE).read_bytes())
        family, version, files = found["family"], found["version"], frozenset(found["source"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_ours = isinstance(family, str) and isinstance(version, int)
    is_ours = is_ours and folder.absolute().name in folder_names(str(found.get("policy")), version)
    return Present(family=family, version=version, files=files) if is_ours else None


def refuse_full_disk(folder: Path, needed_bytes: int) -> None:
    """Raises PlaceRefused when `folder`'s file system has less room than that."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PlaceRefused(f"the export needs about {_gb(needed_bytes)} in {folder}, {_gb(free)} are free")


def put(fresh: Path, place: Path) -> None:
    """Moves the bundle `fresh` to `place`; what was there ends where `fresh` was. There is no moment without a whole bundle."""
    if place.exists():
        _exchange(fresh, place)
    else:
        fresh.rename(place)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What fails inside for want of room says so about `path`: a failed write does not know its own file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in {errno.EINVAL, errno.ENOSYS}:
        raise OSError(number, os.strerror(number), str(other))
    # A file system that cannot exchange (some network ones): two renames, put right by `_restore` if killed in between.
    old = one.parent / "old" / other.name
    old.parent.mkdir()
    other.rename(old)
    one.rename(other)


def _clear_leftovers(repository: Path) -> None:
    for folder in sorted(repository.parent.glob(f".*{_SUFFIX}")):
        with _locked(folder) as is_mine:
            if is_mine:
                _restore(folder, repository)
                shutil.rmtree(folder, ignore_errors=True)


def _restore(leftover: Path, repository: Path) -> None:
    for old in leftover.glob("old/*"):
        if not (repository / old.name).exists():
            old.rename(repository / old.name)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether `folder`, made if need be, is now locked by this process; the kernel unlocks it when the process dies."""
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Whoever had it may have removed it meanwhile: a lock on a folder that is gone locks nothing.
        yield _lock(handle) and folder.exists() and folder.stat().st_ino == os.fstat(handle).st_ino
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
