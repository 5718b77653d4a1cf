"""What a TIFF can hold: four or eight bytes for offsets, and how many tiles libtiff takes."""

from __future__ import annotations

from ccog.errors import RasterError
from ccog.geometry.file_order import FileOrder
from ccog.geometry.intervals import ceil_div

# GDAL makes a BigTIFF of more uncompressed bytes than the first, with IF_SAFER than the second
# (GTiffDataset::CreateLL)
_MOST_CLASSIC_BYTES = 4_200_000_000
_MOST_SAFE_BYTES = 2_000_000_000

# bytes that the offsets of the tiles of a level must stay below: libtiff makes no larger array
# (TIFFSetupStrips)
_MOST_OFFSET_BYTES = 1 << 31

# largest tile that overviews have too
_MOST_BLOCKSIZE = 4096


def needs_big_tiff(order: FileOrder) -> bool | None:
    """GDAL's choice (GTiffDataset::CreateLL).

    None is classic TIFF where that can hold the compressed data, else BigTIFF.
    """
    bigtiff = order.options.bigtiff or "IF_NEEDED"
    pixels = sum(level.height * level.width for level in order.pyramid.levels)
    size = pixels * order.raster.pixel_bytes
    is_large = order.options.effective_compress == "NONE" and size > _MOST_CLASSIC_BYTES
    if bigtiff == "NO" and is_large:
        raise RasterError(
            f"all levels have {size} bytes, and BIGTIFF=NO with compress='none' takes at most "
            f"{_MOST_CLASSIC_BYTES}; leave BIGTIFF out, or compress"
        )
    if bigtiff in ("YES", "NO"):
        return bigtiff == "YES"
    if bigtiff == "IF_SAFER":
        is_large = size > _MOST_SAFE_BYTES
    return True if is_large else None


def check_tiles(order: FileOrder) -> None:
    """Refuse a raster with more tiles in a level than libtiff, and so GDAL, can write or read."""
    most = _MOST_OFFSET_BYTES // (4 if order.options.bigtiff == "NO" else 8) - 1
    for level in order.pyramid.levels:
        planes = order.encoded_planes(level.index)
        rows, cols = level.tiles
        count = rows * cols * planes
        if count <= most:
            continue
        each_band = f" for each of {planes} bands" if planes > 1 else ""
        side = level.blocksize
        raise RasterError(
            f"{level.width} x {level.height} pixels are {cols} x {rows} tiles of {side} x {side}"
            f"{each_band}, {count:,} in all, and libtiff takes at most {most:,} in a level of the "
            f"pyramid; {_remedy(order, most)}"
        )


def _remedy(order: FileOrder, most: int) -> str:
    """What to do where the tiles of a level are too many."""
    height, width = order.pyramid.levels[0].size
    side = min(level.blocksize for level in order.pyramid.levels)
    planes = order.raster.count if any(order.planar) else 1
    while side < _MOST_BLOCKSIZE:
        side = 1 << side.bit_length()
        if ceil_div(height, side) * ceil_div(width, side) * planes <= most:
            return f"use BLOCKSIZE={side}, or split the raster into several files"
    return "split the raster into several files"
