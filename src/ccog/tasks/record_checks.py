"""Checks of the records of an unfinished write against the geometry, before any is used."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ccog.errors import StoreNotFoundError, StorePermissionError
from ccog.geometry.cog import CogGeometry
from ccog.geometry.file_order import UploadGroup
from ccog.geometry.intervals import Area, ceil_div
from ccog.geometry.parts import Numbers
from ccog.tasks.blocks import BlockReduction, PartialOverview, PixelPatch, block_job
from ccog.tasks.checkpoints import Seal, checkpoint_level
from ccog.tasks.job import WriteJob
from ccog.tasks.records import parse_overviews, parse_segment
from ccog.tasks.uploads import TileSizes, UploadedGroup, UploadedSegment

# more than the JSON of a record takes: for all, each array, each band's statistics, each part
_TEXT, _ARRAY_TEXT, _BAND_TEXT, _PART_TEXT = 4096, 256, 1024, 512

# segments that are joined keep a few loose ends each, by the number of joins that a segment can
# come from
_LOOSE_ENDS = 16


class UnreadableError(Exception):
    """A record is damaged, or gone, or does not fit the geometry."""


def check_segment(job: WriteJob, upload_id: str, name: str, groups: list[UploadGroup]) -> Seal:
    """Read the record of a segment of those upload groups, and compare it with the geometry.

    Raises
    ------
    UnreadableError
        It is gone, longer than it can be, damaged, or of something else.
    """
    data = _read(job, upload_id, name, _longest_segment(job, groups))
    _check(lambda: _compare_segment(parse_segment(data), job, groups))
    return Seal.of(data)


def check_overviews(job: WriteJob, upload_id: str, name: str, block: tuple[int, int]) -> Seal:
    """The same for the record of a block's partial overviews."""
    k = checkpoint_level(job.geometry)
    shares = block_job(job.geometry, job.codec(k), k, *block).reductions
    limit = _longest_overviews(job.geometry, shares)
    # what does not shrink grows a little
    data = _read(job, upload_id, name, limit + limit // 512 + _TEXT)
    _check(lambda: _compare_overviews(parse_overviews(data, limit), job.geometry, shares))
    return Seal.of(data)


def _read(job: WriteJob, upload_id: str, name: str, limit: int) -> bytes:
    try:
        data: bytes = job.store.load_checkpoint(upload_id, name, limit + 1)
    except (StoreNotFoundError, StorePermissionError) as error:
        raise UnreadableError(str(error)) from error
    if len(data) > limit:
        raise UnreadableError(f"it is longer than {limit} bytes")
    return data


def _check(compare: Callable[[], None]) -> None:
    try:
        compare()
    except UnreadableError:
        raise
    except Exception as error:  # bytes that are anything raise anything
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise UnreadableError("it does not fit the geometry of the file")


# ---- segments ----


def _longest_segment(job: WriteJob, groups: list[UploadGroup]) -> int:
    """Bytes that the record of a segment has at most.

    These are loose bytes, sizes of tiles, parts and statistics.
    """
    limits, geometry = job.store.limits, job.geometry
    loose = 0
    if limits.min_part:
        raw = 2 * sum(geometry.groups.bytes(group.level) for group in groups)
        loose = min(raw, _LOOSE_ENDS * (2 * limits.min_part + job.parts.part_size))
    sizes = sum(_group_shape(job, group).bytes for group in groups)
    text = _TEXT + len(groups) * (2 * _ARRAY_TEXT + geometry.raster.count * _BAND_TEXT)
    parts = sum(1 + _numbers(job, group).cap for group in groups)
    return loose + sizes + text + _PART_TEXT * parts


def _numbers(job: WriteJob, group: UploadGroup) -> Numbers:
    """The part numbers that an upload group owns."""
    return job.parts.numbers(job.geometry.groups.all.index(*group))


class _GroupShape(NamedTuple):
    """Shape of the tile sizes of an upload group, and whether it has statistics.

    ``mask`` counts the tiles of its mask; None where it has no array of them.
    """

    planes: int
    tiles: int
    mask: int | None
    counted: bool

    @property
    def bytes(self) -> int:
        """Bytes of the tile sizes."""
        return 4 * (self.planes * self.tiles + (self.mask or 0))


def _group_shape(job: WriteJob, group: UploadGroup) -> _GroupShape:
    geometry, (k, plane, n) = job.geometry, group
    level = geometry.level(k)
    tiles = 0
    for i, j in geometry.groups.blocks(k, n):
        rows, cols = len(level.rows(i)), len(level.cols(j))
        tiles += ceil_div(rows, level.blocksize) * ceil_div(cols, level.blocksize)
    mask_tiles = tiles if geometry.raster.has_mask else 0
    counted = k == 0 and plane == 0 and geometry.options.statistics == "YES"
    planes_together = job.codec(k).planes(geometry.raster.count)
    if geometry.by_chunk:
        mask = mask_tiles if geometry.raster.has_mask else None
        return _GroupShape(planes_together, tiles, mask, counted)
    planes = geometry.file_order.planes(k)
    mask = mask_tiles if plane == planes - 1 else None
    if planes == 1:
        return _GroupShape(planes_together, tiles, mask, counted)
    is_image = plane < geometry.raster.count
    return _GroupShape(1, tiles if is_image else 0, mask, counted)


def _compare_segment(uploaded: UploadedSegment, job: WriteJob, groups: list[UploadGroup]) -> None:
    """Compare a segment with the geometry: its groups, its parts, and the bytes it holds."""
    segment, joins, uploaded_groups = uploaded
    _require(len(uploaded_groups) == len(groups))
    for group, uploaded_group in zip(groups, uploaded_groups, strict=True):
        _compare_group(job, group, uploaded_group)
    _require(joins == (_numbers(job, groups[0]).first, _numbers(job, groups[-1]).first))
    numbers = [part.number for part in segment.parts]
    _require(numbers == sorted(set(numbers)))
    _require(all(1 < number <= job.parts.last for number in numbers))
    _require(all(part.size >= 0 for part in segment.parts))
    loose = sum(map(len, [*segment.head, *segment.tail]))
    held = loose + sum(part.size for part in segment.parts)
    frame = sum(job.template.framing_of(groups[0].level))
    _require(held == sum(_file_bytes(group.sizes, frame) for group in uploaded_groups))


def _file_bytes(sizes: TileSizes, frame: int) -> int:
    """Bytes of tiles in the file, each that is not sparse between leader and trailer."""
    present = [array for array in sizes if array is not None]
    tiles = sum(int(np.count_nonzero(array)) for array in present)
    return sum(int(array.sum(dtype=np.int64)) for array in present) + frame * tiles


def _compare_group(job: WriteJob, group: UploadGroup, uploaded: UploadedGroup) -> None:
    (image, mask), bands = uploaded.sizes, uploaded.statistics
    shape = _group_shape(job, group)
    _require(uploaded.level == group.level)
    _require(image.dtype == np.uint32, image.shape == (shape.planes, shape.tiles))
    _require((mask is None) == (shape.mask is None), (bands is not None) == shape.counted)
    _require(mask is None or (mask.dtype == np.uint32 and mask.shape == (1, shape.mask)))
    _require(bands is None or len(bands) == job.geometry.raster.count)


# ---- partial overviews ----


def _longest_overviews(geometry: CogGeometry, shares: tuple[BlockReduction, ...]) -> int:
    """Bytes of the record of a block's partial overviews before it is compressed."""
    pixel = geometry.raster.count * np.dtype(geometry.raster.array_type).itemsize + 1
    areas = itertools.chain(*((share.alone, *share.halos) for share in shares))
    return _TEXT + sum(2 * _ARRAY_TEXT + math.prod(area.shape) * pixel for area in areas)


def _compare_overviews(
    overviews: list[PartialOverview], geometry: CogGeometry, shares: tuple[BlockReduction, ...]
) -> None:
    """Compare partial overviews with the geometry: areas, types and sizes of their pixels."""
    _require(len(overviews) == len(shares))
    for overview, share in zip(overviews, shares, strict=True):
        alone = [share.alone] if len(share.alone.rows) and len(share.alone.cols) else []
        _require(len(overview.reduced) == len(alone), len(overview.halos) == len(share.halos))
        patches = [*overview.reduced, *overview.halos]
        for patch, area in zip(patches, [*alone, *share.halos], strict=True):
            _compare_patch(patch, area, geometry, share)


def _compare_patch(
    patch: PixelPatch, area: Area, geometry: CogGeometry, share: BlockReduction
) -> None:
    pixels, mask = patch.pixels, patch.mask
    _require(patch.rows == (area.rows.start, area.rows.stop))
    _require(patch.cols == (area.cols.start, area.cols.stop))
    if pixels is None:
        # zeros, which only blocks without a mask give so
        return _require(mask is None, not share.mask)
    count = geometry.raster.count if share.pixels else 0
    _require(pixels.shape == (count, *area.shape), pixels.dtype == geometry.raster.array_type)
    _require((mask is not None) == share.mask)
    return _require(mask is None or (mask.shape == area.shape and mask.dtype == np.uint8))
