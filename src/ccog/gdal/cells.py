"""Overview pixels that GDAL takes from whole cells of source pixels: nearest, and complex averages.

A cell is bounded as GDAL rounds it. GDAL reduces complex pixels band by band and in swaths of rows
(GDALRegenerateOverviewsEx), and no cell reaches beyond its swath.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.geometry.axis_reduction import AxisReduction
from ccog.geometry.intervals import Interval

Array = npt.NDArray[Any]

# a pixel is touched by a cell that reaches so much into it
_TOUCH = 1e-10


class Bounds(NamedTuple):
    """First source pixel, and the one after the last, for each of some destination pixels."""

    start: Array
    stop: Array


def nearest_index(axis: AxisReduction, want: Interval, have: Interval) -> Array:
    """Which pixel of ``have`` each pixel of ``want`` is (GDALResampleChunk_Near)."""
    index = (0.5 + np.arange(want.start, want.stop) * axis.ratio).astype(np.int64)
    swaths = _swaths(axis, want)
    if swaths is not None:
        index = np.maximum(index, swaths.start)
    return index - have.start


def cell_bounds(axis: AxisReduction, want: Interval, have: Interval) -> Bounds:
    """The cells of ``want`` in pixels of ``have`` (GDALResampleChunkC32R)."""
    index = np.arange(want.start, want.stop)
    start = (0.5 + index * axis.ratio).astype(np.int64)
    stop = (0.5 + (index + 1) * axis.ratio).astype(np.int64)
    stop = np.where((stop > axis.src) | (index == axis.dst - 1), axis.src, stop)
    return _within_swaths(Bounds(start, stop), axis, want, have)


def touched_bounds(axis: AxisReduction, want: Interval, have: Interval) -> Bounds:
    """The cells of ``want``, with all pixels that they touch (GDALResampleChunk_Mode)."""
    index = np.arange(want.start, want.stop)
    start = (index * axis.ratio + _TOUCH).astype(np.int64)
    stop = np.ceil((index + 1) * axis.ratio - _TOUCH).astype(np.int64)
    return _within_swaths(Bounds(start, np.minimum(stop, axis.src)), axis, want, have)


def _within_swaths(cells: Bounds, axis: AxisReduction, want: Interval, have: Interval) -> Bounds:
    start, stop = cells
    swaths = _swaths(axis, want)
    if swaths is not None:
        start, stop = np.maximum(start, swaths.start), np.minimum(stop, swaths.stop)
    return Bounds(start - have.start, np.maximum(start + 1, stop) - have.start)


def _swaths(axis: AxisReduction, want: Interval) -> Bounds | None:
    """The swath that each destination pixel is computed from."""
    if not axis.swath:
        return None
    starts = np.arange(0, axis.src, axis.swath)
    firsts = (0.5 + starts / axis.ratio).astype(np.int64)
    own = np.searchsorted(firsts, np.arange(want.start, want.stop), side="right") - 1
    return Bounds(starts[own], np.minimum(starts[own] + axis.swath, axis.src))


def complex_average(pixels: Array, rows: Bounds, cols: Bounds, *, rms: bool, whole: bool) -> Array:
    """Mean, or root mean square, of each cell.

    ``pixels`` are (band, y, x); results are rounded where they are ``whole`` numbers in the file.
    """
    dtype = pixels.dtype
    pixels = pixels.astype(np.complex64)  # GDAL reads CFloat32, whatever the type
    shape = len(rows.start), len(cols.start)
    total = np.zeros((len(pixels), *shape), np.complex128)
    count = np.zeros(shape, np.int64)
    for values, inside in _cell_pixels(pixels, rows, cols):
        total += np.where(inside, _squared(values) if rms else values, 0)
        count += inside
    mean = total / count
    if rms:
        mean = np.sqrt(mean.real) + 1j * np.sqrt(mean.imag)
    average = mean.astype(np.complex64)
    return _rounded(average, dtype) if whole else average.astype(dtype)


def complex_mode(pixels: Array, rows: Bounds, cols: Bounds) -> Array:
    """The most frequent value of each cell of ``pixels`` (band, y, x).

    Of several, the one that has come up so often first, row by row (GDALResampleChunk_Mode).
    """
    cells = list(_cell_pixels(pixels, rows, cols))
    best = np.zeros((len(pixels), len(rows.start), len(cols.start)), np.int64)
    mode = np.zeros(best.shape, pixels.dtype)
    for n, (values, inside) in enumerate(cells, 1):
        seen = sum((earlier == values) & within for earlier, within in cells[:n])
        wins = inside & (seen > best)
        best, mode = np.where(wins, seen, best), np.where(wins, values, mode)
    return mode


def _cell_pixels(pixels: Array, rows: Bounds, cols: Bounds) -> Iterator[tuple[Array, Array]]:
    """One pixel of each cell after the other, row by row, and which cells have so many."""
    height, width = (int((axis.stop - axis.start).max()) for axis in (rows, cols))
    for down, right in itertools.product(range(height), range(width)):
        y, x = rows.start + down, cols.start + right
        inside = (y < rows.stop)[:, np.newaxis] & (x < cols.stop)[np.newaxis, :]
        y, x = np.minimum(y, pixels.shape[1] - 1), np.minimum(x, pixels.shape[2] - 1)
        yield pixels[:, y][:, :, x], inside


def _squared(values: Array) -> Array:
    """Squares of both parts, each by itself (GDALResampleChunk_ComplexRMS)."""
    wide = values.astype(np.complex128)
    squares: Array = wide.real**2 + 1j * wide.imag**2
    return squares


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    """Both parts as GDAL converts floats to integers: halves away from zero, clamped."""
    parts = values.view(np.float32)
    whole = np.trunc(parts + np.copysign(np.float32(0.5), parts)).astype(np.float64)
    limits = np.iinfo(np.int16 if dtype == np.complex64 else np.int32)
    clipped: Array = np.clip(whole, limits.min, limits.max).view(np.complex128)
    return clipped.astype(dtype)
