"""What every store does, and the records of finished and unfinished writes."""

from __future__ import annotations

import logging
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from ccog.errors import StoreError, StoreExistsError, warn_user
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.wording import byte_text, plural, size_text

T = TypeVar("T")

_LOGGER = logging.getLogger("ccog")

#: Type of S3, Azure and GCS objects, unless the user gives another one (COG draft standard).
CONTENT_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

#: Seconds for a question that is asked while a write is being prepared.
QUICK_SECONDS = 3.0


@dataclass(frozen=True, repr=False)
class WriteResult:
    """A finished file.

    Attributes
    ----------
    url
        Its URL or path.
    size
        Its size in bytes.
    etag
        Its ETag; None where the store has none.
    levels
        (height, width) of full resolution and of each overview, in pixels.
    """

    url: str
    size: int
    etag: str | None = None
    levels: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        """What was written, and how to look at it."""
        facts = [f"{self.url}: {byte_text(self.size)}"]
        if self.levels:
            height, width = self.levels[0]
            overviews = plural(len(self.levels) - 1, "overview")
            facts.append(f"{size_text(width, height)} pixels, {overviews}")
        if self.etag is not None:
            facts.append(f"ETag {self.etag}")
        return (
            f"{', '.join(facts)}\nccog.inspect({self.url!r}) shows how it is stored, "
            f"ccog.validate({self.url!r}) checks it"
        )


@dataclass(frozen=True, kw_only=True)
class IncompleteUpload:
    """A write that was begun and neither completed nor aborted.

    Attributes
    ----------
    url
        Its target.
    upload_id
        The store's name for it.
    started
        When it began.
    resumable
        Whether it was written with ``resume=True``: the same call then continues it.
    by_ccog
        Whether it is certain that ccog has begun it: on S3 other programs upload too.
    over
        Whether it has ended, and only records of its checkpoint are left.
    """

    url: str
    upload_id: str
    started: datetime
    resumable: bool = False
    by_ccog: bool = True
    over: bool = False


#: The checkpoint that says what a resumable write writes.
MANIFEST = "manifest.json"


class Store(ABC):
    """A target that takes the parts of one file, in any order and from any process.

    Stores are small, frozen and picklable. ``begin`` returns an upload id, which every
    later call gets. Every method may be called again with the same arguments: the task
    that calls it runs again if its worker dies. All errors are StoreErrors.

    What is defined here is right for a store that knows nothing of unfinished uploads.
    """

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """Sizes and number of the parts that this store takes."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The target, for people; without credentials."""

    @abstractmethod
    def check(self) -> None:
        """Refuse a target that cannot be written, before any work."""

    @abstractmethod
    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Start an upload and return its id.

        Nothing is visible at the target until ``complete``.

        Parameters
        ----------
        write
            The random name of this write (32 hex digits); the same if its first task
            runs again.
        unanswered
            Seconds since an earlier call that may have succeeded without an answer; 0:
            there was none. An upload of that call is continued or removed, if it
            certainly belongs to this write.
        """

    @abstractmethod
    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Store a part; a part of the same number is replaced.

        Raises StoreNotFoundError, and leaves nothing, if the upload is over: completed or
        aborted.
        """

    @abstractmethod
    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """The part that ``put`` returns for these bytes; nothing is stored."""

    @abstractmethod
    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Join the parts in order, and make the file visible at once.

        Once the file is there, nothing that fails is an error: see ``after_completion``.
        If an earlier call has completed the same file, the result is the same. If
        another file is there instead, StoreNotFoundError or StoreExistsError is raised.
        ``write`` is the name that the upload was begun with; None if an earlier run
        with another name began it.
        """

    @abstractmethod
    def abort(self, upload_id: str) -> None:
        """Remove all parts and checkpoints; the target stays as it was.

        Nothing happens if the upload is over.
        """

    def stored_parts(self, upload_id: str, first: int, count: int) -> dict[int, Part]:
        """Stored parts, by number, among ``count`` numbers from ``first``.

        Only those whose tag proves their content. Raises StoreNotFoundError if the
        upload is over.
        """
        return {}

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this target that were begun and neither completed nor aborted.

        ``quick``: ask once and wait a few seconds at most; ``resumable`` need not be
        right.
        """
        return []

    def continuable(self) -> list[IncompleteUpload]:
        """Uploads to this target among which one to resume is looked for."""
        return self.incomplete()

    def sidecars(self) -> list[str]:
        """Names of files beside the target that readers take for parts of the new file.

        Those that stay: masks, overviews and the like of an older file. Asked once, for a
        few seconds at most.
        """
        return []

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether another process can continue an upload from checkpoints."""
        return False

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Keep a checkpoint, whole or not at all; one of the same name is replaced.

        Raises StoreNotFoundError, and leaves nothing, if the upload is over.
        """
        raise NotImplementedError

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of a checkpoint, or its first ``limit`` bytes.

        Raises StoreNotFoundError if there is none.
        """
        raise NotImplementedError

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of the checkpoints of an upload; names of parts may be among them."""
        return frozenset()

    def remove_checkpoints(self, upload_id: str) -> None:  # noqa: B027
        """Remove the checkpoints that a completed upload has left, if any."""

    def remove_stale_checkpoints(self) -> None:  # noqa: B027
        """Remove the checkpoints of all uploads to this target that are over."""


_PARTS_FOLDER = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{32}\.parts")


def parts_folder(target: str, write: str | None = None) -> str:
    """Name of the hidden folder for the parts of a file; random without ``write``."""
    return f".{target}.{write or uuid.uuid4().hex}.parts"


def target_of(folder: str) -> str | None:
    """Name of the file whose parts are in such a folder; None for other folders."""
    match = _PARTS_FOLDER.fullmatch(folder)
    return match["target"] if match else None


def total_size(parts: list[Part]) -> int:
    """Bytes of all parts together."""
    return sum(part.size for part in parts)


def after_completion(url: str, step: Callable[[], T]) -> T | None:
    """Do a step when the file is complete: an error is a warning, since the write has succeeded."""
    try:
        return step()
    except StoreError as error:
        warn_and_log(
            f"{url} is complete, but something after that failed: {error}. "
            f"`ccog uploads abort {url}` removes what may be left of the upload"
        )
        return None


def warn_and_log(text: str) -> None:
    """Warn from a task: a warning of a worker does not reach the user, its log may."""
    _LOGGER.warning("%s", text)
    warn_user(text)


def is_at(place: str, key: str) -> bool:
    """Whether an object is the one of that name, or below a directory of that name."""
    return key == place or key.startswith(below(place))


def below(place: str) -> str:
    """What the names of all objects below a directory begin with."""
    return place if not place or place.endswith("/") else f"{place}/"


def exists_error(url: str) -> StoreExistsError:
    """The error of a target that may not be overwritten."""
    return StoreExistsError(f"{url} exists; remove it, or allow overwriting")


def checked_result(url: str, size: int | None, expected: int) -> WriteResult:
    """The result of a write, if the store has as many bytes as were written."""
    if size != expected:
        raise StoreError(f"{url} has {size} bytes, not the {expected} written; write it again")
    return WriteResult(url, expected)
