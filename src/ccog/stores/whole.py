"""Stores that take the file as a whole: the parts stay with the tasks, and the last one writes them all."""

from __future__ import annotations

from dataclasses import dataclass

from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores.base import IncompleteUpload, KeepsNothing, WriteResult


@dataclass(frozen=True)
class WholeStore(KeepsNothing):
    """Never takes a part: its smallest part is larger than any file."""

    @property
    def limits(self) -> Limits:
        """A smallest part that no file reaches."""
        return Limits(min_part=1 << 62, max_part=1 << 62, max_parts=1 << 62)

    @property
    def url(self) -> str:
        """The target, for people."""
        raise NotImplementedError

    def write(self, buffers: list[Buffer]) -> bytes | WriteResult:
        """Write the whole file, given in order."""
        raise NotImplementedError

    def check(self) -> None:
        """Nothing can be wrong."""

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """No session is needed."""
        return ""

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Unreachable: no run is ever as long as the smallest part."""
        raise AssertionError(f"{self.url} takes no parts")

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Unreachable, as ``put`` is."""
        raise AssertionError(f"{self.url} takes no parts")

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Unreachable, as ``put`` is."""
        raise AssertionError(f"{self.url} takes no parts")

    def abort(self, session: str) -> None:
        """Nothing to remove."""

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Nothing is ever left."""
        return []


@dataclass(frozen=True)
class BytesStore(WholeStore):
    """No store: the result is the bytes of the file."""

    @property
    def url(self) -> str:
        """What the result is."""
        return "bytes"

    def write(self, buffers: list[Buffer]) -> bytes:
        """The bytes of the file."""
        return b"".join(buffers)
