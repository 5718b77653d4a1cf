"""What GDAL knows of a file beside its pixels: a VRT without sources.

GDAL's CreateCopy of it makes the tags that CreateCopy makes of the file.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import rasterio.shutil
from rasterio.io import MemoryFile

from ccog.errors import warn_user
from ccog.input.metadata import Metadata, TagKey
from ccog.versions import GDAL_VERSION

# elements of a VRT that describe the raster, the mask or a band; others say where pixels are
_OF_DATASET = {"SRS", "GeoTransform", "GCPList", "Metadata", "VRTRasterBand", "MaskBand"}
_OF_MASK = {"VRTRasterBand"}
_OF_BAND = {
    "CategoryNames", "ColorInterp", "ColorTable", "Description", "GDALRasterAttributeTable",
    "HideNoDataValue", "MaskBand", "Metadata", "NoDataValue", "Offset", "Scale", "UnitType",
}  # fmt: skip
_BAND_ATTRIBUTES = {"dataType", "band"}

# what GDAL does not store in a TIFF
_IN_SIDECAR = {"CategoryNames": "category names"}
if GDAL_VERSION < (3, 11):
    _IN_SIDECAR["GDALRasterAttributeTable"] = "raster attribute tables"

# domains that say how the file is stored, and stay where tags are dropped
_STRUCTURE = "IMAGE_STRUCTURE"
_KEPT_WITHOUT_TAGS = {_STRUCTURE, "RPC"}

# domains of GDAL's own making
_DERIVED_DOMAINS = {_STRUCTURE, "DERIVED_SUBDATASETS", "SUBDATASETS"}

# the tag that moves georeferencing by half a pixel
_AREA_OR_POINT = "AREA_OR_POINT"


def describe(dataset: Any, *, tags: bool) -> Metadata:
    """What the header of a copy of an open dataset is made from.

    Its ``description`` is the content of a VRT without pixels; its other fields are what a VRT
    loses. Without ``tags`` only what positions and colours need is kept.
    """
    root = _vrt(dataset)
    _warn_of_sidecar(root)
    _keep_facts(root, tags=tags)
    content = "".join(ET.tostring(child, "unicode") for child in root)
    gcps = tuple(dataset.gcps[0]) or None
    return Metadata(
        description=content,
        tags=_structure(dataset) | (_all_tags(dataset) if tags else {}),
        # a VRT takes any table of colours for a palette
        colorinterp=dataset.colorinterp if "<ColorTable>" in content else None,
        # a VRT rounds the pixels of ground control points
        gcps=gcps,
        crs=dataset.gcps[1] if gcps else None,
    )


def exact_nodata(dataset: Any) -> float | int | None:
    """The nodata value of an open dataset, also where a float would round it.

    ``DatasetReader.nodata`` is a float. It is wrong for 64-bit integers beyond 2**53, and None for
    the largest. A VRT has the digits.
    """
    nodata: float | None = dataset.nodata
    if dataset.dtypes[0] not in ("int64", "uint64"):
        return nodata
    text = _vrt(dataset).findtext("VRTRasterBand/NoDataValue")
    return None if text is None else int(text)


def _vrt(dataset: Any) -> ET.Element:
    """All that GDAL would write of an open dataset into a VRT."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        return ET.fromstring(memory.read())


def _warn_of_sidecar(root: ET.Element) -> None:
    """GDAL writes these into OUTPUT.aux.xml, for which ccog has no store."""
    left = [text for tag, text in _IN_SIDECAR.items() if root.find(f".//{tag}") is not None]
    if left:
        warn_user(
            f"{' and '.join(left)} of the source are left out: GDAL keeps them in a file of their "
            "own beside the raster (.aux.xml); copy that file if you need them"
        )


def _keep_facts(root: ET.Element, *, tags: bool) -> None:
    _keep(root, _OF_DATASET)
    for band in root.iter("VRTRasterBand"):
        _keep(band, _OF_BAND)
        band.attrib = {key: text for key, text in band.items() if key in _BAND_ATTRIBUTES}
    for mask in root.iter("MaskBand"):
        _keep(mask, _OF_MASK)
    if not tags:
        for parent in [root, *root.iter("VRTRasterBand")]:
            _drop_tags(parent)


def _keep(parent: ET.Element, names: set[str]) -> None:
    for child in list(parent):
        if child.tag not in names:
            parent.remove(child)


def _drop_tags(parent: ET.Element) -> None:
    for metadata in parent.findall("Metadata"):
        if metadata.get("domain") in _KEPT_WITHOUT_TAGS:
            continue
        for item in list(metadata):
            if item.get("key") != _AREA_OR_POINT:
                metadata.remove(item)


def _structure(dataset: Any) -> dict[TagKey, dict[str, str]]:
    """How bands are stored, of which a VRT loses that alpha is premultiplied."""
    items = {(band, _STRUCTURE): dataset.tags(band, ns=_STRUCTURE) for band in dataset.indexes}
    return {key: tags for key, tags in items.items() if tags}


def _all_tags(dataset: Any) -> dict[TagKey, dict[str, str]]:
    """The tags of all domains, of the dataset (0) and of each band: a VRT keeps some domains."""
    tags: dict[TagKey, dict[str, str]] = {}
    for band in (0, *dataset.indexes):
        tags[band] = dataset.tags(band)
        for domain in dataset.tag_namespaces(band):
            if domain not in _DERIVED_DOMAINS:
                tags[band, domain] = dataset.tags(band, ns=domain)
    return {key: items for key, items in tags.items() if items}
