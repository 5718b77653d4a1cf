"""A synthetic terrain that any number of tasks make block by block, without seams and always the same."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

CRS = "EPSG:32632"
#: Affine coefficients of the demo raster: 10 m pixels in the Alps.
TRANSFORM = (10.0, 0.0, 400000.0, 0.0, -10.0, 5400000.0)

# cell size in pixels and amplitude in metres of each octave of noise
_OCTAVES = ((4096, 1800), (1024, 700), (256, 160), (64, 30))
# Weights and heights are whole numbers, so sums are exact in float64 and do not depend on how blocks are cut.
_ONE = 1 << 12
_STRIP = 512


def terrain(size: int, chunk: int = 2048) -> Any:
    """Elevation in metres, uint16, as a dask array of ``size`` x ``size`` pixels in chunks of ``chunk``."""
    full, rest = divmod(size, chunk)
    sides = (chunk,) * full + ((rest,) if rest else ())
    return da.map_blocks(
        _block,
        size=size,
        chunk=chunk,
        chunks=(sides, sides),
        dtype=np.dtype("uint16"),
        meta=np.empty((0, 0), "uint16"),
        name=f"ccog-terrain-{size}-{chunk}",
    )


def _block(*, size: int, chunk: int, block_id: tuple[int, int]) -> Any:
    row, col = block_id[0] * chunk, block_id[1] * chunk
    return elevation(row, min(row + chunk, size), col, min(col + chunk, size))


def elevation(row0: int, row1: int, col0: int, col1: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Elevation of the pixels [row0, row1) x [col0, col1): a function of their coordinates alone."""
    out = np.empty((row1 - row0, col1 - col0), "uint16")
    for start in range(row0, row1, _STRIP):
        stop = min(start + _STRIP, row1)
        out[start - row0 : stop - row0] = _strip(start, stop, col0, col1)
    return out


def _strip(row0: int, row1: int, col0: int, col1: int) -> Any:
    left, right = zip(*(_octave(cell, height, row0, row1, col0, col1) for cell, height in _OCTAVES), strict=True)
    smooth = np.hstack(left) @ np.vstack(right) / _ONE**2
    rows, cols = np.arange(row0, row1, dtype="uint32"), np.arange(col0, col1, dtype="uint32")
    rough = _hash(rows[:, None], cols[None, :], 99) >> np.uint32(30)
    return smooth.astype("uint16") + rough.astype("uint16")


def _octave(cell: int, height: int, row0: int, row1: int, col0: int, col1: int) -> tuple[Any, Any]:
    """Value noise of one octave as two factors, whose product is the strip."""
    rows, row_weights = _weights(row0, row1, cell)
    cols, col_weights = _weights(col0, col1, cell)
    lattice = _hash(rows[:, None], cols[None, :], cell) % np.uint32(height)
    return row_weights @ lattice.astype("float64"), col_weights.T


def _weights(start: int, stop: int, cell: int) -> tuple[Any, Any]:
    """Lattice points around the pixels [start, stop), and how much each pixel takes of each."""
    pixels = np.arange(start, stop)
    first, last = start // cell, (stop - 1) // cell + 1
    at, t = pixels // cell - first, (pixels % cell) / cell
    upper = np.rint(t * t * (3 - 2 * t) * _ONE)
    weights = np.zeros((stop - start, last - first + 1))
    index = np.arange(stop - start)
    weights[index, at] = _ONE - upper
    weights[index, at + 1] = upper
    return np.arange(first, last + 1, dtype="uint32"), weights


def _hash(y: Any, x: Any, seed: int) -> Any:
    value = y * np.uint32(0x9E3779B1) ^ x * np.uint32(0x85EBCA77) ^ np.uint32(seed * 0x27D4EB2F & 0xFFFFFFFF)
    value ^= value >> np.uint32(15)
    value *= np.uint32(0x2C1B3C6D)
    value ^= value >> np.uint32(12)
    return value
