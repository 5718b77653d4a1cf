"""Any other file system of fsspec, through one sequential writer."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import CCOGWarning, MissingDependencyError, StoreError, StorePermissionError
from ccog.geometry.parts import Buffer, total
from ccog.redaction import harmless, redacted
from ccog.stores.base import WriteResult, checked_result, exists_error
from ccog.stores.single_writer import SingleWriterStore

# for tests: a single writer slows nothing down
_UNWARNED = ("memory",)


@dataclass(frozen=True, repr=False)
class FsspecStore(SingleWriterStore):
    """The file at ``target`` (a URL); ``options`` are those of its file system.

    The URL may hold a password, which stays out of the repr and of messages.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = True

    @property
    def url(self) -> str:
        """The URL, without a password in it."""
        return redacted(self.target)

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def check(self) -> None:
        """Refuse unknown protocols and silent servers; without ``overwrite`` a file."""
        filesystem, path = self._open()
        if not self.overwrite and filesystem.exists(path):
            raise exists_error(self.url)
        protocol = self.target.split("://", 1)[0]
        if protocol not in _UNWARNED:
            warnings.warn(
                f"{protocol}:// has no parallel uploads here: the compressed file is gathered on "
                "one worker, which writes it alone; s3://, az://, gs:// and local paths are "
                "written by all workers",
                CCOGWarning,
                stacklevel=5,
            )

    def write(self, buffers: list[Buffer]) -> WriteResult:
        """Write a file beside the target and move it there."""
        filesystem, path = self._open()
        with self._explained():
            written = _write(filesystem, path, buffers)
        return checked_result(self.url, written, total(buffers))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise errors of the file system as ours, without credentials."""
        try:
            yield
        except (OSError, NotImplementedError, ValueError) as error:
            kind = StorePermissionError if isinstance(error, PermissionError) else StoreError
            message = f"cannot write {self.url}: {self._reason(error)}"
            raise kind(message) from harmless(error, self.options)

    def _open(self) -> tuple[Any, str]:
        """The file system, and the path of the target on it."""
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(self.target, **self.options)
        except ImportError as error:
            message = f"cannot write to {self.url}: {error}"
            raise MissingDependencyError(message) from harmless(error, self.options)
        except Exception as error:
            message = f"cannot write to {self.url}: {self._reason(error)}"
            raise StoreError(message) from harmless(error, self.options)
        return filesystem, path

    def _reason(self, error: Exception) -> str:
        return redacted(error, self.options, self.target) or type(error).__name__


def _write(filesystem: Any, path: str, buffers: list[Buffer]) -> int:
    """Write the file, and return the size that the file system reports."""
    partial = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with filesystem.open(partial, "wb") as file:
            for buffer in buffers:
                file.write(buffer)
        _move(filesystem, partial, path)
        return int(filesystem.info(path)["size"])
    finally:
        with contextlib.suppress(Exception):
            if filesystem.exists(partial):
                filesystem.rm(partial)


def _move(filesystem: Any, partial: str, path: str) -> None:
    """Rename, also over an existing file, which some file systems want removed first."""
    try:
        filesystem.mv(partial, path)
    except OSError:
        if not filesystem.exists(path):
            raise
        filesystem.rm(path)
        filesystem.mv(partial, path)
