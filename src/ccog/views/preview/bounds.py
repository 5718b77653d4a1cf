"""How large compressed tiles can get, and how large they usually are."""

from __future__ import annotations

import math

from ccog.tiff import directories as tiff
from ccog.tiff.directories import Directory
from ccog.tiff.header import uncompressed_tile

_PACKBITS = 32773

#: Most that a tile can grow, by value of the Compression tag: factor on the uncompressed size, and bytes on top.
GROWTH = {
    1: (1.0, 0),
    # codes of at most 12 bits stand for at least one byte each; a clear code at most every 3837 (tif_lzw.c)
    5: (1.501, 16),
    # twice the samples, subsampled chroma counted as such, and 2048 bytes (tjBufSize of libjpeg-turbo)
    7: (2.0, 2048),
    # stored blocks (deflateBound of zlib, libdeflate_zlib_compress_bound)
    8: (1.002, 64),
    # raw values, bits that say which are valid, headers by band (Lerc2), perhaps in a deflate or zstd stream
    34887: (1.16, 4096),
    # chunks of LZMA2 stored as they are (lzma_stream_buffer_bound)
    34925: (1.001, 256),
    # ZSTD_COMPRESSBOUND
    50000: (1.004, 128),
    # prefix codes of at most 15 bits for symbols of 8; the encoder chooses nearly optimal ones
    50001: (2.0, 4096),
    50002: (2.0, 4096),
    52546: (2.0, 4096),
}

# bytes of a LERC header, of each band that has a blob of its own
_LERC, _LERC_BAND = 34887, 256

#: Usual size of compressed pixels divided by that of the pixels: a guess from terrain and imagery of 8 and 16 bits.
USUAL = {
    "NONE": 1.0,
    "LZW": 0.65,
    "DEFLATE": 0.5,
    "ZSTD": 0.5,
    "LZMA": 0.45,
    "LERC": 0.5,
    "LERC_DEFLATE": 0.4,
    "LERC_ZSTD": 0.4,
    "JPEG": 0.15,
    "WEBP": 0.1,
    "JXL": 0.3,
}

# what a predictor makes of it, and what is left of a mask of single bits
_PREDICTED, _MASK = 0.8, 0.1


def largest_tile(directory: Directory) -> int:
    """Most bytes that a tile can take in the file, its leader and trailer aside."""
    raw, code = uncompressed_tile(directory), directory.value(tiff.COMPRESSION, 1)
    if code == _PACKBITS:
        return raw + raw // 128 + directory.value(tiff.TILE_LENGTH)
    factor, more = GROWTH[code]
    if code == _LERC:
        more += _LERC_BAND * directory.value(tiff.SAMPLES_PER_PIXEL, 1)
    return math.ceil(raw * factor) + more


def usual_ratio(compress: str, directory: Directory) -> float:
    """A guess at the size of compressed pixels, divided by that of the pixels."""
    return USUAL[compress] * (_PREDICTED if directory.value(tiff.PREDICTOR, 1) > 1 else 1)


def usual_mask_ratio(directory: Directory) -> float:
    """The same for the single bits of a mask."""
    return 1.0 if directory.value(tiff.COMPRESSION, 1) == 1 else _MASK
