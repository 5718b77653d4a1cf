"""No store: the parts stay with the tasks, and the last one returns the bytes of the file."""

from __future__ import annotations

from dataclasses import dataclass

from ccog.parts import Buffer, Limits, Part
from ccog.stores.base import WriteResult


@dataclass(frozen=True)
class BytesStore:
    """Never takes a part: its smallest part is larger than any file."""

    @property
    def limits(self) -> Limits:
        """A smallest part that no file reaches."""
        return Limits(min_part=1 << 62, max_part=1 << 62, max_parts=1 << 62)

    @property
    def url(self) -> str:
        """What the result is."""
        return "bytes"

    def check(self, *, overwrite: bool) -> None:
        """Nothing can be wrong."""

    def begin(self) -> str:
        """No session is needed."""
        return ""

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Unreachable: no run is ever as long as the smallest part."""
        raise AssertionError("a file in memory has no parts")

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Unreachable, as ``put`` is."""
        raise AssertionError("a file in memory has no parts")

    def abort(self, session: str) -> None:
        """Nothing to remove."""
