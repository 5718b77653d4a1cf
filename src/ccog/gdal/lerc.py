"""Tiles of bytes compressed with LERC, the same at every run.

LERC codes bytes by Huffman, and ends such a tile with a word that it does not set
(Lerc2::EncodeHuffman: readers look ahead). libtiff's buffer holds there what it held before, and
the checksum covers it. So GDAL's own files differ from run to run, mostly where tiles are small.
Here the buffer holds zeros there, as fresh memory does: before each tile the same buffer takes one
of noise, which LERC stores as it is, with zeros where the word will be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: What gives the tiles of pixels (band, y, x), row-major, compressed one after the other with LERC,
#: LERC_DEFLATE or LERC_ZSTD.
Compressor = Callable[[Array, str], list[memoryview]]

# bytes of the word that is left unset
_WORD = 4


def lerc_tiles(
    pixels: Array, blocksize: int, compression: str, compress: Compressor
) -> list[memoryview]:
    """The compressed tiles of whole tiles of bytes, (band, y, x)."""
    plain = compress(pixels, "LERC")
    if compression == "LERC" and not any(any(tile[-_WORD:]) for tile in plain):
        return plain
    noise = _noise(blocksize, len(pixels))
    (stored,) = compress(_as_bands(noise).view(pixels.dtype), "LERC")
    header = len(stored) - noise.size
    pairs = []
    for tile, alone in zip(_tiles(pixels, blocksize), plain, strict=True):
        before = noise.copy()
        before.reshape(-1)[max(0, len(alone) - header - _WORD) : max(0, len(alone) - header)] = 0
        pairs += [_as_bands(before).view(pixels.dtype), tile]
    return compress(np.concatenate(pairs, axis=2), compression)[1::2]


@lru_cache
def _noise(blocksize: int, count: int) -> Array:
    """A tile (y, x, band) that takes the most room."""
    shape = blocksize, blocksize, count
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _as_bands(tile: Array) -> Array:
    return np.ascontiguousarray(tile.transpose(2, 0, 1))


def _tiles(pixels: Array, blocksize: int) -> list[Array]:
    corners = itertools.product(*(range(0, side, blocksize) for side in pixels.shape[1:]))
    return [pixels[:, y : y + blocksize, x : x + blocksize] for y, x in corners]
