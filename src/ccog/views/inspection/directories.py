"""The directories of any TIFF, read by byte ranges: only what lies in the header, tile arrays as NumPy arrays."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.tiff import directories as tiff
from ccog.views.inspection.source import Range, RangeReader

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
# limits that no real file comes near, so that a damaged one costs neither time nor memory: directories, entries of
# one (libtiff's) and of all of them, columns or rows (the largest LONG), tiles of a directory (libtiff counts them in
# 32 bits), and those of all directories whose places are read, twice as many as 48.8 TiB of any use have
_MOST_DIRECTORIES, _MOST_ENTRIES, _MOST_ALL_ENTRIES = 1024, 4096, 1 << 16
_MOST_PIXELS, _MOST_TILES, _MOST_LISTED_TILES = (1 << 32) - 1, (1 << 32) - 1, 1 << 28
# an offset plus a byte count stays below 2**63
_MOST_OFFSET = 1 << 62
# bytes of a text in which something is looked for
_MOST_TEXT = 16 << 20
_LARGEST = (1 << 64) - 1
# BYTE, SHORT, LONG, IFD, LONG8 and IFD8: what libtiff takes for sizes and offsets
_UNSIGNED = (1, tiff.SHORT, tiff.LONG, 13, tiff.LONG8, 18)
# tags with one number for the image, or one for each band, of which the first counts
_NUMBERS = (
    tiff.NEW_SUBFILE_TYPE,
    tiff.IMAGE_WIDTH,
    tiff.IMAGE_LENGTH,
    tiff.BITS_PER_SAMPLE,
    tiff.COMPRESSION,
    tiff.SAMPLES_PER_PIXEL,
    ROWS_PER_STRIP,
    tiff.PLANAR_CONFIG,
    tiff.PREDICTOR,
    TILE_WIDTH,
    TILE_LENGTH,
    SAMPLE_FORMAT,
)
# those that cannot be 0, by what they count
_POSITIVE = {
    tiff.IMAGE_WIDTH: "columns",
    tiff.IMAGE_LENGTH: "rows",
    tiff.BITS_PER_SAMPLE: "bits of a sample",
    tiff.SAMPLES_PER_PIXEL: "bands",
    ROWS_PER_STRIP: "rows of a strip",
    TILE_WIDTH: "columns of a tile",
    TILE_LENGTH: "rows of a tile",
}


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

    ``offsets`` and ``counts`` are 0 for sparse tiles; there are none where the file has no tile yet. ``text`` is GDAL's
    metadata of the first directory.
    """

    extent: Range
    entries: Mapping[int, Entry]
    numbers: Mapping[int, int]
    text: bytes
    offsets: Offsets
    counts: Counts

    def value(self, tag: int, default: int = 0) -> int:
        """First value of one of the tags that say what the image is like."""
        return self.numbers.get(tag, default)

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of a tile; a strip is a tile as wide as the image."""
        if self.is_tiled:
            return self.value(TILE_LENGTH), self.value(TILE_WIDTH)
        return min(self.value(ROWS_PER_STRIP, self.height), self.height), self.width

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tiles: planes, rows and columns of them."""
        height, width = self.tile
        return self.planes, -(-self.height // height), -(-self.width // width)

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
        return [
            self.extent,
            *(entry.where for entry in self.entries.values() if entry.where is not None),
        ]


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

    What it costs is bounded by the size of the file: a tag that reaches beyond its end is refused before it is read.

    Raises
    ------
    RasterError
        The file is not a TIFF, or is damaged.
    """
    if not reader.size:
        raise RasterError(f"{reader.url} is empty, not a TIFF")
    window = _Window(reader)
    start, order, big = _magic(window.get(0, min(16, reader.size)), reader.url)
    number = order + ("Q" if big else "I")
    after = start + struct.calcsize(number)
    (first,) = struct.unpack(number, window.get(start, after))
    parsed = _chain(window, reader.url, order, big, first)
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
        self.check(start, stop)
        data = self._reader.read(start, max(stop, start + _READ_AHEAD))
        self._blocks.insert(0, (start, data))
        if len(data) < stop - start:
            raise self.cut_off(stop)
        return data[: stop - start]

    def check(self, start: int, stop: int) -> None:
        """Refuse what lies beyond the end, before anything is read or allocated for it."""
        if stop > self._reader.size:
            raise self.cut_off(stop)

    def cut_off(self, stop: int) -> RasterError:
        return RasterError(
            f"{self._reader.url} is cut off: it points to byte {stop} of {self._reader.size}"
        )


def _magic(data: bytes, url: str) -> tuple[int, str, bool]:
    """Where the offset of the first directory lies, the byte order, and whether it is a BigTIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is not None and data[2:4] == struct.pack(f"{order}H", 42):
        return 4, order, False
    # BigTIFF: offsets of 8 bytes, and 2 bytes that are 0
    if order is not None and data[2:8] == struct.pack(f"{order}3H", 43, 8, 0):
        return 8, order, True
    raise RasterError(f"{url} is not a TIFF: it begins with {data[:8]!r}")


@dataclass(frozen=True)
class _Parsed:
    extent: Range
    entries: dict[int, Entry]
    following: int


def _chain(window: _Window, url: str, order: str, big: bool, first: int) -> list[_Parsed]:
    """The directories, each of which says where the next one lies."""
    parsed: list[_Parsed] = []
    offset, seen, entries = first, set[int](), 0
    while offset:
        if offset in seen:
            raise RasterError(f"{url} is damaged: its directories form a loop at byte {offset}")
        seen.add(offset)
        if len(seen) > _MOST_DIRECTORIES:
            raise RasterError(
                f"{url} has more than {_MOST_DIRECTORIES} directories, the most that are looked at"
            )
        parsed.append(_parse(window, url, order, big, offset))
        entries += len(parsed[-1].entries)
        if entries > _MOST_ALL_ENTRIES:
            raise RasterError(
                f"the directories of {url} have more than {_MOST_ALL_ENTRIES} entries: it is damaged"
            )
        offset = parsed[-1].following
    if not parsed:
        raise RasterError(f"{url} holds no image")
    return parsed


def _parse(window: _Window, url: str, order: str, big: bool, offset: int) -> _Parsed:
    count_code, entry_code, link = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    start = offset + struct.calcsize("=" + count_code)
    (count,) = struct.unpack(order + count_code, window.get(offset, start))
    if count > _MOST_ENTRIES:
        raise RasterError(
            f"{url} is damaged: its directory at byte {offset} claims {count} entries, more than {_MOST_ENTRIES}"
        )
    size = struct.calcsize("=" + entry_code)
    stop = start + count * size + struct.calcsize("=" + link)
    raw = window.get(start, stop)
    entries: dict[int, Entry] = {}
    for tag, kind, number, inline in struct.iter_unpack(order + entry_code, raw[: count * size]):
        length = tiff.SIZES.get(kind, 1) * number
        (at,) = struct.unpack(order + link, inline)
        where = (at, at + length) if length > len(inline) else None
        if where is not None:
            window.check(*where)
        # of a tag that comes twice readers take the first
        entries.setdefault(tag, Entry(kind, number, inline[:length], where))
    (following,) = struct.unpack(order + link, raw[count * size :])
    return _Parsed((offset, stop), entries, following)


def _ghost(window: _Window, start: int, first: int) -> tuple[str, int]:
    """GDAL's structural metadata, which lies between the file's header and the first directory."""
    head = window.get(start, start + 43) if first >= start + 43 else b""
    if not head.startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=") or not head[30:36].isdigit():
        return "", 0
    length = int(head[30:36])
    text = window.get(start + 43, start + 43 + length).decode("ascii", "replace")
    return text.strip(" \n\0"), 43 + length


def _with_tiles(
    reader: RangeReader, window: _Window, parsed: list[_Parsed], order: str
) -> tuple[ImageDirectory, ...]:
    _check_tile_arrays(reader, parsed)
    wanted = {
        part
        for k, one in enumerate(parsed)
        for tag in one.entries
        if (part := _wanted(one, tag, k == 0))
    }
    found = _read_joined(reader, window, sorted(wanted))
    directories = []
    for k, one in enumerate(parsed):
        raw = {
            tag: found.get(_wanted(one, tag, k == 0), entry.inline)
            for tag, entry in one.entries.items()
        }
        where = f"{reader.url} is damaged: in its directory at byte {one.extent[0]}"
        numbers = {
            tag: _number(tag, one.entries[tag], raw[tag], order, where)
            for tag in _NUMBERS
            if tag in raw
        }
        offsets, counts = (
            _integers(tag, one.entries.get(tag), raw.get(tag, b""), order, where)
            for tag in _strile_tags(one)
        )
        if offsets.size != counts.size:
            raise RasterError(
                f"{where} there are {offsets.size} tile offsets, but {counts.size} byte counts"
            )
        text = bytes(raw.get(GDAL_METADATA, b"")) if k == 0 else b""
        places: Offsets = offsets.astype(np.int64, copy=False)
        directory = ImageDirectory(one.extent, one.entries, numbers, text, places, counts)
        _check(directory, where)
        directories.append(directory)
    return tuple(directories)


def _wanted(one: _Parsed, tag: int, is_first: bool) -> Range | None:
    """The part of a tag's values that is read, where they lie outside the directory."""
    entry = one.entries[tag]
    if entry.where is None:
        return None
    start, stop = entry.where
    if tag in _NUMBERS:
        return start, start + tiff.SIZES.get(entry.type, 1)
    if tag == GDAL_METADATA and is_first:
        return start, min(stop, start + _MOST_TEXT)
    return entry.where if tag in _strile_tags(one) else None


def _check_tile_arrays(reader: RangeReader, parsed: list[_Parsed]) -> None:
    """Refuse tile arrays that many directories share: each lies in the file, but together they may be any size."""
    arrays = [one.entries[tag] for one in parsed for tag in _strile_tags(one) if tag in one.entries]
    size = sum(entry.where[1] - entry.where[0] for entry in arrays if entry.where is not None)
    if size > reader.size:
        raise RasterError(
            f"{reader.url} is damaged: its directories claim {size} bytes of tile arrays in a file of {reader.size}"
        )
    tiles = sum(entry.count for entry in arrays) // 2
    if tiles > _MOST_LISTED_TILES:
        raise RasterError(
            f"{reader.url} has {tiles} tiles, more than the {_MOST_LISTED_TILES} that are looked at"
        )


def _check(directory: ImageDirectory, where: str) -> None:
    """Refuse numbers that no image can have."""
    for tag, what in _POSITIVE.items():
        if directory.value(tag, 1) == 0:
            raise RasterError(f"{where} the number of {what} is 0")
    if directory.is_tiled and not (directory.value(TILE_WIDTH) and directory.value(TILE_LENGTH)):
        raise RasterError(f"{where} only one side of the tiles is given")
    width, height = directory.width, directory.height
    if not 0 < width <= _MOST_PIXELS or not 0 < height <= _MOST_PIXELS:
        raise RasterError(
            f"{where} the image has {width} x {height} pixels; each side may have 1 to {_MOST_PIXELS}"
        )
    planes, rows, cols = directory.grid
    if planes * rows * cols > _MOST_TILES:
        raise RasterError(
            f"{where} the image has {planes * rows * cols} tiles, more than {_MOST_TILES}"
        )
    for what, values in (("offset", directory.offsets), ("byte count", directory.counts)):
        # 64-bit values that are too large have become negative
        if (
            values.size
            and values.itemsize == 8
            and (values.min() < 0 or values.max() > _MOST_OFFSET)
        ):
            raise RasterError(f"{where} there is a tile whose {what} is beyond {_MOST_OFFSET}")


def _strile_tags(one: _Parsed) -> tuple[int, int]:
    if tiff.TILE_OFFSETS in one.entries:
        return tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS
    return STRIP_OFFSETS, STRIP_BYTE_COUNTS


def _read_joined(
    reader: RangeReader, window: _Window, wanted: list[Range]
) -> dict[Range | None, memoryview]:
    """The wanted ranges, near ones in one request."""
    joined: list[Range] = []
    for start, stop in wanted:
        if joined and start - joined[-1][1] <= _JOIN:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    inside = [one[1] <= _READ_AHEAD for one in joined]
    far = iter(
        reader.read_many([one for one, near in zip(joined, inside, strict=True) if not near])
    )
    data = [
        window.get(*one) if near else next(far) for one, near in zip(joined, inside, strict=True)
    ]
    found: dict[Range | None, memoryview] = {}
    block = 0
    for start, stop in wanted:
        while stop > joined[block][1]:
            block += 1
        at = joined[block][0]
        found[start, stop] = memoryview(data[block])[start - at : stop - at]
        if len(found[start, stop]) < stop - start:
            raise window.cut_off(stop)
    return found


def _number(tag: int, entry: Entry, raw: bytes | memoryview, order: str, where: str) -> int:
    """First value of a tag."""
    found = _integers(
        tag, Entry(entry.type, min(entry.count, 1), entry.inline, None), raw, order, where
    )
    if not found.size:
        raise RasterError(f"{where} tag {tag} has no value")
    # 64-bit values come signed
    return int(found[0]) & _LARGEST


def _integers(
    tag: int, entry: Entry | None, raw: bytes | memoryview, order: str, where: str
) -> npt.NDArray[np.integer]:
    """The values without a copy where that is possible; 64-bit ones signed, so that sums stay integers."""
    if entry is None or not entry.count:
        return np.zeros(0, np.int64)
    if entry.type not in _UNSIGNED:
        raise RasterError(f"{where} tag {tag} is of type {entry.type}, not one of {_UNSIGNED}")
    found = np.frombuffer(raw, np.dtype(f"{order}u{tiff.SIZES[entry.type]}"), entry.count)
    native = found.astype(found.dtype.newbyteorder("="), copy=False)
    return native.view(np.int64) if native.itemsize == 8 else native
