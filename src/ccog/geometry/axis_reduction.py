"""Which source pixels a reduction reads along one axis.

Reads are such that GDAL's kernels round as they do where they reduce the whole axis.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, lru_cache

from ccog.geometry.intervals import Interval, ceil_div

#: Radius, in source pixels at scale 1, of GDAL's resampling kernels
#: (overview.cpp, GDALGetResampleFunction).
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

#: Most source rows of a read: GDAL's buffers for more are too large for malloc to keep, and masked
#: pixels then cost twice the time (measured with glibc 2.36).
MAX_READ_ROWS = 520

#: Most pixels that GDAL's vectorised kernels compute together (AVX2, bytes).
SIMD_GROUP = 16

# source pixels that are read beyond those GDAL is known to fetch
_MARGIN = 2


@dataclass(frozen=True)
class Kernel:
    """What a reduction reads around each pixel; ``radius`` is in source pixels at scale 1."""

    radius: int
    #: The kernel needs just the source pixels under its destination.
    sampled: bool = False
    #: A read must fetch a pixel that no kernel weighs (see :mod:`ccog.gdal.resample`).
    spare: bool = False
    #: A sampled kernel needs all source pixels that its destination touches.
    touched: bool = False

    @property
    def has_halos(self) -> bool:
        """Whether blocks need pixels of their neighbours, also where the ratio is an integer."""
        return self.radius > 0 or self.spare

    @classmethod
    def of(cls, method: str, dtype: str, *, masked: bool) -> Kernel:
        """The kernel of a resampling method; ``masked`` pixels have a nodata value or a mask."""
        sampled = method == "nearest" or dtype.startswith("complex")
        is_mode = sampled and method == "mode"
        spare = masked and not sampled
        return cls(KERNEL_RADIUS[method], sampled, spare=spare, touched=is_mode)


@dataclass(frozen=True, kw_only=True)
class ExactRead:
    """A read along one axis whose size ratio GDAL computes to the very float of the whole axis.

    ``keep`` are the destination pixels that are wanted.
    """

    keep: Interval
    #: The destination pixels that are read: ``keep``, a few before it and up to one after it.
    dst: Interval
    #: The window, in source pixels, that is handed to GDAL.
    offset: float
    length: float
    #: The source pixels that GDAL fetches for it.
    queried: Interval
    #: A fetched source pixel that no pixel of ``keep`` depends on, if there is one.
    spare: int | None = None


@dataclass(frozen=True)
class AxisReduction:
    """How an axis of a level, ``src`` pixels long, becomes that of another of ``dst`` pixels."""

    src: int
    dst: int
    kernel: Kernel
    _: KW_ONLY
    #: Reads start and end on multiples of this. GDAL's vectorised loops run in groups along x and
    #: round the rest of a line differently, so groups must lie where they lie for the whole line.
    align: int = 1
    #: Height of the swaths in which GDAL reduces complex data; 0 where it does not matter.
    swath: int = 0
    #: Most source pixels of a read.
    longest: int = MAX_READ_SIDE

    @cached_property
    def ratio(self) -> float:
        """Source pixels per destination pixel.

        GDALRegenerateOverviewsMultiBand calls it dfXRatioDstToSrc.
        """
        return self.src / self.dst

    @property
    def is_exact(self) -> bool:
        """Whether the ratio is an integer, so that a shifted window changes no rounding."""
        return self.src % self.dst == 0

    def reads(self, want: Interval) -> tuple[ExactRead, ...]:
        """Reads that together give ``want``, none larger than GDAL serves in one piece.

        No read covers the whole axis, unless it is too short to cut: so each has a spare pixel.
        """
        return _reads(self, want)

    def source_of(self, want: Interval) -> Interval:
        """Source pixels from which the destination pixels ``want`` are computed."""
        if not len(want):
            return Interval(0, 0)
        if self.kernel.sampled:
            return self._cells(want)
        reads = self.reads(want)
        start = min(read.queried.start for read in reads)
        stop = max(read.queried.stop for read in reads)
        if self.kernel.radius == 0 and self.is_exact and not self.kernel.spare:
            return Interval(start, min(stop, reads[-1].dst.stop * (self.src // self.dst)))
        return Interval(max(0, start - _MARGIN), min(self.src, stop + _MARGIN))

    def _cells(self, want: Interval) -> Interval:
        """Source pixels under ``want``, bounded as GDAL does.

        GDALResampleChunk_Near and GDALResampleChunkC32R round like this.
        """
        # swaths shift cells at their edges by a pixel, and a pixel may be touched
        slack = 1 if self.swath or self.kernel.touched else 0
        start = int(0.5 + want.start * self.ratio)
        stop = max(start + 1, int(0.5 + want.stop * self.ratio)) + slack
        if want.stop == self.dst:
            stop = self.src
        return Interval(max(0, start - slack), min(self.src, stop))

    def _cuts(self, want: Interval) -> list[int]:
        """Where ``want`` is cut, its ends included."""
        side = self._aligned_up(int(self.longest / self.ratio) - 4 * self.align)
        if self.kernel.spare and len(want) == self.dst and self.dst > self.align:
            side = min(side, self._aligned_up(ceil_div(self.dst, 2)))
        first = want.start // self.align * self.align + side
        # below a ratio of two GDAL reads single pixels by other rules: no cut just before the end
        last = want.stop - (self.align if self.ratio < 2 else 0)
        return [want.start, *range(first, last, side), want.stop]

    def _exact_read(self, keep: Interval) -> ExactRead:
        """The shortest read that holds ``keep`` and a spare pixel, and keeps GDAL's very ratio.

        ``GDALRasterBand::RasterIOResampled`` divides the length of the window by the length of the
        buffer; here the window grows until that quotient is the float ``src / dst``.
        """
        if self.kernel.spare:
            # between these positions the kernels of ``keep`` have weight, with a pixel for rounding
            reach = max(self.kernel.radius, 0.5) * max(1.0, self.ratio)
            first = (keep.start + 0.5) * self.ratio - reach - 1
            last = (keep.stop - 0.5) * self.ratio + reach + 0.5
            after = self._grown(keep, keep.start, keep.stop + 1)
            if after is not None and after.queried.stop - 1 >= last:
                return replace(after, spare=after.queried.stop - 1)
            before = self._grown(keep, keep.start - 1, keep.stop)
            if before is not None and before.queried.start + 1 <= first:
                return replace(before, spare=before.queried.start)
        # on short axes none is exact that ends so early; that of the whole axis always is
        for stop in itertools.chain(range(keep.stop, self.dst, self.align), (self.dst,)):
            read = self._grown(keep, keep.start, stop)
            if read is not None:
                return read
        raise AssertionError(f"no exact read of {keep} in {self}")

    def _grown(self, keep: Interval, start: int, stop: int) -> ExactRead | None:
        """The shortest exact read of [start, stop); None where that leaves the axis."""
        if start < 0 or stop > self.dst:
            return None
        stop = min(self._aligned_up(stop), self.dst)
        for first in range(start // self.align * self.align, -1, -self.align):
            length = self._exact_length(first, stop)
            if length is not None:
                offset = first * self.ratio
                return ExactRead(
                    keep=keep,
                    dst=Interval(first, stop),
                    offset=offset,
                    length=length,
                    queried=self._queried(offset, stop - first),
                )
        return None

    def _aligned_up(self, index: int) -> int:
        return max(1, ceil_div(index, self.align)) * self.align

    def _exact_length(self, start: int, stop: int) -> float | None:
        """A length of the window whose quotient is exactly the ratio; None where there is none."""
        count = stop - start
        offset = start * self.ratio
        guess = count * self.ratio
        candidates = [guess, math.nextafter(guess, 0.0), math.nextafter(guess, math.inf)]
        if stop == self.dst:
            candidates.append(self.src - offset)
        for length in candidates:
            if length / count == self.ratio and offset + length <= self.src:
                return length
        return None

    def _queried(self, offset: float, count: int) -> Interval:
        """The source pixels GDAL fetches for a window."""
        reach = self.kernel.radius * max(1, int(0.5 + self.ratio))
        stop = min(self.src, int(offset) + 1 + math.ceil(count * self.ratio))
        return Interval(max(0, int(offset) - reach), min(self.src, stop + reach))


@lru_cache(maxsize=4096)
def _reads(axis: AxisReduction, want: Interval) -> tuple[ExactRead, ...]:
    """The reads of an interval, which a row of blocks asks for once for each block and band."""
    cuts = axis._cuts(want)
    return tuple(axis._exact_read(Interval(a, b)) for a, b in itertools.pairwise(cuts))
