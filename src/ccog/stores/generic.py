"""Any other file system of fsspec, through one sequential writer."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import (
    CCOGWarning,
    MissingDependencyError,
    StoreError,
    StoreExistsError,
    StorePermissionError,
)
from ccog.geometry.parts import Buffer
from ccog.redaction import harmless, redacted
from ccog.stores.base import WriteResult, size_of
from ccog.stores.whole import WholeStore

# made for tests, and for nothing that one writer could slow down
_UNWARNED = ("memory",)


@dataclass(frozen=True, repr=False)
class FsspecStore(WholeStore):
    """The file at ``target`` (a URL) on the file system of its protocol, made with ``options``.

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
        """Refuse an unknown protocol, a server that does not answer, and, unless told otherwise, an existing file."""
        filesystem, path = self._open()
        if not self.overwrite and filesystem.exists(path):
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")
        protocol = self.target.split("://", 1)[0]
        if protocol not in _UNWARNED:
            warnings.warn(
                f"{protocol}:// has no parallel uploads here: the compressed file is gathered on one worker, which "
                "writes it alone; s3://, az://, gs:// and local paths are written by all workers",
                CCOGWarning,
                stacklevel=5,
            )

    def write(self, buffers: list[Buffer]) -> WriteResult:
        """Write a file beside the target and move it there."""
        filesystem, path = self._open()
        partial = f"{path}.{uuid.uuid4().hex}.part"
        size = size_of(buffers)
        try:
            with filesystem.open(partial, "wb") as file:
                for buffer in buffers:
                    file.write(buffer)
            _move(filesystem, partial, path)
            found = filesystem.info(path)["size"]
        except PermissionError as error:
            raise StorePermissionError(
                f"cannot write {self.url}: {self._said(error)}"
            ) from harmless(error, self.options)
        except (OSError, NotImplementedError, ValueError) as error:
            raise StoreError(f"cannot write {self.url}: {self._said(error)}") from harmless(
                error, self.options
            )
        finally:
            with contextlib.suppress(Exception):
                if filesystem.exists(partial):
                    filesystem.rm(partial)
        if found != size:
            raise StoreError(
                f"{self.url} has {found} bytes, not the {size} that were written; write it again"
            )
        return WriteResult(self.url, size)

    def _open(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            filesystem, path = url_to_fs(self.target, **self.options)
        except ImportError as error:
            raise MissingDependencyError(f"cannot write to {self.url}: {error}") from error
        except Exception as error:
            raise StoreError(f"cannot write to {self.url}: {self._said(error)}") from harmless(
                error, self.options
            )
        return filesystem, path

    def _said(self, error: Exception) -> str:
        """The message of another library's error, without credentials."""
        return redacted(error, self.options) or type(error).__name__


def _move(filesystem: Any, partial: str, path: str) -> None:
    """Rename, over an existing file too; some file systems want that out of the way first."""
    try:
        filesystem.mv(partial, path)
    except OSError:
        if not filesystem.exists(path):
            raise
        filesystem.rm(path)
        filesystem.mv(partial, path)
