"""A raster of the command line as lazy arrays, and how large its chunks are."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

from ccog.geometry.intervals import Size
from ccog.geometry.raster_facts import MaskKind
from ccog.input.metadata import Metadata

#: Side, in pixels, that chunks have at most unless asked otherwise.
DEFAULT_CHUNK = 4096

#: Bytes, all bands together, that a chunk holds at most unless asked otherwise.
MAX_CHUNK_BYTES = 64 * 2**20

#: How names of GDAL begin that change a file on the way; ``?`` and options follow the path.
VRT_CONNECTION = "vrt://"

# sides of chunks are multiples of this where the file's own blocks allow it
_STEP = 512


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raster to write: pixels, mask and metadata, as ``write_ccog`` takes them.

    A mask of a file is bytes (y, x), or those of each band (band, y, x). For ``mask_kind`` and the
    values of nodata see :class:`~ccog.geometry.raster_facts.RasterFacts`.
    """

    array: Any
    mask: Any = None
    mask_kind: MaskKind = "array"
    nodata_by_band: tuple[float | int | None, ...] | None = None
    nodata_values: tuple[float, ...] | None = None
    #: Those that a file has (``GivenOverviews``).
    overviews: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=Metadata)
    #: Whether it is a JPEG file, of which GDAL can copy the compressed data.
    is_jpeg: bool = False
    #: What the header of the copy of a file is made from.
    header: Metadata | None = None


def chunk_shape(height: int, width: int, block: Size, pixel_bytes: int) -> Size:
    """Chunk that suits a file in blocks of ``block``, all in pixels.

    It has about ``DEFAULT_CHUNK`` pixels a side and at most ``MAX_CHUNK_BYTES``. Files in strips
    are read in strips: a chunk that cuts strips would decode each of them many times.
    """
    side = min(DEFAULT_CHUNK, math.isqrt(MAX_CHUNK_BYTES // pixel_bytes))
    if block[1] >= width > side:
        rows = MAX_CHUNK_BYTES // (pixel_bytes * width)
        return _multiple(rows, _step(block[0])), width
    return _multiple(side, _step(block[0])), _multiple(side, _step(block[1]))


def _step(block: int) -> int:
    step = math.lcm(block, _STEP)
    return step if step <= DEFAULT_CHUNK else _STEP


def _multiple(length: int, step: int) -> int:
    return max(length // step, 1) * step


def absolute_path(path: str) -> str:
    """The path of a local file in any directory: workers may run in another one."""
    return os.path.abspath(path) if os.path.exists(path) else path


def file_behind(path: str) -> str:
    """The path of a file that a ``vrt://`` changes on the way; other paths are as they are."""
    is_changed = path.startswith(VRT_CONNECTION)
    return path.removeprefix(VRT_CONNECTION).partition("?")[0] if is_changed else path


def file_stamp(path: str) -> tuple[int, int] | None:
    """Size and time of a local file, so that one that has changed has another name in dask."""
    try:
        status = os.stat(file_behind(path))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
