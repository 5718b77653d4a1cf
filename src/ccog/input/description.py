"""What GDAL knows of a file beside its pixels: a VRT without sources.

GDAL's CreateCopy of it makes the tags that CreateCopy makes of the file.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from ccog.errors import warn_user
from ccog.input.gdal_names import gdal_name
from ccog.input.metadata import Metadata, TagKey, band_and_domain

# elements of a VRT that describe the raster, the mask or a band; others say where pixels are
_OF_DATASET = {"SRS", "GeoTransform", "GCPList", "Metadata", "VRTRasterBand", "MaskBand"}
_OF_BAND = {
    "CategoryNames", "ColorInterp", "ColorTable", "Description", "GDALRasterAttributeTable",
    "HideNoDataValue", "MaskBand", "Metadata", "NoDataValue", "Offset", "Scale", "UnitType",
}  # fmt: skip
_BAND_ATTRIBUTES = {"dataType", "band"}

# what a TIFF may have no place for, by where a VRT has it, and what to do
_COPY_IT = "copy that file if you need them"
_PERHAPS_BESIDE = {
    "SRS": ("the CRS is", "reproject the raster to one that GeoTIFF has"),
    "VRTRasterBand/ColorTable": ("the palette is", "uint8 and uint16 of one or two bands have one"),
    "VRTRasterBand/CategoryNames": ("category names are", _COPY_IT),
    "VRTRasterBand/GDALRasterAttributeTable": ("raster attribute tables are", _COPY_IT),
    "Metadata[@domain='IMD']": ("IMD metadata is", "COPY_SRC_MDD=YES keeps it in the TIFF"),
}

# domains that say how the file is stored, and stay where tags are dropped
_STRUCTURE = "IMAGE_STRUCTURE"
_KEPT_WITHOUT_TAGS = {_STRUCTURE, "RPC"}

# domains for which TIFF has tags of their own, whatever SRC_MDD says
_WITH_OWN_TAGS = {*_KEPT_WITHOUT_TAGS, "COLOR_PROFILE", "xml:XMP"}

# domains of GDAL's own making
_DERIVED_DOMAINS = {_STRUCTURE, "DERIVED_SUBDATASETS", "SUBDATASETS"}

# the tag that moves georeferencing by half a pixel
_AREA_OR_POINT = "AREA_OR_POINT"


def describe(dataset: Any, *, tags: bool) -> Metadata:
    """What the header of a copy of an open dataset is made from.

    Its ``description`` is the content of a VRT without pixels; its other fields are what a VRT
    loses. Without ``tags`` only what positions and colours need is kept.
    """
    # opened anew: GDAL adds a tag (METADATATYPE) once anybody asked for what lies beside the raster
    root = vrt_of(gdal_name(dataset.name))
    _keep(root, _OF_DATASET)
    for mask in root.iter("MaskBand"):
        _keep(mask, {"VRTRasterBand"})
    for band in root.iter("VRTRasterBand"):
        _keep(band, _OF_BAND)
        band.attrib = {key: text for key, text in band.items() if key in _BAND_ATTRIBUTES}
    if not tags:
        for parent in [root, *root.iter("VRTRasterBand")]:
            _drop_tags(parent, _KEPT_WITHOUT_TAGS)
    # a VRT rounds digits of ground control points away
    for element, point in zip(root.iter("GCP"), dataset.gcps[0], strict=True):
        place = {"Pixel": point.col, "Line": point.row, "X": point.x, "Y": point.y, "Z": point.z}
        element.attrib |= {name: repr(number) for name, number in place.items() if number}
    content = "".join(ET.tostring(child, "unicode") for child in root)
    return Metadata(
        description=content,
        tags=_tags(dataset, root, with_all=tags),
        # a VRT takes any table of colours for a palette
        colorinterp=dataset.colorinterp if "<ColorTable>" in content else None,
    )


def exact_nodata(dataset: Any) -> float | int | None:
    """The nodata value of an open dataset, also where a float would round it.

    ``DatasetReader.nodata`` is a float. It is wrong for 64-bit integers beyond 2**53, and None for
    the largest. A VRT has the digits.
    """
    nodata: float | None = dataset.nodata
    if dataset.dtypes[0] not in ("int64", "uint64"):
        return nodata
    text = vrt_of(dataset).findtext("VRTRasterBand/NoDataValue")
    return None if text is None else int(text)


def is_jpeg(dataset: Any) -> bool:
    """Whether it is a JPEG file, or a VRT of one as it stands (GetUnderlyingDataset of GDAL)."""
    if dataset.driver != "VRT":
        return bool(dataset.driver == "JPEG")
    names = set()
    for number, band in enumerate(vrt_of(gdal_name(dataset.name)).findall("VRTRasterBand"), 1):
        source = band.find("SimpleSource")
        if source is None or source.findtext("SourceBand") != str(number):
            return False
        window, place = source.find("SrcRect"), source.find("DstRect")
        if window is not None and place is not None and window.attrib != place.attrib:
            return False
        names.add(source.findtext("SourceFilename"))
    if len(names) != 1:
        return False
    with contextlib.suppress(RasterioError), rasterio.open(names.pop()) as inside:
        return bool(inside.shape == dataset.shape) and is_jpeg(inside)
    return False


def vrt_of(dataset: Any) -> ET.Element:
    """All that GDAL would write of a dataset, open or named, into a VRT."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        return ET.fromstring(memory.read())


def warn_of_sidecars(path: str, alone: bytes) -> None:
    """Warn of what GDAL wrote into files beside a TIFF, for which ccog has no store.

    ``alone`` are the bytes of the TIFF at ``path``, which is in GDAL's memory.
    """
    with rasterio.open(path) as dataset:
        endings = [file.removeprefix(path).removeprefix(path[:-4]) for file in dataset.files[1:]]
        if not endings:
            return
        whole = vrt_of(dataset)
    with MemoryFile(alone) as memory, memory.open() as dataset:
        kept = vrt_of(dataset)
    for place, (what_is, remedy) in _PERHAPS_BESIDE.items():
        if whole.find(place) is not None and kept.find(place) is None:
            warn_user(
                f"{what_is} left out: GDAL keeps what TIFF has no place for in a file beside "
                f"the raster ({', '.join(endings)}); {remedy}"
            )


def warn_of_palette(data: bytes, asked: Mapping[int, tuple[int, ...]]) -> None:
    """Warn of colours that a user asks for, and the palette of a TIFF has not."""
    with MemoryFile(data) as memory, memory.open() as dataset:
        kept = palette_of(dataset)
    if kept is None:
        return  # warn_of_sidecars says so
    wanted = {value: (*colour, 255)[:4] for value, colour in asked.items()}
    beyond = [value for value in wanted if value not in kept]
    turned = [value for value in kept if value in wanted and wanted[value][3] != kept[value][3]]
    if beyond:
        warn_user(
            f"colormap has colours of {_some(beyond)}, and the palette of this file is of 0 to "
            f"{len(kept) - 1}: they are left out"
        )
    if turned:
        warn_user(
            f"colormap has an alpha of {_some(turned)}, and palettes of TIFF have none: the nodata "
            "value is transparent, all others are opaque; give nodata=, or a mask"
        )


def _some(values: Sequence[int]) -> str:
    text = ", ".join(map(str, values[:5]))
    return text if len(values) <= 5 else f"{text} and {len(values) - 5} more"


def palette_of(dataset: Any) -> dict[int, tuple[int, ...]] | None:
    """The palette of the first band; a band may be said to have one, and have none."""
    with contextlib.suppress(ValueError):
        return dict(dataset.colormap(1))
    return None


def _keep(parent: ET.Element, names: set[str]) -> None:
    for child in list(parent):
        if child.tag not in names:
            parent.remove(child)


def _drop_tags(parent: ET.Element, kept: set[str]) -> None:
    """Drop the tags of all domains but the ``kept``, and of what positions depend on."""
    for metadata in parent.findall("Metadata"):
        if metadata.get("domain", "") in kept:
            continue
        for item in list(metadata):
            if item.get("key") != _AREA_OR_POINT:
                metadata.remove(item)


def of_domains(metadata: Metadata, domains: Sequence[str]) -> Metadata:
    """The metadata with the tags of these domains only, as SRC_MDD of GDAL names them."""
    named = {"" if domain == "_DEFAULT_" else domain.casefold() for domain in domains}
    found = {"", *(band_and_domain(key)[1] for key in metadata.tags)}
    root = ET.fromstring(f"<Raster>{metadata.description or ''}</Raster>")
    found |= {element.get("domain", "") for element in root.findall("Metadata")}
    kept = {domain for domain in found if domain.casefold() in named} | _WITH_OWN_TAGS
    _drop_tags(root, kept)
    content = "".join(ET.tostring(child, "unicode") for child in root)
    tags = {key: items for key, items in metadata.tags.items() if band_and_domain(key)[1] in kept}
    if (position := metadata.tags.get(0, {}).get(_AREA_OR_POINT)) is not None:
        tags[0] = {_AREA_OR_POINT: position, **tags.get(0, {})}
    return replace(metadata, description=metadata.description and content, tags=tags)


def _tags(dataset: Any, root: ET.Element, *, with_all: bool) -> dict[TagKey, dict[str, str]]:
    """Tags of the dataset (0) and of each band that a VRT, which keeps some domains, may lose.

    Without ``with_all`` these say how bands are stored: a VRT loses that alpha is premultiplied.
    """
    own = {item.get("key") for item in root.findall("Metadata/MDI")}
    tags: dict[TagKey, dict[str, str]] = {
        (band, _STRUCTURE): dataset.tags(band, ns=_STRUCTURE) for band in dataset.indexes
    }
    for band in (0, *dataset.indexes) if with_all else ():
        items = dataset.tags(band)
        tags[band] = items if band else {key: items[key] for key in items if key in own}
        for domain in dataset.tag_namespaces(band):
            if domain not in _DERIVED_DOMAINS:
                tags[band, domain] = dataset.tags(band, ns=domain)
    return {key: items for key, items in tags.items() if items}
