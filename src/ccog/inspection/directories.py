"""The directories of any TIFF, read by byte ranges: only what lies in the header, tile arrays as NumPy arrays."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ccog import tiff
from ccog.errors import RasterError
from ccog.inspection.source import Range, RangeReader

Offsets = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer]

TILE_WIDTH, TILE_LENGTH = 322, 323
ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTE_COUNTS = 278, 273, 279
SAMPLE_FORMAT = 339
GDAL_METADATA = 42112

# read at once at the start, and when more is needed: most headers fit
_READ_AHEAD = 64 << 10
# ranges nearer to each other than this are read as one
_JOIN = 64 << 10
# more entries or directories than any real file has: a sign of damage
_MOST_ENTRIES, _MOST_DIRECTORIES = 4096, 4096
_SMALL_VALUES = (tiff.BITS_PER_SAMPLE, SAMPLE_FORMAT, GDAL_METADATA)


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: field type, number of values, inline bytes, and where longer values lie."""

    type: int
    count: int
    inline: bytes
    where: Range | None


@dataclass(frozen=True)
class ImageDirectory:
    """One directory: where it lies, what it says, and its tiles (or strips) in row-major order, plane by plane.

    ``offsets`` and ``counts`` are 0 for sparse tiles.
    """

    extent: Range
    entries: Mapping[int, Entry]
    values: Mapping[int, bytes]
    offsets: Offsets
    counts: Counts
    byte_order: str

    def value(self, tag: int, default: int = 0) -> int:
        """First value of an integer tag."""
        if tag not in self.entries:
            return default
        entry = self.entries[tag]
        raw = self.values.get(tag, entry.inline)
        return int(np.frombuffer(raw, _dtype(entry.type, self.byte_order), 1)[0])

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of a tile; a strip is a tile as wide as the image."""
        width, height = self.value(TILE_WIDTH), self.value(TILE_LENGTH)
        if width and height:
            return height, width
        rows = self.value(ROWS_PER_STRIP, self.height)
        return max(1, min(rows, self.height)), max(1, self.width)

    @property
    def is_tiled(self) -> bool:
        """Whether it has tiles, not strips."""
        return TILE_WIDTH in self.entries

    @property
    def width(self) -> int:
        """Columns."""
        return self.value(tiff.IMAGE_WIDTH)

    @property
    def height(self) -> int:
        """Rows."""
        return self.value(tiff.IMAGE_LENGTH)

    @property
    def samples(self) -> int:
        """Bands."""
        return self.value(tiff.SAMPLES_PER_PIXEL, 1)

    @property
    def bits(self) -> int:
        """Bits of one sample."""
        return self.value(tiff.BITS_PER_SAMPLE, 1)

    @property
    def planes(self) -> int:
        """Bands that are stored apart: 1 where pixels are interleaved."""
        return self.samples if self.value(tiff.PLANAR_CONFIG, 1) == tiff.SEPARATE else 1

    @property
    def is_mask(self) -> bool:
        """Whether it holds a transparency mask (NewSubfileType bit 2)."""
        return bool(self.value(tiff.NEW_SUBFILE_TYPE) & 4)

    @property
    def is_overview(self) -> bool:
        """Whether it is a reduced-resolution version (NewSubfileType bit 0)."""
        return bool(self.value(tiff.NEW_SUBFILE_TYPE) & 1)

    def pieces(self) -> list[Range]:
        """The stretches of the file that the directory and its values take."""
        return [self.extent, *(entry.where for entry in self.entries.values() if entry.where is not None)]


@dataclass(frozen=True)
class Header:
    """Everything a TIFF says before its pixels."""

    url: str
    size: int
    big: bool
    byte_order: str
    ghost: str
    ghost_extent: Range
    directories: tuple[ImageDirectory, ...]
    requests: int
    bytes_read: int


def read_header(reader: RangeReader) -> Header:
    """All directories of a TIFF, classic or big, of either byte order.

    Raises
    ------
    RasterError
        The file is no TIFF, or is damaged.
    """
    window = _Window(reader)
    order, big = _magic(window.get(0, 16), reader.url)
    number = order + ("Q" if big else "I")
    start = 8 if big else 4
    (first,) = struct.unpack(number, window.get(start, start + struct.calcsize(number)))
    after = start + struct.calcsize(number)
    parsed: list[_Parsed] = []
    offset, seen = first, set[int]()
    while offset:
        if offset in seen or len(seen) >= _MOST_DIRECTORIES:
            raise RasterError(f"{reader.url} is damaged: its directories form a loop at byte {offset}")
        seen.add(offset)
        parsed.append(_parse(window, order, big, offset))
        offset = parsed[-1].following
    ghost, length = _ghost(window, after, first)
    return Header(
        reader.url,
        reader.size,
        big,
        order,
        ghost,
        (after, after + length),
        _with_tiles(reader, window, parsed, order),
        reader.requests,
        reader.bytes_read,
    )


class _Window:
    """Reads ahead, and answers from what was read."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._blocks = [(0, reader.read(0, _READ_AHEAD))]

    def get(self, start: int, stop: int) -> bytes:
        for at, data in self._blocks:
            if at <= start and stop <= at + len(data):
                return data[start - at : stop - at]
        data = self._reader.read(start, max(stop, start + _READ_AHEAD))
        self._blocks.insert(0, (start, data))
        if len(data) < stop - start:
            raise RasterError(f"{self._reader.url} is cut off: it points to byte {stop} of {self._reader.size}")
        return data[: stop - start]


def _magic(data: bytes, url: str) -> tuple[str, bool]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = struct.unpack(f"{order}H", data[2:4])[0] if order else 0
    if order is None or version not in (42, 43):
        raise RasterError(f"{url} is no TIFF: it begins with {data[:4]!r}")
    return order, version == 43


@dataclass(frozen=True)
class _Parsed:
    extent: Range
    entries: dict[int, Entry]
    following: int


def _parse(window: _Window, order: str, big: bool, offset: int) -> _Parsed:
    count_code, entry_code, link = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    start = offset + struct.calcsize("=" + count_code)
    (count,) = struct.unpack(order + count_code, window.get(offset, start))
    if count > _MOST_ENTRIES:
        raise RasterError(f"the directory at byte {offset} claims {count} entries: the file is damaged")
    size = struct.calcsize("=" + entry_code)
    stop = start + count * size + struct.calcsize("=" + link)
    raw = window.get(start, stop)
    entries = {}
    for tag, kind, number, inline in struct.iter_unpack(order + entry_code, raw[: count * size]):
        length = tiff.SIZES.get(kind, 1) * number
        (at,) = struct.unpack(order + link, inline)
        where = (at, at + length) if length > len(inline) else None
        entries[tag] = Entry(kind, number, inline[:length], where)
    (following,) = struct.unpack(order + link, raw[count * size :])
    return _Parsed((offset, stop), entries, following)


def _ghost(window: _Window, start: int, first: int) -> tuple[str, int]:
    """GDAL's structural metadata, which lies between the file's header and the first directory."""
    head = window.get(start, start + 43) if first >= start + 43 else b""
    if not head.startswith(b"GDAL_STRUCTURAL_METADATA_SIZE="):
        return "", 0
    length = int(head[30:36])
    text = window.get(start + 43, start + 43 + length).decode("ascii", "replace")
    return text.strip(" \n\0"), 43 + length


def _with_tiles(reader: RangeReader, window: _Window, parsed: list[_Parsed], order: str) -> tuple[ImageDirectory, ...]:
    wanted = {
        entry.where: None
        for one in parsed
        for tag, entry in one.entries.items()
        if entry.where is not None and tag in (*_SMALL_VALUES, *_strile_tags(one))
    }
    found = _read_joined(reader, window, sorted(wanted))
    directories = []
    for one in parsed:
        raw = {tag: found.get(e.where, e.inline) for tag, e in one.entries.items()}
        offsets, counts = (_integers(one.entries.get(tag), raw.get(tag, b""), order) for tag in _strile_tags(one))
        if offsets.size != counts.size:
            raise RasterError(f"{reader.url} is damaged: {offsets.size} tile offsets, but {counts.size} byte counts")
        values = {tag: bytes(raw[tag]) for tag in _SMALL_VALUES if tag in raw}
        directories.append(
            ImageDirectory(one.extent, one.entries, values, offsets.astype(np.int64, copy=False), counts, order)
        )
    return tuple(directories)


def _strile_tags(one: _Parsed) -> tuple[int, int]:
    if tiff.TILE_OFFSETS in one.entries:
        return tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS
    return STRIP_OFFSETS, STRIP_BYTE_COUNTS


def _read_joined(reader: RangeReader, window: _Window, wanted: list[Range]) -> dict[Range | None, memoryview]:
    """The wanted ranges, near ones in one request."""
    joined: list[Range] = []
    for start, stop in wanted:
        if joined and start - joined[-1][1] <= _JOIN:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    inside = [one[1] <= _READ_AHEAD for one in joined]
    far = iter(reader.read_many([one for one, near in zip(joined, inside, strict=True) if not near]))
    data = [window.get(*one) if near else next(far) for one, near in zip(joined, inside, strict=True)]
    found: dict[Range | None, memoryview] = {}
    block = 0
    for start, stop in wanted:
        while stop > joined[block][1]:
            block += 1
        at = joined[block][0]
        found[start, stop] = memoryview(data[block])[start - at : stop - at]
        if len(found[start, stop]) < stop - start:
            raise RasterError(f"{reader.url} is cut off: it points to byte {stop} of {reader.size}")
    return found


def _dtype(kind: int, order: str) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"{order}u{tiff.SIZES.get(kind, 1)}")


def _integers(entry: Entry | None, raw: bytes | memoryview, order: str) -> npt.NDArray[np.integer]:
    """The values without a copy where that is possible; 64-bit ones signed, so that sums stay integers."""
    if entry is None:
        return np.zeros(0, np.int64)
    found = np.frombuffer(raw, _dtype(entry.type, order), entry.count)
    native = found.astype(found.dtype.newbyteorder("="), copy=False)
    return native.view(np.int64) if native.itemsize == 8 else native
