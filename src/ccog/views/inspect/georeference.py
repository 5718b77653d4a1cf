"""CRS, transform, nodata and names of bands from the header of a TIFF.

GDAL reads CRS and transform out of a TIFF of one pixel that has the same georeferencing.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Mapping
from html import unescape

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from ccog.tiff import tags
from ccog.tiff.directories import Layout, Tag
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

# the tags of an image of one byte that is not stored
_ONE_PIXEL = {
    tags.IMAGE_WIDTH: 1,
    tags.IMAGE_LENGTH: 1,
    tags.BITS_PER_SAMPLE: 8,
    tags.COMPRESSION: 1,
    tags.PHOTOMETRIC: 1,
    tags.STRIP_OFFSETS: 0,
    tags.SAMPLES_PER_PIXEL: 1,
    tags.ROWS_PER_STRIP: 1,
    tags.STRIP_BYTE_COUNTS: 0,
}


def georeference(header: Header) -> Georeference:
    """Where the full resolution lies, and what its bands are."""
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
    pixel = _one_pixel(placing, header.layout.order)
    with warnings.catch_warnings(), contextlib.suppress(RasterioError):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(pixel) as file, file.open() as dataset:
            is_placed = dataset.transform != Affine.identity()
            return dataset.crs, dataset.transform if is_placed else None
    return None, None


def _one_pixel(placing: Mapping[int, Tag], order: str) -> bytes:
    """A classic TIFF of one sparse pixel, with the tags that place it."""
    layout = Layout(big=False)
    entries = {number: Tag.integer(value) for number, value in _ONE_PIXEL.items()}
    for number, tag in placing.items():
        size = tags.FIELD_SIZES.get(tag.type, 1)
        values = np.frombuffer(tag.raw, f"{order}u{size}").astype(f"<u{size}")
        entries[number] = tag._replace(raw=values.tobytes())
    behind = layout.header_size + layout.directory_size(len(entries))
    fields, outside = [], b""
    for number, tag in entries.items():
        raw = tag.raw
        if len(raw) > layout.inline:
            raw, outside = layout.pack_offset(behind + len(outside)), outside + raw
        fields.append((number, tag.type, tag.count, raw))
    return layout.header(layout.header_size) + layout.directory(fields, 0) + outside
