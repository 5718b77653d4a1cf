"""A dense raster whose every pixel is known by its place, at full resolution and in all overviews by averages.

A cell of CELL x CELL pixels repeats, each time with another whole number added. So an average over pixels of one cell
is that of the cell, as GDAL computes it, and the number. This holds up to overview 10, which has one pixel for a cell.
"""

from __future__ import annotations

import functools

import dask.array as da
import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

CELL = 1024
MOST_OVERVIEWS = 10
# one pixel in so many stands out of the steps
_RARE = 256


@functools.cache
def cell() -> np.ndarray:
    """Steps with speckles, uint16: they compress some 50 times, and quickly."""
    rng = np.random.default_rng(0)
    y, x = np.arange(CELL)[:, None], np.arange(CELL)[None, :]
    speckles = rng.integers(1, 200, (CELL, CELL)) * (rng.random((CELL, CELL)) < 1 / _RARE)
    return (x // 37 * 11 + y // 41 * 7 + speckles).astype("uint16")


@functools.cache
def cell_at(level: int) -> np.ndarray:
    """The cell in an overview, or at full resolution (0), as GDAL averages it."""
    if level == 0:
        return cell()
    georeferenced = {"crs": "EPSG:32755", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=CELL, width=CELL, dtype="uint16", **georeferenced
        ) as dataset:
            dataset.write(cell(), 1)
            dataset.build_overviews(
                [2**k for k in range(1, MOST_OVERVIEWS + 1)], Resampling.average
            )
        with memory.open(overview_level=level - 1) as dataset:
            return dataset.read(1)


def added(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What is added to cells, by row and column of cells."""
    return ((rows[:, None] * 8191 + columns[None, :] * 127) % 50_021).astype("uint16")


def window(level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The pixels that a window of a level must have."""
    y, x = np.arange(top, top + height), np.arange(left, left + width)
    side = CELL >> level
    return cell_at(level)[np.ix_(y % side, x % side)] + added(y // side, x // side)


def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    """A chunk, made of whole cells."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    rows, columns = np.arange(top, bottom, CELL) // CELL, np.arange(left, right, CELL) // CELL
    made = cell()[None, :, None, :] + added(rows, columns)[:, None, :, None]
    return made.reshape(bottom - top, right - left)


def raster(side: int, chunk: int) -> da.Array:
    """The raster; sides are whole cells. Its name in dask is the same in each process."""
    chunks = da.core.normalize_chunks(chunk, (side, side))
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))
