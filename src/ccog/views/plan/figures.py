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
from ccog.views.plan.picture import draw
from ccog.views.plan.reads import planned_reads
from ccog.views.plan.report import CogPlan, PlannedLevel, PlannedUpload
from ccog.views.plan.sizes import sampled_ratio, sizes_of
from ccog.views.plan.warnings import warnings_of

# strips of pixels and their tiles while they are compressed (ccog.gdal.encode), measured
_ENCODING = 16_000_000


def plan_job(job: WriteJob, raster: Raster, *, mismatch: str | None, sample: int) -> CogPlan:
    """What a job would make of a raster, from ``sample`` of its blocks.

    ``mismatch`` says what is wrong with how the chunks lie on tiles.
    """
    geometry, chunks = job.geometry, raster.pixels.chunks
    full = geometry.level(0)
    has_none, sampled = geometry.last_level == 0, min(sample, math.prod(full.blocks))
    sizes = sizes_of(job, sampled_ratio(job, raster.pixels, sampled) if sampled else None)
    source = SourceGrid("", chunks)
    mask = source if geometry.raster.has_mask else None
    return CogPlan(
        url=job.store.url,
        shape=(geometry.raster.count, *full.size),
        dtype=geometry.raster.dtype,
        values=None if raster.decoded is None else _values(job, raster.decoded),
        georeference=_georeference(job, raster.metadata),
        overview_resampling=None if has_none or geometry.pyramid.given else geometry.method,
        has_mask=geometry.raster.has_mask,
        layout=geometry.layout,
        compression=_compression(job),
        levels=tuple(_planned_level(geometry, k) for k in range(geometry.last_level + 1)),
        sizes=sizes,
        tasks=len(CcogTasks(job, (LevelSource(source, mask),), choose_throttle(job))),
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


def _values(job: WriteJob, decoded: str) -> str:
    metadata = job.header_spec.metadata
    facts = [] if metadata.nodata is None else [f"nodata {metadata.nodata}"]
    for name, values, default in (("scale", metadata.scales, 1), ("offset", metadata.offsets, 0)):
        # one where the bands are alike, none where they change nothing
        numbers = list(dict.fromkeys(values or (default,)))
        if numbers != [default]:
            facts.append(f"{name} {' / '.join(map(str, numbers))}")
    how = f" with {', '.join(facts)}" if facts else ""
    stored = f"stored as {job.geometry.raster.dtype}{how}"
    return f"{decoded}, {stored}, as the array's encoding says"


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
        planes=geometry.file_order.encoded_planes(k),
        blocks=level.blocks,
        raw=level.height * level.width * geometry.raster.count * geometry.raster.itemsize,
    )


def _upload(job: WriteJob, expected: int) -> PlannedUpload | None:
    if isinstance(job.store, SingleWriterStore):
        return None
    # the header's part, those of large upload groups, joins between these, and the rest: small
    # groups add up until they fill a part
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
    return PlannedUpload(
        part_size=part_size,
        expected_parts=min(job.parts.last, parts),
        most_parts=job.parts.last,
    )


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
    waiting = _waiting(job)
    row = geometry.level(0).blocks[1] / parallelism() if _has_halos(geometry) else 0.0
    with_halos = row if geometry.parts_halos else row * (1 + ratio)
    return int(block * (1 + waiting * (ratio + 1 / 3) + with_halos)) + _ENCODING


def _has_halos(geometry: CogGeometry) -> bool:
    """Whether rows of the first overview share rows of blocks that they are made of."""
    for reduction in geometry.reductions.from_level(0):
        if geometry.level(reduction.target).blocks[0] > 1:
            rows = (geometry.reductions.source_blocks(reduction, i, 0) for i in (0, 1))
            return not set(next(rows)).isdisjoint(next(rows))
    return False


def _waiting(job: WriteJob) -> float:
    """Blocks a thread that wait.

    By row, more than one row, and less than the rows that may be begun: the mean of both fits what
    was measured. By chunk, upload groups of each level are half full on average; each thread has a
    block.
    """
    geometry, threads = job.geometry, parallelism()
    if geometry.by_chunk:
        lengths = map(geometry.groups.length, range(geometry.last_level + 1))
        return 1 + sum(lengths) / 2 / threads
    rows, cols = geometry.level(0).blocks
    most = min(choose_throttle(job).ahead, rows) * cols
    return (min(cols + threads, most) + most) / 2 / threads
