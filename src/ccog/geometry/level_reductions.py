"""From which level GDAL computes each overview, and in which swaths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

from ccog.geometry.axis_reduction import MAX_READ_ROWS, SIMD_GROUP, AxisReduction, Kernel
from ccog.geometry.intervals import ceil_div
from ccog.geometry.pyramid import Level, Pyramid
from ccog.geometry.raster_facts import RasterFacts
from ccog.geometry.seams import Seams

# complex data: methods by which GDAL makes each overview from the one before
_CASCADED = ("average", "mode", "rms")

# GDALRegenerateOverviewsEx works in swaths of at most this size
_SWATH_BYTES = 10 << 20

# GDAL's temporary overviews have blocks of this many lines, an array in memory those of one
_LINES_OF_OVERVIEW = 128


@dataclass(frozen=True, kw_only=True)
class LevelReduction:
    """How level ``source`` is reduced to level ``target``: its pixels, its mask, or both."""

    source: int
    target: int
    pixels: bool
    mask: bool
    y: AxisReduction
    x: AxisReduction
    #: What each row, and each column, of source blocks reduces alone.
    row_seams: Seams
    col_seams: Seams


@dataclass(frozen=True)
class LevelReductions:
    """All reductions of a pyramid by a resampling method; none where overviews are given.

    GDAL reduces complex data band by band, in swaths (GTIFFBuildOverviewsEx), and their mask by
    itself.
    """

    pyramid: Pyramid
    raster: RasterFacts
    method: str

    @cached_property
    def all(self) -> tuple[LevelReduction, ...]:
        """The reductions, in order of their targets."""
        count = 0 if self.pyramid.given else len(self.pyramid.levels)
        return tuple(itertools.chain.from_iterable(map(self._made_for, range(1, count))))

    def to_level(self, k: int) -> list[LevelReduction]:
        """Reductions that make level ``k``."""
        return [reduction for reduction in self.all if reduction.target == k]

    def from_level(self, k: int) -> list[LevelReduction]:
        """Reductions of level ``k``."""
        return [reduction for reduction in self.all if reduction.source == k]

    def source_blocks(self, reduction: LevelReduction, i: int, j: int) -> list[tuple[int, int]]:
        """Source blocks that block (i, j) of the target is made of, halos included."""
        rows, cols = self._sources(reduction, 0, i), self._sources(reduction, 1, j)
        return list(itertools.product(rows, cols))

    @cached_property
    def last_needed(self) -> tuple[list[list[int]], list[list[int]]]:
        """By axis, level and block along it: the last block of full resolution that it needs.

        One of a given overview needs none, and is read with those that it shows.
        """
        return self._last_needed(0), self._last_needed(1)

    def _last_needed(self, axis: int) -> list[list[int]]:
        if self.pyramid.given:
            return [self._last_shown(level, axis) for level in self.pyramid.levels]
        last = [list(range(self._level(0).blocks[axis]))]
        for level in self.pyramid.levels[1:]:
            reductions = self.to_level(level.index)
            of_level = []
            for n in range(level.blocks[axis]):
                needed = (last[r.source][self._sources(r, axis, n)[-1]] for r in reductions)
                of_level.append(max(needed))
            last.append(of_level)
        return last

    def _last_shown(self, level: Level, axis: int) -> list[int]:
        """By block along an axis: the last block of full resolution that shows the same place."""
        full = self._level(0)
        last = []
        for n in range(level.blocks[axis]):
            stop = (level.cols(n) if axis else level.rows(n)).stop
            pixel = ceil_div(stop * full.size[axis], level.size[axis]) - 1
            last.append(pixel // full.block[axis])
        return last

    def _level(self, k: int) -> Level:
        return self.pyramid.levels[k]

    def _made_for(self, k: int) -> list[LevelReduction]:
        """The reductions that make level ``k``: one, or one for the pixels and one for the mask."""
        usual = self._usual_source(k)
        has_mask = self.raster.has_mask
        if not self.raster.is_complex:
            return [self._reduction(usual, k, pixels=True, mask=has_mask)]
        source = 0 if self._by_band_from_full else k - 1
        of_pixels = self._reduction(source, k, self._swath(source, k), pixels=True, mask=False)
        of_mask = self._reduction(usual, k, pixels=False, mask=True)
        return [of_pixels, of_mask] if has_mask else [of_pixels]

    def _reduction(
        self, source: int, target: int, swath: int = 0, *, pixels: bool, mask: bool
    ) -> LevelReduction:
        a, b, kernel = self._level(source), self._level(target), self.pyramid.kernel
        if mask and not pixels:
            # GDAL reduces it as the bytes it is, whatever the type of the pixels beside it
            kernel = Kernel.of(self.method, "uint8", masked=True)
        y = AxisReduction(a.height, b.height, kernel, swath=swath, longest=MAX_READ_ROWS)
        x = AxisReduction(a.width, b.width, kernel, align=SIMD_GROUP)
        return LevelReduction(
            source=source,
            target=target,
            pixels=pixels,
            mask=mask,
            y=y,
            x=x,
            row_seams=Seams(y, a.block[0]),
            col_seams=Seams(x, a.block[1]),
        )

    def _usual_source(self, k: int) -> int:
        """The previous level, but full resolution where that is no wider.

        GDALRegenerateOverviewsMultiBand chooses like this.
        """
        return k - 1 if self._level(k - 1).width > self._level(k).width else 0

    @cached_property
    def _by_band_from_full(self) -> bool:
        """Whether all overviews of complex data come from full resolution.

        GDALRegenerateOverviewsEx does so for averages beside a mask, and for nearest where a swath
        of the source fits 10 MiB.
        """
        last = len(self.pyramid.levels) - 1
        if last == 1:
            return True
        if self.method in _CASCADED:
            return self.raster.has_mask or self.raster.has_band_masks
        least = self._least_swath(0, last)
        return self._swath_bytes(0, least) <= _SWATH_BYTES

    def _swath(self, source: int, target: int) -> int:
        """Height of the swaths of a reduction of complex data, in source pixels."""
        last = len(self.pyramid.levels) - 1 if self._by_band_from_full else target
        height = self._least_swath(source, last)
        while self._swath_bytes(source, height) < _SWATH_BYTES // 2:
            height *= 2
        return height

    def _least_swath(self, source: int, target: int) -> int:
        a, b = self._level(source), self._level(target)
        factor = max(1, int(a.width / b.width + 0.5), int(a.height / b.height + 0.5))
        lines = _LINES_OF_OVERVIEW if source else 1
        return max(lines, 2 * factor)

    def _swath_bytes(self, source: int, height: int) -> int:
        itemsize = 8 if self.method in _CASCADED else self.raster.itemsize
        return itemsize * height * self._level(source).width

    def _sources(self, reduction: LevelReduction, axis: int, n: int) -> list[int]:
        """Source blocks along an axis (0 is y) that the ``n``-th of the target is made of.

        They hold its source, or halos that its seams need.
        """
        source, target = self._level(reduction.source), self._level(reduction.target)
        seams = (reduction.row_seams, reduction.col_seams)[axis]
        want = target.cols(n) if axis else target.rows(n)
        blocks = set(source.block_range(axis, seams.axis.source_of(want)))
        for seam in seams.overlapping(want):
            blocks.update(source.block_range(axis, seam.source))
        return sorted(blocks)
