"""The template of the header: a tiny sparse COG with the same options and metadata, written by the installed GDAL."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from ccog.errors import OptionError
from ccog.gdal.statistics import BandStatistics
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import overview_blocksize
from ccog.input.metadata import Metadata
from ccog.tiff.header import Template

# what any GDAL driver is told of a raster
_PLAIN = frozenset({"driver", "height", "width", "count", "dtype", "crs", "nodata", "transform"})

# small enough to cost nothing, large enough for an overview
_SIDE = 16

# GDAL takes time for every pixel of a tile in every band, of which there may be tens of thousands
_TILE = 128


@dataclass(frozen=True)
class Described:
    """What GDAL has to know to write the tags: options, metadata, bands, type, and whether the rest exists.

    ``by_chunk`` says that tiles will lie chunk by chunk, of which GDAL knows nothing.
    """

    options: CreationOptions
    metadata: Metadata
    count: int
    dtype: str
    has_mask: bool
    overviews: bool
    by_chunk: bool = False


def write_template(
    described: Described, statistics: tuple[BandStatistics, ...] | None = None
) -> Template:
    """Let GDAL write the tags, with the statistics of the bands where they are wanted and known.

    Raises
    ------
    OptionError
        GDAL refuses the options for this dtype or band count.
    """
    metadata, count, dtype = described.metadata, described.count, described.dtype
    creation = described.options.cog_options() | {
        "BIGTIFF": "NO",
        "OVERVIEW_COUNT": str(int(described.overviews)),
        "SPARSE_OK": "YES",
    }
    if creation.get("STATISTICS") == "YES":
        creation["STATISTICS"] = "AUTO"
    if statistics is not None:
        metadata = _with_statistics(metadata, statistics)
    # on a tiling scheme the template is its first tile
    blocksize, on_scheme = described.options.blocksize, described.options.tiling_scheme is not None
    side = blocksize if on_scheme else _SIDE
    if not on_scheme:
        creation["BLOCKSIZE"] = str(min(blocksize, _TILE))
    profile: dict[str, Any] = {
        "driver": "COG",
        "height": side,
        "width": side,
        "count": count,
        "dtype": dtype,
        "crs": metadata.crs,
        "nodata": metadata.nodata,
        **creation,
    }
    if metadata.transform is not None:
        profile["transform"] = metadata.transform
    write = _written_by_copy if dtype == "complex_int16" else _written
    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            MemoryFile() as memory,
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            write(memory, profile, metadata, described.has_mask)
            data = memory.read()
    except (RasterioError, CPLE_BaseError, SystemError, TypeError, ValueError) as error:
        raise _refused(creation, count, dtype, error) from error
    if not data:
        raise _refused(creation, count, dtype, None)
    template = Template.parse(data).with_tiles(blocksize, overview_blocksize(blocksize))
    return template.by_chunk() if described.by_chunk else template


def _written(
    memory: MemoryFile, profile: dict[str, Any], metadata: Metadata, has_mask: bool
) -> None:
    with memory.open(**profile) as dataset:
        _describe(dataset, metadata)
        if has_mask:
            dataset.write_mask(np.full(dataset.shape, 255, np.uint8))


def _written_by_copy(
    memory: MemoryFile, profile: dict[str, Any], metadata: Metadata, has_mask: bool
) -> None:
    """The same by CreateCopy: rasterio would write pixels that NumPy has no type for in the next larger one."""
    plain = {key: profile[key] for key in _PLAIN if key in profile}
    creation = {key: value for key, value in profile.items() if key not in _PLAIN}
    with MemoryFile() as source:
        _written(source, plain | {"driver": "GTiff"}, metadata, has_mask)
        rasterio.shutil.copy(source.name, memory.name, driver="COG", **creation)


def _refused(
    creation: dict[str, str], count: int, dtype: str, error: Exception | None
) -> OptionError:
    asked = ", ".join(
        f"{k}={v}"
        for k, v in creation.items()
        if k not in ("BIGTIFF", "OVERVIEW_COUNT", "SPARSE_OK")
    )
    reason = f": {error}" if error else ""
    return OptionError(
        f"GDAL {rasterio.__gdal_version__} refuses {count} band(s) of {dtype} with {asked}{reason}"
    )


def _with_statistics(metadata: Metadata, statistics: tuple[BandStatistics, ...]) -> Metadata:
    """Band tags with statistics among them (GDAL sorts them by name)."""
    tags = dict(metadata.tags)
    for band, found in enumerate(statistics, 1):
        kept = {k: v for k, v in tags.get(band, {}).items() if not k.startswith("STATISTICS_")}
        tags[band] = kept | found.tags()
    return replace(metadata, tags=tags)


def _describe(dataset: Any, metadata: Metadata) -> None:
    for key, tags in metadata.tags.items():
        band, domain = key if isinstance(key, tuple) else (key, None)
        dataset.update_tags(band, domain, **tags)
    for name in ("descriptions", "offsets", "scales", "units", "colorinterp", "rpcs"):
        value = getattr(metadata, name)
        if value is not None:
            setattr(dataset, name, value)
    if metadata.gcps is not None:
        dataset.gcps = (list(metadata.gcps), metadata.crs)
    if metadata.colormap is not None:
        dataset.write_colormap(1, dict(metadata.colormap))
