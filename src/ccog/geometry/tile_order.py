"""The order of tiles in files of ``layout="chunk"``: chunks along the Morton curve, in each its tiles row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.geometry.pyramid import Level, Size, ceil_div

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


def tile_places(
    level: Level,
    planes: int = 1,
    *,
    mask: bool = False,
    by_tile: bool = False,
    corner: Size | None = None,
) -> Array:
    """Where each tile of a level lies, counted in tiles from the level's first.

    Of each chunk one plane lies after the other, the mask's last; where ``by_tile`` the planes' tiles of a place lie
    side by side. Of ``corner``, (rows, columns) of tiles at the upper left, no others are looked at.

    Returns
    -------
    numpy.ndarray
        (plane, tile), tiles row-major; the mask is the last plane.
    """
    first, inside, size = (
        part.reshape(-1) for part in _within_chunks(level, corner or level.tiles)
    )
    stack = planes + mask
    found = np.empty((stack, first.size), np.int64)
    for plane in range(planes):
        found[plane] = stack * first + (
            inside * planes + plane if by_tile else size * plane + inside
        )
    if mask:
        found[planes] = stack * first + size * planes + inside
    return found


def _within_chunks(level: Level, corner: Size) -> tuple[Array, Array, Array]:
    """Of each tile of a corner: tiles before its chunk, tiles before it in its chunk, and tiles of the chunk."""
    down, across = (side // level.blocksize for side in level.chunk)
    y, x = _axes(corner)
    i, j = _axes((ceil_div(corner[0], down), ceil_div(corner[1], across)))
    sizes = _within(i, 1, down, level.tiles[0]) * _within(j, 1, across, level.tiles[1])
    at = y // down, x // across
    wide = _within(j, 1, across, level.tiles[1])[:, at[1][0]]
    inside = (y % down) * wide + x % across
    return _tiles_before(level, i, j)[at], inside, sizes[at]


def _tiles_before(level: Level, i: Array, j: Array) -> Array:
    """Tiles that lie before those of chunks (i, j): those of the quadrants that the Morton curve leaves before them."""
    (down, across), (rows, cols) = (side // level.blocksize for side in level.chunk), level.tiles
    found = np.zeros((i.size, j.size), np.int64)
    for bit in range(int(max(i.max(), j.max())).bit_length()):
        side = 1 << bit
        top, left = i >> bit + 1 << bit + 1, j >> bit + 1 << bit + 1
        lower, right = i & side, j & side
        above = _within(top, side, down, rows) * _within(left, 2 * side, across, cols)
        beside = _within(top + lower, side, down, rows) * _within(left, side, across, cols)
        found += np.where(lower > 0, above, 0) + np.where(right > 0, beside, 0)
    return found


def _within(first: Array, count: int, tiles: int, most: int) -> Array:
    """Tiles along an axis of ``most`` tiles in ``count`` chunks, each of ``tiles``, from the chunk ``first`` on."""
    return np.minimum((first + count) * tiles, most) - np.minimum(first * tiles, most)


def _axes(shape: Size) -> tuple[Array, Array]:
    """Row and column numbers of a grid, to be broadcast."""
    found: Any = np.ogrid[: shape[0], : shape[1]]
    return found[0], found[1]
