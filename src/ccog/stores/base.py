"""What every target offers: the store protocol, what a finished write returns, and what an unfinished one leaves."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ccog.geometry.parts import Buffer, Limits, Part

#: S3, Azure and GCS objects are given this type unless the user says otherwise (COG draft standard).
CONTENT_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class WriteResult:
    """A finished file: its URL or path, size in bytes, and ETag where the store has one."""

    url: str
    size: int
    etag: str | None = None


@dataclass(frozen=True)
class IncompleteUpload:
    """A write that was begun and neither completed nor aborted.

    ``url`` is its target, ``session`` the store's name for it (S3: the upload id), ``started`` when it began;
    ``resumable`` where it was written with ``resume=True``, so that the same call continues it.
    """

    url: str
    session: str
    started: datetime
    resumable: bool = False


#: Record by which a session that can be resumed is known, and what it writes.
MANIFEST = "manifest.json"


class Store(Protocol):
    """A target that takes the parts of one file, in any order and from any process.

    Implementations are frozen, small and picklable; ``begin`` returns a session that every other call gets.
    Every method is idempotent, so that a task whose worker died can run again elsewhere.
    """

    @property
    def limits(self) -> Limits:
        """Part sizes and counts this store takes."""

    @property
    def url(self) -> str:
        """The target, for people."""

    def check(self) -> None:
        """Refuse, before any work, a target that cannot be written."""

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Start writing; nothing is visible at the target until ``complete``.

        ``write``: the random name of this write (32 hex digits), the same where its first task runs again.
        ``unanswered``: seconds since an earlier call that may have succeeded without anybody hearing of it;
        what it left, and what is certainly of this write, is continued or removed.
        """

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Store the part of that number; a number put again replaces the earlier part.

        Raises StoreNotFoundError where the session is over, completed or aborted.
        """

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """What ``put`` returns for these bytes, without storing them."""

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Make the file of the given parts, in the order of their numbers, visible at once.

        Completing again what is complete gives the same result; a file that is not certainly this one is an error.
        ``write`` is the name that the session was begun with; None where an earlier run, which had another, began it.
        """

    def abort(self, session: str) -> None:
        """Remove everything put so far; the target stays as it was. A session that is over is as good."""

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Writes of this very target that were begun and are neither complete nor aborted.

        ``quick``: ask once and wait for seconds at most; what can be resumed need not be marked.
        """

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """Parts among ``count`` numbers from ``first`` that are there and whose tag proves what they hold.

        Raises StoreNotFoundError where the session is over.
        """

    @property
    def resumes(self) -> bool:
        """Whether the store keeps records beside the parts, by which another process can continue a session."""

    def save(self, session: str, name: str, data: bytes) -> None:
        """Keep a record, whole or not at all; one of the same name is replaced."""

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """A record, or the first ``limit`` bytes of it; StoreNotFoundError where there is none."""

    def saved(self, session: str) -> frozenset[str]:
        """Names of the records of a session."""

    def forget(self, session: str) -> None:
        """Remove the records of a session, as ``abort`` does too."""

    def tidy(self) -> None:
        """Remove the records of sessions of this target that are over."""


class KeepsNothing:
    """Part of stores that cannot say what they hold, nor keep records."""

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """No part is known."""
        return {}

    @property
    def resumes(self) -> bool:
        """No."""
        return False

    def save(self, session: str, name: str, data: bytes) -> None:
        """Unreachable: who asks ``resumes`` saves nothing here."""
        raise AssertionError(f"no place for {name}")

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """Unreachable, as ``save`` is."""
        raise AssertionError(f"no {name} here")

    def saved(self, session: str) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def forget(self, session: str) -> None:
        """Nothing to remove."""

    def tidy(self) -> None:
        """Nothing to remove."""


_SESSION = re.compile(r"\.(.+)\.[0-9a-f]{32}\.parts")


def new_session(name: str, write: str | None = None) -> str:
    """A hidden name beside the file ``name``, for the folder that holds the parts of a write (a random one)."""
    return f".{name}.{write or uuid.uuid4().hex}.parts"


def target_of(session: str) -> str | None:
    """The file whose parts a folder of that name holds; None for other folders."""
    match = _SESSION.fullmatch(session)
    return match[1] if match else None


def size_of(buffers: list[Buffer]) -> int:
    """Bytes of all buffers together."""
    return sum(len(buffer) for buffer in buffers)


def total_size(parts: list[Part]) -> int:
    """Bytes of all parts together."""
    return sum(size for _, size, _ in parts)
