"""The order of tiles in files of ``layout="chunk"``: chunks along the Morton curve, in each its tiles row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.pyramid import Level, Size, ceil_div

Array = npt.NDArray[np.int64]


def morton(y: Array, x: Array) -> Array:
    """Interleaved bits of row and column, the column's lowest first (Z-order)."""
    return _spread(y) << 1 | _spread(x)


def _spread(values: Array) -> Array:
    out = values.astype(np.int64)
    for shift, mask in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F),
                        (2, 0x3333333333333333), (1, 0x5555555555555555)):  # fmt: skip
        out = (out | out << shift) & mask
    return out


def along_curve(shape: Size) -> Array:
    """(row, column) of each cell of a grid, shape (cells, 2), in the order of the Morton curve."""
    y, x = _axes(shape)
    order = np.argsort(morton(y, x), axis=None)
    return np.stack(np.divmod(order, shape[1]), axis=1)


def tile_places(level: Level, planes: int = 1, *, mask: bool = False, by_tile: bool = False) -> Array:
    """Where each tile of a level lies, counted in tiles from the level's first.

    Of each chunk one plane lies after the other, the mask's last; where ``by_tile`` the planes' tiles of a place lie
    side by side.

    Returns
    -------
    numpy.ndarray
        (plane, tile), tiles row-major; the mask is the last plane.
    """
    first, inside, size = (part.reshape(-1) for part in _within_chunks(level))
    stack = planes + mask
    found = np.empty((stack, first.size), np.int64)
    for plane in range(planes):
        found[plane] = stack * first + (inside * planes + plane if by_tile else size * plane + inside)
    if mask:
        found[planes] = stack * first + size * planes + inside
    return found


def _within_chunks(level: Level) -> tuple[Array, Array, Array]:
    """Of each tile: tiles before its chunk, tiles before it in its chunk, and tiles of the chunk."""
    down, across = (side // level.blocksize for side in level.chunk)
    y, x = _axes(level.tiles)
    chunks = ceil_div(level.tiles[0], down), ceil_div(level.tiles[1], across)
    i, j = _axes(chunks)
    high, wide = np.minimum(down, level.tiles[0] - i * down), np.minimum(across, level.tiles[1] - j * across)
    sizes = high * wide
    order = np.argsort(morton(i, j), axis=None)
    first = np.empty(sizes.size, np.int64)
    first[order] = np.cumsum(sizes.reshape(-1)[order]) - sizes.reshape(-1)[order]
    at = y // down, x // across
    inside = (y % down) * wide[:, at[1][0]] + x % across
    return first.reshape(chunks)[at], inside, sizes[at]


def _axes(shape: Size) -> tuple[Array, Array]:
    """Row and column numbers of a grid, to be broadcast."""
    found: Any = np.ogrid[: shape[0], : shape[1]]
    return found[0], found[1]
