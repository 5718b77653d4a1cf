"""Everything that can be known before a pixel is touched, as frozen values; the one place that knows file order."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property

from ccog.options import CreationOptions
from ccog.pyramid import AxisReduction, Interval, Level, Pyramid, Size


@dataclass(frozen=True)
class Gap:
    """Destination pixels near block seams, computed from strips of several blocks, and the source they need."""

    dst: Interval
    source: Interval


@dataclass(frozen=True)
class Seams:
    """Along one axis: what each block can reduce alone (``done``), and the gaps left between."""

    done: tuple[Interval, ...]
    gaps: tuple[Gap, ...]

    @classmethod
    def build(cls, axis: AxisReduction, blocks: tuple[Interval, ...]) -> Seams:
        """Seams of an axis cut into the source intervals ``blocks``."""
        done = tuple(_reducible(axis, block) for block in blocks)
        gaps, position = [], 0
        for interval in (*done, Interval(axis.dst, axis.dst)):
            if not len(interval) and interval.start < axis.dst:
                continue
            if interval.start > position:
                missing = Interval(position, interval.start)
                gaps.append(Gap(missing, axis.source_of(missing)))
            position = max(position, interval.stop)
        return cls(done, tuple(gaps))

    def gaps_in(self, want: Interval) -> list[Gap]:
        """Gaps that overlap the destination interval ``want``."""
        first = bisect.bisect_right(self.gaps, want.start, key=lambda gap: gap.dst.stop)
        last = bisect.bisect_left(self.gaps, want.stop, key=lambda gap: gap.dst.start)
        return list(self.gaps[first:last])

    def gaps_from(self, block: Interval) -> list[Gap]:
        """Gaps whose source overlaps the source interval ``block``."""
        first = bisect.bisect_right(self.gaps, block.start, key=lambda gap: gap.source.stop)
        last = bisect.bisect_left(self.gaps, block.stop, key=lambda gap: gap.source.start)
        return list(self.gaps[first:last])


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


@dataclass(frozen=True)
class CogPlan:
    """The raster's shape, the options, and the geometry that follows.

    ``has_mask`` counts internal masks only; ``count`` is the number of bands in the file.
    ``method`` is the overview kernel after defaults; ``planar`` files hold one band after the other, and then the mask.
    """

    options: CreationOptions
    pyramid: Pyramid
    count: int
    dtype: str
    has_mask: bool
    method: str
    nodata: float | int | None
    planar: bool = False

    @property
    def top(self) -> int:
        """Index of the smallest level."""
        return len(self.pyramid.levels) - 1

    def level(self, k: int) -> Level:
        """Level ``k``, 0 being full resolution."""
        return self.pyramid.levels[k]

    @cached_property
    def seams(self) -> tuple[tuple[Seams, Seams], ...]:
        """(y, x) seams from each level to the next."""
        found = []
        for k in range(self.top):
            level = self.level(k)
            y, x = self.pyramid.reduction(k)
            rows = tuple(level.rows(i) for i in range(level.blocks[0]))
            cols = tuple(level.cols(j) for j in range(level.blocks[1]))
            found.append((Seams.build(y, rows), Seams.build(x, cols)))
        return tuple(found)

    def children(self, k: int, i: int, j: int) -> list[tuple[int, int]]:
        """Blocks of level ``k - 1`` that block (i, j) of level ``k`` is made of, neighbours' strips included."""
        level, below = self.level(k), self.level(k - 1)
        y, x = self.seams[k - 1]
        rows = _contributors(y, below, 0, level.rows(i), self.pyramid.reduction(k - 1)[0])
        cols = _contributors(x, below, 1, level.cols(j), self.pyramid.reduction(k - 1)[1])
        return [(r, c) for r in rows for c in cols]

    @property
    def planes(self) -> int:
        """Separate stretches of the file that each level consists of."""
        return self.count + self.has_mask if self.planar else 1

    def rows_in_file_order(self) -> list[tuple[int, int, int]]:
        """(level, plane, block row) in the order of their bytes in the file."""
        return [
            (level.index, p, i)
            for level in self.pyramid.file_order()
            for p in range(self.planes)
            for i in range(level.blocks[0])
        ]

    def last_source_row(self, k: int, i: int) -> int:
        """The last full-resolution block row that block row ``i`` of level ``k`` needs."""
        while k:
            below = self.level(k - 1)
            rows = _contributors(
                self.seams[k - 1][0], below, 0, self.level(k).rows(i), self.pyramid.reduction(k - 1)[0]
            )
            k, i = k - 1, rows[-1]
        return i

    @property
    def block_bytes(self) -> int:
        """Uncompressed bytes of a full work block, mask included."""
        return self.block_pixels * (self.count * self.itemsize + self.has_mask)

    @property
    def itemsize(self) -> int:
        """Bytes of one sample."""
        digits = "".join(c for c in self.dtype if c.isdigit())
        return int(digits) // 8

    @property
    def block_pixels(self) -> int:
        """Pixels of a full work block."""
        size: Size = self.level(0).block
        return size[0] * size[1]

    def row_bytes(self, k: int) -> int:
        """Uncompressed bytes of one block row of a plane of level ``k``, tile padding and framing included."""
        level = self.level(k)
        tile = level.blocksize**2 * (1 if self.planar else self.count) * self.itemsize + 8
        mask = (level.blocksize**2 // 8 + 8) if self.has_mask else 0
        return len(level.tile_rows(0)) * level.tiles[1] * (tile + mask)


def _contributors(seams: Seams, below: Level, axis: int, want: Interval, reduction: AxisReduction) -> list[int]:
    """Blocks along an axis whose reduced pixels or strips are needed for ``want``."""
    found = set(below.block_range(axis, reduction.source_of(want)))
    for gap in seams.gaps_in(want):
        found.update(below.block_range(axis, gap.source))
    return sorted(found)


# sides of work blocks where the chunks of the array give no better ones, in pixels
_LEAST_BLOCK, _MOST_BLOCK = 1024, 4096
_MOST_BLOCK_BYTES = 256 << 20


def choose_block(chunks: tuple[tuple[int, ...], ...], blocksize: int, pixel_bytes: int) -> Size:
    """Work block (height, width) for an array chunked (band, y, x): its own chunks where these are whole tiles."""
    height, width = (_block_side(sizes, blocksize) for sizes in chunks[1:])
    while height * width * pixel_bytes > _MOST_BLOCK_BYTES and max(height, width) > blocksize:
        if height >= width:
            height = max(blocksize, height // 2 // blocksize * blocksize)
        else:
            width = max(blocksize, width // 2 // blocksize * blocksize)
    return height, width


def _block_side(sizes: tuple[int, ...], blocksize: int) -> int:
    largest = max(sizes)
    whole = len(set(sizes[:-1])) <= 1 and sizes[-1] <= largest
    if len(sizes) > 1 and whole and largest % blocksize == 0:
        return largest
    side = min(max(largest, _LEAST_BLOCK), _MOST_BLOCK)
    return max(1, round(side / blocksize)) * blocksize


def needs_big_tiff(plan: CogPlan) -> bool | None:
    """GDAL's choice (GTiffDataset::CreateLL); None where a classic file is its choice unless it cannot hold the data."""
    given = plan.options.bigtiff or "IF_NEEDED"
    if given in ("YES", "NO"):
        return given == "YES"
    size = sum(level.height * level.width for level in plan.pyramid.levels) * plan.count * plan.itemsize
    if given == "IF_SAFER":
        return True if size > 2_000_000_000 else None
    return True if plan.options.compress == "NONE" and size > 4_200_000_000 else None
