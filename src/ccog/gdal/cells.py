"""Overview pixels that GDAL takes from whole cells of source pixels: nearest, and complex averages.

A cell is bounded as GDAL rounds it. GDAL reduces complex pixels band by band and in swaths of rows
(GDALRegenerateOverviewsEx), and no cell reaches beyond its swath.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.geometry.axis_reduction import AxisReduction
from ccog.geometry.intervals import Interval

Array = npt.NDArray[Any]

# the range of 16-bit integers
_LOWEST, _HIGHEST = -32768, 32767


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
    height, width = (int((axis.stop - axis.start).max()) for axis in (rows, cols))
    for down, right in itertools.product(range(height), range(width)):
        y, x = rows.start + down, cols.start + right
        inside = (y < rows.stop)[:, np.newaxis] & (x < cols.stop)[np.newaxis, :]
        y, x = np.minimum(y, pixels.shape[1] - 1), np.minimum(x, pixels.shape[2] - 1)
        values = pixels[:, y][:, :, x]
        total += np.where(inside, _squared(values) if rms else values, 0)
        count += inside
    mean = total / count
    average = (_rooted(mean) if rms else mean).astype(np.complex64)
    return _rounded(average) if whole else average.astype(dtype)


def _squared(values: Array) -> Array:
    """Squares of both parts, each by itself (GDALResampleChunk_ComplexRMS)."""
    wide = values.astype(np.complex128)
    squares: Array = wide.real**2 + 1j * wide.imag**2
    return squares


def _rooted(values: Array) -> Array:
    roots: Array = np.sqrt(values.real) + 1j * np.sqrt(values.imag)
    return roots


def _rounded(values: Array) -> Array:
    """Both parts as GDAL converts floats to integers: halves away from zero, clamped."""
    parts = values.view(np.float32)
    whole = np.trunc(parts + np.copysign(np.float32(0.5), parts))
    return np.clip(whole, _LOWEST, _HIGHEST).astype(np.float32).view(np.complex64)
