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
from datetime import UTC, datetime
from pathlib import Path

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.parts import Buffer, Limits, Part
from ccog.stores.base import MANIFEST, IncompleteUpload, WriteResult, new_session, size_of, target_of, total_size

_COPY_UNAVAILABLE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)
_CHUNK = 16 << 20

# part files that are copied at a time
_COPIERS = 4

# the file that the parts are joined in, beside them
_WHOLE = "whole"

# file systems tell times less finely than clocks do
_SLACK_SECONDS = 2.0

# a part file renamed into the directory while it is being removed takes another turn
_REMOVALS = 10


@dataclass(frozen=True)
class LocalStore:
    """The file at ``path`` (absolute)."""

    path: str
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """A file system has none worth keeping; big parts mean few files."""
        return Limits(min_part=0, max_part=1 << 62, max_parts=1 << 62, preferred_part=1 << 40)

    @property
    def url(self) -> str:
        """The path."""
        return self.path

    def check(self) -> None:
        """Refuse a directory, a missing or read-only parent, and an existing file unless told otherwise."""
        target = Path(self.path)
        if target.is_dir():
            raise StoreError(f"{self.path} is a directory; give the name of a file in it")
        if not target.parent.is_dir():
            raise StoreNotFoundError(f"the directory {target.parent} does not exist; create it first")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise StorePermissionError(f"no permission to create files in {target.parent}")
        if target.exists() and not self.overwrite:
            raise self._exists()

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the hidden directory beside the target that holds the parts; its name is the session."""
        if unanswered:
            self._drop_unanswered(unanswered)
        target = Path(self.path)
        directory = target.with_name(new_session(target.name))
        try:
            directory.mkdir()
        except OSError as error:
            raise StoreError(f"cannot write beside {self.path}: {error}") from error
        return directory.name

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Write a part file under a temporary name, then rename it, so that a part is whole or absent."""
        self._write(self._part(session, number), buffers)
        return self.part(number, buffers)

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number and size of the part."""
        return number, size_of(buffers), ""

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Copy all parts behind the first, flush it to disk, and rename it over the target."""
        directory = self._directory(session)
        result = WriteResult(self.path, total_size(parts))
        if not directory.is_dir():
            return self._completed_before(result)
        whole = directory / _WHOLE
        self._join(session, sorted(parts), whole)
        found = whole.stat().st_size
        if found != result.size:
            raise StoreError(f"{self.path}: joined {found} bytes of {result.size}; is the disk full?")
        self._publish(whole)
        _sync_directory(directory.parent)
        self.abort(session)
        return result

    def abort(self, session: str) -> None:
        """Remove the part files; tasks that are still running fail to put theirs."""
        directory = self._directory(session)
        for _ in range(_REMOVALS):
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                return

    def incomplete(self) -> list[IncompleteUpload]:
        """Part directories of this file, or, where the path is a directory, of all files in it.

        They are dated by their last part.
        """
        path = Path(self.path)
        folder, name = (path, None) if path.is_dir() else (path.parent, path.name)
        if not folder.is_dir():
            raise StoreNotFoundError(f"the directory {folder} does not exist")
        found = []
        for entry in os.scandir(folder):
            target = target_of(entry.name)
            if target is not None and name in (None, target) and entry.is_dir(follow_symlinks=False):
                # one that ends just now is not incomplete
                with contextlib.suppress(FileNotFoundError):
                    started = datetime.fromtimestamp(entry.stat().st_mtime, UTC)
                    resumable = os.path.exists(os.path.join(entry.path, MANIFEST))
                    found.append(IncompleteUpload(str(folder / target), entry.name, started, resumable))
        return found

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """None is known: the length of a file proves nothing."""
        if not self._directory(session).is_dir():
            raise StoreNotFoundError(f"the parts of {self.path} are gone")
        return {}

    @property
    def resumes(self) -> bool:
        """Records are files beside the parts."""
        return True

    def save(self, session: str, name: str, data: bytes) -> None:
        """Write a file under a temporary name, then rename it."""
        self._write(self._directory(session) / name, [data])

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the file, or the first of them."""
        try:
            with (self._directory(session) / name).open("rb") as file:
                return file.read(-1 if limit is None else limit)
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"a record of the write to {self.path} is gone: {error}") from error

    def saved(self, session: str) -> frozenset[str]:
        """Names of all files beside the parts, theirs included."""
        with contextlib.suppress(FileNotFoundError):
            return frozenset(entry.name for entry in os.scandir(self._directory(session)))
        return frozenset()

    def forget(self, session: str) -> None:
        """Nothing to remove: records go with the directory of the parts."""

    def tidy(self) -> None:
        """Nothing to remove, as for ``forget``."""

    def _write(self, target: Path, buffers: list[Buffer]) -> None:
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        try:
            with partial.open("wb", buffering=0) as file:
                for buffer in buffers:
                    _write_all(file.fileno(), buffer)
            partial.replace(target)
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"the parts of {self.path} are gone: {error}") from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _join(self, session: str, ordered: list[Part], whole: Path) -> None:
        """Copy the parts into one file, each removed when it is there; joining that was cut short goes on."""
        starts = list(itertools.accumulate((size for _, size, _ in ordered), initial=0))
        sources = [(self._part(session, number), size) for number, size, _ in ordered]
        resumed = whole.exists()
        try:
            if not resumed:
                sources[0][0].replace(whole)
            with whole.open("r+b", buffering=0) as file, ThreadPoolExecutor(_COPIERS) as pool:
                copies = [
                    pool.submit(_copy_part, part, size, file.fileno(), start)
                    for (part, size), start in zip(sources, starts, strict=False)
                    if part.exists()
                    if resumed or part != sources[0][0]
                ]
                for copy in copies:
                    copy.result()
                os.fsync(file.fileno())
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"the parts of {self.path} are gone: {error}") from error

    def _publish(self, whole: Path) -> None:
        """Give the whole file its name."""
        if self.overwrite:
            whole.replace(self.path)
            return
        try:
            os.link(whole, self.path)
        except FileExistsError:
            raise self._exists() from None

    def _completed_before(self, result: WriteResult) -> WriteResult:
        """The result where an earlier call came as far as removing the parts, but nobody heard of it."""
        target = Path(self.path)
        if target.is_file() and target.stat().st_size == result.size:
            return result
        raise StoreNotFoundError(f"the parts of {self.path} are gone: the write was aborted")

    def _drop_unanswered(self, seconds: float) -> None:
        """Remove the empty part directories of this file that are no older."""
        for upload in self.incomplete():
            if (datetime.now(UTC) - upload.started).total_seconds() <= seconds + _SLACK_SECONDS:
                with contextlib.suppress(OSError):
                    self._directory(upload.session).rmdir()

    def _exists(self) -> StoreExistsError:
        return StoreExistsError(f"{self.path} exists; remove it, or allow overwriting")

    def _directory(self, session: str) -> Path:
        return Path(self.path).with_name(session)

    def _part(self, session: str, number: int) -> Path:
        return self._directory(session) / f"{number:06d}"


def _write_all(descriptor: int, buffer: Buffer) -> None:
    view = memoryview(buffer)
    while view:
        view = view[os.write(descriptor, view) :]


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
