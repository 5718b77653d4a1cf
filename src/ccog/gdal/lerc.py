"""Tiles of bytes compressed with LERC, the same at every run.

LERC codes bytes by Huffman, and ends such a tile with a word that it does not set
(Lerc2::EncodeHuffman: readers look ahead). libtiff's buffer holds there what it held before, and
the checksum covers it. So GDAL's own files differ from run to run, mostly where tiles are small.
Here the word is zeros, as in fresh memory.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Sequence
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

# Lerc2::WriteHeader, version 4: what a tile begins with, and where things are in it
_BEGIN = b"Lerc2 " + struct.pack("<i", 4)
_CHECKSUM, _SUMMED, _COUNT, _MAX_Z_ERROR, _MASK_SIZE, _RANGES = 10, 14, 22, 42, 66, 70

# what LERC calls no loss of integers: only then it says how a tile is coded, and codes by Huffman
_NO_LOSS = 0.5

# a flag that the tile is not stored as it is, and the number of a Huffman code of it
_CODED = (b"\0\1", b"\0\2")


def lerc_tiles(
    pixels: Array, blocksize: int, compression: str, compress: Compressor
) -> list[memoryview]:
    """The compressed tiles of whole tiles of bytes, (band, y, x).

    What is compressed once more must be right before that. So the buffer takes a tile of noise
    first, which LERC stores as it is, with zeros where words will be. Tiles that end with a word
    follow, from short to long: none reaches the word of a later one.
    """
    plain = compress(pixels, "LERC")
    if compression == "LERC":
        return [_with_zeros(tile) if _ends_unset(tile) else tile for tile in plain]
    ends = [len(tile) if _ends_unset(tile) else math.inf for tile in plain]
    if min(ends) == math.inf:
        return compress(pixels, compression)
    order = sorted(range(len(ends)), key=ends.__getitem__)
    tiles = _tiles(pixels, blocksize)
    noise = _noise(blocksize, len(pixels))
    # with more zeros LERC would not store it as it is
    step = max(1, noise.size // 256)
    numbers, parts = [], []
    for at in range(0, len(order), step):
        batch = order[at : at + step]
        before = _with_words(noise, [ends[n] for n in batch])
        numbers += [-1, *batch]
        parts += [before.view(pixels.dtype), *(tiles[n] for n in batch)]
    found = compress(np.concatenate(parts, axis=2), compression)
    by_number = dict(zip(numbers, found, strict=True))
    return [by_number[n] for n in range(len(plain))]


def _ends_unset(tile: memoryview) -> bool:
    """Whether a tile ends with the word."""
    (max_z_error,) = struct.unpack_from("<d", tile, _MAX_Z_ERROR)
    if tile[: len(_BEGIN)] != _BEGIN or max_z_error != _NO_LOSS:
        return False
    (count,) = struct.unpack_from("<i", tile, _COUNT)
    (mask_size,) = struct.unpack_from("<i", tile, _MASK_SIZE)
    # a lowest and a highest byte of each band come before
    at = _RANGES + mask_size + 2 * count
    return bytes(tile[at : at + 2]) in _CODED


def _with_zeros(tile: memoryview) -> memoryview:
    """A tile with zeros for the word, and the checksum of that (ComputeChecksumFletcher32)."""
    out = bytearray(tile)
    low, high = struct.unpack_from("<HH", out, _CHECKSUM)
    summed = len(out) - _SUMMED
    for n in range(summed - _WORD, summed):
        # the sums are of pairs of bytes, and of the sums so far
        value = out[_SUMMED + n] << (0 if n % 2 else 8)
        low -= value
        high -= value * ((summed + 1) // 2 - n // 2)
    # of two zeros modulo 65535 the sums have the upper
    struct.pack_into("<HH", out, _CHECKSUM, (low - 1) % 65535 + 1, (high - 1) % 65535 + 1)
    out[-_WORD:] = bytes(_WORD)
    return memoryview(out)


def _with_words(noise: Array, ends: Sequence[float]) -> Array:
    """The noise, (band, y, x), with zeros for the words of tiles that end at the given bytes."""
    out = noise.copy()
    header = _RANGES + 2 * noise.shape[2] + 1
    for end in ends:
        if end < math.inf:
            out.reshape(-1)[int(end) - header - _WORD : int(end) - header] = 0
    return np.ascontiguousarray(out.transpose(2, 0, 1))


@lru_cache
def _noise(blocksize: int, count: int) -> Array:
    """A tile (y, x, band) that takes the most room."""
    shape = blocksize, blocksize, count
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _tiles(pixels: Array, blocksize: int) -> list[Array]:
    corners = itertools.product(*(range(0, side, blocksize) for side in pixels.shape[1:]))
    return [pixels[:, y : y + blocksize, x : x + blocksize] for y, x in corners]
