"""In which order the tiles of a level lie in the file.

In GDAL's layout tiles lie row by row. In ``layout="chunk"`` chunks lie along the Morton curve, and
the tiles of each chunk row by row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ccog.geometry.intervals import Size, ceil_div
from ccog.geometry.pyramid import Level

Array = npt.NDArray[np.int64]

# shifts that spread the bits of a number to every second place, and the bits that remain after each
_SPREADS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def morton(y: Array, x: Array) -> Array:
    """Interleaved bits of row and column, the column's lowest first (Z-order)."""
    return _spread(y) << 1 | _spread(x)


def _spread(values: Array) -> Array:
    out = values.astype(np.int64)
    for shift, mask in _SPREADS:
        out = (out | out << shift) & mask
    return out


def along_curve(shape: Size) -> Array:
    """(row, column) of each cell of a grid, shape (cells, 2), in the order of the Morton curve."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    order = np.argsort(morton(y, x), axis=None)
    return np.stack(np.divmod(order, shape[1]), axis=1)


def tile_positions(
    level: Level,
    planes: int = 1,
    *,
    mask: bool = False,
    by_tile: bool = False,
    corner: Size | None = None,
) -> Array:
    """Where each tile of a level lies in ``layout="chunk"``, counted from the level's first.

    Of each chunk one plane lies after the other; where ``by_tile`` the tiles of all ``planes`` of
    the image lie side by side. A mask is one more plane, the last. With a ``corner`` only so many
    (rows, columns) of tiles at the upper left are looked at. The shape is (plane, tile), tiles
    row-major.
    """
    down, across = (side // level.blocksize for side in level.chunk)
    rows, cols = corner or level.tiles
    y, x = np.ogrid[:rows, :cols]
    i, j = np.ogrid[: ceil_div(rows, down), : ceil_div(cols, across)]
    heights = _tiles_in(i, 1, down, level.tiles[0])
    widths = _tiles_in(j, 1, across, level.tiles[1])
    of_tile = y // down, x // across
    # of each tile: tiles before it in its chunk, and tiles of the chunk
    in_chunk = ((y % down) * widths[:, of_tile[1][0]] + x % across).reshape(-1)
    chunk_size = (heights * widths)[of_tile].reshape(-1)
    stack = planes + mask
    positions = np.empty((stack, in_chunk.size), np.int64)
    positions[:] = stack * _tiles_before(level, i, j)[of_tile].reshape(-1)
    for plane in range(stack):
        if by_tile and plane < planes:
            positions[plane] += in_chunk * planes + plane
        else:
            positions[plane] += chunk_size * plane + in_chunk
    return positions


def _tiles_before(level: Level, i: Array, j: Array) -> Array:
    """Tiles before chunks (i, j): those of the quadrants that the Morton curve leaves before."""
    down, across = (side // level.blocksize for side in level.chunk)
    rows, cols = level.tiles
    before = np.zeros((i.size, j.size), np.int64)
    for bit in range(int(max(i.max(), j.max())).bit_length()):
        side = 1 << bit
        top, left = i // (2 * side) * (2 * side), j // (2 * side) * (2 * side)
        lower, right = i & side, j & side
        upper_half = _tiles_in(top, side, down, rows) * _tiles_in(left, 2 * side, across, cols)
        left_quarter = _tiles_in(top + lower, side, down, rows) * _tiles_in(
            left, side, across, cols
        )
        before += np.where(lower > 0, upper_half, 0) + np.where(right > 0, left_quarter, 0)
    return before


def _tiles_in(first: Array, count: int, tiles: int, most: int) -> Array:
    """Of ``most`` tiles along an axis, those in ``count`` chunks of ``tiles`` from ``first`` on."""
    return np.minimum((first + count) * tiles, most) - np.minimum(first * tiles, most)
