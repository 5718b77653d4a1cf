"""CRS, transform, nodata and names of bands from the header of a TIFF.

GDAL reads CRS and transform out of a TIFF of one pixel that has the same georeferencing.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections.abc import Mapping
from html import unescape

from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from ccog.tiff import tags
from ccog.tiff.directories import Tag
from ccog.views.georeference import Georeference
from ccog.views.inspect.header import Header

# GDAL's line for something that it knows (GTiffDataset::WriteMetadata)
_NAME = re.compile(
    rb'<Item name="DESCRIPTION" sample="(\d{1,5})" role="description">([^<]{0,1000})</Item>'
)
_RESAMPLING = re.compile(
    rb'<Item name="OVERVIEW_RESAMPLING" domain="IMAGE_STRUCTURE">([^<]{0,100})</Item>'
)

# most bytes of a nodata value that is a number
_LONGEST_NUMBER = 100

_SHORT, _LONG = 3, 4


def georeference(header: Header) -> Georeference:
    """The same of the full resolution."""
    full = header.directories[0]
    crs, transform = _crs_and_transform(header)
    names = {int(sample): _text(name) for sample, name in _NAME.findall(header.metadata)}
    return Georeference.of(
        crs=crs,
        transform=transform,
        nodata=_nodata(header.described),
        band_names=[names.get(band) for band in range(full.samples)],
        size=full.size,
    )


def overview_resampling(header: Header) -> str | None:
    """How overviews were made, where the file says it."""
    said = _RESAMPLING.search(header.metadata)
    return None if said is None else _text(said[1]).lower()


def _text(raw: bytes) -> str:
    # GDAL escapes texts, and then the XML that they are in (WriteMDMetadata)
    text = unescape(unescape(raw.decode("utf-8", "replace")))
    return "".join(character if character.isprintable() else "?" for character in text)


def _nodata(described: Mapping[int, Tag]) -> float | int | None:
    tag = described.get(tags.GDAL_NODATA)
    if tag is None:
        return None
    text = bytes(tag.raw[:_LONGEST_NUMBER]).split(b"\0")[0].strip()
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def _crs_and_transform(header: Header) -> tuple[CRS | None, Affine | None]:
    placing = {n: tag for n, tag in header.described.items() if n in tags.GEOREFERENCING}
    if not placing:
        return None, None
    with warnings.catch_warnings(), contextlib.suppress(RasterioError):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(_one_pixel(placing, header.layout.order)) as file, file.open() as dataset:
            is_placed = dataset.transform != Affine.identity()
            return dataset.crs, dataset.transform if is_placed else None
    return None, None


def _one_pixel(placing: Mapping[int, Tag], order: str) -> bytes:
    """A classic TIFF of one sparse pixel, with the tags that place it."""

    def short(value: int) -> Tag:
        return Tag(_SHORT, 1, struct.pack(f"{order}H", value))

    ones = (
        tags.IMAGE_WIDTH,
        tags.IMAGE_LENGTH,
        tags.COMPRESSION,
        tags.PHOTOMETRIC,
        tags.SAMPLES_PER_PIXEL,
        tags.ROWS_PER_STRIP,
    )
    entries = {number: short(1) for number in ones} | dict(placing)
    entries[tags.BITS_PER_SAMPLE] = short(8)
    entries[tags.STRIP_OFFSETS] = entries[tags.STRIP_BYTE_COUNTS] = short(0)
    body, values = b"", b""
    behind = 8 + 2 + 12 * len(entries) + 4
    for number, tag in sorted(entries.items()):
        raw = bytes(tag.raw)
        if len(raw) > _LONG:
            raw, values = struct.pack(f"{order}I", behind + len(values)), values + raw
        body += struct.pack(f"{order}HHI4s", number, tag.type, tag.count, raw)
    magic = b"II" if order == "<" else b"MM"
    start = struct.pack(f"{order}2sHIH", magic, 42, 8, len(entries))
    return start + body + bytes(4) + values
