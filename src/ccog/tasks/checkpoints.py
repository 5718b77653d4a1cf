"""The checkpoint of a write that can be resumed: records of what its tasks have done.

The record of a segment, an upload group or a merge, is what its upload returned. Of one overview
level each block's partial overviews are kept, so that no overview above it needs what lies below
it again.

Who can write to the bucket must not be able to run code here, fill the memory, or make a wrong
file. So before a write is resumed, each record that it needs is read once within a limit, and
compared with the geometry (``record_checks``). Tasks load exactly the records that were looked
at, or fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ccog.errors import ResumeError, StoreNotFoundError
from ccog.geometry.cog import CogGeometry
from ccog.runtime.begin import may_be_complete
from ccog.runtime.runs import Begun
from ccog.stores import Store
from ccog.tasks.blocks import BlockResult, PartialOverview
from ccog.tasks.records import dump_overviews, dump_segment, parse_overviews, parse_segment
from ccog.tasks.uploads import UploadedSegment

# rows of blocks that the level has at least whose overviews are kept, so that what is lost
# between two of them is a small share of the raster
_LEAST_ROWS = 40


#: Kinds of records, the first words of their names.
GROUP, MERGE, OVERVIEWS = "row", "merge", "pieces"


class RecordName(NamedTuple):
    """The name of a record: its kind, and the numbers of its upload group, merge or block."""

    kind: str
    numbers: tuple[int, ...]


class Seal(NamedTuple):
    """The length and the digest of a record when it was looked at."""

    size: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes) -> Seal:
        """The seal of a record."""
        return cls(len(data), hashlib.sha256(data).digest())


@dataclass(frozen=True, kw_only=True)
class SealedRecord:
    """A record that a task loads: where it is, and what it was when it was looked at."""

    store: Store
    upload_id: str
    name: str
    seal: Seal | None


def group_record(n: int) -> str:
    """Name of the record of the ``n``-th upload group of the file."""
    return f"{GROUP}-{n:07d}"


def merge_record(depth: int, n: int) -> str:
    """Name of the record of the ``n``-th merge of a depth."""
    return f"{MERGE}-{depth}-{n:06d}"


def overviews_record(i: int, j: int) -> str:
    """Name of the record of the partial overviews of block (i, j) of the level that is kept."""
    return f"{OVERVIEWS}-{i:05d}-{j:05d}"


def parse_record(name: str) -> RecordName:
    """The kind and the index of the record of that name."""
    kind, *numbers = name.split("-")
    return RecordName(kind, tuple(map(int, numbers)))


def checkpoint_level(geometry: CogGeometry) -> int:
    """The level whose partial overviews are kept: at most a sixteenth of the raster's pixels.

    The higher the level, the fewer pixels are kept, and the more rows of full resolution are read
    again.
    """
    levels = range(1, geometry.last_level)
    fitting = [k for k in levels if geometry.level(k).blocks[0] >= _LEAST_ROWS]
    return max(fitting, default=1)


def keep_segment(
    name: str, store: Store, begun: Begun, upload: Callable[..., UploadedSegment], *args: Any
) -> UploadedSegment:
    """Upload a segment of the file with ``upload(*args)`` and keep the result."""
    segment = upload(*args)
    _keep(store, begun, name, dump_segment(segment))
    return segment


def keep_overviews(
    name: str, store: Store, begun: Begun, make: Callable[..., BlockResult], *args: Any
) -> BlockResult:
    """Make an overview block with ``make(*args)`` and keep its partial overviews."""
    block = make(*args)
    _keep(store, begun, name, dump_overviews(block.overviews))
    return block


def _keep(store: Store, begun: Begun, name: str, data: bytes) -> None:
    """Save a record; where a worker died that had completed the file, there is no need."""
    try:
        store.save_checkpoint(begun.upload_id, name, data)
    except StoreNotFoundError:
        if not may_be_complete(begun.token)():
            raise


def load_segment(record: SealedRecord) -> UploadedSegment:
    """The result of an upload in an earlier run."""
    return parse_segment(_sealed(record))


def load_overview(record: SealedRecord, n: int) -> PartialOverview:
    """A block's contribution to its ``n``-th reduction in an earlier run."""
    return parse_overviews(_sealed(record))[n]


def load_block(record: SealedRecord) -> BlockResult:
    """A block of which only the partial overviews are wanted."""
    return BlockResult(None, parse_overviews(_sealed(record)))


def _sealed(record: SealedRecord) -> bytes:
    """The bytes of a record, if they are still those that were looked at."""
    store, name = record.store, record.name
    changed = (
        f"record {name} of the unfinished write to {store.url} has changed since the write was "
        "continued"
    )
    if record.seal is None:
        raise AssertionError(f"record {name} was not looked at")
    try:
        data = store.load_checkpoint(record.upload_id, name, record.seal.size + 1)
    except StoreNotFoundError as error:
        raise ResumeError(
            f"{changed}: it is gone ({error}); call again to do its work again"
        ) from error
    if Seal.of(data) != record.seal:
        raise ResumeError(f"{changed}; call again to do its work again")
    return data
