"""The finish of a write: the header, the bytes that are left, and completion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ccog.errors import EncodeError, RasterError
from ccog.gdal.encode import UNKNOWN_OPTION
from ccog.gdal.statistics import merged
from ccog.gdal.template import write_template
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import Buffer, Segment, cut
from ccog.geometry.pyramid import Level
from ccog.geometry.tile_order import tile_positions
from ccog.runtime.runs import Begun
from ccog.runtime.whereabouts import warn_users
from ccog.stores import SingleWriterStore, WriteResult
from ccog.stores.base import after_completion
from ccog.tasks.job import WriteJob
from ccog.tasks.uploads import (
    SegmentMerge,
    TileSizes,
    UploadedGroup,
    UploadedSegment,
    Uploader,
    merge_segments,
)
from ccog.tiff.header import CLASSIC_LIMIT, LevelCounts, build_header, data_size

# parts that are uploaded at a time
_UPLOADERS = 4


def finish_write(
    job: WriteJob, begun: Begun, segments: list[UploadedSegment], resuming: bool
) -> bytes | WriteResult:
    """Build the header from all tile sizes, upload the rest, complete, and drop the checkpoint."""
    how = SegmentMerge(store=job.store, part_size=job.parts.part_size, resuming=resuming)
    whole = merge_segments(how, begun, segments)
    header = _header(job, whole.groups)
    _warn_of_nan(job, sum(group.nan for group in whole.groups))
    if isinstance(job.store, SingleWriterStore):
        written = job.store.write([header, *whole.segment.head])
        return written if isinstance(written, bytes) else _with_levels(written, job)
    result = _complete(job, begun, header, whole.segment, resuming)
    begun.completed()
    if job.manifest is not None:
        after_completion(result.url, lambda: job.store.remove_checkpoints(begun.upload_id))
    return _with_levels(result, job)


def _warn_of_nan(job: WriteJob, count: int) -> None:
    nodata = job.geometry.raster.nodata
    if count:
        warn_users(
            f"{count} pixels are NaN, and the nodata value is {nodata}: readers take NaN for a "
            f"value, and overviews spread it. Fill it, arr.fillna({nodata}), or give nodata=nan",
            job.token,
        )


def _with_levels(result: WriteResult, job: WriteJob) -> WriteResult:
    return replace(result, levels=tuple(level.size for level in job.geometry.pyramid.levels))


def _complete(
    job: WriteJob, begun: Begun, header: bytes, segment: Segment, resuming: bool
) -> WriteResult:
    put = Uploader.of(job.store, begun, resuming)
    buffers: list[Buffer] = [header, *segment.head]
    if job.store.limits.equal_parts:
        bodies = cut(buffers, job.parts.part_size)
        with ThreadPoolExecutor(_UPLOADERS) as pool:
            parts = list(pool.map(put, range(1, len(bodies) + 1), bodies))
    else:
        parts = [put(1, buffers), *segment.parts]
        if segment.tail:
            parts.append(put(job.parts.last, [*segment.tail]))
    return job.store.complete(begun.upload_id, parts, begun.write)


def _header(job: WriteJob, groups: list[UploadedGroup]) -> bytes:
    counts = tuple(
        _level_counts(job.geometry, level, groups) for level in job.geometry.pyramid.levels
    )
    statistics = [group.statistics for group in groups if group.statistics is not None]
    template = job.template
    if statistics:
        template = job.with_env(write_template, job.header_spec, merged(statistics))
        if differences := template.differences(job.template):
            raise EncodeError(
                f"GDAL writes other tags here ({', '.join(map(str, differences))}) than in the "
                f"client. {UNKNOWN_OPTION}"
            )
    if job.big:
        return build_header(template, counts, big=True)
    classic = build_header(template, counts, big=False)
    size = len(classic) + data_size(template, counts)
    if size < CLASSIC_LIMIT:
        return classic
    if job.big is None:
        return build_header(template, counts, big=True)
    raise RasterError(
        f"the file has {size} bytes, a classic TIFF at most {CLASSIC_LIMIT - 1}; "
        "leave BIGTIFF=NO out"
    )


def _level_counts(geometry: CogGeometry, level: Level, groups: list[UploadedGroup]) -> LevelCounts:
    sizes = _joined([group.sizes for group in groups if group.level == level.index], geometry)
    image, mask, positions = sizes.image, sizes.mask, None
    if geometry.by_chunk:
        (order,) = tile_positions(level)
        image = image[:, order]
        mask = None if mask is None else mask[order]
        positions = geometry.file_order.tile_positions(level.index)
    return LevelCounts(
        height=level.height,
        width=level.width,
        image=image.reshape(-1),
        mask=mask,
        planar=geometry.file_order.is_planar(level.index),
        side_by_side=len(image),
        positions=positions,
    )


def _joined(groups: list[TileSizes], geometry: CogGeometry) -> TileSizes:
    """Sizes of the tiles of a level in file order: the image's by plane, the mask's in a row."""
    image = np.concatenate([sizes.image for sizes in groups if sizes.image.size], axis=1)
    if not geometry.raster.has_mask:
        return TileSizes(image, None)
    masks = [sizes.mask[0] for sizes in groups if sizes.mask is not None]
    return TileSizes(image, np.concatenate(masks))
