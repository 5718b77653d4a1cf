"""A synthetic terrain, made block by block: without seams, and the same at each run."""

from __future__ import annotations

from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt

CRS = "EPSG:32632"
#: Affine coefficients of the demo raster: 10 m pixels in the Alps.
TRANSFORM = (10.0, 0.0, 400000.0, 0.0, -10.0, 5400000.0)

# cell size in pixels and amplitude in metres of each octave of noise
_OCTAVES = ((4096, 1800), (1024, 700), (256, 160), (64, 30))

# Weights are whole numbers of this part, and heights are whole numbers. So sums are exact in
# float64 and do not depend on how blocks are cut.
_ONE = 1 << 12

# rows that are made together: they stay in the cache
_STRIP = 128


def terrain(size: int, chunk: int = 2048) -> Any:
    """Elevation in metres, uint16, as a dask array of ``size`` x ``size`` pixels."""
    return da.map_blocks(
        _block,
        size=size,
        chunk=chunk,
        chunks=da.core.normalize_chunks(chunk, (size, size)),
        dtype=np.dtype("uint16"),
        meta=np.empty((0, 0), "uint16"),
        name=f"ccog-terrain-{size}-{chunk}",
    )


def _block(*, size: int, chunk: int, block_id: tuple[int, int]) -> Any:
    row, col = block_id[0] * chunk, block_id[1] * chunk
    return elevation(row, min(row + chunk, size), col, min(col + chunk, size))


def elevation(row0: int, row1: int, col0: int, col1: int) -> npt.NDArray[np.uint16]:
    """Elevation of the pixels [row0, row1) x [col0, col1), which follows from these alone."""
    out = np.empty((row1 - row0, col1 - col0), "uint16")
    for start in range(row0, row1, _STRIP):
        stop = min(start + _STRIP, row1)
        out[start - row0 : stop - row0] = _strip(start, stop, col0, col1)
    return out


def _strip(row0: int, row1: int, col0: int, col1: int) -> Any:
    shape = row1 - row0, col1 - col0
    smooth, spare = np.zeros(shape), np.empty(shape)
    for cell, height in _OCTAVES:
        rows, cols = _Lattice.of(row0, row1, cell), _Lattice.of(col0, col1, cell)
        _add_octave(smooth, spare, cell, height, rows, cols)
    smooth /= _ONE**2
    y, x = np.arange(row0, row1, dtype="uint32"), np.arange(col0, col1, dtype="uint32")
    rough = _hash(y[:, None], x[None, :], 99) >> np.uint32(30)
    return smooth.astype("uint16") + rough.astype("uint16")


class _Lattice(NamedTuple):
    """Along an axis, for each pixel: the lattice point before it, and the weight of the next one.

    Weights are in units of 1 / _ONE.
    """

    before: Any
    weight: Any

    @classmethod
    def of(cls, start: int, stop: int, cell: int) -> _Lattice:
        pixels = np.arange(start, stop)
        t = (pixels % cell) / cell
        return cls((pixels // cell).astype("uint32"), np.rint(t * t * (3 - 2 * t) * _ONE))


def _add_octave(
    out: Any, spare: Any, cell: int, height: int, rows: _Lattice, cols: _Lattice
) -> None:
    """Add value noise of one octave, one row of lattice cells at a time."""
    for lattice_row in np.unique(rows.before).tolist():
        pixel_rows = np.flatnonzero(rows.before == lattice_row)
        inside = slice(int(pixel_rows[0]), int(pixel_rows[-1]) + 1)
        top = _heights(lattice_row, cols, cell, height)
        bottom = _heights(lattice_row + 1, cols, cell, height)
        product = spare[inside]
        np.multiply(rows.weight[inside, None], bottom - top, out=product)
        product += top * _ONE
        out[inside] += product


def _heights(row: int, cols: _Lattice, cell: int, height: int) -> Any:
    """Heights along a row of lattice points, times _ONE."""
    y = np.full(1, row, "uint32")
    points = cols.before, cols.before + np.uint32(1)
    before, after = ((_hash(y, x, cell) % np.uint32(height)).astype("float64") for x in points)
    return before * _ONE + (after - before) * cols.weight


def _hash(y: Any, x: Any, seed: int) -> Any:
    salt = np.uint32(seed * 0x27D4EB2F & 0xFFFFFFFF)
    value = y * np.uint32(0x9E3779B1) ^ x * np.uint32(0x85EBCA77) ^ salt
    value ^= value >> np.uint32(15)
    value *= np.uint32(0x2C1B3C6D)
    value ^= value >> np.uint32(12)
    return value
