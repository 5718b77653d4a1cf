"""Records of a checkpoint as bytes: JSON and arrays behind a digest.

Nothing in a record is code, and nothing in it decides how much memory is taken: arrays are views
of its bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.gdal.statistics import BandStatistics
from ccog.geometry.parts import Joins, Part, Segment
from ccog.tasks.blocks import PartialOverview, PixelPatch
from ccog.tasks.uploads import TileSizes, UploadedGroup, UploadedSegment

Array = npt.NDArray[Any]

# zlib's fastest that still shrinks constant areas: these pixels are read once, if at all
_FAST = (1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)

# bytes before the content of a record: a mark and a digest
_MARK = b"ccog"
_HEAD = len(_MARK) + hashlib.sha256().digest_size


def dump_segment(uploaded: UploadedSegment) -> bytes:
    """The record of an uploaded segment."""
    segment, joins, groups = uploaded
    arrays = {"head": _as_array(segment.head), "tail": _as_array(segment.tail)}
    rows = []
    for n, group in enumerate(groups):
        arrays[f"image-{n}"] = group.sizes.image
        if group.sizes.mask is not None:
            arrays[f"mask-{n}"] = group.sizes.mask
        bands = None if group.statistics is None else [*map(asdict, group.statistics)]
        rows.append((group.level, bands, group.nan))
    about = {"parts": segment.parts, "joins": joins, "rows": rows}
    return _closed(_packed(about, arrays))


def parse_segment(data: bytes) -> UploadedSegment:
    """The segment that ``dump_segment`` was given."""
    about, arrays = _unpacked(_opened(data))
    head, tail = _as_buffers(arrays["head"]), _as_buffers(arrays["tail"])
    parts = [
        Part(_integer(number), _integer(size), str(tag)) for number, size, tag in about["parts"]
    ]
    groups = [_group(n, row, arrays) for n, row in enumerate(about["rows"])]
    first, last = about["joins"]
    return UploadedSegment(Segment(head, parts, tail), Joins(first, last), groups)


def _group(n: int, row: list[Any], arrays: dict[str, Array]) -> UploadedGroup:
    level, bands, nan = row
    sizes = TileSizes(arrays[f"image-{n}"], arrays.get(f"mask-{n}"))
    statistics = None if bands is None else tuple(map(_band, bands))
    return UploadedGroup(level, sizes, statistics, _integer(nan))


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _band(values: dict[str, Any]) -> BandStatistics:
    sums = values.pop("sums")
    if not all(type(value) in (int, float) for value in [*values.values(), *(sums or ())]):
        raise TypeError("a statistic is not a number")
    return BandStatistics(**values, sums=None if sums is None else (sums[0], sums[1]))


def dump_overviews(overviews: list[PartialOverview]) -> bytes:
    """The record of a block's partial overviews, compressed."""
    arrays: dict[str, Array] = {}
    numbers = itertools.count()
    about = []
    for overview in overviews:
        reduced = [_dumped_patch(patch, next(numbers), arrays) for patch in overview.reduced]
        halos = [_dumped_patch(patch, next(numbers), arrays) for patch in overview.halos]
        about.append([reduced, halos])
    compressor = zlib.compressobj(*_FAST)
    return _closed(compressor.compress(_packed(about, arrays)) + compressor.flush())


def parse_overviews(data: bytes, limit: int = 0) -> list[PartialOverview]:
    """The overviews that ``dump_overviews`` was given; they have at most ``limit`` bytes, or any.

    Raises
    ------
    ValueError
        The record is cut off, or longer.
    """
    decompressor = zlib.decompressobj()
    plain = decompressor.decompress(_opened(data), limit)
    if not decompressor.eof:
        raise ValueError(f"it is cut off, or longer than {limit} bytes")
    about, arrays = _unpacked(plain)
    return [
        PartialOverview(list(_patches(reduced, arrays)), list(_patches(halos, arrays)))
        for reduced, halos in about
    ]


def _dumped_patch(patch: PixelPatch, n: int, arrays: dict[str, Array]) -> Any:
    if patch.pixels is not None:
        arrays[f"pixels-{n}"] = patch.pixels
    if patch.mask is not None:
        arrays[f"mask-{n}"] = patch.mask
    return n, patch.rows, patch.cols


def _patches(about: list[Any], arrays: dict[str, Array]) -> Iterator[PixelPatch]:
    for n, (top, bottom), (left, right) in about:
        pixels, mask = arrays.get(f"pixels-{n}"), arrays.get(f"mask-{n}")
        yield PixelPatch((top, bottom), (left, right), pixels, mask)


def _as_array(buffers: list[bytes]) -> Array:
    return np.frombuffer(b"".join(buffers), np.uint8)


def _as_buffers(array: Array) -> list[bytes]:
    return [array.tobytes()] if array.size else []


def _closed(body: bytes) -> bytes:
    """A record: its content behind a digest, so that a byte that changes is noticed."""
    return _MARK + hashlib.sha256(body).digest() + body


def _opened(data: bytes) -> memoryview:
    """The content of a record, if it is the one that was written."""
    view = memoryview(data)
    mark, digest, body = view[: len(_MARK)], view[len(_MARK) : _HEAD], view[_HEAD:]
    if mark != _MARK or hashlib.sha256(body).digest() != digest:
        raise ValueError("its bytes are not those that were written")
    return body


def _packed(about: Any, arrays: dict[str, Array]) -> bytes:
    """Length of the JSON, JSON, and the bytes of the arrays, one after the other."""
    listed = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    text = json.dumps({"about": about, "arrays": listed}).encode()
    pieces = [struct.pack("<Q", len(text)), text]
    pieces += [array.tobytes() for array in arrays.values()]
    return b"".join(pieces)


def _unpacked(data: bytes | memoryview) -> tuple[Any, dict[str, Array]]:
    """What ``_packed`` was given."""
    start = 8 + struct.unpack_from("<Q", data)[0]
    text = json.loads(bytes(data[8:start]))
    arrays: dict[str, Array] = {}
    for name, kind, shape in text["arrays"]:
        arrays[name] = _view(data, start, kind, shape)
        start += arrays[name].nbytes
    if start != len(data):
        raise ValueError("its arrays are not as long as it says")
    return text["about"], arrays


def _view(data: bytes | memoryview, start: int, kind: str, shape: list[Any]) -> Array:
    """An array within ``data``, which can't claim more than there is."""
    if 0 in shape:
        return np.empty(0, kind).reshape(shape)
    count = math.prod(map(_side, shape))
    return np.frombuffer(data, kind, count, start).reshape(shape)


def _side(value: Any) -> int:
    if _integer(value) < 0:
        raise ValueError(f"{value} is not the side of an array")
    return int(value)
