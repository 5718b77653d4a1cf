"""Whether overviews come from the level above them: areas of each are computed again, with GDAL's kernels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from ccog.gdal.resample import Area, Reduction, reduce_area
from ccog.geometry.pyramid import KERNEL_RADIUS, SIMD_GROUP, AxisReduction, Interval, Kernel
from ccog.views.inspection.source import RangeReader

Array = npt.NDArray[Any]

#: Share of the pixels that must be equal for overviews to count as exact; GDAL rounds some last bits by chance.
EXACT = 0.999

# bytes of a tile, and of the pixels that one area comes from: beyond that no pixels are compared
_MOST_BYTES = 1 << 29
# sides of the areas that are compared, in overview pixels
_SAMPLE, _BLOCK = 128, 512
# relative difference that counts as equal for floats: last bits differ between processors
_FLOAT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class OverviewArea:
    """One comparison of an area of an overview with what the level it comes from gives.

    Attributes
    ----------
    overview, source
        Numbers of the levels; 0 is the full resolution.
    rows, cols
        First and one past the last pixel of the area in the overview.
    method
        The resampling method that came nearest over all areas, as GDAL names it.
    equal
        Share of equal pixels.
    difference
        Mean absolute difference of the valid pixels divided by their standard deviation (at least 1 for integers).
    """

    overview: int
    source: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    method: str
    equal: float
    difference: float


@dataclass(frozen=True)
class _Pixels:
    """(band, y, x) pixels and their (y, x) mask of an area of a level."""

    area: Area
    pixels: Array
    mask: Array | None


@dataclass(frozen=True)
class _Levels:
    """Sizes of all levels, and what the reductions between them must know."""

    reader: RangeReader
    sizes: tuple[tuple[int, int], ...]
    count: int
    dtype: str
    nodata: float | int | None
    has_mask: bool
    methods: tuple[str, ...]

    def source(self, k: int) -> int:
        """The level that overview ``k`` is reduced from (GDALRegenerateOverviewsMultiBand)."""
        return k - 1 if self.sizes[k - 1][1] > self.sizes[k][1] else 0

    def comparable(self) -> Iterable[int]:
        """The overviews that can be computed again.

        Beside a mask these are the first two: GDAL weighs the pixels of the second and later by a mask of 256
        steps (GDALResampleConvolution), of which the file keeps only whether it is zero.
        """
        return range(1, min(len(self.sizes), 3) if self.has_mask else len(self.sizes))

    def reduction(self, k: int, method: str) -> Reduction:
        kernel = Kernel.of(method, self.dtype, masked=self.has_mask or self.nodata is not None)
        (height, width), (h, w) = self.sizes[self.source(k)], self.sizes[k]
        y, x = AxisReduction(height, h, kernel), AxisReduction(width, w, kernel, SIMD_GROUP)
        return Reduction(method, self.nodata, y, x, self.source(k))

    def needed(self, k: int, area: Area, methods: Iterable[str]) -> Area:
        """The source pixels from which any of the methods makes an area of overview ``k``."""
        reductions = [self.reduction(k, method) for method in methods]
        needs = [(how.y.source_of(area.rows), how.x.source_of(area.cols)) for how in reductions]
        return Area(
            *(
                Interval(min(n[i].start for n in needs), max(n[i].stop for n in needs))
                for i in (0, 1)
            )
        )

    def bytes_of(self, shape: tuple[int, int]) -> int:
        """Bytes of so many rows and columns of all bands."""
        return shape[0] * shape[1] * self.count * np.dtype(self.dtype).itemsize

    def read(self, k: int, area: Area) -> _Pixels:
        window = Window(area.cols.start, area.rows.start, len(area.cols), len(area.rows))
        with self.reader.for_gdal() as target, rasterio.open(target, **_level_option(k)) as dataset:
            mask = dataset.read_masks(1, window=window) if self.has_mask else None
            return _Pixels(area, dataset.read(window=window), mask)


def _level_option(k: int) -> dict[str, int]:
    return {"OVERVIEW_LEVEL": k - 1} if k else {}


def compare_overviews(
    reader: RangeReader, method: str | None, *, thorough: bool
) -> tuple[OverviewArea, ...] | str:
    """Compare areas of each overview, or all of it; or say why that is not possible.

    ``method`` is what the file says of its overviews, as GDAL 3.12 does; None tries all.
    """
    levels = _levels(reader, method)
    if isinstance(levels, str):
        return levels
    areas = [(k, area) for k in levels.comparable() for area in _areas(levels.sizes[k], thorough)]
    if not areas:
        return "the file has no overviews"
    methods: Sequence[str] = levels.methods
    found: list[dict[str, OverviewArea]] = []
    for k, area in areas:
        size = levels.bytes_of(levels.needed(k, area, methods).shape)
        if size > _MOST_BYTES:
            return f"an area of overview {k} comes from {size} bytes, more than {_MOST_BYTES}"
        found.append(_compare(levels, k, area, methods))
        methods = _still_possible(found[-1])
    best = min(
        methods,
        key=lambda method: sum(1 - one[method].equal + one[method].difference for one in found),
    )
    return tuple(one[best] for one in found)


def _levels(reader: RangeReader, method: str | None) -> _Levels | str:
    with reader.for_gdal() as target, rasterio.open(target) as dataset:
        dtype = str(dataset.dtypes[0])
        if dtype.startswith("complex"):
            return "complex pixels are not compared"
        if ColorInterp.alpha in dataset.colorinterp:
            return "pixels beside an alpha band are not compared"
        count = len(dataset.overviews(1))
        palette = ColorInterp.palette in dataset.colorinterp
        has_mask = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
        nodata, full, bands, tile = (
            dataset.nodata,
            dataset.shape,
            dataset.count,
            dataset.block_shapes[0],
        )
    sizes = [full]
    for k in range(1, count + 1):
        with reader.for_gdal() as target, rasterio.open(target, **_level_option(k)) as dataset:
            sizes.append(dataset.shape)
    methods = (
        (method,) if method in KERNEL_RADIUS else ("nearest",) if palette else tuple(KERNEL_RADIUS)
    )
    levels = _Levels(reader, tuple(sizes), bands, dtype, nodata, has_mask, methods)
    size = levels.bytes_of(tile)
    return levels if size <= _MOST_BYTES else f"a tile has {size} bytes, more than {_MOST_BYTES}"


def _areas(size: tuple[int, int], thorough: bool) -> Iterator[Area]:
    """All of a level in blocks, or its first, middle and last corner."""
    if thorough:
        for top in range(0, size[0], _BLOCK):
            for left in range(0, size[1], _BLOCK):
                yield Area(
                    Interval(top, min(size[0], top + _BLOCK)),
                    Interval(left, min(size[1], left + _BLOCK)),
                )
        return
    corners = [tuple(max(0, n - _SAMPLE) * part // 2 for n in size) for part in (1, 0, 2)]
    for top, left in dict.fromkeys(corners):
        yield Area(
            Interval(top, min(size[0], top + _SAMPLE)), Interval(left, min(size[1], left + _SAMPLE))
        )


def _compare(
    levels: _Levels, k: int, area: Area, methods: Sequence[str]
) -> dict[str, OverviewArea]:
    """The area of overview ``k`` beside what each method gives."""
    stored = levels.read(k, area)
    source = levels.needed(k, area, methods)
    above = levels.read(levels.source(k), source)
    found = {}
    for method in methods:
        how = levels.reduction(k, method)
        pixels, mask = reduce_area(above.pixels, above.mask, source, area, how)
        equal, difference = _likeness(stored, pixels, mask, levels.nodata)
        rows, cols = (area.rows.start, area.rows.stop), (area.cols.start, area.cols.stop)
        found[method] = OverviewArea(k, levels.source(k), rows, cols, method, equal, difference)
    return found


def _still_possible(found: dict[str, OverviewArea]) -> Sequence[str]:
    """The methods that gave the area exactly; where none did, the two that came nearest."""
    exact = [method for method, one in found.items() if one.equal >= EXACT]
    return exact or sorted(found, key=lambda method: found[method].difference)[:2]


def _likeness(
    stored: _Pixels, pixels: Array, mask: Array | None, nodata: float | int | None
) -> tuple[float, float]:
    """Share of equal pixels, and the mean difference of the valid ones in standard deviations."""
    is_float = pixels.dtype.kind == "f"
    same = (
        np.isclose(stored.pixels, pixels, _FLOAT_TOLERANCE, 0, equal_nan=True)
        if is_float
        else stored.pixels == pixels
    )
    valid = np.isfinite(stored.pixels) & np.isfinite(pixels)
    if nodata is not None:
        valid &= (stored.pixels != nodata) & (pixels != nodata)
    if mask is not None and stored.mask is not None:
        same &= (stored.mask != 0) == (mask != 0)
        valid &= (stored.mask != 0) & (mask != 0)
    a, b = stored.pixels[valid].astype(float), pixels[valid].astype(float)
    if not a.size:
        return float(same.mean()), 0.0
    spread = float(b.std())
    return float(same.mean()), float(np.abs(a - b).mean()) / (
        max(spread, np.finfo(float).tiny) if is_float else max(spread, 1.0)
    )
