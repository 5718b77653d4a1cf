"""TIFF image file directories to and from bytes; knows nothing of COG, GDAL or dask (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

# field type -> struct code; RATIONAL (5) and SRATIONAL (10) are kept as raw bytes
_CODES = {
    1: "B",
    2: "c",
    3: "H",
    4: "I",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
}
#: Bytes of one value of each field type.
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}

SHORT, LONG, LONG8 = 3, 4, 16

NEW_SUBFILE_TYPE = 254
IMAGE_WIDTH = 256
IMAGE_LENGTH = 257
BITS_PER_SAMPLE = 258
COMPRESSION = 259
PHOTOMETRIC = 262
SAMPLES_PER_PIXEL = 277
PLANAR_CONFIG = 284
PREDICTOR = 317
TILE_WIDTH = 322
TILE_LENGTH = 323
TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325

#: Value of PLANAR_CONFIG where the bands lie one after the other.
SEPARATE = 2


@dataclass(frozen=True)
class Layout:
    """What differs between classic and BigTIFF (both little endian)."""

    big: bool

    @property
    def header_size(self) -> int:
        """Bytes before the ghost area or the first directory."""
        return 16 if self.big else 8

    @property
    def inline(self) -> int:
        """Largest value, in bytes, that is kept in the directory entry."""
        return 8 if self.big else 4

    @property
    def offset_type(self) -> int:
        """Field type of tile offsets."""
        return LONG8 if self.big else LONG

    def directory_size(self, entries: int) -> int:
        """Bytes of a directory without its out-of-line values."""
        return 8 + 20 * entries + 8 if self.big else 2 + 12 * entries + 4

    def header(self, first_directory: int) -> bytes:
        """The file header (TIFF 6.0 section 2; BigTIFF: magic 43)."""
        if self.big:
            return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first_directory)
        return struct.pack("<2sHI", b"II", 42, first_directory)

    def directory(self, entries: list[tuple[int, int, int, bytes]], following: int) -> bytes:
        """A directory of (tag, type, count, inline value or offset) entries, sorted by tag."""
        count, entry, link = ("<Q", "<HHQ8s", "<Q") if self.big else ("<H", "<HHI4s", "<I")
        body = b"".join(struct.pack(entry, *fields) for fields in sorted(entries))
        return struct.pack(count, len(entries)) + body + struct.pack(link, following)

    def pack_offset(self, offset: int) -> bytes:
        """An offset as the value of an entry."""
        return struct.pack("<Q" if self.big else "<I", offset)


@dataclass(frozen=True)
class Tag:
    """One entry: field type, number of values, raw little-endian bytes; ``offset`` where they lay, if out of line."""

    type: int
    count: int
    raw: bytes
    offset: int | None = None

    def values(self) -> tuple[int, ...]:
        """The values, for integer types."""
        return tuple(struct.unpack(f"<{self.count}{_CODES[self.type]}", self.raw))

    @classmethod
    def integer(cls, value: int) -> Tag:
        """A single value, SHORT where it fits, else LONG, as libtiff writes sizes (TIFFTAG_IMAGEWIDTH)."""
        return (
            cls(SHORT, 1, struct.pack("<H", value))
            if value < 1 << 16
            else cls(LONG, 1, struct.pack("<I", value))
        )


@dataclass(frozen=True)
class Directory:
    """An image file directory."""

    tags: Mapping[int, Tag]

    def value(self, tag: int, default: int = 0) -> int:
        """First value of an integer tag."""
        return self.tags[tag].values()[0] if tag in self.tags else default

    def with_tags(self, **changes: Tag) -> Directory:
        """A copy with tags replaced; keyword names are ``t<number>``."""
        return replace(self, tags={**self.tags, **{int(k[1:]): v for k, v in changes.items()}})

    def array(self, tag: int) -> npt.NDArray[np.int64]:
        """The values of an integer tag as an array; empty where the tag is absent."""
        if tag not in self.tags:
            return np.zeros(0, np.int64)
        found = self.tags[tag]
        return np.frombuffer(found.raw, "<u" + str(SIZES[found.type])).astype(np.int64)


@dataclass(frozen=True)
class Tiff:
    """Directories of a file in chain order, with the bytes between its header and the first of them."""

    layout: Layout
    ghost: bytes
    directories: tuple[Directory, ...]


def parse(data: bytes | memoryview) -> Tiff:
    """Read all directories of a little-endian TIFF in memory."""
    view = memoryview(data)
    magic, version = struct.unpack_from("<2sH", view)
    if magic != b"II" or version not in (42, 43):
        raise ValueError("not a little-endian TIFF")
    layout = Layout(version == 43)
    first = (
        struct.unpack_from("<Q", view, 8)[0] if layout.big else struct.unpack_from("<I", view, 4)[0]
    )
    directories = []
    offset = first
    while offset:
        directory, offset = _parse_directory(view, layout, offset)
        directories.append(directory)
    return Tiff(layout, bytes(view[layout.header_size : first]), tuple(directories))


def _parse_directory(view: memoryview, layout: Layout, offset: int) -> tuple[Directory, int]:
    count_code, entry_code, link_code = ("<Q", "<HHQ", "<Q") if layout.big else ("<H", "<HHI", "<I")
    (count,) = struct.unpack_from(count_code, view, offset)
    position = offset + struct.calcsize(count_code)
    tags: dict[int, Tag] = {}
    for _ in range(count):
        tag, kind, number = struct.unpack_from(entry_code, view, position)
        value_at = position + struct.calcsize(entry_code)
        size = SIZES.get(kind, 1) * number
        where: int | None = None
        if size > layout.inline:
            (where,) = struct.unpack_from(link_code, view, value_at)
        start = value_at if where is None else where
        tags[tag] = Tag(kind, number, bytes(view[start : start + size]), where)
        position = value_at + layout.inline
    (following,) = struct.unpack_from(link_code, view, position)
    return Directory(tags), following


def pack_array(values: npt.NDArray[Any], kind: int) -> bytes:
    """An integer array as the raw bytes of a tag of type SHORT, LONG or LONG8."""
    return values.astype(f"<u{SIZES[kind]}").tobytes()
