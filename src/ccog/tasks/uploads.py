"""Uploads: the tiles of an upload group become parts, and neighbouring segments are joined."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import StoreNotFoundError, StorePermissionError
from ccog.gdal.encode import EncodedTiles, TileBytes
from ccog.gdal.statistics import BandStatistics, merged
from ccog.geometry.parts import Buffer, Joins, Numbers, Part, Segment, emit, merge, total
from ccog.runtime.begin import may_be_complete
from ccog.runtime.events import Tell, teller
from ccog.runtime.runs import Begun
from ccog.runtime.whereabouts import current_task
from ccog.stores import Store
from ccog.tasks.blocks import BlockResult

# parts that a task uploads at a time
_UPLOADERS = 4


class TileSizes(NamedTuple):
    """Bytes of the tiles of an upload group, (plane, tile): of the image, and of its mask."""

    image: npt.NDArray[np.uint32]
    mask: npt.NDArray[np.uint32] | None


class UploadedGroup(NamedTuple):
    """What the header needs to know of an upload group."""

    level: int
    sizes: TileSizes
    statistics: tuple[BandStatistics, ...] | None
    nan: int = 0


class UploadedSegment(NamedTuple):
    """A segment of the file, the part numbers by which it is joined to others, and its groups."""

    segment: Segment
    joins: Joins
    groups: list[UploadedGroup]


@dataclass(frozen=True, kw_only=True)
class GroupUpload:
    """How an upload group is uploaded.

    ``plane`` is the plane of a row of blocks, or None for all planes of blocks that lie chunk by
    chunk. ``resuming`` says that an earlier run may have put the parts.
    """

    store: Store
    numbers: Numbers
    level: int
    plane: int | None
    resuming: bool = False


@dataclass(frozen=True, kw_only=True)
class SegmentMerge:
    """How neighbouring segments are joined; ``resuming`` as above."""

    store: Store
    part_size: int
    resuming: bool = False


def throttle(*after: object) -> None:
    """Orders tasks; carries nothing."""


def upload_group(
    upload: GroupUpload,
    begun: Begun,
    blocks: list[BlockResult],
    before: list[UploadedSegment],
) -> UploadedSegment:
    """Bring the tiles of blocks into file order, and upload all that can be uploaded.

    The segments ``before`` are joined to it.
    """
    encoded = [block.encoded for block in blocks if block.encoded is not None]
    if len(encoded) < len(blocks):
        raise AssertionError("a block that is uploaded already came without its tiles")
    tiles = list(itertools.chain(*(block.chunks for block in encoded)))
    if upload.plane is None:
        buffers, sizes = _chunk_by_chunk(tiles)
    else:
        buffers, sizes = _row_by_row(tiles, upload.plane)
    put = Uploader.of(upload.store, begun, upload.resuming)
    with ThreadPoolExecutor(_UPLOADERS) as pool:
        each = partial(put.each, pool)
        segment = emit(buffers, upload.numbers, upload.store.limits, put, each)
    first = upload.numbers.first
    nan = 0 if upload.plane else sum(block.nan for block in encoded)
    counted = [block.statistics for block in encoded if block.statistics is not None]
    # the first plane stands for all
    statistics = merged(counted) if counted and not upload.plane else None
    group = UploadedGroup(upload.level, sizes, statistics, nan)
    uploaded = UploadedSegment(segment, Joins(first, first), [group])
    return _join(put, upload.numbers.part_size, [*before, uploaded])


def _row_by_row(tiles: list[EncodedTiles], plane: int) -> tuple[list[Buffer], TileSizes]:
    """Bytes of a plane of blocks side by side, tile row after tile row, and sizes, row-major."""
    planes = len(tiles[0].planes)
    tile_rows = zip(*(block.planes[plane] for block in tiles), strict=True)
    buffers = [_buffer(row) for row in itertools.chain(*tile_rows)]
    image = [block.image_sizes for block in tiles]
    if planes > 1:
        image = [sizes[plane : plane + 1] for sizes in image]
    masks = [block.mask_sizes for block in tiles if block.mask_sizes is not None]
    is_last = plane == planes - 1
    return buffers, TileSizes(_side_by_side(image), _side_by_side(masks) if is_last else None)


def _chunk_by_chunk(tiles: list[EncodedTiles]) -> tuple[list[Buffer], TileSizes]:
    """Bytes of chunks, in each plane after plane, and sizes in that order."""
    planes = itertools.chain(*(chunk.planes for chunk in tiles))
    buffers = [_buffer(row) for row in itertools.chain(*planes)]
    image = [chunk.image_sizes.reshape(len(chunk.image_sizes), -1) for chunk in tiles]
    masks = [chunk.mask_sizes.reshape(1, -1) for chunk in tiles if chunk.mask_sizes is not None]
    mask = np.concatenate(masks, axis=1) if masks else None
    return buffers, TileSizes(np.concatenate(image, axis=1), mask)


def _buffer(tile_row: TileBytes) -> Buffer:
    return tile_row if isinstance(tile_row, bytes) else tile_row.data


def _side_by_side(sizes: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Tile sizes of blocks side by side, (plane, tile), row-major; of no tile without blocks."""
    present = [of_block for of_block in sizes if len(of_block)]
    if not present:
        return np.zeros((1, 0), np.uint32)
    return np.concatenate(present, axis=2).reshape(len(present[0]), -1)


def merge_segments(
    how: SegmentMerge, begun: Begun, segments: list[UploadedSegment]
) -> UploadedSegment:
    """Join neighbouring segments of the file, uploading where two ends make a part."""
    return _join(Uploader.of(how.store, begun, how.resuming), how.part_size, segments)


def _join(put: Uploader, part_size: int, segments: list[UploadedSegment]) -> UploadedSegment:
    joined, joins, groups = segments[0]
    for other in segments[1:]:
        joined = merge(joined, other.segment, other.joins, put.store.limits, part_size, put)
        joins = Joins(joins.first, other.joins.last)
        groups = groups + other.groups
    return UploadedSegment(joined, joins, groups)


@dataclass(frozen=True, kw_only=True)
class Uploader:
    """Puts parts; where a task may have run before, only those that the store does not hold.

    Tasks run again when a worker dies, and when an earlier run is resumed. One call then tells
    which parts of a group the store holds. Elsewhere it would be a call for nothing.
    """

    store: Store
    upload_id: str
    resuming: bool
    reruns: bool
    may_be_complete: Callable[[], bool]
    tell: Tell

    @classmethod
    def of(cls, store: Store, begun: Begun, resuming: bool) -> Uploader:
        """For the current task, in the thread that runs it: threads of a pool do not know it.

        ``reruns``: the task may run again when a worker dies.
        """
        return cls(
            store=store,
            upload_id=begun.upload_id,
            resuming=resuming,
            reruns=current_task(begun.token) is not None,
            may_be_complete=may_be_complete(begun.token),
            tell=teller(begun.upload_id, begun.token),
        )

    def __call__(
        self, number: int, buffers: list[Any], stored: dict[int, Part] | None = None
    ) -> Part:
        """Put one part, unless it is among those ``stored``; None: the store is asked."""
        if stored is None:
            stored = self._stored(number, 1)
        part = stored.get(number)
        # the tag takes time to compute, and says nothing where the size differs
        is_likely = part is not None and part.size == total(buffers)
        if part is None or not is_likely or part != self.store.expected_part(number, buffers):
            try:
                part = self.store.put(self.upload_id, number, buffers)
            except StoreNotFoundError:
                # where a worker died that had completed the file, there is no upload:
                # completing again then compares the file with these parts
                if not self.may_be_complete():
                    raise
                part = self.store.expected_part(number, buffers)
        self.tell(part)
        return part

    def each(
        self, pool: ThreadPoolExecutor, put: object, numbers: Iterable[int], bodies: Iterable[Any]
    ) -> list[Part]:
        """Several at a time; ``put`` is this very one."""
        numbers = list(numbers)
        stored = self._stored(numbers[0], len(numbers))
        # a single part is not worth a thread
        in_turn = pool.map if len(numbers) > 1 else map
        return list(in_turn(partial(self, stored=stored), numbers, bodies))

    def _stored(self, first: int, count: int) -> dict[int, Part]:
        if not (self.resuming or self.reruns):
            return {}
        # who may not ask puts them all
        with contextlib.suppress(StoreNotFoundError, StorePermissionError):
            return self.store.stored_parts(self.upload_id, first, count)
        return {}
