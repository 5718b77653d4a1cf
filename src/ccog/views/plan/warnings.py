"""What could be better about a write, with remedies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import fewest_parts
from ccog.stores import SingleWriterStore
from ccog.tasks.job import WriteJob
from ccog.tiff.header import CLASSIC_LIMIT
from ccog.views.plan.picture import Chunks
from ccog.views.plan.sizes import PlannedSizes
from ccog.wording import about_bytes, byte_text

MB = 1_000_000

# chunks of fewer bytes are small where there are many, and of more are large
_SMALL_CHUNK, _MANY_CHUNKS, _LARGE_CHUNK = 4 * MB, 256, 512 * MB
_IDEAL_SIDES = (512, 1024, 2048, 4096)
_LARGE_HEADER, _LARGEST_TILE_SIDE = 32 * MB, 4096
# share of the parts of a store
_NEAR_LIMIT = 0.5
_LARGE_PART, _LARGE_FILE, _LARGE_GROUP = 256 * MB, 2000 * MB, 4000 * MB


def warnings_of(
    job: WriteJob,
    chunks: Chunks,
    sizes: PlannedSizes,
    mismatch: str | None,
) -> Iterator[str]:
    """Warnings about a job; ``mismatch`` says how chunks lie badly on tiles."""
    # the remedy for small and large chunks makes them match, too
    about_chunks = list(_chunk_warnings(job.geometry, chunks))
    yield from about_chunks or ([] if mismatch is None else [mismatch])
    blocksize = job.geometry.options.blocksize
    if sizes.header > _LARGE_HEADER and blocksize < _LARGEST_TILE_SIDE:
        yield _header_warning(blocksize, sizes.header)
    if sizes.big_tiff is False and sizes.expected >= CLASSIC_LIMIT:
        yield (
            "BIGTIFF=NO cannot hold the expected size, which exceeds 4 GiB; "
            "leave BIGTIFF out or set it to YES"
        )
    if isinstance(job.store, SingleWriterStore) or job.store.limits.equal_parts:
        if sizes.expected > _LARGE_FILE:
            yield (
                f"one worker gathers the whole file, about {about_bytes(sizes.expected)}; "
                "write to a path, s3://, az:// or gs:// without fixed_upload_size, "
                "to which all workers upload"
            )
        return
    group = int(job.geometry.groups.bytes(0) * sizes.ratio)
    if group > _LARGE_GROUP:
        yield _group_warning(job.geometry, group)
    yield from _part_warnings(job)


def _chunk_warnings(geometry: CogGeometry, chunks: Chunks) -> Iterator[str]:
    side = geometry.options.blocksize
    pixel = geometry.raster.count * geometry.raster.itemsize
    large_enough = (n for n in _IDEAL_SIDES if n * n * pixel >= _SMALL_CHUNK)
    ideal = max(side, next(large_enough, _IDEAL_SIDES[-1]) // side * side)
    remedy = f"use chunks of {geometry.raster.count} x {ideal} x {ideal}"
    sizes = [max(axis) for axis in chunks]
    each, count = math.prod(sizes) * geometry.raster.itemsize, math.prod(map(len, chunks))
    these, size = f"chunks of {' x '.join(map(str, sizes))} (band, y, x)", byte_text(each)
    if each < _SMALL_CHUNK and count > _MANY_CHUNKS:
        cost = f"{count:,} of them cost more scheduling than work"
        yield f"{these} are small, {size}: {cost}; {remedy}"
    if each > _LARGE_CHUNK:
        cost = "each thread of a worker holds one and more"
        yield f"{these} are large, {size}: {cost}; {remedy}"


def _header_warning(blocksize: int, header: int) -> str:
    side, less = blocksize, float(header)
    while less > _LARGE_HEADER and side < _LARGEST_TILE_SIDE:
        # GDAL has overviews of other sizes in tiles of 128
        side = 1 << side.bit_length()
        less = header * (blocksize / side) ** 2
    return (
        f"readers of the full resolution fetch a header of {byte_text(header)}; "
        f"with BLOCKSIZE={side} it has about {about_bytes(int(less))}"
    )


def _group_warning(geometry: CogGeometry, size: int) -> str:
    group, remedy = "row", "use layout='chunk', or chunks with fewer rows and more columns"
    if geometry.by_chunk:
        group, remedy = "run", "use smaller chunks"
    return (
        f"a {group} of blocks is about {about_bytes(size)}, "
        f"which one worker gathers to upload it; {remedy}"
    )


def _part_warnings(job: WriteJob) -> Iterator[str]:
    limits, part_size = job.store.limits, job.parts.part_size
    most = f"{limits.max_parts:,} parts of the store"
    fewest = fewest_parts(job.geometry.groups.sizes, limits)
    if fewest > _NEAR_LIMIT * limits.max_parts and not job.geometry.by_chunk:
        yield f"rows of blocks may need {fewest:,} of the {most}; use chunks with more rows"
    if part_size > max(_LARGE_PART, limits.preferred_part, limits.min_part):
        yield (
            f"parts of {byte_text(part_size)} are planned to stay within the {most}, "
            "and one that fails is sent again as a whole; split the raster into several files"
        )
