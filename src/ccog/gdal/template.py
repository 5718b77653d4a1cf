"""The template of the header: a tiny sparse COG with the same options and metadata.

The installed GDAL writes it, so that every tag of the file is GDAL's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from ccog.errors import OptionError
from ccog.gdal.rasterio_edges import GDAL_FAILURES, gdal_env
from ccog.gdal.statistics import BandStatistics
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import overview_blocksize
from ccog.geometry.tiling_scheme import scheme_of
from ccog.input.description import of_domains, warn_of_palette, warn_of_sidecars
from ccog.input.metadata import Metadata
from ccog.tiff.directories import Directory
from ccog.tiff.header import Template
from ccog.tiff.tags import GDAL_METADATA
from ccog.wording import plural

# small enough to cost nothing, large enough for an overview
_SIDE = 16

# GDAL takes time for every pixel of a tile in every band, of which there may be tens of thousands
_TILE = 128

# what any GDAL driver is told of a raster; the rest of a profile are options of the COG driver
_OF_ANY_DRIVER = frozenset(
    {"driver", "height", "width", "count", "dtype", "crs", "nodata", "transform"}
)

# options that the template needs, and nobody asked for
_OF_TEMPLATE = frozenset({"BIGTIFF", "OVERVIEW_COUNT", "SPARSE_OK"})

_OLD_STATISTICS = re.compile(r'<MDI key="STATISTICS_[^>]*>[^<]*</MDI>')

# prefixes of the keys of statistics, as they are and as GDAL is given them: it sorts these alike.
# It would compute statistics of its own again, of the template, where it turns alpha into a mask
_DISGUISE = ("STATISTICS_", "STATISTICS^")

_OLD_TRANSFORM = re.compile("<GeoTransform>[^<]*</GeoTransform>")

_OLD_NODATA = re.compile("<NoDataValue>[^<]*</NoDataValue>")

_EMPTY_MASK = '<MaskBand><VRTRasterBand dataType="Byte"/></MaskBand>'
# GDAL's line of the method that overviews were made by (GTiffDataset::WriteMetadata)
_RESAMPLING = '  <Item name="OVERVIEW_RESAMPLING" domain="IMAGE_STRUCTURE">{}</Item>\n'

# fields of Metadata that a dataset takes as they are
_ATTRIBUTES = ("descriptions", "offsets", "scales", "units", "colorinterp", "rpcs")


@dataclass(frozen=True, kw_only=True)
class HeaderSpec:
    """What GDAL must know to write the tags.

    ``overviews`` says that there are some. ``given_by`` is what the file says that given overviews
    were made by, perhaps nothing; None where they are computed. ``by_chunk`` says that the tiles
    will lie chunk by chunk, of which GDAL knows nothing.
    """

    options: CreationOptions
    metadata: Metadata
    count: int
    dtype: str
    has_mask: bool
    overviews: bool
    given_by: str | None = None
    by_chunk: bool = False


def write_template(
    spec: HeaderSpec, statistics: tuple[BandStatistics, ...] | None = None
) -> Template:
    """Let GDAL write the tags, with the statistics of the bands where they are wanted and known.

    Raises
    ------
    OptionError
        GDAL refuses the options for this dtype or number of bands.
    """
    options = _cog_options(spec)
    # rasterio drops such a nodata value, which CreateCopy keeps
    nodata = spec.metadata.nodata if spec.dtype in ("int64", "uint64") else None
    metadata = spec.metadata if nodata is None else _without_nodata(spec.metadata)
    if statistics is not None:
        metadata = _with_statistics(metadata, statistics)
    if spec.options.src_mdd is not None:
        metadata = of_domains(metadata, spec.options.src_mdd)
    # rasterio writes pixels that NumPy has no type for in the next larger type
    write = _write_by_copy if spec.dtype == "complex_int16" else _write
    if metadata.description is not None:
        write = _write_of_file
    try:
        with warnings.catch_warnings(), gdal_env(), MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            write(memory, _profile(spec, options, metadata), metadata, spec.has_mask)
            data = memory.read()
            if data and statistics is None:
                warn_of_sidecars(memory.name, data)
                if metadata.colormap:
                    warn_of_palette(data, metadata.colormap)
    except GDAL_FAILURES as error:
        advice = _NO_CODEC if "missing codec" in str(error) else ""
        raise _refusal(spec, options, f": {error}{advice}") from error
    if not data:
        raise _refusal(spec, options)
    blocksize = spec.options.blocksize
    template = Template.parse(data)
    if statistics is not None:
        template = _undisguised(template)
    side = int(options.get("BLOCKSIZE", blocksize))
    if template.sides != (side, overview_blocksize(side) if spec.overviews else side):
        raise _refusal(spec, options, f": its tiles have sides of {template.sides} pixels")
    template = template.with_tiles(blocksize, overview_blocksize(blocksize))
    if spec.given_by is not None:
        template = _with_resampling(template, spec.given_by)
    if nodata is not None:
        template = template.with_nodata(int(nodata))
    return template.by_chunk() if spec.by_chunk else template


def _without_nodata(metadata: Metadata) -> Metadata:
    description = metadata.description and _OLD_NODATA.sub("", metadata.description)
    return replace(metadata, nodata=None, description=description)


def _cog_options(spec: HeaderSpec) -> dict[str, str]:
    options = spec.options.cog_options()
    options |= {"BIGTIFF": "NO", "OVERVIEW_COUNT": str(int(spec.overviews)), "SPARSE_OK": "YES"}
    if spec.dtype.startswith("complex"):
        # GDAL before 3.11 asks for a method that complex pixels do not have
        options.setdefault("OVERVIEW_RESAMPLING", options.get("RESAMPLING", "NEAREST"))
    if spec.given_by is not None:
        # one that GDAL makes stands for them, by a method that suits all pixels
        options |= {"OVERVIEWS": "AUTO", "OVERVIEW_RESAMPLING": "NEAREST"}
    if options.get("STATISTICS") == "YES":
        options["STATISTICS"] = "AUTO"
    if options.pop("SRC_MDD", None) is not None:
        # rasterio hands on one of several; the others are dropped before
        options["COPY_SRC_MDD"] = "YES"
    if spec.options.tiling_scheme is None:
        options["BLOCKSIZE"] = str(min(spec.options.blocksize, _TILE))
    return options


def _profile(spec: HeaderSpec, options: Mapping[str, str], metadata: Metadata) -> dict[str, Any]:
    scheme, side = scheme_of(spec.options), _SIDE
    if scheme is not None:
        # on a tiling scheme the template is the first tiles of the raster
        tiles = scheme.step(spec.options.zoom_level or 0, spec.options.aligned_levels)
        side = tiles * spec.options.blocksize
    profile = {
        "driver": "COG",
        "height": side,
        "width": side,
        "count": spec.count,
        "dtype": spec.dtype,
        "crs": metadata.crs,
        "nodata": metadata.nodata,
        **options,
    }
    if metadata.transform is not None:
        profile["transform"] = metadata.transform
    return profile


def _write(
    memory: MemoryFile, profile: Mapping[str, Any], metadata: Metadata, has_mask: bool
) -> None:
    with memory.open(**profile) as dataset:
        _set_metadata(dataset, metadata)
        if has_mask:
            dataset.write_mask(np.full(dataset.shape, 255, np.uint8))


def _write_by_copy(
    memory: MemoryFile, profile: Mapping[str, Any], metadata: Metadata, has_mask: bool
) -> None:
    """The same by CreateCopy, which keeps the type of the pixels."""
    source_profile = {key: profile[key] for key in _OF_ANY_DRIVER if key in profile}
    source_profile["driver"] = "GTiff"
    options = {key: value for key, value in profile.items() if key not in _OF_ANY_DRIVER}
    with MemoryFile() as source:
        _write(source, source_profile, metadata, has_mask)
        rasterio.shutil.copy(source.name, memory.name, driver="COG", **options)


def _write_of_file(
    memory: MemoryFile, profile: Mapping[str, Any], metadata: Metadata, has_mask: bool
) -> None:
    """The same by CreateCopy of what describes a source file."""
    options = {key: value for key, value in profile.items() if key not in _OF_ANY_DRIVER}
    side = profile["width"]
    description = metadata.description or ""
    if metadata.gcps is not None and metadata.transform is None:
        # GDAL would heed it, and not the points that the user gives
        description = _OLD_TRANSFORM.sub("", description)
    vrt = f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{description}'
    if has_mask and "<MaskBand>" not in vrt:
        vrt += _EMPTY_MASK
    with (
        MemoryFile((vrt + "</VRTDataset>").encode(), ext=".vrt") as source,
        rasterio.open(source.name, "r+") as dataset,
    ):
        _set_georeferencing(dataset, metadata)
        _set_metadata(dataset, metadata)
        rasterio.shutil.copy(dataset, memory.name, driver="COG", **options)


def _set_georeferencing(dataset: Any, metadata: Metadata) -> None:
    """Set what the user says of the place and of nodata; a CRS is that of the points too."""
    points, crs_of_points = dataset.gcps
    crs = metadata.crs
    if crs is None and metadata.transform is not None:
        crs = dataset.crs or crs_of_points
    given = {"crs": crs, "transform": metadata.transform, "nodata": metadata.nodata}
    for name, value in given.items():
        if value is not None:
            setattr(dataset, name, value)
    if crs is not None:
        _set_points(dataset, points, crs)


def _set_metadata(dataset: Any, metadata: Metadata) -> None:
    for key, tags in metadata.tags.items():
        band, domain = key if isinstance(key, tuple) else (key, None)
        dataset.update_tags(band, domain, **_as_items(domain, tags))
    for name in _ATTRIBUTES:
        value = getattr(metadata, name)
        if value is not None:
            setattr(dataset, name, value)
    if metadata.gcps is not None:
        _set_points(dataset, metadata.gcps, metadata.crs or dataset.crs or dataset.gcps[1])
    if metadata.colormap is not None:
        dataset.write_colormap(1, dict(metadata.colormap))


def _set_points(dataset: Any, points: Sequence[GroundControlPoint], crs: CRS | None) -> None:
    # rasterio takes no None for "of no CRS"
    if points:
        dataset.gcps = (list(points), crs or CRS())


def _as_items(domain: str | None, tags: Mapping[str, str]) -> Mapping[str, str]:
    """Tags as rasterio takes them: it joins keys and values by "=", and XML must come out whole."""
    if domain is None or not domain.startswith("xml:") or set(tags) != {domain}:
        return tags
    before, _, after = tags[domain].partition("=")
    return {before: after}


def _with_statistics(metadata: Metadata, statistics: tuple[BandStatistics, ...]) -> Metadata:
    """The metadata with statistics among the tags of the bands (GDAL sorts tags by name)."""
    if metadata.description is not None:
        metadata = replace(metadata, description=_OLD_STATISTICS.sub("", metadata.description))
    tags = dict(metadata.tags)
    # GDAL makes statistics in a copy that loses these (GDALTranslate)
    for domain in ("COLOR_PROFILE", "xml:XMP"):
        tags.pop((0, domain), None)
    for band, of_band in enumerate(statistics, 1):
        items = tags.get(band, {}).items()
        others = {key: value for key, value in items if not key.startswith("STATISTICS_")}
        tags[band] = others | {
            key.replace(*_DISGUISE): value for key, value in of_band.tags().items()
        }
    return replace(metadata, tags=tags)


def _undisguised(template: Template) -> Template:
    tag = template.image.tags[GDAL_METADATA]
    real, shown = (f'name="{prefix}'.encode() for prefix in _DISGUISE)
    tag = tag._replace(raw=tag.raw.replace(shown, real))
    return replace(template, image=template.image.with_tags({GDAL_METADATA: tag}))


def _with_resampling(template: Template, text: str) -> Template:
    """The template with another OVERVIEW_RESAMPLING, or none, where this GDAL writes it."""
    by_number = dict(template.image.tags)
    tag = by_number.pop(GDAL_METADATA, None)
    if tag is None:
        return template
    item = _RESAMPLING.format(escape(text)).encode() if text else b""
    raw = re.sub(_RESAMPLING.format("[^<]*").encode(), lambda _: item, tag.raw)
    if b"<Item" in raw:
        by_number[GDAL_METADATA] = tag._replace(count=len(raw), raw=raw)
    return replace(template, image=Directory(by_number))


#: What to do where GDAL was built without a codec, as rasterio's wheels are without JPEG XL.
_NO_CODEC = " Choose another COMPRESS, or a GDAL that has the codec, e.g. that of conda-forge"


def _refusal(spec: HeaderSpec, options: Mapping[str, str], reason: str = "") -> OptionError:
    asked = [f"{key}={value}" for key, value in options.items() if key not in _OF_TEMPLATE]
    return OptionError(
        f"GDAL {rasterio.__gdal_version__} refuses {plural(spec.count, 'band')} of {spec.dtype} "
        f"with {', '.join(asked)}{reason}"
    )
