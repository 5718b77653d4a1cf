"""Pure geometry of the overview pyramid: sizes, tiles, work blocks and the windows each reduction reads.

Axis order is (y, x) throughout; intervals are half open. Nothing here imports dask, GDAL or does I/O.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

Size = tuple[int, int]

#: Radius, in source pixels at scale 1, of GDAL's resampling kernels (overview.cpp, GDALGetResampleFunction).
KERNEL_RADIUS = {
    "nearest": 0,
    "average": 0,
    "mode": 0,
    "rms": 0,
    "gauss": 1,
    "bilinear": 1,
    "cubic": 2,
    "cubicspline": 2,
    "lanczos": 3,
}

#: RasterIOResampled cuts reads of more than 1024 x 1024 source pixels by rules of its own.
MAX_READ_SIDE = 1024

#: Longest run of pixels that GDAL's vectorised kernels compute together (AVX2, bytes).
SIMD_GROUP = 16

# source pixels kept at hand beyond those GDAL is known to fetch
_GUARD = 2


def ceil_div(a: int, b: int) -> int:
    """Quotient rounded up."""
    return -(-a // b)


def halve(n: int) -> int:
    """Length of the next overview: floor of half, at least 1 (COG driver, GDALCOGCreator::Create)."""
    return max(1, n // 2)


def level_sizes(
    height: int, width: int, blocksize: int, count: int | None = None, *, half_up: bool = False
) -> tuple[Size, ...]:
    """Sizes of full resolution and all overviews, largest first.

    Without ``count`` halving goes on until both sides fit ``blocksize``; with it there are
    ``count`` overviews, fewer where 1 x 1 is reached. Odd sides are rounded down, on a tiling scheme
    up (``half_up``; COG driver, GDALCOGCreator::Create).
    """
    sizes = [(height, width)]
    while True:
        h, w = sizes[-1]
        if count is None:
            if h <= blocksize and w <= blocksize:
                break
        elif len(sizes) - 1 == count or (h == 1 and w == 1):
            break
        sizes.append((halve(h + half_up), halve(w + half_up)))
    return tuple(sizes)


def overview_blocksize(blocksize: int) -> int:
    """Tile side of overviews: that of full resolution, but 128 where GDAL takes it for none of its own.

    It takes powers of two from 64 to 4096 (GTIFFGetOverviewBlockSize).
    """
    power = blocksize & (blocksize - 1) == 0
    return blocksize if power and 64 <= blocksize <= 4096 else 128


@dataclass(frozen=True)
class Interval:
    """Half-open run of pixel indices along one axis."""

    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def intersect(self, other: Interval) -> Interval:
        """The part in both; empty intervals have ``stop == start``."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def within(self, other: Interval) -> bool:
        """Whether all of this lies in ``other``."""
        return other.start <= self.start and self.stop <= other.stop

    def slice_of(self, other: Interval) -> slice:
        """The interval as a slice into an array that covers ``other``."""
        return slice(self.start - other.start, self.stop - other.start)


@dataclass(frozen=True)
class Kernel:
    """What a reduction reads around each pixel.

    ``radius`` is in source pixels at scale 1; a ``sampled`` kernel needs just the source pixels under
    its destination; ``spare`` asks for a fetched pixel that no kernel weighs (see :mod:`ccog.resample`).
    """

    radius: int
    sampled: bool = False
    spare: bool = False

    @classmethod
    def of(cls, method: str, dtype: str, *, masked: bool) -> Kernel:
        """The kernel of a resampling method, for pixels with (``masked``) or without a nodata value or mask."""
        sampled = method == "nearest" or dtype.startswith("complex")
        return cls(KERNEL_RADIUS[method], sampled, spare=masked and not sampled)


@dataclass(frozen=True)
class ExactRead:
    """A read along one axis whose size ratio GDAL computes to the very float of the whole axis.

    Attributes
    ----------
    keep
        The destination pixels that are wanted.
    dst
        The destination pixels that are read: ``keep`` and up to a few before or one after it.
    offset, length
        The window, in source pixels, that is handed to GDAL.
    queried
        The source pixels GDAL fetches for it.
    spare
        A fetched source pixel that no pixel of ``keep`` depends on; None where there is none.
    """

    keep: Interval
    dst: Interval
    offset: float
    length: float
    queried: Interval
    spare: int | None


@dataclass(frozen=True)
class AxisReduction:
    """How one axis of a level becomes the same axis of the next level (lengths in pixels).

    ``align`` is the grid on which reads start and end: GDAL's vectorised loops run in groups along
    x and round the rest of a line differently, so groups must lie where they lie for the whole line.
    ``swath`` is the height of the strips in which GDAL reduces complex data, 0 where it does not matter.
    """

    src: int
    dst: int
    kernel: Kernel
    align: int = 1
    swath: int = 0

    @cached_property
    def ratio(self) -> float:
        """Source pixels per destination pixel (GDALRegenerateOverviewsMultiBand, dfXRatioDstToSrc)."""
        return self.src / self.dst

    @property
    def is_exact(self) -> bool:
        """Whether the ratio is an integer, so that windows may be shifted without changing a rounding."""
        return self.src % self.dst == 0

    def reads(self, want: Interval) -> tuple[ExactRead, ...]:
        """Reads that together give ``want``, none larger than GDAL serves in one piece.

        No read covers the whole axis, unless it is too short to cut, so that each has a spare pixel.
        """
        side = self._aligned_up(int(MAX_READ_SIDE / self.ratio) - 4 * self.align)
        if self.kernel.spare and len(want) == self.dst and self.dst > self.align:
            side = min(side, self._aligned_up(ceil_div(self.dst, 2)))
        first = want.start // self.align * self.align + side
        # below a ratio of two GDAL reads single pixels by other rules: no cut just before the end
        last = want.stop - (self.align if self.ratio < 2 else 0)
        cuts = [want.start, *range(first, last, side), want.stop]
        return tuple(self._exact_read(Interval(a, b)) for a, b in itertools.pairwise(cuts))

    def source_of(self, want: Interval) -> Interval:
        """Source pixels that must be at hand to compute the destination pixels ``want``."""
        if not len(want):
            return Interval(0, 0)
        if self.kernel.sampled:
            # GDALResampleChunk_Near and GDALResampleChunkC32R round cell bounds like this
            start, stop = int(0.5 + want.start * self.ratio), int(0.5 + want.stop * self.ratio)
            slack = 1 if self.swath else 0  # swaths shift cells at their edges by a pixel
            stop = (
                self.src if want.stop == self.dst else min(self.src, max(start + 1, stop) + slack)
            )
            return Interval(max(0, start - slack), stop)
        reads = self.reads(want)
        start = min(read.queried.start for read in reads)
        stop = max(read.queried.stop for read in reads)
        if self.kernel.radius == 0 and self.is_exact and not self.kernel.spare:
            return Interval(start, min(stop, reads[-1].dst.stop * (self.src // self.dst)))
        return Interval(max(0, start - _GUARD), min(self.src, stop + _GUARD))

    def _exact_read(self, keep: Interval) -> ExactRead:
        """The shortest read that holds ``keep`` and a spare pixel and keeps GDAL's ratio bit for bit.

        ``GDALRasterBand::RasterIOResampled`` divides the length of the window by the length of the
        buffer; here the window is grown downwards until that quotient is the float ``src / dst``.
        """
        if self.kernel.spare:
            after = self._grown(keep, keep.start, keep.stop + 1)
            if after is not None and after.queried.stop - 1 >= self._support(keep)[1]:
                return replace(after, spare=after.queried.stop - 1)
            before = self._grown(keep, keep.start - 1, keep.stop)
            if before is not None and before.queried.start + 1 <= self._support(keep)[0]:
                return replace(before, spare=before.queried.start)
        read = self._grown(keep, keep.start, keep.stop)
        if read is None:
            raise AssertionError(f"no exact read of {keep} in {self}")
        return read

    def _support(self, keep: Interval) -> tuple[float, float]:
        """Source positions between which the kernels of ``keep`` have weight, with a pixel for rounding."""
        reach = max(self.kernel.radius, 0.5) * max(1.0, self.ratio)
        return (keep.start + 0.5) * self.ratio - reach - 1, (
            keep.stop - 0.5
        ) * self.ratio + reach + 0.5

    def _grown(self, keep: Interval, start: int, stop: int) -> ExactRead | None:
        """The shortest exact read of [start, stop), None where that leaves the axis."""
        if start < 0 or stop > self.dst:
            return None
        stop = min(self._aligned_up(stop), self.dst)
        for first in range(start // self.align * self.align, -1, -self.align):
            length = self._exact_length(first, stop)
            if length is not None:
                offset = first * self.ratio
                return ExactRead(
                    keep,
                    Interval(first, stop),
                    offset,
                    length,
                    self._queried(offset, stop - first),
                    None,
                )
        return None

    def _aligned_up(self, index: int) -> int:
        return max(1, ceil_div(index, self.align)) * self.align

    def _exact_length(self, start: int, stop: int) -> float | None:
        count = stop - start
        offset = start * self.ratio
        guess = count * self.ratio
        candidates = [guess, math.nextafter(guess, 0.0), math.nextafter(guess, math.inf)]
        if stop == self.dst:
            candidates.append(self.src - offset)
        return next(
            (c for c in candidates if c / count == self.ratio and offset + c <= self.src), None
        )

    def _queried(self, offset: float, count: int) -> Interval:
        reach = self.kernel.radius * max(1, int(0.5 + self.ratio))
        stop = min(self.src, int(offset) + 1 + math.ceil(count * self.ratio))
        return Interval(max(0, int(offset) - reach), min(self.src, stop + reach))


@dataclass(frozen=True)
class Level:
    """One resolution of the pyramid: its size, tiling, and division into work blocks (sizes in pixels).

    A block is ``split`` chunks high and wide, whose tiles lie together in files of ``layout="chunk"``.
    """

    index: int
    height: int
    width: int
    blocksize: int
    block: Size
    split: int = 1

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    @property
    def tiles(self) -> Size:
        """Tiles down and across, the partial ones included."""
        return ceil_div(self.height, self.blocksize), ceil_div(self.width, self.blocksize)

    @property
    def chunk(self) -> Size:
        """(height, width) of a chunk."""
        return self.block[0] // self.split, self.block[1] // self.split

    @property
    def blocks(self) -> Size:
        """Work blocks down and across."""
        return ceil_div(self.height, self.block[0]), ceil_div(self.width, self.block[1])

    def rows(self, i: int) -> Interval:
        """Pixel rows of block row ``i``."""
        return Interval(i * self.block[0], min(self.height, (i + 1) * self.block[0]))

    def cols(self, j: int) -> Interval:
        """Pixel columns of block column ``j``."""
        return Interval(j * self.block[1], min(self.width, (j + 1) * self.block[1]))

    def block_range(self, axis: int, pixels: Interval) -> range:
        """Indices of the blocks that hold any of ``pixels`` along ``axis`` (0 is y)."""
        step = self.block[axis]
        return range(pixels.start // step, ceil_div(pixels.stop, step)) if len(pixels) else range(0)

    def tile_rows(self, i: int) -> range:
        """Tile rows of block row ``i``."""
        rows = self.rows(i)
        return range(rows.start // self.blocksize, ceil_div(rows.stop, self.blocksize))


@dataclass(frozen=True)
class Pyramid:
    """All levels, full resolution first, and the resampling kernel between them."""

    levels: tuple[Level, ...]
    kernel: Kernel

    @classmethod
    def build(
        cls,
        sizes: tuple[Size, ...],
        blocksize: int,
        block: Size,
        kernel: Kernel,
        *,
        low: bool = False,
        split: int = 1,
    ) -> Pyramid:
        """Levels of the given sizes cut into work blocks, full resolution of ``block`` pixels (multiples of the tile).

        Those of overviews are half as high where ``low``: each then waits for one row of blocks below it, not for two.
        All are of ``split`` x ``split`` chunks.
        """
        tile = overview_blocksize(blocksize)
        sides = (side // split for side in (block[0] // 2 if low else block[0], block[1]))
        height, width = (max(tile, side // tile * tile) * split for side in sides)
        overviews = (
            Level(k, h, w, tile, (height, width), split) for k, (h, w) in enumerate(sizes[1:], 1)
        )
        levels = (Level(0, *sizes[0], blocksize, block, split), *overviews)
        return cls(levels, kernel)

    def reduction(
        self, source: int, target: int, swath: int = 0
    ) -> tuple[AxisReduction, AxisReduction]:
        """(y, x) reductions from level ``source`` to level ``target``."""
        a, b = self.levels[source], self.levels[target]
        y = AxisReduction(a.height, b.height, self.kernel, swath=swath)
        return y, AxisReduction(a.width, b.width, self.kernel, SIMD_GROUP)

    def file_order(self) -> Iterator[Level]:
        """Levels in the order of their pixel data in the file: smallest overview first."""
        return reversed(self.levels)
