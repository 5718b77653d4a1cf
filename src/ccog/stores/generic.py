"""Any other file system of fsspec, through one sequential writer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import MissingDependencyError, StoreError, warn_user
from ccog.geometry.parts import Buffer, total
from ccog.redaction import harmless, redacted
from ccog.stores.base import WriteResult, exists_error
from ccog.stores.local_errors import kind_of
from ccog.stores.replacement import Replacement, info_of
from ccog.stores.sidecars import MOST_COMMON
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
        if not self.overwrite:
            with self._explained():
                existing = info_of(filesystem, path)
            if existing is not None:
                raise exists_error(self.url)
        protocol = self.target.split("://", 1)[0]
        if protocol not in _UNWARNED:
            warn_user(
                f"{protocol}:// has no parallel uploads here: the compressed file is gathered on "
                "one worker, which writes it alone; s3://, az://, gs:// and local paths are "
                "written by all workers"
            )

    def write(self, buffers: list[Buffer]) -> WriteResult:
        """Write a file beside the target, and move it there when it is whole."""
        # servers drop connections that have been silent for as long as a write may take
        filesystem, path = self._open(anew=True)
        with self._explained():
            Replacement(
                filesystem=filesystem, path=path, url=self.url, overwrite=self.overwrite
            ).run(buffers)
        return WriteResult(self.url, total(buffers))

    def sidecars(self) -> list[str]:
        """The commonest, asked for one by one."""
        filesystem, path = self._open()
        with self._explained():
            found = [ext for ext in MOST_COMMON if info_of(filesystem, path + ext) is not None]
        return [path.rpartition("/")[2] + ext for ext in sorted(found)]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise errors of the file system, of whatever type, as ours, without credentials."""
        try:
            yield
        except Exception as error:
            kind, said = kind_of(error), f"cannot write {self.url}: {self._reason(error)}"
            if isinstance(error, StoreError):
                kind, said = type(error), str(error)
            # notes say which files are left where
            said = "; ".join([said, *getattr(error, "__notes__", ())])
            said = redacted(said, self.options, self.target)
            raise kind(said) from harmless(error, self.options, self.target)

    def _open(self, anew: bool = False) -> tuple[Any, str]:
        """The file system, and the path of the target on it; ``anew``: by a new connection."""
        from fsspec.core import url_to_fs

        # of chained file systems each has options of its own
        own = {"skip_instance_cache": True} if anew and "::" not in self.target else {}
        try:
            filesystem, path = url_to_fs(self.target, **{**self.options, **own})
        except ImportError as error:
            message = f"cannot write to {self.url}: {error}"
            raise MissingDependencyError(message) from harmless(error, self.options)
        except Exception as error:
            message = f"cannot write to {self.url}: {self._reason(error)}"
            raise StoreError(message) from harmless(error, self.options)
        return filesystem, path

    def _reason(self, error: Exception) -> str:
        return redacted(error, self.options, self.target) or type(error).__name__
