"""What could be better about a write, with remedies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import Limits, fewest_parts
from ccog.stores import WholeStore
from ccog.tasks.uploads import WriteJob
from ccog.tiff.header import CLASSIC_LIMIT
from ccog.views.inspection.tables import byte_text
from ccog.views.preview.sizes import Sizes

MB = 1_000_000

# chunks of fewer bytes are small where there are many, and of more are large
_SMALL_CHUNK, _MANY_CHUNKS, _LARGE_CHUNK = 4 * MB, 256, 512 * MB
_IDEAL_SIDES = (512, 1024, 2048, 4096)
_LARGE_HEADER, _LARGEST_TILE_SIDE = 32 * MB, 4096
_NEAR_LIMIT = 0.5
_LARGE_PART, _LARGE_WHOLE, _LARGE_UNIT = 256 * MB, 2000 * MB, 4000 * MB


def advice(
    job: WriteJob, chunks: tuple[tuple[int, ...], ...], sizes: Sizes, mismatch: str | None
) -> Iterator[str]:
    """Warnings about a job; ``mismatch`` is what is wrong with how chunks lie on tiles."""
    of_chunks = list(_chunk_warnings(job.plan, chunks))
    # whose remedy makes chunks match
    yield from of_chunks or ([] if mismatch is None else [mismatch])
    if sizes.header > _LARGE_HEADER and job.plan.options.blocksize < _LARGEST_TILE_SIDE:
        yield _header_warning(job.plan, sizes.header)
    if sizes.big is False and sizes.expected >= CLASSIC_LIMIT:
        yield "BIGTIFF=NO cannot hold the expected size, which exceeds 4 GiB; leave BIGTIFF out or set it to YES"
    unit = job.plan.unit_bytes(0) * sizes.ratio
    if unit > _LARGE_UNIT and not isinstance(job.store, WholeStore):
        by_row = "use layout='chunk', or chunks with fewer rows and more columns"
        remedy = "use smaller chunks" if job.plan.by_chunk else by_row
        yield f"a {_unit(job.plan)} is about {byte_text(int(unit))}, which one worker gathers to upload it; {remedy}"
    yield from _store_warnings(job, sizes.expected)


def _chunk_warnings(plan: CogGeometry, chunks: tuple[tuple[int, ...], ...]) -> Iterator[str]:
    side, pixel = plan.options.blocksize, plan.count * plan.itemsize
    enough = next((n for n in _IDEAL_SIDES if n * n * pixel >= _SMALL_CHUNK), _IDEAL_SIDES[-1])
    ideal = max(side, enough // side * side)
    sizes = [max(axis) for axis in chunks]
    what = f"chunks of {' x '.join(map(str, sizes))} (band, y, x)"
    each, count = math.prod(sizes) * plan.itemsize, math.prod(map(len, chunks))
    remedy = f"use chunks of {plan.count} x {ideal} x {ideal}"
    if each < _SMALL_CHUNK and count > _MANY_CHUNKS:
        yield f"{what} are small, {byte_text(each)}: {count:,} of them cost more scheduling than work; {remedy}"
    if each > _LARGE_CHUNK:
        yield f"{what} are large, {byte_text(each)}: each thread of a worker holds one and more; {remedy}"


def _header_warning(plan: CogGeometry, header: int) -> str:
    side, less = plan.options.blocksize, float(header)
    while less > _LARGE_HEADER and side < _LARGEST_TILE_SIDE:
        # GDAL has overviews of other sizes in tiles of 128
        side = 1 << side.bit_length()
        less = header * (plan.options.blocksize / side) ** 2
    return (
        f"readers of the full resolution fetch a header of {byte_text(header)}; "
        f"with BLOCKSIZE={side} it has about {byte_text(int(less))}"
    )


def _store_warnings(job: WriteJob, expected: int) -> Iterator[str]:
    limits, plan = job.store.limits, job.plan
    if (isinstance(job.store, WholeStore) or limits.equal_parts) and expected > _LARGE_WHOLE:
        yield (
            f"one worker gathers the whole file, about {byte_text(expected)}; "
            "write to a path, s3://, az:// or gs:// without fixed_upload_size, which all workers upload to"
        )
        return
    if isinstance(job.store, WholeStore) or limits.equal_parts:
        return
    fewest = fewest_parts(plan.unit_rows, limits)
    if fewest > _NEAR_LIMIT * limits.max_parts and not plan.by_chunk:
        yield (
            f"rows of blocks may need {fewest:,} of the {limits.max_parts:,} parts of the store; "
            "use chunks with more rows"
        )
    if _is_strained(job.parts.part_size, limits):
        yield (
            f"parts of {byte_text(job.parts.part_size)} are planned to stay within the {limits.max_parts:,} parts of "
            "the store, and one that fails is sent again as a whole; split the raster into several files"
        )


def _unit(plan: CogGeometry) -> str:
    return "run of work blocks" if plan.by_chunk else "row of work blocks"


def _is_strained(part_size: int, limits: Limits) -> bool:
    return part_size > max(_LARGE_PART, limits.preferred_part, limits.min_part)
