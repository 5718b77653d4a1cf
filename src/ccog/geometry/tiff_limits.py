"""What a TIFF can hold: four or eight bytes for offsets, and how many tiles libtiff takes."""

from __future__ import annotations

from ccog.errors import RasterError
from ccog.geometry.cog import CogGeometry
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


def needs_big_tiff(geometry: CogGeometry) -> bool | None:
    """GDAL's choice (GTiffDataset::CreateLL).

    None is classic TIFF where that can hold the compressed data, else BigTIFF.
    """
    bigtiff = geometry.options.bigtiff or "IF_NEEDED"
    pixels = sum(level.height * level.width for level in geometry.pyramid.levels)
    size = pixels * geometry.raster.pixel_bytes
    is_compressed = geometry.options.effective_compress != "NONE"
    is_large = not is_compressed and size > _MOST_CLASSIC_BYTES
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


def check_tiles(geometry: CogGeometry) -> None:
    """Refuse a raster with more tiles in a level than libtiff, and so GDAL, can write or read."""
    most = _MOST_OFFSET_BYTES // (4 if geometry.options.bigtiff == "NO" else 8) - 1
    for level in geometry.pyramid.levels:
        planes = geometry.file_order.encoded_planes(level.index)
        rows, cols = level.tiles
        count = rows * cols * planes
        if count <= most:
            continue
        each_band = f" for each of {planes} bands" if planes > 1 else ""
        side = level.blocksize
        raise RasterError(
            f"{level.width} x {level.height} pixels are {cols} x {rows} tiles of {side} x {side}"
            f"{each_band}, {count:,} in all, and libtiff takes at most {most:,} in a level of the "
            f"pyramid; {_remedy(geometry, most)}"
        )


def _remedy(geometry: CogGeometry, most: int) -> str:
    """What to do where the tiles of a level are too many."""
    height, width = geometry.level(0).size
    side = min(level.blocksize for level in geometry.pyramid.levels)
    planes = geometry.raster.count if any(geometry.planar) else 1
    while side < _MOST_BLOCKSIZE:
        side = 1 << side.bit_length()
        if ceil_div(height, side) * ceil_div(width, side) * planes <= most:
            return f"use BLOCKSIZE={side}, or split the raster into several files"
    return "split the raster into several files"
