"""Everything that can be known before a pixel is touched, as frozen values; the one place that knows file order."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.geometry.options import CreationOptions
from ccog.geometry.parts import Rows
from ccog.geometry.pyramid import AxisReduction, Interval, Kernel, Level, Pyramid, Size, ceil_div
from ccog.geometry.tile_order import along_curve

#: Order of tiles in a level: row-major as GDAL writes them, or chunk by chunk along the Morton curve.
FileLayout = Literal["gdal", "chunk"]


@dataclass(frozen=True)
class Gap:
    """Destination pixels near block seams, computed from strips of several blocks, and the source they need."""

    dst: Interval
    source: Interval


@dataclass(frozen=True)
class Seams:
    """Along one axis: what each block can reduce alone, the gaps left between, and the gaps each block feeds.

    The axis is cut into blocks of ``side`` source pixels. Everything is worked out when it is asked
    for, and kept: an axis may have millions of blocks of which a plan looks at two.
    """

    axis: AxisReduction
    side: int

    @property
    def count(self) -> int:
        """Blocks along the axis."""
        return ceil_div(self.axis.src, self.side)

    def block(self, b: int) -> Interval:
        """Source pixels of block ``b``."""
        return Interval(b * self.side, min(self.axis.src, (b + 1) * self.side))

    def done(self, b: int) -> Interval:
        """The destination pixels that block ``b`` reduces alone; empty where there are none."""
        if b not in self._done:
            self._done[b] = _reducible(self.axis, self.block(b))
        return self._done[b]

    def gaps_in(self, want: Interval) -> list[Gap]:
        """Gaps that overlap the destination interval ``want``."""
        gaps = self._gaps.up_to(want.stop)
        first = bisect.bisect_right(gaps, want.start, key=lambda gap: gap.dst.stop)
        last = bisect.bisect_left(gaps, want.stop, key=lambda gap: gap.dst.start)
        return gaps[first:last]

    def fed(self, b: int) -> tuple[Gap, ...]:
        """The gaps whose source overlaps block ``b``."""
        return self._fed.get(b, ())

    @cached_property
    def _done(self) -> dict[int, Interval]:
        return {}

    @cached_property
    def _gaps(self) -> _Gaps:
        return _Gaps(self)

    @cached_property
    def _fed(self) -> dict[int, tuple[Gap, ...]]:
        found: dict[int, tuple[Gap, ...]] = {}
        for gap in self._gaps.up_to(self.axis.dst):
            first, stop = gap.source.start // self.side, ceil_div(gap.source.stop, self.side)
            for b in range(first, stop):
                found[b] = (*found.get(b, ()), gap)
        return found


class _Gaps:
    """The gaps of an axis from its start to where they were last asked for."""

    def __init__(self, seams: Seams) -> None:
        self._seams = seams
        self._found: list[Gap] = []
        # the next block to look at, and where the destination is covered up to
        self._block, self._position = 0, 0

    def up_to(self, stop: int) -> list[Gap]:
        """All gaps that begin before the destination pixel ``stop``, and perhaps more."""
        while self._position < stop:
            self._look_at_next_block()
        return self._found

    def _look_at_next_block(self) -> None:
        axis = self._seams.axis
        at_end = self._block == self._seams.count
        interval = Interval(axis.dst, axis.dst) if at_end else self._seams.done(self._block)
        self._block += 1
        if not len(interval) and not at_end:
            return
        if interval.start > self._position:
            missing = Interval(self._position, interval.start)
            self._found.append(Gap(missing, axis.source_of(missing)))
        self._position = max(self._position, interval.stop)


def _reducible(axis: AxisReduction, block: Interval) -> Interval:
    """The destination pixels whose whole source lies in ``block``; empty where there are none."""
    start = 0 if block.start == 0 else int(block.start / axis.ratio)
    stop = axis.dst if block.stop == axis.src else min(axis.dst, int(block.stop / axis.ratio) + 1)
    while start < stop:
        need = axis.source_of(Interval(start, stop))
        if need.within(block):
            return Interval(start, stop)
        if need.start < block.start:
            start += 1
        if need.stop > block.stop:
            stop -= 1
    return Interval(0, 0)


class Unit(NamedTuple):
    """What is uploaded together: the ``number``-th of a plane of a level."""

    level: int
    plane: int
    number: int


@dataclass(frozen=True)
class UnitsOfLevel:
    """Units of a level, the same numbers in each of its planes, one plane after the other."""

    level: int
    planes: int
    numbers: Sequence[int]

    def __len__(self) -> int:
        return self.planes * len(self.numbers)

    def __getitem__(self, n: int) -> Unit:
        plane, at = divmod(n, len(self.numbers))
        return Unit(self.level, plane, self.numbers[at])


@dataclass(frozen=True)
class UnitSequence:
    """Units in the order of their bytes in the file, of which there may be too many for a list."""

    levels: tuple[UnitsOfLevel, ...]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, n: int) -> Unit:
        at = bisect.bisect_right(self._starts, n) - 1
        return self.levels[at][n - self._starts[at]]

    def __iter__(self) -> Iterator[Unit]:
        return (of_level[n] for of_level in self.levels for n in range(len(of_level)))

    def index(self, k: int, plane: int, n: int) -> int:
        """Where a unit lies, for sequences that hold all units of their levels."""
        at = next(at for at, of in enumerate(self.levels) if of.level == k)
        return self._starts[at] + plane * len(self.levels[at].numbers) + n

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(itertools.accumulate(map(len, self.levels), initial=0))


@dataclass(frozen=True)
class Flow:
    """How a level is reduced to another: what is carried, and the geometry of both axes."""

    source: int
    target: int
    pixels: bool
    mask: bool
    y: AxisReduction
    x: AxisReduction
    rows: Seams
    cols: Seams


# GDALRegenerateOverviewsEx works in swaths of at most this size
_SWATH_BYTES = 10 << 20


@dataclass(frozen=True)
class CogGeometry:
    """The raster's shape, the options, and the geometry that follows.

    ``has_mask`` counts internal masks only; ``count`` is the number of bands in the file.
    ``has_alpha`` says that the last band is the alpha of the others, ``mask_is_alpha`` that
    the mask was such a band. ``method`` is the overview kernel after
    defaults; where ``planar`` (full
    resolution, overviews) a level holds one band after the other, and then the mask; in ``layout="chunk"`` each
    chunk does. There ``unit`` blocks of full resolution, and fewer of overviews, are uploaded together.
    """

    options: CreationOptions
    pyramid: Pyramid
    count: int
    dtype: str
    has_mask: bool
    method: str
    nodata: float | int | None
    has_alpha: bool = False
    mask_is_alpha: bool = False
    planar: tuple[bool, bool] = (False, False)
    layout: FileLayout = "gdal"
    unit: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """The fields: what follows from them grows with the raster and is soon worked out again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def by_chunk(self) -> bool:
        """Whether the tiles of a chunk lie together."""
        return self.layout == "chunk"

    @property
    def tile_planes(self) -> int:
        """Separately compressed bands whose tiles lie side by side."""
        return self.count if self.options.interleave == "TILE" else 1

    @property
    def top(self) -> int:
        """Index of the smallest level."""
        return len(self.pyramid.levels) - 1

    def level(self, k: int) -> Level:
        """Level ``k``, 0 being full resolution."""
        return self.pyramid.levels[k]

    @cached_property
    def flows(self) -> tuple[Flow, ...]:
        """From which level each overview's pixels and mask are reduced, in order of the target."""
        found: list[Flow] = []
        for k in range(1, self.top + 1):
            source = self._usual_source(k)
            if not self.is_by_band:
                found.append(self._flow(source, k, pixels=True, mask=self.has_mask))
                continue
            found.append(
                self._flow(0 if self._by_band_from_base else k - 1, k, pixels=True, mask=False)
            )
            if self.has_mask:
                found.append(self._flow(source, k, pixels=False, mask=True))
        return tuple(found)

    @property
    def is_by_band(self) -> bool:
        """Whether GDAL reduces band by band, in swaths: complex data (GTIFFBuildOverviewsEx)."""
        return self.dtype.startswith("complex")

    def _usual_source(self, k: int) -> int:
        """The previous level, but full resolution where that is no wider (GDALRegenerateOverviewsMultiBand)."""
        return k - 1 if self.level(k - 1).width > self.level(k).width else 0

    def _flow(self, source: int, target: int, *, pixels: bool, mask: bool) -> Flow:
        swath = self._swath(source, target) if self.is_by_band and pixels else 0
        y, x = self.pyramid.reduction(source, target, swath)
        if mask and not pixels:
            # GDAL reduces it as the bytes it is, whatever the type of the pixels beside it
            kernel = Kernel.of(self.method, "uint8", masked=True)
            y, x = replace(y, kernel=kernel), replace(x, kernel=kernel)
        height, width = self.level(source).block
        return Flow(source, target, pixels, mask, y, x, Seams(y, height), Seams(x, width))

    @cached_property
    def _by_band_from_base(self) -> bool:
        """Whether all such overviews come from full resolution (GDALRegenerateOverviewsEx).

        So it is for averages beside a mask, and for nearest where a swath of the source fits 10 MiB.
        """
        if self.method in ("average", "rms"):
            return self.has_mask or self.top == 1
        return self.top == 1 or self._swath_bytes(0, self._least_swath(0, self.top)) <= _SWATH_BYTES

    def _swath(self, source: int, target: int) -> int:
        height = self._least_swath(source, self.top if self._by_band_from_base else target)
        while self._swath_bytes(source, height) < _SWATH_BYTES // 2:
            height *= 2
        return height

    def _least_swath(self, source: int, target: int) -> int:
        a, b = self.level(source), self.level(target)
        factor = max(1, int(a.width / b.width + 0.5), int(a.height / b.height + 0.5))
        # an array in memory has blocks of one line, GDAL's temporary overviews of 128
        return max(128 if source else 1, 2 * factor)

    def _swath_bytes(self, source: int, height: int) -> int:
        item = 8 if self.method in ("average", "rms") else self.itemsize
        return item * height * self.level(source).width

    def flows_to(self, k: int) -> list[Flow]:
        """Flows that make level ``k``."""
        return [flow for flow in self.flows if flow.target == k]

    def flows_from(self, k: int) -> list[Flow]:
        """Flows that level ``k`` feeds."""
        return [flow for flow in self.flows if flow.source == k]

    def children(self, flow: Flow, i: int, j: int) -> list[tuple[int, int]]:
        """Source blocks of a flow that block (i, j) of its target is made of, neighbours' strips included."""
        return [(r, c) for r in self._rows_for(flow, i) for c in self._cols_for(flow, j)]

    def is_planar(self, k: int) -> bool:
        """Whether the bands of level ``k`` lie one after the other."""
        return self.planar[min(k, 1)] and self.options.interleave != "TILE"

    def planes(self, k: int) -> int:
        """Separate stretches of the file that level ``k`` consists of."""
        return self.count + self.has_mask if self.is_planar(k) and not self.by_chunk else 1

    def unit_count(self, k: int) -> int:
        """Upload units of each plane of level ``k``: its block rows, or runs of blocks along the Morton curve."""
        rows, cols = self.level(k).blocks
        return ceil_div(rows * cols, self.unit_length(k))

    def unit_length(self, k: int) -> int:
        """Blocks that are uploaded together: those of a row, or some that follow each other along the curve."""
        rows, cols = self.level(k).blocks
        return min(rows * cols, max(1, self.unit >> min(k, 2))) if self.by_chunk else cols

    @cached_property
    def units(self) -> UnitSequence:
        """What is uploaded together, in the order of its bytes in the file."""
        return self._sequence({k: range(self.unit_count(k)) for k in range(self.top + 1)})

    @cached_property
    def stretches(self) -> UnitSequence:
        """The units that merges join; others are joined to one of these where they are uploaded."""
        levels = range(self.top + 1)
        return self._sequence({k: self.left_apart(self.unit_count(k)) for k in levels})

    def _sequence(self, numbers: dict[int, Sequence[int]]) -> UnitSequence:
        levels = [level.index for level in self.pyramid.file_order()]
        return UnitSequence(tuple(UnitsOfLevel(k, self.planes(k), numbers[k]) for k in levels))

    @property
    def unit_rows(self) -> tuple[Rows, ...]:
        """How many units have at most how many bytes, in file order."""
        return tuple(Rows(len(of), self.unit_bytes(of.level)) for of in self.units.levels)

    def unit_blocks(self, k: int, n: int) -> list[tuple[int, int]]:
        """Blocks of unit ``n`` of a plane of level ``k``; chunk by chunk this is their order in the file."""
        if not self.by_chunk:
            return [(n, j) for j in range(self.level(k).blocks[1])]
        run = self.unit_length(k)
        return [(int(i), int(j)) for i, j in self._curves[k][n * run : (n + 1) * run]]

    @cached_property
    def _curves(self) -> list[npt.NDArray[np.int64]]:
        """Blocks of each level along the Morton curve."""
        return [along_curve(level.blocks) for level in self.pyramid.levels]

    def joined_at(self, n: int) -> list[int]:
        """Units of a level that unit ``n`` is joined to, once it is uploaded, each with what it was joined to before.

        Chunk by chunk they are joined as a binary counter carries, so that few stretches of the file are open at a
        time: unit 1 to 0, 3 to 2 and 1, 7 to 6, 5 and 3.
        """
        carries = (~n & (n + 1)).bit_length() - 1 if self.by_chunk else 0
        return [n - (1 << carry) for carry in reversed(range(carries))]

    def left_apart(self, count: int) -> Sequence[int]:
        """Of the first ``count`` units of a plane, those that nothing joins to a later one."""
        if not self.by_chunk:
            return range(count)
        found, stop = [], 0
        for bit in reversed(range(count.bit_length())):
            if count >> bit & 1:
                stop += 1 << bit
                found.append(stop - 1)
        return found

    def unit_of(self, k: int, i: int, j: int) -> int:
        """The unit of block (i, j) of level ``k``, in each of its planes."""
        return int(self._places[k][i, j]) // self.unit_length(k) if self.by_chunk else i

    def last_unit(self, k: int, n: int) -> int:
        """The last unit of full resolution that unit ``n`` of a plane of level ``k`` needs."""
        rows, cols = self._last_sources[k]
        return max(self.unit_of(0, rows[i], cols[j]) for i, j in self.unit_blocks(k, n))

    @cached_property
    def _places(self) -> list[npt.NDArray[np.int64]]:
        """Where each block of each level lies along the Morton curve."""
        found = [np.empty(level.blocks, np.int64) for level in self.pyramid.levels]
        for places, curve in zip(found, self._curves, strict=True):
            places[tuple(curve.T)] = np.arange(places.size)
        return found

    @cached_property
    def _last_sources(self) -> list[tuple[list[int], list[int]]]:
        """Of the block rows and columns of each level, the last ones of full resolution that they need.

        The last of a rectangle of blocks along the Morton curve is the one in its last row and column.
        """
        rows, cols = self.level(0).blocks
        found = [(list(range(rows)), list(range(cols)))]
        for k in range(1, self.top + 1):
            level, flows = self.level(k), self.flows_to(k)
            rows, cols = level.blocks
            last_rows = [
                max(found[f.source][0][self._rows_for(f, i)[-1]] for f in flows)
                for i in range(rows)
            ]
            last_cols = [
                max(found[f.source][1][self._cols_for(f, j)[-1]] for f in flows)
                for j in range(cols)
            ]
            found.append((last_rows, last_cols))
        return found

    def _rows_for(self, flow: Flow, i: int) -> list[int]:
        """Block rows of a flow's source that block row ``i`` of its target is made of."""
        return _contributors(
            flow.rows, self.level(flow.source), 0, self.level(flow.target).rows(i), flow.y
        )

    def _cols_for(self, flow: Flow, j: int) -> list[int]:
        """Block columns of a flow's source that block column ``j`` of its target is made of."""
        return _contributors(
            flow.cols, self.level(flow.source), 1, self.level(flow.target).cols(j), flow.x
        )

    @property
    def array_type(self) -> str:
        """NumPy's type of the pixels while they are worked on.

        GDAL keeps the overviews of half floats as single ones until they are written (GTIFFBuildOverviewsEx).
        """
        return {"complex_int16": "complex64", "float16": "float32"}.get(self.dtype, self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one sample."""
        return stored_bytes(self.dtype)

    def unit_bytes(self, k: int) -> int:
        """Uncompressed bytes of an upload unit of a plane of level ``k``, tile padding and framing included."""
        level = self.level(k)
        bands = 1 if self.planes(k) > 1 else self.count
        tile = level.blocksize**2 * bands * self.itemsize + 8
        mask = (level.blocksize**2 // 8 + 8) if self.has_mask else 0
        return self._unit_tiles(k) * (tile + mask)

    def _unit_tiles(self, k: int) -> int:
        level = self.level(k)
        if not self.by_chunk:
            return len(level.tile_rows(0)) * level.tiles[1]
        of_block = [
            min(b // level.blocksize, t) for b, t in zip(level.block, level.tiles, strict=True)
        ]
        return self.unit_length(k) * of_block[0] * of_block[1]


def _contributors(
    seams: Seams, below: Level, axis: int, want: Interval, reduction: AxisReduction
) -> list[int]:
    """Blocks along an axis whose reduced pixels or strips are needed for ``want``."""
    found = set(below.block_range(axis, reduction.source_of(want)))
    for gap in seams.gaps_in(want):
        found.update(below.block_range(axis, gap.source))
    return sorted(found)


def stored_bytes(dtype: str) -> int:
    """Bytes of one sample of a type of rasterio's."""
    return 4 if dtype == "complex_int16" else int("".join(c for c in dtype if c.isdigit())) // 8


# sides of work blocks where the chunks of the array give no better ones, in pixels
_LEAST_BLOCK, _MOST_BLOCK = 1024, 4096
_MOST_BLOCK_BYTES = 256 << 20

# uncompressed bytes that are uploaded together where blocks are smaller, and most blocks: few tasks, few part numbers
_UNIT_BYTES, _UNIT_BLOCKS = 64 << 20, 16

# blocks of full resolution: beyond the first number tasks are larger, beyond the second blocks are of several chunks
_FEW_BLOCKS, _MANY_BLOCKS = 4_096, 20_000

# the same for blocks of fewer bytes than this, next to which tasks cost more
_TINY_BLOCK_BYTES = 1 << 20
_FEW_TINY_BLOCKS, _MANY_TINY_BLOCKS = 1_024, 4_096


def choose_block(chunks: tuple[tuple[int, ...], ...], blocksize: int, pixel_bytes: int) -> Size:
    """Work block (height, width) for an array chunked (band, y, x): the chunk of :func:`choose_chunk`.

    Of very many chunks several make up a block, 2 x 2, 4 x 4 and so on, as far as memory allows.
    """
    height, width = choose_chunk(chunks, blocksize, pixel_bytes)
    shape = sum(chunks[1]), sum(chunks[2])
    while (
        _are_too_many(shape, (height, width), pixel_bytes)
        and 4 * height * width * pixel_bytes <= _MOST_BLOCK_BYTES
    ):
        height, width = 2 * height, 2 * width
    return height, width


def _are_too_many(shape: Size, block: Size, pixel_bytes: int) -> bool:
    """Whether tasks would cost a scheduler more than they do, which those of tiny blocks are the first to."""
    return _blocks(shape, block) > _least(_MANY_BLOCKS, _MANY_TINY_BLOCKS, block, pixel_bytes)


def _least(usual: int, tiny: int, block: Size, pixel_bytes: int) -> int:
    return min(usual, tiny) if block[0] * block[1] * pixel_bytes < _TINY_BLOCK_BYTES else usual


def choose_chunk(chunks: tuple[tuple[int, ...], ...], blocksize: int, pixel_bytes: int) -> Size:
    """Chunk (height, width) of whole tiles for an array chunked (band, y, x): its own where these are whole tiles."""
    height, width = (_block_side(sizes, blocksize) for sizes in chunks[1:])
    while height * width * pixel_bytes > _MOST_BLOCK_BYTES and max(height, width) > blocksize:
        if height >= width:
            height = max(blocksize, height // 2 // blocksize * blocksize)
        else:
            width = max(blocksize, width // 2 // blocksize * blocksize)
    return height, width


def choose_unit(shape: Size, block: Size, pixel_bytes: int) -> int:
    """Blocks of full resolution that are uploaded together in ``layout="chunk"``: a power of two."""
    if not is_small(shape, block, pixel_bytes):
        return _UNIT_BLOCKS
    wanted = min(_UNIT_BLOCKS, _UNIT_BYTES // (block[0] * block[1] * pixel_bytes))
    return 1 << max(0, wanted.bit_length() - 1)


def is_small(shape: Size, block: Size, pixel_bytes: int) -> bool:
    """Whether a raster has so few blocks that each may be several tasks."""
    return _blocks(shape, block) <= _least(_FEW_BLOCKS, _FEW_TINY_BLOCKS, block, pixel_bytes)


def _blocks(shape: Size, block: Size) -> int:
    return ceil_div(shape[0], block[0]) * ceil_div(shape[1], block[1])


def _block_side(sizes: tuple[int, ...], blocksize: int) -> int:
    largest = max(sizes)
    whole = len(set(sizes[:-1])) <= 1 and sizes[-1] <= largest
    if len(sizes) > 1 and whole and largest % blocksize == 0:
        return largest
    side = min(max(largest, _LEAST_BLOCK), _MOST_BLOCK)
    return max(1, round(side / blocksize)) * blocksize


def needs_big_tiff(plan: CogGeometry) -> bool | None:
    """GDAL's choice (GTiffDataset::CreateLL); None where it is classic, if that can hold the data."""
    given = plan.options.bigtiff or "IF_NEEDED"
    size = (
        sum(level.height * level.width for level in plan.pyramid.levels)
        * plan.count
        * plan.itemsize
    )
    is_large = plan.options.effective_compress == "NONE" and size > 4_200_000_000
    if given == "NO" and is_large:
        raise RasterError(
            f"the pixels of all levels have {size} bytes, and BIGTIFF=NO with compress='none' takes at most "
            "4200000000; leave BIGTIFF out, or compress"
        )
    if given in ("YES", "NO"):
        return given == "YES"
    if given == "IF_SAFER":
        return True if size > 2_000_000_000 else None
    return True if is_large else None


# bytes that the offsets of the tiles of a level must stay below: libtiff makes no larger array (TIFFSetupStrips)
_OFFSETS = 1 << 31

# largest tile that overviews have too
_MOST_BLOCKSIZE = 4096


def check_tiles(plan: CogGeometry) -> None:
    """Refuse a raster with more tiles in a level than libtiff, and so GDAL, can write or read.

    Raises
    ------
    RasterError
        A level has more tiles, counted in all bands where these are compressed apart.
    """
    most = _OFFSETS // (4 if plan.options.bigtiff == "NO" else 8) - 1
    for level in plan.pyramid.levels:
        planes = plan.count if plan.planar[min(level.index, 1)] else 1
        rows, cols = level.tiles
        if rows * cols * planes <= most:
            continue
        apart = f" for each of {planes} bands" if planes > 1 else ""
        raise RasterError(
            f"{level.width} x {level.height} pixels are {cols} x {rows} tiles of {level.blocksize} x "
            f"{level.blocksize}{apart}, {rows * cols * planes:,} in all, and libtiff takes at most {most:,} in a level "
            f"of the pyramid; {_remedy(plan, most)}"
        )


def _remedy(plan: CogGeometry, most: int) -> str:
    """What to do where the tiles of a level are too many."""
    height, width = plan.level(0).size
    side = min(level.blocksize for level in plan.pyramid.levels)
    planes = plan.count if any(plan.planar) else 1
    while side < _MOST_BLOCKSIZE:
        side = 1 << side.bit_length()
        if ceil_div(height, side) * ceil_div(width, side) * planes <= most:
            return f"use BLOCKSIZE={side}, or split the raster into several files"
    return "split the raster into several files"
