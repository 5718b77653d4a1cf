"""What a write would make and cost, as frozen values that show themselves as text and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from ccog import tiff
from ccog.bounds import largest_tile, usual_mask_ratio, usual_ratio
from ccog.graph import CcogTasks, parallelism, rows_ahead
from ccog.header import CLASSIC_LIMIT, LEADER, TRAILER, LevelCounts, Template, header_size
from ccog.inspection.drawing import Drawing, to_svg
from ccog.inspection.tables import byte_text, html_table, plural, text_table
from ccog.parts import Limits, fewest_parts
from ccog.planning import CogGeometry
from ccog.preview_drawing import draw
from ccog.pyramid import ceil_div
from ccog.sources import SourceGrid
from ccog.statistics import BandStatistics
from ccog.stores import WholeStore
from ccog.tasks import WriteJob
from ccog.template import write_template

MB = 1_000_000

# chunks of fewer bytes are small where there are many, and of more are large
_SMALL_CHUNK, _MANY_CHUNKS, _LARGE_CHUNK = 4 * MB, 256, 512 * MB
_IDEAL_SIDES = (512, 1024, 2048, 4096)
_LARGE_HEADER, _LARGEST_TILE_SIDE = 32 * MB, 4096
_NEAR_LIMIT = 0.5
_LARGE_PART, _LARGE_WHOLE, _LARGE_ROW = 256 * MB, 2000 * MB, 4000 * MB
_THUMBNAIL = 256

# strips of pixels and their tiles while they are compressed (ccog.encode), measured
_ENCODING = 16 * MB

# longest that statistics get as text
_LONG = -1.2345678901234e-100
_LONGEST = BandStatistics(12345678, 10**12, _LONG, _LONG, _LONG, 1.2345678e-300)


@dataclass(frozen=True)
class PlannedLevel:
    """One resolution of the file to be.

    Attributes
    ----------
    name
        "full resolution", "overview 1", ...
    width, height
        Pixels.
    tile
        Side of a tile in pixels.
    tiles
        Tiles down and across, times ``planes`` where bands are compressed apart; a mask has as many again, once.
    planes
        Bands that are compressed apart, else 1.
    blocks
        Work blocks down and across: one task encodes one.
    raw
        Bytes of its pixels, mask aside.
    """

    name: str
    width: int
    height: int
    tile: int
    tiles: tuple[int, int]
    planes: int
    blocks: tuple[int, int]
    raw: int


@dataclass(frozen=True)
class PlannedRead:
    """What a typical read of the file costs once it is open.

    Attributes
    ----------
    what
        The read, for people.
    tiles
        Tiles it needs, those of the mask included.
    requests
        Range requests of GDAL, which joins ranges that touch.
    """

    what: str
    tiles: int
    requests: int


@dataclass(frozen=True)
class CogPlan:
    """What :func:`ccog.write_ccog` would write, and what that would cost: see :func:`ccog.plan`. Sizes are in bytes.

    Attributes
    ----------
    url
        The target.
    shape, dtype
        (bands, rows, columns) of the raster, and the type of its pixels in the file.
    has_mask
        Whether there is an internal mask.
    compression
        Of the full resolution.
    levels
        Full resolution first.
    header_size
        Bytes before the first tile; ``header_is_exact`` unless statistics are written, which make it smaller by a
        few bytes a band, or ``big_tiff`` is undecided.
    classic_header_size
        The header of a classic TIFF where ``big_tiff`` is undecided, else None.
    big_tiff
        Whether the file is a BigTIFF; None where that depends on how well the pixels compress.
    largest_size
        What the file cannot exceed, whatever the pixels.
    expected_size
        A guess: bytes of the pixels times a ratio that is usual for the compression.
    tasks
        Tasks of the graph, besides those that load and rechunk the array.
    chunks
        Chunks of the array.
    part_size, most_parts, expected_parts
        What parts of the upload aim at, their largest possible and guessed number; None where there are no parts.
    memory
        A guess at the memory each of a worker's threads needs, the imports of the process and what computes the
        chunks aside: see ``docs/guides/planning.md``.
    row_memory
        A guess at the compressed bytes of a row of work blocks, which meet on the worker that uploads them.
    reads
        What typical reads of the file cost.
    warnings
        What could be better, with remedies.
    """

    url: str
    shape: tuple[int, int, int]
    dtype: str
    has_mask: bool
    compression: str
    levels: tuple[PlannedLevel, ...]
    header_size: int
    header_is_exact: bool
    classic_header_size: int | None
    big_tiff: bool | None
    largest_size: int
    expected_size: int
    tasks: int
    chunks: int
    part_size: int | None
    most_parts: int | None
    expected_parts: int | None
    memory: int
    row_memory: int
    reads: tuple[PlannedRead, ...]
    warnings: tuple[str, ...]
    drawing: Drawing = field(repr=False, compare=False)

    @property
    def tasks_per_chunk(self) -> float:
        """Tasks divided by chunks."""
        return self.tasks / self.chunks

    @property
    def svg(self) -> str:
        """The pyramid, and the chunks over the tiles, as an SVG element."""
        return to_svg(self.drawing)

    def __repr__(self) -> str:
        """Tables for a terminal."""
        warned = [f"Warning: {text}" for text in self.warnings]
        tables = ["", *text_table(*self._levels()), "", *text_table(*self._reads())]
        return "\n".join([*self._facts(), *tables, *([""] if warned else []), *warned])

    def _repr_html_(self) -> str:
        facts = "".join(f"<div>{escape(line)}</div>" for line in self._facts())
        warned = "".join(f"<div><b>Warning:</b> {escape(text)}</div>" for text in self.warnings)
        return f"<div>{facts}{warned}{html_table(*self._levels())}{html_table(*self._reads())}{self.svg}</div>"

    def _facts(self) -> list[str]:
        bands, height, width = self.shape
        mask = ", a mask" if self.has_mask else ""
        return [
            f"{self.url}: {width} x {height}, {plural(bands, 'band')} of {self.dtype}{mask}, {self.compression}",
            f"File: about {byte_text(self.expected_size)} (a guess), at most {byte_text(self.largest_size)}",
            f"Header: {self._header()}",
            f"Graph: {plural(self.tasks, 'task')} for {plural(self.chunks, 'chunk')}, "
            f"{self.tasks_per_chunk:.2f} a chunk",
            f"Upload: {self._upload()}",
            f"Memory: about {byte_text(self.memory)} for each thread of a worker; one gathers rows of tiles of "
            f"about {byte_text(self.row_memory)}",
        ]

    def _header(self) -> str:
        if self.big_tiff is None:
            classic, big = byte_text(self.classic_header_size or 0), byte_text(self.header_size)
            if self.expected_size < CLASSIC_LIMIT:
                return f"{classic}, classic TIFF; {big} as BigTIFF should the file exceed 4 GiB"
            return f"{big}, BigTIFF; {classic} as classic TIFF should the file stay below 4 GiB"
        kind = "BigTIFF" if self.big_tiff else "classic TIFF"
        return f"{'' if self.header_is_exact else 'at most '}{byte_text(self.header_size)}, {kind}"

    def _upload(self) -> str:
        if self.part_size is None or self.most_parts is None:
            return "as a whole, by one writer"
        size = f" of about {byte_text(self.part_size)}" if self.part_size <= self.largest_size else ""
        return f"about {plural(self.expected_parts or 1, 'part')}{size}, at most {self.most_parts:,}"

    def _levels(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        titles = ("Level", "Size", "Tile", "Tiles", "Work blocks", "Pixels")
        return titles, [_level_row(level) for level in self.levels]

    def _reads(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        return ("Read", "Tiles", "Range requests"), [(r.what, f"{r.tiles:,}", f"{r.requests:,}") for r in self.reads]


def _level_row(level: PlannedLevel) -> Sequence[str]:
    return (
        level.name,
        f"{level.width} x {level.height}",
        f"{level.tile} x {level.tile}",
        f"{level.tiles[1]} x {level.tiles[0]}" + (f" x {level.planes} planes" if level.planes > 1 else ""),
        f"{level.blocks[1]} x {level.blocks[0]}",
        byte_text(level.raw),
    )


def preview(job: WriteJob, chunks: tuple[tuple[int, ...], ...], *, mismatch: str | None) -> CogPlan:
    """What a job would make of an array with the given chunks (band, y, x); ``mismatch`` is what is wrong with them."""
    plan, source = job.plan, SourceGrid("", chunks)
    tasks = len(CcogTasks(job, source, source if plan.has_mask else None, rows_ahead(job)))
    sizes = _Sizes.of(job)
    levels = tuple(_planned(plan, job.template, k) for k in range(plan.top + 1))
    window = min(plan.level(0).height, chunks[1][0]), min(plan.level(0).width, chunks[2][0])
    whole = isinstance(job.store, WholeStore)
    return CogPlan(
        job.store.url,
        (plan.count, *plan.level(0).size),
        plan.dtype,
        plan.has_mask,
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
        int(plan.row_bytes(0) * sizes.ratio),
        tuple(_reads(plan, window)),
        tuple(_warnings(job, chunks, sizes, mismatch)),
        draw(plan.pyramid.levels, chunks[1:]),
    )


def _compression(job: WriteJob) -> str:
    predictor = job.template.image.value(tiff.PREDICTOR, 1)
    return job.plan.options.effective_compress.lower() + (f", predictor {predictor}" if predictor > 1 else "")


def _planned(plan: CogGeometry, template: Template, k: int) -> PlannedLevel:
    level, planes = plan.level(k), _planes(plan, k)
    raw = level.height * level.width * plan.count * plan.itemsize
    name = f"overview {k}" if k else "full resolution"
    return PlannedLevel(name, level.width, level.height, level.blocksize, level.tiles, planes, level.blocks, raw)


def _planes(plan: CogGeometry, k: int) -> int:
    """Bands of a level that are compressed apart."""
    return plan.count if plan.planar[min(k, 1)] else 1


@dataclass(frozen=True)
class _Sizes:
    """Of the file; ``ratio`` is the guess at how pixels of the full resolution compress."""

    header: int
    classic_header: int | None
    is_exact: bool
    big: bool | None
    largest: int
    expected: int
    ratio: float

    @classmethod
    def of(cls, job: WriteJob) -> _Sizes:
        wants_statistics = job.plan.options.statistics == "YES"
        template = write_template(job.described, (_LONGEST,) * job.plan.count) if wants_statistics else job.template
        counts = tuple(_counts(job.plan, k) for k in range(job.plan.top + 1))
        classic, big = (header_size(template, counts, big=kind) for kind in (False, True))
        pixels = sum(_largest_level(job, k) for k in range(job.plan.top + 1))
        decided = False if job.big is None and classic + pixels < CLASSIC_LIMIT else job.big
        header = classic if decided is False else big
        expected = sum(_expected_level(job, k) for k in range(job.plan.top + 1))
        return cls(
            header,
            classic if decided is None else None,
            not wants_statistics and decided is not None,
            decided,
            header + pixels,
            min(header + int(expected), header + pixels),
            usual_ratio(job.plan.options.effective_compress, job.template.image),
        )


def _counts(plan: CogGeometry, k: int) -> LevelCounts:
    """Tiles of a level without memory for their sizes."""
    level = plan.level(k)
    tiles = level.tiles[0] * level.tiles[1]
    image = np.broadcast_to(np.uint32(1), (tiles * _planes(plan, k),))
    mask = np.broadcast_to(np.uint32(1), (tiles,)) if plan.has_mask else None
    return LevelCounts(*level.size, image, mask, plan.is_planar(k))


def _largest_level(job: WriteJob, k: int) -> int:
    """Most bytes that the tiles of a level can take."""
    image, mask = (job.template.overview, job.template.overview_mask) if k else (job.template.image, job.template.mask)
    rows, cols = job.plan.level(k).tiles
    each = largest_tile(image) * _planes(job.plan, k) + (largest_tile(mask) if mask is not None else 0)
    return rows * cols * each


def _expected_level(job: WriteJob, k: int) -> float:
    plan, level = job.plan, job.plan.level(k)
    image, mask = (job.template.overview, job.template.overview_mask) if k else (job.template.image, job.template.mask)
    options = plan.options
    compress = options.effective_overview_compress if k else options.effective_compress
    tiles = level.tiles[0] * level.tiles[1]
    # uncompressed tiles are stored with their padding, which otherwise compresses to next to nothing
    pixels = tiles * level.blocksize**2 if compress == "NONE" else level.height * level.width
    bits = plan.count * image.value(tiff.BITS_PER_SAMPLE, 1) * usual_ratio(compress, image)
    bits += 0 if mask is None else usual_mask_ratio(mask)
    return pixels * bits / 8 + tiles * (_planes(plan, k) + plan.has_mask) * (LEADER + TRAILER)


def _expected_parts(job: WriteJob, expected: int) -> int:
    """A guess at the parts: the header's, those of large rows, joins between these, and what small rows add up to."""
    parts, limits, plan = job.parts, job.store.limits, job.plan
    rows = [plan.row_bytes(k) for k, _, _ in plan.rows_in_file_order()]
    share = expected / max(1, sum(rows))
    large = [n * share for n in rows if n * share >= 2 * limits.min_part]
    own = sum(max(1, math.ceil((n - limits.min_part) / parts.part_size)) for n in large)
    joins = max(0, len(large) - 1) if limits.min_part else 0
    small = int((expected - sum(large)) // (limits.min_part + parts.part_size))
    return min(parts.last, 1 + own + joins + small)


def _memory(job: WriteJob, ratio: float) -> int:
    """A block, what GDAL needs to compress it, and a thread's share of the blocks of rows that are not yet uploaded.

    Of these the compressed tiles are held, and the reduced pixels: a quarter, a third with all levels.
    """
    plan = job.plan
    height, width = map(min, plan.level(0).block, plan.level(0).size)
    block = height * width * (plan.count * plan.itemsize + plan.has_mask)
    rows, cols = plan.level(0).blocks
    waiting = max(1.0, min(rows_ahead(job), rows) * cols / parallelism())
    return int(block * (1 + waiting * (ratio + 1 / 3))) + _ENCODING


def _reads(plan: CogGeometry, window: tuple[int, int]) -> Iterator[PlannedRead]:
    sizes = [max(level.size) for level in plan.pyramid.levels]
    k = max((k for k, side in enumerate(sizes) if side >= _THUMBNAIL), default=0)
    small = plan.level(k)
    yield _read(plan, k, f"thumbnail ({small.width} x {small.height})", small.tiles)
    yield _read(plan, 0, "one tile", (1, 1))
    tiles = ceil_div(window[0], small.blocksize), ceil_div(window[1], small.blocksize)
    yield _read(plan, 0, f"a chunk ({window[1]} x {window[0]})", tiles)


def _read(plan: CogGeometry, k: int, what: str, tiles: tuple[int, int]) -> PlannedRead:
    """Tiles of a row touch, so do rows that span the image, and bands where all is read."""
    level = plan.level(k)
    stretches = plan.planes(k)
    requests = stretches * (1 if tiles[1] == level.tiles[1] else tiles[0])
    if tiles == level.tiles:
        requests = 1
    return PlannedRead(what, tiles[0] * tiles[1] * (_planes(plan, k) + plan.has_mask), requests)


def _warnings(job: WriteJob, chunks: tuple[tuple[int, ...], ...], sizes: _Sizes, mismatch: str | None) -> Iterator[str]:
    of_chunks = list(_chunk_warnings(job.plan, chunks))
    # whose remedy makes chunks match
    yield from of_chunks or ([] if mismatch is None else [mismatch])
    if sizes.header > _LARGE_HEADER and job.plan.options.blocksize < _LARGEST_TILE_SIDE:
        yield _header_warning(job.plan, sizes.header)
    if sizes.big is False and sizes.expected >= CLASSIC_LIMIT:
        yield "BIGTIFF=NO cannot hold the expected size, which exceeds 4 GiB; leave BIGTIFF out or set it to YES"
    row = job.plan.row_bytes(0) * sizes.ratio
    if row > _LARGE_ROW and not isinstance(job.store, WholeStore):
        yield (
            f"a row of work blocks is about {byte_text(int(row))}, which one worker gathers to upload it; "
            "use chunks with fewer rows and more columns"
        )
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
        side, less = 2 * side, less / 4
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
    fewest = fewest_parts([plan.row_bytes(k) for k, _, _ in plan.rows_in_file_order()], limits)
    if fewest > _NEAR_LIMIT * limits.max_parts:
        yield (
            f"rows of blocks may need {fewest:,} of the {limits.max_parts:,} parts of the store; "
            "use chunks with more rows"
        )
    if _is_strained(job.parts.part_size, limits):
        yield (
            f"parts of {byte_text(job.parts.part_size)} are planned to stay within the {limits.max_parts:,} parts of "
            "the store, and one that fails is sent again as a whole; split the raster into several files"
        )


def _is_strained(part_size: int, limits: Limits) -> bool:
    return part_size > max(_LARGE_PART, limits.preferred_part, limits.min_part)
