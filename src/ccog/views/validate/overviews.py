"""Whether overviews come from the level above: areas are computed again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from ccog.gdal.resample import Reduction, reduce_area
from ccog.geometry.axis_reduction import KERNEL_RADIUS, Kernel
from ccog.geometry.intervals import Area, Interval, Size
from ccog.geometry.level_reductions import LevelReductions
from ccog.geometry.pyramid import Pyramid
from ccog.geometry.raster_facts import RasterFacts
from ccog.input.description import exact_nodata
from ccog.views.inspect.ranges import RangeReader

Array = npt.NDArray[Any]

#: Share of the pixels that must be equal for overviews to count as exact.
#: GDAL rounds some last bits by chance.
EXACT = 0.999

# bytes of a tile, and of the pixels of one area: beyond that nothing is compared
_MOST_BYTES = 1 << 29
# sides of the areas that are compared, in overview pixels
_SAMPLE, _BLOCK = 128, 512
# relative difference that counts as equal for floats: last bits differ between processors
_FLOAT_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
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
        Mean absolute difference of the valid pixels divided by their standard deviation (at least 1
        for integers).
    """

    overview: int
    source: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    method: str
    equal: float
    difference: float

    @property
    def pixels(self) -> int:
        """Pixels of the area."""
        return (self.rows[1] - self.rows[0]) * (self.cols[1] - self.cols[0])


class _Pixels(NamedTuple):
    """(band, y, x) pixels and their (y, x) mask."""

    pixels: Array
    mask: Array | None


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """Sizes of all levels, and what the reductions between them must know."""

    reader: RangeReader
    sizes: tuple[Size, ...]
    raster: RasterFacts

    def reduction(self, k: int, method: str) -> Reduction:
        """How overview ``k`` is made."""
        kernel = Kernel.of(method, self.raster.dtype, masked=self.raster.is_masked)
        pyramid = Pyramid.build(self.sizes, _BLOCK, (_BLOCK, _BLOCK), kernel)
        (how,) = LevelReductions(pyramid, self.raster, method).to_level(k)
        return Reduction(method=method, raster=self.raster, y=how.y, x=how.x, level=how.source)

    def needed(self, k: int, area: Area, methods: Sequence[str]) -> Area:
        """The source pixels from which the methods make an area of overview ``k``."""
        reductions = [self.reduction(k, method) for method in methods]
        rows = [reduction.y.source_of(area.rows) for reduction in reductions]
        cols = [reduction.x.source_of(area.cols) for reduction in reductions]
        return Area(_hull(rows), _hull(cols))

    def read(self, k: int, area: Area) -> _Pixels:
        """Stored pixels of a level."""
        window = Window(area.cols.start, area.rows.start, len(area.cols), len(area.rows))
        with _opened(self.reader, k) as dataset:
            mask = dataset.read_masks(1, window=window) if self.raster.has_mask else None
            return _Pixels(dataset.read(window=window), mask)


def _hull(intervals: Sequence[Interval]) -> Interval:
    starts, stops = zip(*((n.start, n.stop) for n in intervals), strict=True)
    return Interval(min(starts), max(stops))


@contextmanager
def _opened(reader: RangeReader, k: int) -> Iterator[Any]:
    """The dataset of level ``k``."""
    option = {"OVERVIEW_LEVEL": k - 1} if k else {}
    with reader.for_gdal() as target, rasterio.open(target, **option) as dataset:
        yield dataset


def compare_overviews(
    reader: RangeReader, method: str | None, *, thorough: bool
) -> tuple[OverviewArea, ...] | str:
    """Compare areas of each overview, or all of it; or say why that is not possible.

    ``method`` is what the file says of its overviews, as GDAL 3.12 does; None tries all.
    """
    with _opened(reader, 0) as dataset:
        reason = _not_comparable(dataset)
        if reason is not None:
            return reason
        raster = RasterFacts(
            count=dataset.count,
            dtype=dataset.dtypes[0],
            nodata=exact_nodata(dataset),
            has_mask=MaskFlags.per_dataset in dataset.mask_flag_enums[0],
        )
        sizes, count = [dataset.shape], len(dataset.overviews(1))
        is_palette = ColorInterp.palette in dataset.colorinterp
        tile = math.prod(dataset.block_shapes[0]) * raster.pixel_bytes
    if tile > _MOST_BYTES:
        return f"a tile has {tile} bytes, more than {_MOST_BYTES}"
    for k in range(1, count + 1):
        with _opened(reader, k) as dataset:
            sizes.append(dataset.shape)
    levels = _Levels(reader=reader, sizes=tuple(sizes), raster=raster)
    methods: Sequence[str] = ["nearest"] if is_palette else list(KERNEL_RADIUS)
    if method in KERNEL_RADIUS:
        methods = [method]
    comparisons: list[dict[str, OverviewArea]] = []
    # beside a mask only two: GDAL weighs the pixels of the second and later by a mask of 256 steps
    # (GDALResampleConvolution), of which the file keeps only whether it is zero
    last = min(count, 2) if raster.has_mask else count
    for k in range(1, last + 1):
        for area in _areas(sizes[k], thorough):
            size = math.prod(levels.needed(k, area, methods).shape) * raster.pixel_bytes
            if size > _MOST_BYTES:
                origin = f"an area of overview {k} comes from {size} bytes"
                return f"{origin}, more than {_MOST_BYTES}"
            comparisons.append(_compare(levels, k, area, methods))
            methods = _still_possible(comparisons[-1])

    def distance(method: str) -> float:
        return sum(1 - by[method].equal + by[method].difference for by in comparisons)

    best = min(methods, key=distance)
    return tuple(by_method[best] for by_method in comparisons)


def _not_comparable(dataset: Any) -> str | None:
    """Why the overviews of a dataset cannot be computed again."""
    if dataset.dtypes[0].startswith("complex"):
        return "complex pixels are not compared"
    if ColorInterp.alpha in dataset.colorinterp:
        return "pixels beside an alpha band are not compared"
    return None if dataset.overviews(1) else "the file has no overviews"


def _areas(size: Size, thorough: bool) -> Iterator[Area]:
    """All of a level in blocks, or its middle, first and last corner."""
    height, width = size
    side = _BLOCK if thorough else _SAMPLE
    last = max(0, height - side), max(0, width - side)
    corners: Iterable[Size] = dict.fromkeys([(last[0] // 2, last[1] // 2), (0, 0), last])
    if thorough:
        corners = itertools.product(range(0, height, side), range(0, width, side))
    for top, left in corners:
        rows = Interval(top, min(height, top + side))
        yield Area(rows, Interval(left, min(width, left + side)))


def _compare(
    levels: _Levels, k: int, area: Area, methods: Sequence[str]
) -> dict[str, OverviewArea]:
    """The area of overview ``k`` beside what each method gives."""
    stored = levels.read(k, area)
    source = levels.needed(k, area, methods)
    above = levels.read(levels.reduction(k, methods[0]).level, source)
    comparisons = {}
    for method in methods:
        reduction = levels.reduction(k, method)
        computed = reduce_area(above.pixels, above.mask, source, area, reduction)
        equal, difference = _likeness(stored, _Pixels(*computed), levels.raster.nodata)
        comparisons[method] = OverviewArea(
            overview=k,
            source=reduction.level,
            rows=(area.rows.start, area.rows.stop),
            cols=(area.cols.start, area.cols.stop),
            method=method,
            equal=equal,
            difference=difference,
        )
    return comparisons


def _still_possible(comparisons: dict[str, OverviewArea]) -> Sequence[str]:
    """The methods that gave the area exactly; else the two that came nearest."""
    exact = [method for method, area in comparisons.items() if area.equal >= EXACT]
    nearest = sorted(comparisons, key=lambda method: comparisons[method].difference)
    return exact or nearest[:2]


def _likeness(
    stored: _Pixels, computed: _Pixels, nodata: float | int | None
) -> tuple[float, float]:
    """Share of equal pixels, mean difference of valid ones in standard deviations."""
    a, b = stored.pixels, computed.pixels
    is_float = b.dtype.kind == "f"
    same = np.isclose(a, b, _FLOAT_TOLERANCE, 0, equal_nan=True) if is_float else a == b
    valid = np.isfinite(a) & np.isfinite(b)
    if nodata is not None:
        valid &= (a != nodata) & (b != nodata)
    if stored.mask is not None and computed.mask is not None:
        same &= (stored.mask != 0) == (computed.mask != 0)
        valid &= (stored.mask != 0) & (computed.mask != 0)
    if not valid.any():
        return float(same.mean()), 0.0
    a, b = a[valid].astype(float), b[valid].astype(float)
    least = float(np.finfo(float).tiny) if is_float else 1.0
    return float(same.mean()), float(np.abs(a - b).mean()) / max(float(b.std()), least)
