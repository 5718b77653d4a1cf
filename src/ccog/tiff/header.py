"""The header of the COG: every directory as GDAL writes it, with the true sizes and tile arrays.

A template supplies each tag: a tiny sparse COG with the same options and metadata, written by the
installed COG driver. The header is laid out by its rules (GTiffDataset::CreateCopy with
``IFDS_BEFORE_DATA``): file header, ghost area, then the directories (full size, its mask, the
overviews, their masks), each followed by its out-of-line values, then the tile arrays level by
level, and then the pixel data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.geometry.file_order import in_file_order
from ccog.geometry.tile_order import TileOrder
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from ccog.tiff.directories import Directory, Layout, Tag
from ccog.tiff.tags import LONG, LONG8, SHORT

Counts = npt.NDArray[np.uint32]
_Offsets = npt.NDArray[np.int64]

_TILE_TAGS = (tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS)

# values of COMPRESSION, PHOTOMETRIC, PLANAR_CONFIG
_UNCOMPRESSED, _YCBCR, _CONTIGUOUS = 1, 6, 1

# values of NEW_SUBFILE_TYPE
_IMAGE, _OVERVIEW, _MASK, _OVERVIEW_MASK = 0, 1, 4, 5

#: Bytes before each tile (its size) and after it (its last four bytes again), COG ghost area.
LEADER, TRAILER = 4, 4

# what the ghost area may say of tiles that do not lie row by row
_TRUE_OF_CHUNKS = ("LAYOUT", "KNOWN_INCOMPATIBLE_EDITION")

#: Bytes a classic TIFF can address.
CLASSIC_LIMIT = 1 << 32


class Framing(NamedTuple):
    """Bytes before and after each tile."""

    leader: int
    trailer: int


def framing(ghost: str) -> Framing:
    """The framing that a ghost area announces."""
    leader = LEADER if "BLOCK_LEADER=SIZE_AS_UINT4" in ghost else 0
    trailer = TRAILER if "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in ghost else 0
    return Framing(leader, trailer)


@dataclass(frozen=True, kw_only=True)
class LevelCounts:
    """Size of one level, and the byte counts of its tiles (0 for a sparse tile).

    Attributes
    ----------
    height, width
        Size of the level in pixels.
    image
        Flat, tiles row-major, band after band where bands are compressed each by itself.
    mask
        The same for the mask; None where there is none.
    planar
        Whether the file holds the bands, and then the mask, one after the other.
    side_by_side
        How many bands are compressed each by itself and do not lie so.
    positions
        In ``layout="chunk"`` where each tile lies, (plane, tile), the mask last, counted in tiles
        from the first of the level.
    """

    height: int
    width: int
    image: Counts
    mask: Counts | None
    planar: bool
    side_by_side: int = 1
    positions: npt.NDArray[np.int64] | None = None

    @property
    def order(self) -> TileOrder:
        """The order of the tiles in the file."""
        return TileOrder(self.planar, self.positions)


@dataclass(frozen=True, kw_only=True)
class Template:
    """Directories that GDAL wrote for a tiny raster: full size, one overview, perhaps masks."""

    ghost: bytes
    image: Directory
    overview: Directory
    mask: Directory | None
    overview_mask: Directory | None

    @property
    def planar(self) -> tuple[bool, bool]:
        """Whether bands are compressed each by itself, in full resolution and in overviews."""
        return _is_planar(self.image), _is_planar(self.overview)

    @classmethod
    def parse(cls, data: bytes) -> Template:
        """Pick the four kinds of directory from a template file."""
        parsed = tiff.parse(data)
        kinds = {d.value(tags.NEW_SUBFILE_TYPE): d for d in reversed(parsed.directories)}
        image = kinds[_IMAGE]
        return cls(
            ghost=parsed.ghost,
            image=image,
            overview=kinds.get(_OVERVIEW, image),
            mask=kinds.get(_MASK),
            overview_mask=kinds.get(_OVERVIEW_MASK),
        )

    def image_of(self, k: int) -> Directory:
        """The directory of level ``k``."""
        return self.overview if k else self.image

    def mask_of(self, k: int) -> Directory | None:
        """The directory of the mask of level ``k``; None where there is none."""
        return self.overview_mask if k else self.mask

    def with_tiles(self, side: int, overview_side: int) -> Template:
        """The same for tiles of full resolution, and of overviews, of these sides in pixels."""
        return replace(
            self,
            image=_with_tiles(self.image, side),
            overview=_with_tiles(self.overview, overview_side),
            mask=self.mask and _with_tiles(self.mask, side),
            overview_mask=self.overview_mask and _with_tiles(self.overview_mask, overview_side),
        )

    def with_nodata(self, nodata: int) -> Template:
        """The same with a nodata value of 64 bits, which GDAL does not repeat in overviews."""
        if tags.GDAL_NODATA in self.image.tags:
            return self
        before = [
            tag.offset
            for number, tag in self.image.tags.items()
            if tag.offset is not None and number not in tags.AFTER_NODATA
        ]
        text = f"{nodata}\0".encode("ascii")
        tag = Tag(tags.ASCII, len(text), text, offset=max(before, default=0) + 1)
        return replace(self, image=self.image.with_tags({tags.GDAL_NODATA: tag}))

    def framing_of(self, k: int) -> Framing:
        """Bytes before and after each tile of level ``k``.

        GDAL before 3.11 may write no ghost area where bands lie apart, and frames overviews still.
        """
        if k and not self.ghost:
            return Framing(LEADER, TRAILER)
        return framing(self.ghost.decode("ascii"))

    def by_chunk(self) -> Template:
        """The same for bare tiles that lie chunk by chunk: the ghost area claims nothing else."""
        lines = [line.strip(" \0") for line in self.ghost.decode("ascii").split("\n")[1:]]
        true_lines = [line for line in lines if line.partition("=")[0] in _TRUE_OF_CHUNKS]
        # GDAL rewrites NO as YES, which takes the space after the line
        text = "".join(f"{line}\n" for line in true_lines) + " "
        ghost = f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode("ascii")
        return replace(self, ghost=ghost + b"\0" * (len(ghost) % 2))


def _is_planar(directory: Directory) -> bool:
    return directory.value(tags.PLANAR_CONFIG, _CONTIGUOUS) == tags.SEPARATE


def _with_tiles(directory: Directory, side: int) -> Directory:
    return _with_integers(directory, {tags.TILE_WIDTH: side, tags.TILE_LENGTH: side})


def _with_integers(directory: Directory, values: dict[int, int]) -> Directory:
    """A directory with other values of integer tags."""
    return directory.with_tags({number: Tag.integer(value) for number, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class _Image:
    """The image or the mask of a level: its directory, and the byte counts of its tiles."""

    level: int
    is_mask: bool
    directory: Directory
    counts: Counts
    offsets_type: int
    counts_type: int

    @property
    def array_sizes(self) -> tuple[int, int]:
        """Bytes of its two tile arrays, offsets and byte counts."""
        count = self.counts.size
        return count * tags.FIELD_SIZES[self.offsets_type], count * tags.FIELD_SIZES[
            self.counts_type
        ]

    def tile_arrays(self, offsets: _Offsets) -> tuple[_TileArray, _TileArray]:
        """Its tile arrays, once the offsets are known."""
        return (
            _TileArray(tags.TILE_OFFSETS, self.offsets_type, offsets),
            _TileArray(tags.TILE_BYTE_COUNTS, self.counts_type, self.counts),
        )


class _TileArray(NamedTuple):
    """The values of a tag that has one for each tile."""

    tag: int
    type: int
    values: npt.NDArray[Any]

    def packed(self) -> bytes:
        return tiff.pack_array(self.values, self.type)


class _ArrayOffsets(NamedTuple):
    """Where the tile arrays of an image lie in the file; 0 for one that lies in its directory."""

    offsets: int
    counts: int


@dataclass(frozen=True, kw_only=True)
class _Arrangement:
    """Where all of the header lies, which follows before the offsets of tiles are known.

    Attributes
    ----------
    layout
        Classic TIFF or BigTIFF.
    images
        The directories, in the order of the file.
    out_of_line
        Of each directory: tags whose values lie behind it, in the order they lie there.
    starts
        Offsets of the directories.
    arrays
        Offsets of the tile arrays of each directory.
    data_start
        Where the pixel data begins.
    """

    layout: Layout
    images: list[_Image]
    out_of_line: list[list[int]]
    starts: list[int]
    arrays: list[_ArrayOffsets]
    data_start: int


def build_header(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> bytes:
    """Header bytes of a COG whose levels (full size first) have the given tile sizes.

    The pixel data is understood to follow at once: smallest overview first, tiles in the order of
    each level (``LevelCounts.order``).
    """
    places = _arrange(template, levels, big=big)
    offsets = _tile_offsets(levels, places.data_start, template)
    offsets_of = [offsets[image.level].of(image) for image in places.images]
    header = bytearray(places.layout.header(places.starts[0]) + template.ghost)
    for n, start in enumerate(places.starts):
        header += b"\0" * (start - len(header))
        header += _directory_bytes(places, n, offsets_of[n])
    for n in _array_order(places.images):
        image, at = places.images[n], places.arrays[n]
        for array, offset in zip(image.tile_arrays(offsets_of[n]), at, strict=True):
            header += array.packed() if offset else b""
    if len(header) != places.data_start:
        raise AssertionError(f"header of {len(header)} bytes, planned {places.data_start}")
    return bytes(header)


def header_size(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> int:
    """Bytes of the header; of the counts only how many there are matters."""
    return _arrange(template, levels, big=big).data_start


def data_size(template: Template, levels: tuple[LevelCounts, ...]) -> int:
    """Bytes of pixel data, tile leaders and trailers included."""
    size = 0
    for k, level in enumerate(levels):
        frame = sum(template.framing_of(k))
        size += int(_framed(level.image, frame).sum())
        if level.mask is not None:
            size += int(_framed(level.mask, frame).sum())
    return size


def _framed(counts: Counts, frame: int) -> _Offsets:
    """Bytes that tiles take in the file: sparse tiles have no frame."""
    wide = counts.astype(np.int64)
    return np.where(wide > 0, wide + frame, 0) if frame else wide


def _arrange(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> _Arrangement:
    """Lay out the directories, their values and the tile arrays, one after the other."""
    layout = Layout(big)
    images = _images(template, levels, layout)
    out_of_line = [_out_of_line(image.directory, layout) for image in images]
    starts, position = [], layout.header_size + len(template.ghost)
    for image, numbers in zip(images, out_of_line, strict=True):
        starts.append(_even(position))
        position = starts[-1] + layout.directory_size(len(image.directory.tags))
        for tag in numbers:
            position = _even(position) + len(image.directory.tags[tag].raw)
    arrays = [_ArrayOffsets(0, 0)] * len(images)
    for n in _array_order(images):
        of_image = []
        for size in images[n].array_sizes:
            is_inline = size <= layout.inline
            of_image.append(0 if is_inline else position)
            position += 0 if is_inline else size
        arrays[n] = _ArrayOffsets(*of_image)
    return _Arrangement(
        layout=layout,
        images=images,
        out_of_line=out_of_line,
        starts=starts,
        arrays=arrays,
        data_start=position,
    )


def _even(position: int) -> int:
    """The next word boundary, where libtiff puts directories and values, but not tile arrays."""
    return position + (position & 1)


def _images(template: Template, levels: tuple[LevelCounts, ...], layout: Layout) -> list[_Image]:
    """Directories in file order: full size, its mask, the overviews, their masks."""
    images, masks = [], []
    for k, level in enumerate(levels):
        images.append(_image(template.image_of(k), k, level, layout, is_mask=False))
        mask = template.mask_of(k)
        if mask is not None and level.mask is not None:
            masks.append(_image(mask, k, level, layout, is_mask=True))
    return [images[0], *masks[:1], *images[1:], *masks[1:]]


def _image(
    source: Directory, k: int, level: LevelCounts, layout: Layout, *, is_mask: bool
) -> _Image:
    """A directory of the template with the size and the tiles of level ``k``."""
    counts = level.mask if is_mask and level.mask is not None else level.image
    size = {tags.IMAGE_WIDTH: level.width, tags.IMAGE_LENGTH: level.height}
    # libtiff chooses a type for arrays only
    counts_type = layout.offset_type if counts.size == 1 else _counts_type(source)
    return _Image(
        level=k,
        is_mask=is_mask,
        directory=_with_integers(source, size),
        counts=counts,
        offsets_type=layout.offset_type,
        counts_type=counts_type,
    )


def _counts_type(source: Directory) -> int:
    """Field type of tile byte counts, from the largest a tile may get (libtiff, _WriteAsType)."""
    tile = uncompressed_tile(source)
    if source.value(tags.COMPRESSION) == _UNCOMPRESSED:
        exceeds = [tile > limit for limit in (0xFFFF, 0xFFFFFFFF)]
    else:
        # the worst case is ten times the raw size
        exceeds = [tile >= limit // 10 for limit in (0xFFFF, 0xFFFFFFFF)]
    return (SHORT, LONG, LONG8)[sum(exceeds)]


def uncompressed_tile(source: Directory) -> int:
    """Bytes of a tile of a directory before compression; of one band where each has tiles."""
    samples = 1 if _is_planar(source) else source.value(tags.SAMPLES_PER_PIXEL, 1)
    bits = source.value(tags.BITS_PER_SAMPLE, 1) * samples
    width, height = source.value(tags.TILE_WIDTH), source.value(tags.TILE_LENGTH)
    if source.value(tags.PHOTOMETRIC) == tags.YCBCR and samples == 3:
        return width * height * 3 // 2  # 2 x 2 chroma subsampling
    return -(-bits * width // 8) * height


def _out_of_line(directory: Directory, layout: Layout) -> list[int]:
    """Tags whose values lie behind the directory, tile arrays aside, in the order they lie."""
    tags = directory.tags
    large = [n for n, tag in tags.items() if len(tag.raw) > layout.inline and n not in _TILE_TAGS]
    return sorted(large, key=lambda n: (tags[n].offset is None, tags[n].offset or n))


def _array_order(images: Sequence[_Image]) -> list[int]:
    """Indices of the images in the order of their tile arrays: by level, image before mask."""
    return sorted(range(len(images)), key=lambda n: (images[n].level, images[n].is_mask))


class _LevelOffsets(NamedTuple):
    """Offsets of the tiles of a level, 0 for sparse tiles, in the order of its byte counts."""

    image: _Offsets
    mask: _Offsets

    def of(self, entry: _Image) -> _Offsets:
        return self.mask if entry.is_mask else self.image


def _tile_offsets(
    levels: tuple[LevelCounts, ...], start: int, template: Template
) -> list[_LevelOffsets]:
    """Offsets of the tiles of each level, full size first."""
    of_levels = []
    for k, level in in_file_order(list(enumerate(levels))):
        frame = template.framing_of(k)
        planes = [*_framed(level.image, sum(frame)).reshape(level.side_by_side, -1)]
        if level.mask is not None:
            planes.append(_framed(level.mask, sum(frame)))
        sizes = level.order.to_file(planes)
        ends = start + np.cumsum(sizes)
        in_file = np.where(sizes > 0, ends - sizes + frame.leader, 0)
        start = int(ends[-1])
        by_plane = level.order.from_file(in_file, len(planes))
        of_levels.append(_LevelOffsets(*np.split(by_plane, [level.image.size])))
    return of_levels[::-1]


def _directory_bytes(places: _Arrangement, n: int, offsets: _Offsets) -> bytes:
    """The ``n``-th directory, and its values that lie behind it."""
    layout, image = places.layout, places.images[n]
    tags, out_of_line = image.directory.tags, places.out_of_line[n]
    entries = []
    for number, tag in tags.items():
        if number not in _TILE_TAGS and number not in out_of_line:
            entries.append((number, tag.type, tag.count, tag.raw))
    values, position = b"", places.starts[n] + layout.directory_size(len(tags))
    for number in out_of_line:
        tag = tags[number]
        if (position + len(values)) % 2:
            values += b"\0"
        value = layout.pack_offset(position + len(values))
        entries.append((number, tag.type, tag.count, value))
        values += tag.raw
    for array, offset in zip(image.tile_arrays(offsets), places.arrays[n], strict=True):
        value = layout.pack_offset(offset) if offset else array.packed()
        entries.append((array.tag, array.type, array.values.size, value))
    following = places.starts[n + 1] if n + 1 < len(places.starts) else 0
    return layout.directory(entries, following) + values
