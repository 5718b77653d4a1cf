"""Stores that take the file from a single writer.

Parts stay with the tasks, and the last task writes them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores.base import IncompleteUpload, NoCheckpoints, WriteResult

_LARGER_THAN_ANY_FILE = 1 << 62


@dataclass(frozen=True)
class SingleWriterStore(NoCheckpoints):
    """A store that never takes a part, since its smallest part is larger than any file."""

    @property
    def limits(self) -> Limits:
        """A smallest part that no file reaches."""
        return Limits(
            min_part=_LARGER_THAN_ANY_FILE,
            max_part=_LARGER_THAN_ANY_FILE,
            max_parts=_LARGER_THAN_ANY_FILE,
        )

    @property
    def url(self) -> str:
        """The target, for people."""
        raise NotImplementedError

    def write(self, buffers: list[Buffer]) -> bytes | WriteResult:
        """Write the whole file, given in order."""
        raise NotImplementedError

    def check(self) -> None:
        """Accept any target."""

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """No upload id is needed."""
        return ""

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Never called: no segment is as long as the smallest part."""
        raise NotImplementedError

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Never called."""
        raise NotImplementedError

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Never called."""
        raise NotImplementedError

    def abort(self, upload_id: str) -> None:
        """Nothing to remove."""

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Nothing is ever left."""
        return []


@dataclass(frozen=True)
class BytesStore(SingleWriterStore):
    """No store: the result is the bytes of the file."""

    @property
    def url(self) -> str:
        """The result."""
        return "bytes"

    def write(self, buffers: list[Buffer]) -> bytes:
        """The bytes of the file."""
        return b"".join(buffers)
