"""Stores that take the file from a single writer.

Parts stay with the tasks, and the last task writes them all.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores.base import Store, WriteResult


@dataclass(frozen=True)
class SingleWriterStore(Store):
    """A store that never takes a part: its smallest is larger than any file."""

    @abstractmethod
    def write(self, buffers: list[Buffer]) -> bytes | WriteResult:
        """Write the whole file, given in order."""

    @property
    def limits(self) -> Limits:
        """A smallest part that no file reaches."""
        most = 1 << 62
        return Limits(min_part=most, max_part=most, max_parts=most)

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
