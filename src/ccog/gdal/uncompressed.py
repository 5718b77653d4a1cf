"""Tiles without compression, laid out as GDAL does: whole tiles need one copy of their pixels and no driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: bytes of a tile's leader, its size, and of its trailer, its last bytes again (COG driver, BLOCK_LEADER)
_FRAME = 4


def plain_tiles(pixels: Array, blocksize: int, *, framed: bool) -> Array:
    """File bytes of the tile rows of a block of whole tiles, pixel-interleaved: (tile row, byte) uint8.

    ``pixels`` is (band, y, x); tiles are between leaders and trailers where ``framed``. All bytes are in one piece of
    memory, which large pages make cheap.
    """
    count, height, width = pixels.shape
    rows, columns = height // blocksize, width // blocksize
    size, frame = blocksize * blocksize * count * pixels.itemsize, _FRAME if framed else 0
    out = np.empty((rows, columns, size + 2 * frame), np.uint8)
    body = out[..., frame : frame + size]
    tiles = body.view(pixels.dtype).reshape(rows, columns, blocksize, blocksize, count)
    for at in range(rows):
        strip = pixels[:, at * blocksize : (at + 1) * blocksize].reshape(
            count, blocksize, columns, blocksize
        )
        tiles[at] = strip.transpose(2, 1, 3, 0)
    out[..., :frame] = np.frombuffer(size.to_bytes(_FRAME, "little"), np.uint8)[:frame]
    out[..., frame + size :] = body[..., size - frame :]
    return out.reshape(rows, -1)
