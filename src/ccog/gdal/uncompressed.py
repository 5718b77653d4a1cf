"""Tiles without compression, as GDAL lays them out: whole tiles are copied without a driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# bytes of a tile's leader, its size, and of its trailer, its last bytes again
# (COG driver, BLOCK_LEADER and BLOCK_TRAILER)
_FRAME = 4


def plain_tiles(pixels: Array, blocksize: int, *, framed: bool) -> Array:
    """File bytes of the tile rows of a block of whole tiles, pixel-interleaved.

    All bytes are in one piece of memory, which large pages make cheap.

    Parameters
    ----------
    pixels
        (band, y, x).
    blocksize
        Side of a tile in pixels.
    framed
        Whether tiles are between leaders and trailers.

    Returns
    -------
    numpy.ndarray
        (tile row, byte) uint8.
    """
    count, height, width = pixels.shape
    rows, columns = height // blocksize, width // blocksize
    size = blocksize * blocksize * count * pixels.itemsize
    frame = _FRAME if framed else 0
    out = np.empty((rows, columns, size + 2 * frame), np.uint8)
    body = out[..., frame : frame + size]
    tiles = body.view(pixels.dtype).reshape(rows, columns, blocksize, blocksize, count)
    for row in range(rows):
        lines = pixels[:, row * blocksize : (row + 1) * blocksize]
        by_tile = lines.reshape(count, blocksize, columns, blocksize)
        tiles[row] = by_tile.transpose(2, 1, 3, 0)
    leader = np.frombuffer(size.to_bytes(_FRAME, "little"), np.uint8)
    out[..., :frame] = leader[:frame]
    out[..., frame + size :] = body[..., size - frame :]
    return out.reshape(rows, -1)
