"""From the job of a write to what it would make and cost."""

from __future__ import annotations

import math
from collections.abc import Iterator

import dask.array as da
import numpy as np

from ccog.geometry.cog import CogGeometry
from ccog.geometry.pyramid import Level, ceil_div
from ccog.geometry.source_grid import SourceGrid
from ccog.geometry.tile_order import tile_places
from ccog.graph.build import CcogTasks
from ccog.graph.scheduling import parallelism, work_window
from ccog.stores import WholeStore
from ccog.tasks.uploads import WriteJob
from ccog.tiff import directories as tiff
from ccog.tiff.header import Template
from ccog.views.preview.advice import advice
from ccog.views.preview.drawing import draw
from ccog.views.preview.report import CogPlan, PlannedLevel, PlannedRead
from ccog.views.preview.sampling import sampled_ratio
from ccog.views.preview.sizes import Sizes, band_planes

MB = 1_000_000

_THUMBNAIL = 256

# side in pixels of the largest read that is looked at
_MOST_READ = 16_384

# strips of pixels and their tiles while they are compressed (ccog.gdal.encode), measured
_ENCODING = 16 * MB


def preview(job: WriteJob, pixels: da.Array, *, mismatch: str | None, sample: int) -> CogPlan:
    """What a job would make of ``pixels`` (band, y, x); ``mismatch`` is what is wrong with their chunks."""
    plan, chunks = job.plan, pixels.chunks
    source = SourceGrid("", chunks)
    tasks = len(CcogTasks(job, source, source if plan.has_mask else None, work_window(job)))
    sampled = min(sample, math.prod(plan.level(0).blocks))
    sizes = Sizes.of(job, sampled_ratio(job, pixels, sampled) if sampled else None)
    levels = tuple(_planned(plan, job.template, k) for k in range(plan.top + 1))
    window = chunks[1][0], chunks[2][0]
    whole = isinstance(job.store, WholeStore)
    return CogPlan(
        job.store.url,
        (plan.count, *plan.level(0).size),
        plan.dtype,
        plan.has_mask,
        plan.layout,
        _compression(job),
        levels,
        sizes.header,
        sizes.is_exact,
        sizes.classic_header,
        sizes.big,
        sizes.largest,
        sizes.expected,
        tasks,
        math.prod(map(len, chunks)),
        None if whole else job.parts.part_size,
        None if whole else job.parts.last,
        None if whole else _expected_parts(job, sizes.expected),
        _memory(job, sizes.ratio),
        int(plan.unit_bytes(0) * sizes.ratio),
        sampled,
        tuple(_reads(plan, window)),
        tuple(advice(job, chunks, sizes, mismatch)),
        draw(plan.pyramid.levels, chunks[1:]),
    )


def _compression(job: WriteJob) -> str:
    predictor = job.template.image.value(tiff.PREDICTOR, 1)
    return job.plan.options.effective_compress.lower() + (
        f", predictor {predictor}" if predictor > 1 else ""
    )


def _planned(plan: CogGeometry, template: Template, k: int) -> PlannedLevel:
    level, planes = plan.level(k), band_planes(plan, k)
    raw = level.height * level.width * plan.count * plan.itemsize
    name = f"overview {k}" if k else "full resolution"
    return PlannedLevel(
        name, level.width, level.height, level.blocksize, level.tiles, planes, level.blocks, raw
    )


def _expected_parts(job: WriteJob, expected: int) -> int:
    """A guess at the parts: the header's, those of large units, joins between these, and what small ones add up to."""
    parts, limits, plan = job.parts, job.store.limits, job.plan
    rows = plan.unit_rows
    share = expected / max(1, sum(count * size for count, size in rows))
    large = [(count, size * share) for count, size in rows if size * share >= 2 * limits.min_part]
    own = sum(
        count * max(1, math.ceil((size - limits.min_part) / parts.part_size))
        for count, size in large
    )
    joins = max(0, sum(count for count, _ in large) - 1) if limits.min_part else 0
    rest = expected - sum(count * size for count, size in large)
    small = int(rest // (limits.min_part + parts.part_size))
    return min(parts.last, 1 + own + joins + small)


def _memory(job: WriteJob, ratio: float) -> int:
    """A block, what GDAL needs to compress it, and a thread's share of the blocks of rows that are not yet uploaded.

    Of these the compressed tiles are held, and the reduced pixels: a quarter, a third with all levels. There are more
    than one row of such blocks and less than the rows that may be begun: the mean of both fits what was measured.
    Chunk by chunk, units of each level are half full on average, besides a block for each thread. With halos, reduced
    pixels of the rows before and after wait too: three quarters of a row of blocks, and a quarter at further levels.
    """
    plan = job.plan
    height, width = map(min, plan.level(0).block, plan.level(0).size)
    block = height * width * (plan.count * plan.itemsize + plan.has_mask)
    waiting = _waiting_by_chunk(plan) if plan.by_chunk else _waiting_by_row(job)
    halos = plan.level(0).blocks[1] / parallelism() if _has_halos(plan) else 0.0
    return int(block * (1 + waiting * (ratio + 1 / 3) + halos)) + _ENCODING


def _has_halos(plan: CogGeometry) -> bool:
    """Whether rows of the first overview share rows of blocks that they are made of."""
    for flow in plan.flows_from(0):
        if plan.level(flow.target).blocks[0] > 1:
            upper, lower = ({row for row, _ in plan.children(flow, i, 0)} for i in (0, 1))
            return not upper.isdisjoint(lower)
    return False


def _waiting_by_row(job: WriteJob) -> float:
    rows, cols = job.plan.level(0).blocks
    threads, most = parallelism(), min(work_window(job).ahead, rows) * cols
    return (min(cols + threads, most) + most) / 2 / threads


def _waiting_by_chunk(plan: CogGeometry) -> float:
    return 1 + sum(plan.unit_length(k) for k in range(plan.top + 1)) / 2 / parallelism()


def _reads(plan: CogGeometry, window: tuple[int, int]) -> Iterator[PlannedRead]:
    sizes = [max(level.size) for level in plan.pyramid.levels]
    k = max((k for k, side in enumerate(sizes) if side >= _THUMBNAIL), default=0)
    small = plan.level(k)
    yield _read(plan, k, f"thumbnail ({small.width} x {small.height})", small.tiles)
    yield _read(plan, 0, "one tile", (1, 1))
    height, width = (min(side, _MOST_READ) for side in window)
    what = "a chunk" if (height, width) == window else "the corner of a chunk"
    side = plan.level(0).blocksize
    yield _read(
        plan, 0, f"{what} ({width} x {height})", (ceil_div(height, side), ceil_div(width, side))
    )


def _read(plan: CogGeometry, k: int, what: str, tiles: tuple[int, int]) -> PlannedRead:
    """What the upper left tiles of a level cost."""
    requests = (
        _requests_by_chunk(plan, k, tiles) if plan.by_chunk else _requests_by_row(plan, k, tiles)
    )
    return PlannedRead(what, tiles[0] * tiles[1] * (band_planes(plan, k) + plan.has_mask), requests)


def _requests_by_row(plan: CogGeometry, k: int, tiles: tuple[int, int]) -> int:
    """Tiles of a row touch, so do rows that span the image, and bands where all is read."""
    level = plan.level(k)
    if tiles == level.tiles:
        return 1
    return plan.planes(k) * (1 if tiles[1] == level.tiles[1] else tiles[0])


def _requests_by_chunk(plan: CogGeometry, k: int, tiles: tuple[int, int]) -> int:
    """GDAL reads the tiles of all bands together, and then those of the mask; of each those that touch are one."""
    planes = band_planes(plan, k)
    if tiles == plan.level(k).tiles:
        return 2 * _chunks(plan.level(k)) if plan.has_mask else 1
    chosen = tile_places(
        plan.level(k), planes, mask=plan.has_mask, by_tile=plan.tile_planes > 1, corner=tiles
    )
    apart = [part for part in (chosen[:planes], chosen[planes:]) if part.size]
    return sum(1 + int(np.count_nonzero(np.diff(np.sort(part, axis=None)) > 1)) for part in apart)


def _chunks(level: Level) -> int:
    return math.prod(
        ceil_div(side, chunk) for side, chunk in zip(level.size, level.chunk, strict=True)
    )
