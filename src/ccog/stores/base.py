"""The store protocol and what a finished write returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ccog.parts import Buffer, Limits, Part

#: S3, Azure and GCS objects are given this type unless the user says otherwise (COG draft standard).
CONTENT_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class WriteResult:
    """A finished file: its URL or path, size in bytes, and ETag where the store has one."""

    url: str
    size: int
    etag: str | None = None


class Store(Protocol):
    """A target that takes the parts of one file, in any order and from any process.

    Implementations are frozen, small and picklable; ``begin`` returns a session that every other call gets.
    """

    @property
    def limits(self) -> Limits:
        """Part sizes and counts this store takes."""

    @property
    def url(self) -> str:
        """The target, for people."""

    def check(self, *, overwrite: bool) -> None:
        """Refuse, before any work, a target that cannot be written."""

    def begin(self) -> str:
        """Start writing; nothing is visible at the target until ``complete``."""

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Store the part of that number; a number put again replaces the earlier part."""

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Make the file of the given parts, in the order of their numbers, visible at once."""

    def abort(self, session: str) -> None:
        """Remove everything put so far; the target stays as it was."""
