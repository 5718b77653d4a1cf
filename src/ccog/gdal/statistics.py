"""Statistics of bands, block by block and merged, as GDALRasterBand::ComputeStatistics has them.

Moments about the mean merge without cancellation (Chan, Golub and LeVeque 1979). Integers of up to
16 bits are summed exactly, as GDAL does, so that every digit written is GDAL's.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.versions import GDAL_VERSION

Array = npt.NDArray[Any]

# pixels that are summed together: their float64 copy stays in the cache
_STRIP = 1 << 16

# GDAL takes floats for nodata that are this many units of their spacing away (ARE_REAL_EQUAL)
_ULPS = 2


def gdal_keeps_statistics() -> bool:
    """Whether STATISTICS=YES keeps the statistics that a source has (GDALCOGCreator::Create)."""
    return GDAL_VERSION < (3, 11)


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """Moments of the valid pixels of one band, and how many pixels are nodata.

    ``spread`` is the sum of squared distances from the mean. ``sums`` are those of the values and
    of their squares, for integers of up to 16 bits.
    """

    count: int = 0
    nodata: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    spread: float = 0.0
    sums: tuple[int, int] | None = None

    def merge(self, other: BandStatistics) -> BandStatistics:
        """Statistics of the pixels of both."""
        if not other.count or not self.count:
            valid = self if self.count else other
            return replace(valid, nodata=self.nodata + other.nodata)
        count = self.count + other.count
        distance = other.mean - self.mean
        between = distance * distance * self.count * other.count / count
        sums = None
        if self.sums is not None and other.sums is not None:
            sums = self.sums[0] + other.sums[0], self.sums[1] + other.sums[1]
        return BandStatistics(
            count=count,
            nodata=self.nodata + other.nodata,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            mean=self.mean + distance * other.count / count,
            spread=self.spread + other.spread + between,
            sums=sums,
        )

    def tags(self) -> dict[str, str]:
        """The band's metadata items (GDALRasterBand::SetStatistics, SetValidPercent).

        GDAL reads the rounded percentage back, and rounds the number of pixels that it stands for
        down (VRTSourcedRasterBand::ComputeStatistics).
        """
        total = self.count + self.nodata
        count = int(total * float(_percent(self.count, total)) / 100)
        if not count:
            return {"STATISTICS_VALID_PERCENT": "0"}
        mean, deviation = self._mean_and_deviation()
        values = {
            "MAXIMUM": self.high,
            "MEAN": mean,
            "MINIMUM": self.low,
            "STDDEV": deviation,
        }
        items = {f"STATISTICS_{name}": f"{value:.14g}" for name, value in values.items()}
        return items | {"STATISTICS_VALID_PERCENT": _percent(count, total)}

    def _mean_and_deviation(self) -> tuple[float, float]:
        if self.sums is None:
            return self.mean, math.sqrt(self.spread / self.count)
        total, squares = self.sums
        deviation = math.sqrt(squares * self.count - total * total) / self.count
        return total / self.count, deviation


def _percent(count: int, total: int) -> str:
    if count == total:
        return "100" if count else "0"
    text = f"{100 * count / total:.4g}"
    return "99.999" if text == "100" else text


def block_statistics(
    pixels: Array, mask: Array | None, nodata: float | int | None, *, alpha: bool
) -> tuple[BandStatistics, ...]:
    """Statistics of each band of a block.

    Parameters
    ----------
    pixels
        (band, y, x); the real part of complex pixels counts.
    mask
        (y, x), non-zero valid, or None. Beside a nodata value it counts for float32 only, and then
        what it masks is missing (GDALRasterBand::ComputeStatistics).
    nodata
        The value of pixels that are not valid. NaN never is valid, and counts as missing only
        beside a nodata value.
    alpha
        Whether the last band is a mask of the others.
    """
    if nodata is not None and pixels.dtype in (np.int64, np.uint64):
        # GDAL counts nodata pixels of 64-bit integers
        mask, nodata, alpha = None, None, False
    bands = pixels.real if np.iscomplexobj(pixels) else pixels
    if nodata is not None:
        mask = mask if pixels.dtype == np.float32 else None
        return tuple(_of_band(band, mask, nodata) for band in bands)
    if mask is not None or not alpha:
        return tuple(_of_band(band, mask, None) for band in bands)
    colours = tuple(_of_band(band, pixels[-1], None) for band in bands[:-1])
    return (*colours, _of_band(bands[-1], None, None))


def merged(blocks: list[tuple[BandStatistics, ...]]) -> tuple[BandStatistics, ...]:
    """Statistics of each band over all blocks."""
    bands = zip(*blocks, strict=True)
    return tuple(functools.reduce(BandStatistics.merge, of_band) for of_band in bands)


def _of_band(values: Array, mask: Array | None, nodata: float | int | None) -> BandStatistics:
    rows = max(1, _STRIP // values.shape[1])
    statistics = BandStatistics()
    for top in range(0, len(values), rows):
        strip = values[top : top + rows]
        valid = None if mask is None else mask[top : top + rows] != 0
        flat = strip.reshape(-1) if valid is None else strip[valid]
        statistics = statistics.merge(_of_pixels(flat, nodata))
        if nodata is not None:
            statistics = statistics.merge(BandStatistics(nodata=strip.size - flat.size))
    return statistics


def _of_pixels(pixels: Array, nodata: float | int | None) -> BandStatistics:
    missing = 0
    if nodata is not None and not math.isnan(nodata):
        valid = ~nearly_equal(pixels, nodata)
        missing = len(pixels) - int(np.count_nonzero(valid))
        pixels = pixels[valid] if missing else pixels
    if pixels.dtype.kind == "f" and len(pixels) and np.isnan(pixels.min()):
        numbers = pixels[~np.isnan(pixels)]
        missing += 0 if nodata is None else len(pixels) - len(numbers)
        pixels = numbers
    return _moments(pixels, missing)


def nearly_equal(values: Array, nodata: float | int) -> Array:
    """Where GDAL takes values for the nodata value (GDALNoDataMaskBand); NaN is none of them."""
    if values.dtype.kind != "f":
        whole: Array = values == nodata
        return whole
    item = values.dtype.type(nodata)
    tolerance = np.finfo(values.dtype).eps * np.abs(values + item) * _ULPS
    near: Array = (values == item) | (np.abs(values - item) < tolerance)
    return near


def _moments(values: Array, missing: int) -> BandStatistics:
    if not len(values):
        return BandStatistics(nodata=missing)
    statistics = BandStatistics(
        count=len(values),
        nodata=missing,
        low=float(values.min()),
        high=float(values.max()),
    )
    if values.dtype.kind in "iu" and values.itemsize <= 2:
        wide = values.astype(np.int64)
        total, squares = int(wide.sum()), int(np.einsum("i,i", wide, wide))
        mean = total / len(values)
        spread = squares - total * total / len(values)
        return replace(statistics, mean=mean, spread=spread, sums=(total, squares))
    work = values.astype(np.float64)
    mean = float(work.mean())
    work -= mean
    return replace(statistics, mean=mean, spread=float(np.einsum("i,i", work, work)))
