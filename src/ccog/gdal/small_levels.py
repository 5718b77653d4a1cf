"""Overviews of levels of a few pixels, made by GDAL's COG driver itself."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from rasterio.io import MemoryFile

from ccog.gdal.rasterio_edges import SILENT_TRANSFORM
from ccog.geometry.intervals import Size
from ccog.geometry.pyramid import halve
from ccog.geometry.raster_facts import Palette

Array = npt.NDArray[Any]

# more than a side of such a level: larger tiles would only be filled with zeros
_BLOCKSIZE = 128


def halvings(source: Size, target: Size) -> int:
    """How often the driver halves a level, rounding down, to get another; 0 where it does not."""
    for count in range(1, max(source).bit_length()):
        source = halve(source[0]), halve(source[1])
        if source == target:
            return count
    return 0


def driver_overview(
    band: Array,
    mask: Array | None,
    nodata: float | int | None,
    *,
    count: int,
    method: str,
    palette: Palette | None,
) -> Array:
    """An overview of a band of a whole level, which takes some milliseconds.

    Parameters
    ----------
    band
        (y, x).
    mask
        (y, x) uint8, or None.
    count
        How often the level is halved. GDAL makes each overview from the one before, but from the
        level itself where that is no wider.
    method
        Resampling, as OVERVIEW_RESAMPLING has it.
    """
    height, width = band.shape
    profile = {
        "driver": "COG",
        "count": 1,
        "height": height,
        "width": width,
        "dtype": band.dtype,
        "nodata": nodata,
        "transform": SILENT_TRANSFORM,
        "blocksize": _BLOCKSIZE,
        "compress": "NONE",
        "overview_count": count,
        "overview_resampling": method,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(band, 1)
            if palette is not None:
                dataset.write_colormap(1, dict(palette))
            if mask is not None:
                dataset.write_mask(mask)
        with memory.open(overview_level=count - 1) as dataset:
            overview: Array = dataset.read(1)
    return overview
