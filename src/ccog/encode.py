"""A work block -> the bytes of its tiles, compressed by the installed GDAL's GTiff driver.

The GTiff driver compresses inside ``write`` with the interpreter lock released; its tiles are the COG
driver's, byte for byte. Each tile gets its leader and trailer, and its mask tile behind it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from ccog import tiff
from ccog.errors import EncodeError

Array = npt.NDArray[Any]

#: Encoded block: bytes of each tile row, tile byte counts (tile rows, tile columns), and the mask's or None.
Encoded = tuple[list[bytes], npt.NDArray[np.uint32], "npt.NDArray[np.uint32] | None"]


@dataclass(frozen=True)
class Codec:
    """GTiff creation options for the tiles of a level and of its mask, as (name, value) pairs."""

    blocksize: int
    image: tuple[tuple[str, str], ...]
    mask: tuple[tuple[str, str], ...]
    nodata: float | int | None
    sparse: bool


def encode_block(pixels: Array, mask: Array | None, codec: Codec) -> Encoded:
    """Compress a block whose origin is a tile corner.

    Parameters
    ----------
    pixels
        (band, y, x); sides that are no multiple of the tile are edges of the raster.
    mask
        (y, x) uint8, non-zero valid, or None.

    Raises
    ------
    EncodeError
        GDAL could not compress the block.
    """
    tiles, columns = _compress(pixels, codec, dict(codec.image), codec.nodata)
    if mask is None:
        masks = None
    else:
        binary = (mask != 0).view(np.uint8)[np.newaxis]
        masks, _ = _compress(binary, codec, dict(codec.mask), None)
    segments = []
    for first in range(0, len(tiles), columns):
        row = []
        for k in range(first, first + columns):
            row += _framed(tiles[k])
            if masks is not None:
                row += _framed(masks[k])
        segments.append(b"".join(row))
    shape = (-1, columns)
    counts = np.array([len(t) for t in tiles], np.uint32).reshape(shape)
    return segments, counts, None if masks is None else np.array([len(t) for t in masks], np.uint32).reshape(shape)


def _framed(tile: bytes) -> tuple[bytes, ...]:
    """A tile between its size and its last four bytes repeated (COG driver, BLOCK_LEADER and BLOCK_TRAILER)."""
    return (struct.pack("<I", len(tile)), tile, tile[-4:]) if tile else ()


def _compress(
    pixels: Array, codec: Codec, options: dict[str, str], nodata: float | int | None
) -> tuple[list[bytes], int]:
    """Tiles of a block in row-major order (empty where sparse), and how many make a row."""
    count, height, width = pixels.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
        "tiled": True,
        "blockxsize": codec.blocksize,
        "blockysize": codec.blocksize,
        "bigtiff": "YES",
        "sparse_ok": codec.sparse,
        "nodata": nodata,
        "interleave": "pixel",
        "transform": rasterio.Affine(1, 0, 0, 0, -1, 0),
        **options,
    }
    try:
        with MemoryFile() as memory:
            with memory.open(**profile) as dataset:
                dataset.write(pixels)
            return _tiles_of(memory.getbuffer()), -(-width // codec.blocksize)
    except (RasterioError, CPLE_BaseError, SystemError, TypeError, ValueError) as error:
        raise EncodeError(
            f"GDAL {rasterio.__gdal_version__} could not compress a block of {count} x {height} x {width} "
            f"{pixels.dtype.name} with {options}: {error}"
        ) from error


def _tiles_of(data: memoryview) -> list[bytes]:
    directory = tiff.parse(data).directories[0]
    offsets = directory.array(tiff.TILE_OFFSETS).tolist()
    counts = directory.array(tiff.TILE_BYTE_COUNTS).tolist()
    return [bytes(data[at : at + size]) for at, size in zip(offsets, counts, strict=True)]
