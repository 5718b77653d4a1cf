"""A local or shared file system: part files beside the target, joined in the kernel, renamed into place."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.parts import Buffer, Limits, Part
from ccog.stores.base import WriteResult

_COPY_UNAVAILABLE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)
_CHUNK = 16 << 20

# part files that are copied at a time
_COPIERS = 4

# a part file renamed into the directory while it is being removed takes another turn
_REMOVALS = 10


@dataclass(frozen=True)
class LocalStore:
    """The file at ``path`` (absolute)."""

    path: str

    @property
    def limits(self) -> Limits:
        """A file system has none worth keeping; big parts mean few files."""
        return Limits(min_part=0, max_part=1 << 62, max_parts=1 << 62, preferred_part=1 << 40)

    @property
    def url(self) -> str:
        """The path."""
        return self.path

    def check(self, *, overwrite: bool) -> None:
        """Refuse a directory, a missing or read-only parent, and an existing file unless told otherwise."""
        target = Path(self.path)
        if target.is_dir():
            raise StoreError(f"{self.path} is a directory; give the name of a file in it")
        if not target.parent.is_dir():
            raise StoreNotFoundError(f"the directory {target.parent} does not exist; create it first")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise StorePermissionError(f"no permission to create files in {target.parent}")
        if target.exists() and not overwrite:
            raise StoreExistsError(f"{self.path} exists; remove it, or allow overwriting")

    def begin(self) -> str:
        """Create the hidden directory beside the target that holds the parts; its name is the session."""
        target = Path(self.path)
        directory = target.with_name(f".{target.name}.{uuid.uuid4().hex}.parts")
        try:
            directory.mkdir()
        except OSError as error:
            raise StoreError(f"cannot write beside {self.path}: {error}") from error
        return directory.name

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Write a part file under a temporary name, then rename it, so that a part is whole or absent."""
        target = self._part(session, number)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        size = 0
        try:
            with partial.open("wb", buffering=0) as file:
                for buffer in buffers:
                    size += _write_all(file.fileno(), buffer)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return number, size, ""

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Copy all parts behind the first, flush it to disk, and rename it over the target."""
        ordered = sorted(parts)
        first = self._part(session, ordered[0][0])
        starts = list(itertools.accumulate((size for _, size, _ in ordered), initial=0))
        with first.open("r+b", buffering=0) as file, ThreadPoolExecutor(_COPIERS) as pool:
            copies = [
                pool.submit(_copy_part, self._part(session, number), size, file.fileno(), start)
                for (number, size, _), start in zip(ordered[1:], starts[1:], strict=False)
            ]
            for copy in copies:
                copy.result()
            expected, found = starts[-1], os.fstat(file.fileno()).st_size
            if found != expected:
                raise StoreError(f"{self.path}: joined {found} bytes of {expected}; is the disk full?")
            os.fsync(file.fileno())
        first.replace(self.path)
        _sync_directory(Path(self.path).parent)
        self.abort(session)
        return WriteResult(self.path, expected)

    def abort(self, session: str) -> None:
        """Remove the part files; tasks that are still running fail to put theirs."""
        directory = Path(self.path).with_name(session)
        for _ in range(_REMOVALS):
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                return

    def _part(self, session: str, number: int) -> Path:
        return Path(self.path).with_name(session) / f"{number:06d}"


def _write_all(descriptor: int, buffer: Buffer) -> int:
    view = memoryview(buffer)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(buffer)


def _copy_part(part: Path, size: int, target: int, start: int) -> None:
    """Copy a whole part file to its place in an open one, in the kernel where it can, and remove it."""
    with part.open("rb", buffering=0) as source:
        done = 0
        while done < size:
            copied = _copy_some(source.fileno(), target, size - done, done, start + done)
            if not copied:
                raise StoreError(f"{part} is shorter than the {size} bytes that were written to it")
            done += copied
    part.unlink()


def _copy_some(source: int, target: int, count: int, at: int, to: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, at, to)
        except OSError as error:
            if error.errno not in _COPY_UNAVAILABLE:
                raise
    return os.pwrite(target, os.pread(source, min(count, _CHUNK), at), to)


def _sync_directory(directory: Path) -> None:
    """Make the rename durable, where directories can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
