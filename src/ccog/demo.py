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
# Weights and heights are whole numbers, so sums are exact in float64 and do not depend on how
# blocks are cut.
_ONE = 1 << 12
_STRIP = 128


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
    smooth, product = np.zeros((row1 - row0, col1 - col0)), np.empty((row1 - row0, col1 - col0))
    for cell, height in _OCTAVES:
        _add_octave(smooth, product, cell, height, (row0, row1), (col0, col1))
    smooth /= _ONE**2
    rows, cols = np.arange(row0, row1, dtype="uint32"), np.arange(col0, col1, dtype="uint32")
    rough = _hash(rows[:, None], cols[None, :], 99) >> np.uint32(30)
    return smooth.astype("uint16") + rough.astype("uint16")


def _add_octave(
    out: Any, spare: Any, cell: int, height: int, rows: tuple[int, int], cols: tuple[int, int]
) -> None:
    """Add value noise of one octave, one row of lattice cells at a time."""
    left, right, across = _between(*cols, cell)
    low, _, down = _between(*rows, cell)
    for lattice_row in np.unique(low).tolist():
        here = np.flatnonzero(low == lattice_row)
        inside = slice(int(here[0]), int(here[-1]) + 1)
        top, bottom = (_along(lattice_row + n, left, right, across, cell, height) for n in (0, 1))
        product = spare[inside]
        np.multiply(down[inside, None], bottom - top, out=product)
        product += top * _ONE
        out[inside] += product


def _between(start: int, stop: int, cell: int) -> tuple[Any, Any, Any]:
    """For each pixel the lattice points before and behind it, and the weight of the latter in units of 1 / _ONE."""
    pixels = np.arange(start, stop)
    before, t = (pixels // cell).astype("uint32"), (pixels % cell) / cell
    return before, before + np.uint32(1), np.rint(t * t * (3 - 2 * t) * _ONE)


def _along(row: int, left: Any, right: Any, weight: Any, cell: int, height: int) -> Any:
    """Heights along a row of lattice points, times _ONE."""
    y = np.full(1, row, "uint32")
    a, b = ((_hash(y, x, cell) % np.uint32(height)).astype("float64") for x in (left, right))
    return a * _ONE + (b - a) * weight


def _hash(y: Any, x: Any, seed: int) -> Any:
    value = (
        y * np.uint32(0x9E3779B1)
        ^ x * np.uint32(0x85EBCA77)
        ^ np.uint32(seed * 0x27D4EB2F & 0xFFFFFFFF)
    )
    value ^= value >> np.uint32(15)
    value *= np.uint32(0x2C1B3C6D)
    value ^= value >> np.uint32(12)
    return value
