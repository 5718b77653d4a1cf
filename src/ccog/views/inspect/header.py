"""The header of any TIFF, read by byte ranges.

A damaged or hostile file costs neither time nor memory. There are limits that no real file comes
near, and a tag that reaches beyond the end of the file is refused before it is read.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.tiff import tags
from ccog.tiff.directories import Layout, Range, Tag, unpack_array
from ccog.views.inspect.directory import ImageDirectory
from ccog.views.inspect.ranges import RangeReader

# read at once at the start, and when more is needed: most headers fit
_READ_AHEAD = 64 << 10
# ranges nearer to each other than this are read as one
_JOIN = 64 << 10

_MOST_DIRECTORIES = 1024
# entries of one directory (libtiff's limit), and of all of them
_MOST_ENTRIES, _MOST_ALL_ENTRIES = 4096, 1 << 16
# columns or rows (the largest LONG), and tiles of a directory, as libtiff counts them
_MOST_PIXELS, _MOST_TILES = (1 << 32) - 1, (1 << 32) - 1
# tiles of all directories: twice as many as 48.8 TiB of any use have
_MOST_LISTED_TILES = 1 << 28
# an offset plus a byte count stays below 2**63
_MOST_OFFSET = 1 << 62
# bytes of a text in which something is looked for
_MOST_TEXT = 16 << 20
# bytes of a tag of georeferencing that is read
_MOST_PLACING = 1 << 20

_LARGEST = (1 << 64) - 1

# bytes of the line with which a ghost area begins, and where its size stands there
_GHOST_LINE = 43
_GHOST_MARK, _GHOST_SIZE = b"GDAL_STRUCTURAL_METADATA_SIZE=", slice(30, 36)

# what libtiff takes for sizes and offsets
_UNSIGNED = (tags.BYTE, tags.SHORT, tags.LONG, tags.IFD, tags.LONG8, tags.IFD8)
# tags with one number for the image, or one for each band, of which the first counts:
# those that cannot be 0, by what they count, and all
_POSITIVE = {
    tags.IMAGE_WIDTH: "columns",
    tags.IMAGE_LENGTH: "rows",
    tags.BITS_PER_SAMPLE: "bits of a sample",
    tags.SAMPLES_PER_PIXEL: "bands",
    tags.ROWS_PER_STRIP: "rows of a strip",
    tags.TILE_WIDTH: "columns of a tile",
    tags.TILE_LENGTH: "rows of a tile",
}
_NUMBERS = (
    *_POSITIVE,
    *(tags.NEW_SUBFILE_TYPE, tags.COMPRESSION, tags.PLANAR_CONFIG),
    *(tags.PREDICTOR, tags.SAMPLE_FORMAT),
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """Everything a TIFF says before its pixels.

    ``metadata`` is GDAL's of the first directory. ``described`` are its tags of georeferencing
    and nodata, with their values.
    """

    url: str
    size: int
    layout: Layout
    ghost: str
    ghost_extent: Range
    directories: tuple[ImageDirectory, ...]
    metadata: bytes
    described: Mapping[int, Tag]
    requests: int
    bytes_read: int

    def extents(self) -> set[Range]:
        """Where it lies: file header, ghost area, directories, values, tile arrays."""
        extents = {(0, self.layout.header_size), self.ghost_extent}
        for directory in self.directories:
            extents.add(directory.extent)
            values = (tag.extent for tag in directory.tags.values())
            extents.update(extent for extent in values if extent is not None)
        return extents

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each directory.

        Overviews are numbered as they come, and masks named after the image of their size.
        """
        name_of: dict[tuple[int, int], str] = {}
        names = []
        overviews = others = 0
        for directory in self.directories:
            if directory.is_mask:
                names.append(f"mask of {name_of.get(directory.size, 'nothing')}")
                continue
            if directory.is_overview:
                overviews += 1
                names.append(f"overview {overviews}")
            else:
                others += 1
                names.append("full resolution" if others == 1 else f"image {others}")
            name_of.setdefault(directory.size, names[-1])
        return tuple(names)


def read_header(reader: RangeReader) -> Header:
    """All directories of a TIFF, classic or big, of either byte order.

    Anything else, and a damaged file, is a RasterError.
    """
    if not reader.size:
        raise RasterError(f"{reader.url} is empty, not a TIFF")
    window = _Window(reader)
    magic = window.get(0, min(8, reader.size))
    layout = Layout.of(magic)
    if layout is None:
        raise RasterError(f"{reader.url} is not a TIFF: it begins with {bytes(magic)!r}")
    start = layout.header_size
    first = layout.first_directory(window.get(0, start))
    parsed = _chain(window, layout, first)
    _check_tile_arrays(reader, parsed)
    ghost, ghost_size = _ghost(window, start, first)
    values = _read_values(window, parsed)
    main = parsed[0]
    return Header(
        url=reader.url,
        size=reader.size,
        layout=layout,
        ghost=ghost,
        ghost_extent=(start, start + ghost_size),
        directories=tuple(_image_directory(one, values, layout, reader.url) for one in parsed),
        metadata=bytes(main.raw(tags.GDAL_METADATA, values)),
        described={
            number: main.tags[number]._replace(raw=bytes(main.raw(number, values)))
            for number in main.describing
        },
        requests=reader.requests,
        bytes_read=reader.bytes_read,
    )


class _Window:
    """Reads ahead, and answers from what was read."""

    def __init__(self, reader: RangeReader) -> None:
        self.reader = reader
        self._blocks = [(0, memoryview(reader.read(0, _READ_AHEAD)))]

    def get(self, start: int, stop: int) -> memoryview:
        """The bytes from ``start`` up to ``stop``."""
        for at, data in self._blocks:
            if at <= start and stop <= at + len(data):
                return data[start - at : stop - at]
        # before anything is read or allocated for what lies beyond the end
        self.check(stop, self.reader.size)
        data = memoryview(self.reader.read(start, max(stop, start + _READ_AHEAD)))
        self._blocks.insert(0, (start, data))
        self.check(stop, start + len(data))
        return data[: stop - start]

    def check(self, stop: int, end: int) -> None:
        """Refuse what lies beyond the end of the file, or of what could be read of it."""
        if stop > end:
            url, size = self.reader.url, self.reader.size
            raise RasterError(f"{url} is cut off: it points to byte {stop} of {size}")


#: Values of tags that lie outside the directories, by where they lie.
_Values = Mapping[Range, memoryview]


@dataclass(frozen=True)
class _Parsed:
    """A directory without the values that lie outside, and where the next one lies."""

    extent: Range
    tags: dict[int, Tag]
    following: int

    @property
    def tile_arrays(self) -> tuple[int, int]:
        """The tags of offsets and byte counts."""
        if tags.TILE_OFFSETS in self.tags:
            return tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS
        return tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS

    @property
    def describing(self) -> list[int]:
        """Its tags of georeferencing and nodata that are not too large to read."""
        numbers = [n for n in (*tags.GEOREFERENCING, tags.GDAL_NODATA) if n in self.tags]
        return [n for n in numbers if self.tags[n].size <= _MOST_PLACING]

    def wanted(self, number: int) -> Range | None:
        """The part of a tag's values that is read; None if they lie in the directory."""
        tag = self.tags.get(number)
        if tag is None or tag.extent is None:
            return None
        start, stop = tag.extent
        if number in _NUMBERS:
            return start, start + tags.FIELD_SIZES.get(tag.type, 1)
        if number == tags.GDAL_METADATA:
            return start, min(stop, start + _MOST_TEXT)
        return tag.extent

    def raw(self, number: int, values: _Values) -> bytes | memoryview:
        """The values of a tag, as far as they were wanted; empty where it is absent."""
        if number not in self.tags:
            return b""
        wanted = self.wanted(number)
        return self.tags[number].raw if wanted is None else values[wanted]


def _chain(window: _Window, layout: Layout, first: int) -> list[_Parsed]:
    """The directories, each of which says where the next one lies."""
    url = window.reader.url
    parsed: dict[int, _Parsed] = {}
    offset, entries = first, 0
    while offset:
        if offset in parsed:
            raise RasterError(f"{url} is damaged: its directories form a loop at byte {offset}")
        if len(parsed) == _MOST_DIRECTORIES:
            raise RasterError(
                f"{url} has more than {_MOST_DIRECTORIES} directories, the most that are looked at"
            )
        parsed[offset] = directory = _parse(window, layout, offset)
        offset = directory.following
        entries += len(directory.tags)
        if entries > _MOST_ALL_ENTRIES:
            raise RasterError(
                f"the directories of {url} have more than {_MOST_ALL_ENTRIES} entries: "
                "it is damaged"
            )
    if not parsed:
        raise RasterError(f"{url} holds no image")
    return list(parsed.values())


def _parse(window: _Window, layout: Layout, offset: int) -> _Parsed:
    count = layout.entry_count(window.get(offset, offset + layout.count_size))
    if count > _MOST_ENTRIES:
        raise RasterError(
            f"{window.reader.url} is damaged: its directory at byte {offset} claims {count} "
            f"entries, more than {_MOST_ENTRIES}"
        )
    extent = offset, offset + layout.directory_size(count)
    entries, following = layout.parse(window.get(*extent))
    for tag in entries.values():
        if tag.extent is not None:
            window.check(tag.extent[1], window.reader.size)
    return _Parsed(extent, entries, following)


def _ghost(window: _Window, start: int, first: int) -> tuple[str, int]:
    """GDAL's structural metadata, before the first directory; its size."""
    text = start + _GHOST_LINE
    line = bytes(window.get(start, text)) if first >= text else b""
    if not line.startswith(_GHOST_MARK) or not line[_GHOST_SIZE].isdigit():
        return "", 0
    size = int(line[_GHOST_SIZE])
    ghost = bytes(window.get(text, text + size)).decode("ascii", "replace")
    return ghost.strip(" \n\0"), _GHOST_LINE + size


def _read_values(window: _Window, parsed: Sequence[_Parsed]) -> _Values:
    """Read what is wanted of all directories; near ranges come in one request."""
    main = parsed[0]
    wanted = {main.wanted(number) for number in (tags.GDAL_METADATA, *main.describing)}
    for directory in parsed:
        wanted.update(directory.wanted(n) for n in (*_NUMBERS, *directory.tile_arrays))
    ranges = sorted(extent for extent in wanted if extent is not None)
    values = {extent: window.get(*extent) for extent in ranges if extent[1] <= _READ_AHEAD}
    joined = _joined([extent for extent in ranges if extent not in values])
    blocks = [memoryview(data) for data in window.reader.read_many(joined)]
    starts = [start for start, _ in joined]
    for start, stop in ranges:
        if (start, stop) not in values:
            block = bisect.bisect_right(starts, start) - 1
            at, data = starts[block], blocks[block]
            window.check(stop, at + len(data))
            values[start, stop] = data[start - at : stop - at]
    return values


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Sorted ranges, near ones as one."""
    joined: list[Range] = []
    for start, stop in ranges:
        if joined and start - joined[-1][1] <= _JOIN:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _check_tile_arrays(reader: RangeReader, parsed: Sequence[_Parsed]) -> None:
    """Refuse tile arrays that many directories share.

    Each of them lies in the file, but together they may have any size.
    """
    arrays: list[Tag] = []
    for directory in parsed:
        arrays += [directory.tags[n] for n in directory.tile_arrays if n in directory.tags]
    size = sum(tag.size for tag in arrays if tag.extent is not None)
    tiles = sum(tag.count for tag in arrays)
    if size > reader.size:
        raise RasterError(
            f"{reader.url} is damaged: its directories claim {size} bytes of tile arrays "
            f"in a file of {reader.size}"
        )
    if tiles // 2 > _MOST_LISTED_TILES:
        raise RasterError(
            f"{reader.url} has {tiles // 2} tiles, more than the {_MOST_LISTED_TILES} "
            "that are looked at"
        )


def _image_directory(parsed: _Parsed, values: _Values, layout: Layout, url: str) -> ImageDirectory:
    where = f"{url} is damaged: in its directory at byte {parsed.extent[0]}"

    def integers(number: int) -> npt.NDArray[np.integer]:
        tag = parsed.tags[number]
        if tag.type not in _UNSIGNED:
            known = f"not one of {_UNSIGNED}"
            raise RasterError(f"{where} tag {number} is of type {tag.type}, {known}")
        return unpack_array(parsed.raw(number, values), tag.type, layout.order)

    numbers = {}
    for number in _NUMBERS:
        if number not in parsed.tags:
            continue
        if not parsed.tags[number].count:
            raise RasterError(f"{where} tag {number} has no value")
        # 64-bit values come signed
        numbers[number] = int(integers(number)[0]) & _LARGEST
    arrays = []
    for number in parsed.tile_arrays:
        is_there = number in parsed.tags and parsed.tags[number].count > 0
        arrays.append(integers(number) if is_there else np.zeros(0, np.int64))
    offsets, counts = arrays
    directory = ImageDirectory(
        extent=parsed.extent,
        tags=parsed.tags,
        numbers=numbers,
        height=numbers.get(tags.IMAGE_LENGTH, 0),
        width=numbers.get(tags.IMAGE_WIDTH, 0),
        samples=numbers.get(tags.SAMPLES_PER_PIXEL, 1),
        bits=numbers.get(tags.BITS_PER_SAMPLE, 1),
        offsets=offsets.astype(np.int64, copy=False),
        counts=counts,
        is_empty=not offsets.size,
    )
    _check_numbers(directory, where)
    _check_tiles(directory, where)
    return _in_rows(directory)


def _in_rows(directory: ImageDirectory) -> ImageDirectory:
    """The directory with its tiles by plane, row and column; sparse without offset or bytes."""
    shape = directory.grid
    if directory.is_empty:
        zeros = np.broadcast_to(np.int64(0), shape)
        return replace(directory, offsets=zeros, counts=zeros)
    offsets, counts = directory.offsets.reshape(shape), directory.counts.reshape(shape)
    has_offset, has_bytes = offsets > 0, counts > 0
    if not np.array_equal(has_offset, has_bytes):
        offsets, counts = np.where(has_bytes, offsets, 0), np.where(has_offset, counts, 0)
    return replace(directory, offsets=offsets, counts=counts)


def _check_numbers(directory: ImageDirectory, where: str) -> None:
    """Refuse numbers that no image can have."""
    for number, counted in _POSITIVE.items():
        if directory.value(number, 1) == 0:
            raise RasterError(f"{where} the number of {counted} is 0")
    sides = directory.value(tags.TILE_WIDTH), directory.value(tags.TILE_LENGTH)
    if directory.is_tiled and 0 in sides:
        raise RasterError(f"{where} only one side of the tiles is given")
    height, width = directory.size
    if not 0 < width <= _MOST_PIXELS or not 0 < height <= _MOST_PIXELS:
        raise RasterError(
            f"{where} the image has {width} x {height} pixels; "
            f"each side may have 1 to {_MOST_PIXELS}"
        )
    tiles = math.prod(directory.grid)
    if tiles > _MOST_TILES:
        raise RasterError(f"{where} the image has {tiles} tiles, more than {_MOST_TILES}")


def _check_tiles(directory: ImageDirectory, where: str) -> None:
    """Refuse tile arrays that do not belong to the image, or to any file."""
    tiles = math.prod(directory.grid)
    offsets, counts = directory.offsets, directory.counts
    if offsets.size != counts.size:
        raise RasterError(
            f"{where} there are {offsets.size} tile offsets, but {counts.size} byte counts"
        )
    if offsets.size not in (0, tiles):
        raise RasterError(f"{where} there are {offsets.size} tiles, not {tiles}")
    for name, values in (("offset", offsets), ("byte count", counts)):
        # 64-bit values that are too large have become negative
        is_wide = values.size and values.itemsize == 8
        if is_wide and (values.min() < 0 or values.max() > _MOST_OFFSET):
            raise RasterError(f"{where} there is a tile whose {name} is beyond {_MOST_OFFSET}")
