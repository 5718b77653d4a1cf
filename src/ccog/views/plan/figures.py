"""From the job of a write to what it would make and cost."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from ccog.geometry.cog import CogGeometry
from ccog.geometry.source_grid import LevelSource, SourceGrid
from ccog.graph.scheduling import choose_throttle, parallelism
from ccog.graph.tasks import CcogTasks
from ccog.input.metadata import Metadata
from ccog.input.raster import Raster
from ccog.stores import SingleWriterStore
from ccog.tasks.job import WriteJob
from ccog.tiff import tags
from ccog.views.georeference import Georeference
from ccog.views.plan.picture import Chunks, draw
from ccog.views.plan.reads import planned_reads
from ccog.views.plan.report import CogPlan, PlannedLevel, PlannedUpload
from ccog.views.plan.sizes import band_planes, sampled_ratio, sizes_of
from ccog.views.plan.warnings import warnings_of

# strips of pixels and their tiles while they are compressed (ccog.gdal.encode), measured
_ENCODING = 16_000_000


def plan_job(job: WriteJob, raster: Raster, *, mismatch: str | None, sample: int) -> CogPlan:
    """What a job would make of a raster, from ``sample`` of its blocks.

    ``mismatch`` says what is wrong with how the chunks lie on tiles.
    """
    geometry, chunks = job.geometry, raster.pixels.chunks
    full = geometry.level(0)
    sampled = min(sample, math.prod(full.blocks))
    sizes = sizes_of(job, sampled_ratio(job, raster.pixels, sampled) if sampled else None)
    return CogPlan(
        url=job.store.url,
        shape=(geometry.raster.count, *full.size),
        dtype=geometry.raster.dtype,
        values=None if raster.decoded is None else _values(job, raster.decoded),
        georeference=_georeference(job, raster.metadata),
        overview_resampling=_resampling(geometry),
        has_mask=geometry.raster.has_mask,
        layout=geometry.layout,
        compression=_compression(job),
        levels=tuple(_planned_level(geometry, k) for k in range(geometry.last_level + 1)),
        sizes=sizes,
        tasks=_tasks(job, chunks),
        chunks=math.prod(map(len, chunks)),
        upload=_upload(job, sizes.expected),
        memory=_memory(job, sizes.ratio),
        group_memory=int(geometry.groups.bytes(0) * sizes.ratio),
        sample=sampled,
        reads=planned_reads(geometry, (chunks[1][0], chunks[2][0])),
        warnings=tuple(warnings_of(job, chunks, sizes, mismatch)),
        drawing=draw(full, chunks[1:]),
    )


def _georeference(job: WriteJob, metadata: Metadata) -> Georeference:
    count, content = job.geometry.raster.count, job.header_spec.metadata.description
    names = metadata.descriptions
    if names is None and content is not None:
        bands = ET.fromstring(f"<VRT>{content}</VRT>").iter("VRTRasterBand")
        names = tuple(band.findtext("Description") for band in bands)[:count]
    return Georeference.of(
        crs=metadata.crs,
        transform=metadata.transform,
        nodata=metadata.nodata,
        band_names=names or (None,) * count,
        size=job.geometry.level(0).size,
        placed_by=metadata.placed_by,
    )


def _resampling(geometry: CogGeometry) -> str | None:
    has_none = geometry.last_level == 0
    return None if has_none or geometry.pyramid.given else geometry.method


def _values(job: WriteJob, decoded: str) -> str:
    metadata = job.header_spec.metadata
    facts = [] if metadata.nodata is None else [f"nodata {metadata.nodata}"]
    facts += _each("scale", metadata.scales, 1) + _each("offset", metadata.offsets, 0)
    how = f" with {', '.join(facts)}" if facts else ""
    stored = f"stored as {job.geometry.raster.dtype}{how}"
    return f"{decoded}, {stored}, as the array's encoding says"


def _each(name: str, values: tuple[float, ...] | None, default: float) -> list[str]:
    """Numbers of the bands; one where they are alike, none where they change nothing."""
    numbers = list(dict.fromkeys(values or (default,)))
    return [] if numbers == [default] else [f"{name} {' / '.join(map(str, numbers))}"]


def _compression(job: WriteJob) -> str:
    name = job.geometry.options.effective_compress.lower()
    predictor = job.template.image.value(tags.PREDICTOR, 1)
    return f"{name}, predictor {predictor}" if predictor > 1 else name


def _planned_level(geometry: CogGeometry, k: int) -> PlannedLevel:
    level = geometry.level(k)
    origin = ", given" if geometry.pyramid.given else ""
    return PlannedLevel(
        name=f"overview {k}{origin}" if k else "full resolution",
        width=level.width,
        height=level.height,
        tile=level.blocksize,
        tiles=level.tiles,
        planes=band_planes(geometry, k),
        blocks=level.blocks,
        raw=level.height * level.width * geometry.raster.count * geometry.raster.itemsize,
    )


def _tasks(job: WriteJob, chunks: Chunks) -> int:
    source = SourceGrid("", chunks)
    mask = source if job.geometry.raster.has_mask else None
    return len(CcogTasks(job, (LevelSource(source, mask),), choose_throttle(job)))


def _upload(job: WriteJob, expected: int) -> PlannedUpload | None:
    if isinstance(job.store, SingleWriterStore):
        return None
    return PlannedUpload(
        part_size=job.parts.part_size,
        expected_parts=_expected_parts(job, expected),
        most_parts=job.parts.last,
    )


def _expected_parts(job: WriteJob, expected: int) -> int:
    """The header's part, those of large upload groups, joins between these, and the rest.

    Small groups add up until they fill a part.
    """
    least, part_size = job.store.limits.min_part, job.parts.part_size
    sizes = job.geometry.groups.sizes
    share = expected / max(1, sum(count * size for count, size in sizes))
    groups, parts, rest = 0, 1, float(expected)
    for count, raw in sizes:
        size = raw * share
        if size >= 2 * least:
            groups += count
            parts += count * max(1, math.ceil((size - least) / part_size))
            rest -= count * size
    parts += max(0, groups - 1) if least else 0
    parts += int(rest // (least + part_size))
    return min(job.parts.last, parts)


def _memory(job: WriteJob, ratio: float) -> int:
    """A block, what GDAL needs to compress it, and a share of the blocks that wait.

    Of the waiting ones the compressed tiles are held, and the reduced pixels: a quarter, a third
    with all levels. With halos, reduced pixels of the rows before and after wait too: three
    quarters of a row of blocks, and a quarter at further levels. Where halos are not parted from
    tiles, the tiles of a row wait with them.
    """
    geometry = job.geometry
    height, width = map(min, geometry.level(0).block, geometry.level(0).size)
    pixel = geometry.raster.count * geometry.raster.itemsize + geometry.raster.has_mask
    block = height * width * pixel
    waiting = _waiting_by_chunk(geometry) if geometry.by_chunk else _waiting_by_row(job)
    row = geometry.level(0).blocks[1] / parallelism() if _has_halos(geometry) else 0.0
    with_halos = row if geometry.parts_halos else row * (1 + ratio)
    return int(block * (1 + waiting * (ratio + 1 / 3) + with_halos)) + _ENCODING


def _has_halos(geometry: CogGeometry) -> bool:
    """Whether rows of the first overview share rows of blocks that they are made of."""
    for reduction in geometry.reductions.from_level(0):
        if geometry.level(reduction.target).blocks[0] > 1:
            upper = {i for i, _ in geometry.reductions.source_blocks(reduction, 0, 0)}
            lower = {i for i, _ in geometry.reductions.source_blocks(reduction, 1, 0)}
            return not upper.isdisjoint(lower)
    return False


def _waiting_by_row(job: WriteJob) -> float:
    """Blocks a thread that wait: more than one row, and less than the rows that may be begun.

    The mean of both fits what was measured.
    """
    rows, cols = job.geometry.level(0).blocks
    threads, most = parallelism(), min(choose_throttle(job).ahead, rows) * cols
    return (min(cols + threads, most) + most) / 2 / threads


def _waiting_by_chunk(geometry: CogGeometry) -> float:
    """Upload groups of each level are half full on average; each thread has a block."""
    waiting = sum(geometry.groups.length(k) for k in range(geometry.last_level + 1)) / 2
    return 1 + waiting / parallelism()
