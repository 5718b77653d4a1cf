"""The header of the COG: every directory as GDAL writes it, with the true sizes and tile arrays.

A template supplies each tag: a tiny sparse COG with the same options and metadata, written by the
installed COG driver. The header is laid out by its rules (GTiffDataset::CreateCopy with
``IFDS_BEFORE_DATA``): file header, ghost area, then the directories (full size, its mask, the
overviews, their masks), each followed by its out-of-line values, then the tile arrays level by
level, and then the pixel data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.geometry.file_order import in_file_order
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from ccog.tiff.directories import Directory, Layout, Tag
from ccog.tiff.tags import LONG, LONG8, SHORT, TILE_BYTE_COUNTS, TILE_OFFSETS

Counts = npt.NDArray[np.uint32]
_Offsets = npt.NDArray[np.int64]

#: Bytes before each tile (its size) and after it (its last four bytes again), COG ghost area.
LEADER, TRAILER = 4, 4

# what the ghost area may say of tiles that do not lie row by row
_TRUE_OF_CHUNKS = ("LAYOUT", "KNOWN_INCOMPATIBLE_EDITION")

# tags that statistics may change, and those of tiles
_OF_METADATA = (
    *(tags.GDAL_METADATA, tags.ICC_PROFILE, tags.XMP, *tags.COLOURS),
    *(TILE_OFFSETS, TILE_BYTE_COUNTS),
)

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
    """Size of one level in pixels, and the byte counts of its tiles (0 for a sparse tile)."""

    height: int
    width: int
    #: Flat, tiles row-major, band after band where bands are compressed each by itself.
    image: Counts
    #: The same for the mask, if there is one.
    mask: Counts | None
    #: Whether the file holds the bands, and then the mask, one after the other.
    planar: bool
    #: How many bands are compressed each by itself and do not lie so.
    side_by_side: int = 1
    #: In ``layout="chunk"`` where each tile lies, (plane, tile), the mask last, counted in tiles
    #: from the first of the level.
    positions: npt.NDArray[np.int64] | None = None

    @property
    def in_file(self) -> _Offsets | slice:
        """Where the tiles of all bands, and then those of the mask, lie in the file."""
        if self.positions is not None:
            return self.positions.reshape(-1)
        planes = self.side_by_side + (self.mask is not None)
        if self.planar or planes == 1:
            return slice(None)
        count = self.image.size // self.side_by_side
        return np.arange(count * planes).reshape(-1, planes).T.reshape(-1)

    def sizes(self, frame: int) -> _Offsets:
        """Bytes that tiles, those of the mask last, take in the file: sparse ones have no frame."""
        counts = [self.image] if self.mask is None else [self.image, self.mask]
        wide = np.concatenate(counts).astype(np.int64)
        return np.where(wide > 0, wide + frame, 0)


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

    @property
    def sides(self) -> tuple[int, int]:
        """Sides of the tiles in pixels, of full resolution and of overviews."""
        return self.image.value(tags.TILE_WIDTH), self.overview.value(tags.TILE_WIDTH)

    @classmethod
    def parse(cls, data: bytes) -> Template:
        """Pick the four kinds of directory from a template file."""
        parsed = tiff.parse(data)
        kinds = {d.value(tags.NEW_SUBFILE_TYPE): d for d in reversed(parsed.directories)}
        return cls(
            ghost=parsed.ghost,
            image=kinds[0],
            overview=kinds.get(tags.REDUCED, kinds[0]),
            mask=kinds.get(tags.MASK),
            overview_mask=kinds.get(tags.REDUCED | tags.MASK),
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

    def differences(self, other: Template) -> list[int]:
        """Numbers of the tags that differ; metadata, and where tiles lie, do not count."""
        numbers: set[int] = set()
        for one, two in zip(self._directories, other._directories, strict=True):
            both = {*(one.tags if one else ()), *(two.tags if two else ())}
            numbers |= {n for n in both if one is None or two is None or one.raw(n) != two.raw(n)}
        return sorted(numbers.difference(_OF_METADATA))

    @property
    def _directories(self) -> tuple[Directory | None, ...]:
        return self.image, self.overview, self.mask, self.overview_mask

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
    return directory.value(tags.PLANAR_CONFIG) == tags.SEPARATE


def _with_tiles(directory: Directory, side: int) -> Directory:
    tag = Tag.integer(side)
    return directory.with_tags({tags.TILE_WIDTH: tag, tags.TILE_LENGTH: tag})


class _Image(NamedTuple):
    """The image or the mask of a level: its tags, and the byte counts of its tiles.

    The tags of the tile arrays have no values yet.
    """

    level: int
    is_mask: bool
    tags: Mapping[int, Tag]
    counts: Counts


class _Arrangement(NamedTuple):
    """Where all of the header lies, which follows before the offsets of tiles are known.

    ``starts`` are the offsets of the directories; ``values`` those of values outside of them, by
    number of directory and of tag. The pixel data begins at ``data_start``.
    """

    starts: list[int]
    values: dict[tuple[int, int], int]
    data_start: int


def build_header(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> bytes:
    """Header bytes of a COG whose levels (full size first) have the given tile sizes.

    The pixel data follows at once: smallest overview first, tiles in the order of each level
    (``LevelCounts.in_file``).
    """
    layout = Layout(big)
    images = _images(template, levels, layout)
    places = _arrange(template, images, layout)
    offsets = _tile_offsets(levels, places.data_start, template)
    begin = layout.header(places.starts[0]) + template.ghost
    header = bytearray(begin.ljust(places.data_start, b"\0"))
    for n, image in enumerate(images):
        entries = []
        tiles: dict[int, npt.NDArray[Any]] = {
            TILE_OFFSETS: offsets[image.level, image.is_mask],
            TILE_BYTE_COUNTS: image.counts,
        }
        for number, tag in image.tags.items():
            value, offset = tag.raw, places.values.get((n, number))
            if number in tiles:
                value = tiff.pack_array(tiles[number], tag.type)
            if offset is not None:
                header[offset : offset + len(value)] = value
                value = layout.pack_offset(offset)
            entries.append((number, tag.type, tag.count, value))
        following = places.starts[n + 1] if n + 1 < len(images) else 0
        raw = layout.directory(entries, following)
        header[places.starts[n] : places.starts[n] + len(raw)] = raw
    if len(header) != places.data_start:
        raise AssertionError(f"a header of {len(header)} bytes, not {places.data_start}")
    return bytes(header)


def header_size(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> int:
    """Bytes of the header; of the counts only how many there are matters."""
    layout = Layout(big)
    return _arrange(template, _images(template, levels, layout), layout).data_start


def data_size(template: Template, levels: tuple[LevelCounts, ...]) -> int:
    """Bytes of pixel data, tile leaders and trailers included."""
    sizes = (level.sizes(sum(template.framing_of(k))) for k, level in enumerate(levels))
    return sum(int(of_level.sum()) for of_level in sizes)


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
    # libtiff chooses a type for arrays only
    counts_type = layout.offset_type if counts.size == 1 else _counts_type(source)
    own = {
        tags.IMAGE_WIDTH: Tag.integer(level.width),
        tags.IMAGE_LENGTH: Tag.integer(level.height),
        TILE_OFFSETS: Tag(layout.offset_type, counts.size, b""),
        TILE_BYTE_COUNTS: Tag(counts_type, counts.size, b""),
    }
    return _Image(k, is_mask, source.with_tags(own).tags, counts)


def _counts_type(source: Directory) -> int:
    """Field type of tile byte counts, from the largest a tile may get (libtiff, _WriteAsType)."""
    tile = uncompressed_tile(source)
    if source.value(tags.COMPRESSION) == tags.UNCOMPRESSED:
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


def _arrange(template: Template, images: Sequence[_Image], layout: Layout) -> _Arrangement:
    """Lay out the directories, each with its values, and then the tile arrays by level."""
    starts: list[int] = []
    values: dict[tuple[int, int], int] = {}
    position = layout.header_size + len(template.ghost)
    for n, image in enumerate(images):
        starts.append(_even(position))
        position = starts[-1] + layout.directory_size(len(image.tags))
        for number in _out_of_line(image, layout):
            values[n, number] = _even(position)
            position = _even(position) + image.tags[number].size
    in_order = sorted(enumerate(images), key=lambda of: (of[1].level, of[1].is_mask))
    for n, image in in_order:
        for number in (TILE_OFFSETS, TILE_BYTE_COUNTS):
            size = image.tags[number].size
            if size > layout.inline:
                values[n, number] = position
                position += size
    return _Arrangement(starts, values, position)


def _even(position: int) -> int:
    """The next word boundary, where libtiff puts directories and values, but not tile arrays."""
    return position + (position & 1)


def _out_of_line(image: _Image, layout: Layout) -> list[int]:
    """Tags whose values lie behind the directory, tile arrays aside, in the order they lie."""
    large = {
        number: tag.offset
        for number, tag in image.tags.items()
        if tag.size > layout.inline and number not in (TILE_OFFSETS, TILE_BYTE_COUNTS)
    }
    return sorted(large, key=lambda number: (large[number] is None, large[number] or number))


def _tile_offsets(
    levels: tuple[LevelCounts, ...], start: int, template: Template
) -> dict[tuple[int, bool], _Offsets]:
    """Offsets of the tiles of each level, and of its mask (True): 0 for sparse tiles.

    They are in the order of the byte counts.
    """
    offsets = {}
    for k, level in in_file_order(list(enumerate(levels))):
        frame = template.framing_of(k)
        by_plane, positions = level.sizes(sum(frame)), level.in_file
        sizes = np.empty_like(by_plane)
        sizes[positions] = by_plane
        ends = start + np.cumsum(sizes)
        starts = np.where(sizes > 0, ends - sizes + frame.leader, 0)
        start = int(ends[-1])
        offsets[k, False], offsets[k, True] = np.split(starts[positions], [level.image.size])
    return offsets
