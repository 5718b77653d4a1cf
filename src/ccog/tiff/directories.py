"""TIFF image file directories to and from bytes; knows nothing of COG, GDAL or dask.

The rules are those of TIFF 6.0 and BigTIFF. Both byte orders are read; little-endian is written.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import OptionError
from ccog.tiff.tags import FIELD_SIZES, LONG, LONG8, SHORT

Buffer = bytes | memoryview

#: The first byte, and the one after the last.
Range = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """The differences between classic and BigTIFF.

    ``order`` is "<" or ">", as struct names byte orders.
    """

    big: bool
    order: str = "<"

    @classmethod
    def of(cls, magic: Buffer) -> Layout | None:
        """The layout that the first 8 bytes of a file announce; None where it is not a TIFF."""
        return _LAYOUTS.get(bytes(magic[:4])) or _LAYOUTS.get(bytes(magic[:8]))

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

    @property
    def count_size(self) -> int:
        """Bytes of the number of entries, with which a directory begins."""
        return 8 if self.big else 2

    def directory_size(self, entries: int) -> int:
        """Bytes of a directory without its out-of-line values."""
        return 8 + 20 * entries + 8 if self.big else 2 + 12 * entries + 4

    def offset_of(self, raw: Buffer) -> int:
        """An offset, or a value of as many bytes."""
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    def first_directory(self, header: Buffer) -> int:
        """Where the first directory lies, from the bytes before the ghost area."""
        return self.offset_of(header[self.header_size - self.inline : self.header_size])

    def entry_count(self, raw: Buffer) -> int:
        """How many entries a directory has, from its first bytes."""
        return self.offset_of(raw[: self.count_size])

    def parse(self, raw: Buffer) -> ParsedDirectory:
        """The entries of a directory and where the next one lies, from all bytes of it.

        Values that lie elsewhere are left empty.
        """
        first, last = self.count_size, len(raw) - self.inline
        tags: dict[int, Tag] = {}
        entry = f"{self.order}HHQ8s" if self.big else f"{self.order}HHI4s"
        for tag, kind, count, value in struct.iter_unpack(entry, raw[first:last]):
            # readers take the first of a tag that comes twice
            if tag in tags:
                continue
            size = FIELD_SIZES.get(kind, 1) * count
            if size <= self.inline:
                tags[tag] = Tag(kind, count, value[:size])
            else:
                tags[tag] = Tag(kind, count, b"", self.offset_of(value))
        return ParsedDirectory(tags, self.offset_of(raw[last:]))

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


# of BigTIFF: offsets have 8 bytes, and 2 bytes are 0
_LAYOUTS = {
    b"II\x2a\0": Layout(big=False),
    b"MM\0\x2a": Layout(big=False, order=">"),
    b"II\x2b\0\x08\0\0\0": Layout(big=True),
    b"MM\0\x2b\0\x08\0\0": Layout(big=True, order=">"),
}


class Tag(NamedTuple):
    """One entry: field type, number of values, and their bytes as they are in the file.

    ``offset`` is where the values lay, if they lay outside the directory.
    """

    type: int
    count: int  # type: ignore[assignment]  # hides tuple.count
    raw: bytes
    offset: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return FIELD_SIZES.get(self.type, 1) * self.count

    @property
    def extent(self) -> Range | None:
        """Where the values lie, if that is outside the directory."""
        return None if self.offset is None else (self.offset, self.offset + self.size)

    @classmethod
    def integer(cls, value: int) -> Tag:
        """A single value, SHORT where it fits, else LONG, as libtiff writes sizes."""
        if value < 1 << 16:
            return cls(SHORT, 1, struct.pack("<H", value))
        return cls(LONG, 1, struct.pack("<I", value))


class ParsedDirectory(NamedTuple):
    """What the bytes of a directory say: its entries, and the offset of the next directory or 0."""

    tags: dict[int, Tag]
    following: int


@dataclass(frozen=True)
class Directory:
    """A little-endian image file directory."""

    tags: Mapping[int, Tag]

    def value(self, tag: int, default: int = 0) -> int:
        """First value of an unsigned integer tag."""
        if tag not in self.tags:
            return default
        entry = self.tags[tag]
        return int.from_bytes(entry.raw[: FIELD_SIZES[entry.type]], "little")

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag's values; none where the tag is absent."""
        return self.tags[tag].raw if tag in self.tags else b""

    def with_tags(self, changes: Mapping[int, Tag]) -> Directory:
        """A copy with tags replaced."""
        return replace(self, tags={**self.tags, **changes})

    def array(self, tag: int) -> npt.NDArray[np.int64]:
        """The values of an unsigned integer tag; empty where the tag is absent."""
        if tag not in self.tags:
            return np.zeros(0, np.int64)
        entry = self.tags[tag]
        return unpack_array(entry.raw, entry.type).astype(np.int64)


@dataclass(frozen=True)
class Tiff:
    """Directories in the order of the file, with the bytes between its header and the first."""

    ghost: bytes
    directories: tuple[Directory, ...]


def parse(data: Buffer) -> Tiff:
    """Read all directories of a little-endian TIFF in memory, which is trusted to be whole."""
    view = memoryview(data)
    layout = Layout.of(view)
    if layout is None or layout.order != "<":
        raise OptionError("GDAL writes big-endian TIFFs here, and ccog little-endian ones")
    first = offset = layout.first_directory(view)
    directories = []
    while offset:
        size = layout.directory_size(layout.entry_count(view[offset:]))
        tags, offset = layout.parse(view[offset : offset + size])
        for number, tag in tags.items():
            if tag.extent is not None:
                start, stop = tag.extent
                tags[number] = tag._replace(raw=bytes(view[start:stop]))
        directories.append(Directory(tags))
    return Tiff(bytes(view[layout.header_size : first]), tuple(directories))


def unpack_array(raw: Buffer, kind: int, order: str = "<") -> npt.NDArray[np.integer]:
    """The values of an unsigned integer type, without a copy where the byte order allows it.

    Values of 64 bits come signed, so that sums with other integers stay integers.
    """
    stored = np.frombuffer(raw, f"{order}u{FIELD_SIZES[kind]}")
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native.view(np.int64) if native.itemsize == 8 else native


def pack_array(values: npt.NDArray[Any], kind: int) -> bytes:
    """An integer array as the raw bytes of a tag of type SHORT, LONG or LONG8."""
    return values.astype(f"<u{FIELD_SIZES[kind]}").tobytes()
