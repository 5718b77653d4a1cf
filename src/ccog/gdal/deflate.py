"""Tiles compressed with DEFLATE by the very library that GDAL compresses them with, without GDAL.

The GTiff driver copies each tile four times on its way to libdeflate, and opening a dataset takes
the interpreter lock for a millisecond. Calling libdeflate directly gives the same bytes, takes up
to a fifth less time, and holds the lock for some microseconds a tile.

The same cannot be done with libzstd: rasterio's wheels hold a second one, in blosc, and functions
of the two mix in one process. Calling them crashed (rasterio 1.4.4).

Whatever this module does not know (sparse files, odd bits, a GDAL without libdeflate) goes through
the driver. So does every kind of tile whose bytes differ from the driver's when it is first tried.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.env import get_gdal_config

from ccog.gdal.rasterio_edges import Deflater, has_libdeflate
from ccog.geometry.intervals import ceil_div

Array = npt.NDArray[Any]

# the level that libtiff asks of libdeflate where it is asked for one of zlib's (ZIPEncode)
_DEFAULT_LEVEL = 6
_LEVELS = {6: 7, 7: 8, 8: 9, 9: 10}

#: Side in pixels of the tiles that are compressed both ways before the first of a kind.
TRIAL_SIDE = 64

# the option of GDAL by which users ask for zlib instead, which gives other bytes
_SUBCODEC = "GDAL_TIFF_DEFLATE_SUBCODEC"

_KNOWN_OPTIONS = frozenset({"compress", "predictor", "zlevel", "nbits"})


@dataclass(frozen=True, kw_only=True)
class TileKind:
    """What decides how the bytes of a tile follow from its pixels.

    ``predictor`` is TIFF's number of it (tag 317). A tile of single ``bits`` is one of a mask.
    """

    dtype: str
    count: int
    predictor: int
    level: int
    bits: bool

    def tile_bytes(self, side: int) -> int:
        """How many bytes of a tile of that side are compressed."""
        size = side * side * self.count * np.dtype(self.dtype).itemsize
        return size // 8 if self.bits else size

    @property
    def trial(self) -> Array:
        """Pixels (band, y, x) of a whole tile and three at edges: noise on a slope."""
        side = TRIAL_SIDE * 3 // 2
        shape = self.count, side, side
        noise = np.random.default_rng(0).integers(0, 64, shape)
        values = noise % 2 if self.bits else noise + np.arange(shape[2]) // 4
        return values.astype(self.dtype)


def tile_kind(pixels: Array, options: dict[str, str]) -> TileKind | None:
    """The kind of the tiles of pixels (band, y, x), by GTiff's options; None where it is not known.

    Bands are those that are compressed together.
    """
    if options.get("compress") != "DEFLATE" or not _KNOWN_OPTIONS.issuperset(options):
        return None
    if str(get_gdal_config(_SUBCODEC) or "LIBDEFLATE").upper() != "LIBDEFLATE":
        return None
    dtype, bits = pixels.dtype, "nbits" in options
    if not (dtype.isnative and sys.byteorder == "little" and has_libdeflate()):
        return None
    if bits and (options["nbits"], dtype.name, len(pixels)) != ("1", "uint8", 1):
        return None
    level = int(options.get("zlevel", _DEFAULT_LEVEL))
    return TileKind(
        dtype=dtype.name,
        count=len(pixels),
        predictor=int(options.get("predictor", 1)),
        level=_LEVELS.get(level, level),
        bits=bits,
    )


def tile_count(pixels: Array, blocksize: int) -> int:
    """How many tiles pixels (band, y, x) have in a plane."""
    down, across = (ceil_div(int(side), blocksize) for side in pixels.shape[1:])
    return down * across


def deflated_tiles(pixels: Array, blocksize: int, kind: TileKind) -> list[memoryview]:
    """The compressed tiles of pixels (band, y, x), row-major; tiles at the edges end with zeros."""
    count = tile_count(pixels, blocksize)
    tiles, at = [], 0
    with Deflater(kind.level) as deflater:
        # one after the other: they are copied once, when it is known where each row of tiles ends
        out = np.empty(count * deflater.bound(kind.tile_bytes(blocksize)), np.uint8)
        for values in _filtered_tiles(pixels, blocksize, kind):
            size = deflater.compress(values, out[at:])
            tiles.append(out[at : at + size].data)
            at += size
    return tiles


def _filtered_tiles(pixels: Array, blocksize: int, kind: TileKind) -> Iterator[Array]:
    """The bytes that are compressed for each tile; each is valid until the next."""
    _, height, width = pixels.shape
    filtered = _packed_bits if kind.bits else _FILTERS[kind.predictor]
    out = np.empty((blocksize, blocksize, kind.count), kind.dtype)
    for top, left in itertools.product(range(0, height, blocksize), range(0, width, blocksize)):
        tile = pixels[:, top : top + blocksize, left : left + blocksize]
        if tile.shape[1:] != (blocksize, blocksize):
            down, right = blocksize - tile.shape[1], blocksize - tile.shape[2]
            tile = np.pad(tile, ((0, 0), (0, down), (0, right)))
        yield filtered(tile, out)


def _packed_bits(tile: Array, out: Array) -> Array:
    return np.packbits(tile[0], axis=1)


def _interleaved(tile: Array, out: Array) -> Array:
    """Pixels as they are, the bands of each side by side."""
    for n, band in enumerate(tile):
        out[..., n] = band
    return out


def _differences(tile: Array, out: Array) -> Array:
    """Each sample less that of the pixel before it in its row (TIFF 6.0, section 14)."""
    unsigned = out.view(f"u{out.itemsize}")
    for n, band in enumerate(tile.view(unsigned.dtype)):
        unsigned[:, 0, n] = band[:, 0]
        np.subtract(band[:, 1:], band[:, :-1], out=unsigned[:, 1:, n])
    return out


def _float_differences(tile: Array, out: Array) -> Array:
    """The highest bytes of all floats of a row, then the next, each less the one a pixel before.

    Adobe's TIFF Technical Note 3 calls it the floating point predictor; libtiff has it in fpDiff.
    """
    rows, _, count = out.shape
    by_byte = _interleaved(tile, out).view(np.uint8).reshape(rows, -1, out.itemsize)
    planes = np.ascontiguousarray(by_byte[..., ::-1].transpose(0, 2, 1)).reshape(rows, -1)
    differences = planes.copy()
    np.subtract(planes[:, count:], planes[:, :-count], out=differences[:, count:])
    return differences


# by TIFF's number of the predictor: what turns a tile (band, y, x) into the bytes that are
# compressed, for which there is room (y, x, band)
_FILTERS = {1: _interleaved, 2: _differences, 3: _float_differences}
