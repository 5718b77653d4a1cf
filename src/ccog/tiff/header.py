"""The header of the COG: every directory as GDAL writes it, re-laid with the true sizes and tile arrays.

A template, a tiny sparse COG with the same options and metadata written by the installed COG driver,
supplies each tag. Its layout rules (GTiffDataset::CreateCopy with ``IFDS_BEFORE_DATA``) are: header,
ghost area, then the directories (full size, its mask, the overviews, their masks), each followed by its
out-of-line values, then the tile arrays level by level, and then the pixel data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.tiff import directories as tiff
from ccog.tiff.directories import LONG, LONG8, SHORT, Directory, Layout, Tag

Counts = npt.NDArray[np.uint32]

_STRILE_TAGS = (tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS)

#: Bytes before each tile (its size) and after it (its last four bytes again), COG ghost area.
LEADER, TRAILER = 4, 4

# what the ghost area may say of tiles that do not lie row by row
_TRUE_OF_CHUNKS = ("LAYOUT", "KNOWN_INCOMPATIBLE_EDITION")

#: Bytes a classic TIFF can address.
CLASSIC_LIMIT = 1 << 32


@dataclass(frozen=True)
class LevelCounts:
    """Size of one level, and the byte counts of its tiles in file order (0 for a sparse tile).

    ``image`` and ``mask`` are flat, row-major, band after band where bands are compressed apart: then the
    file holds them in that order (``planar``), or the ``tile_planes`` tiles of a place side by side. Where given,
    ``places`` say instead where each tile lies, image and then mask, counted in tiles from the first of the level.
    """

    height: int
    width: int
    image: Counts
    mask: Counts | None
    planar: bool
    tile_planes: int = 1
    places: npt.NDArray[np.int64] | None = None


def framing(ghost: str) -> tuple[int, int]:
    """Bytes before and after each tile that a ghost area announces."""
    leader = LEADER if "BLOCK_LEADER=SIZE_AS_UINT4" in ghost else 0
    return leader, TRAILER if "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in ghost else 0


@dataclass(frozen=True)
class Template:
    """Directories that GDAL wrote for a tiny raster: full size and one overview, with or without masks."""

    ghost: bytes
    image: Directory
    overview: Directory
    mask: Directory | None
    overview_mask: Directory | None

    @property
    def planar(self) -> tuple[bool, bool]:
        """Whether the bands of full resolution, and of the overviews, lie one after the other."""
        full, overview = (
            d.value(tiff.PLANAR_CONFIG, 1) == tiff.SEPARATE for d in (self.image, self.overview)
        )
        return full, overview

    @classmethod
    def parse(cls, data: bytes) -> Template:
        """Pick the four kinds of directory from a template file."""
        parsed = tiff.parse(data)
        kinds = {d.value(tiff.NEW_SUBFILE_TYPE): d for d in reversed(parsed.directories)}
        return cls(parsed.ghost, kinds[0], kinds.get(1, kinds[0]), kinds.get(4), kinds.get(5))

    def with_tiles(self, side: int, overview_side: int) -> Template:
        """The same for tiles of full resolution, and of overviews, of these sides in pixels."""
        return replace(
            self,
            image=_with_tiles(self.image, side),
            overview=_with_tiles(self.overview, overview_side),
            mask=None if self.mask is None else _with_tiles(self.mask, side),
            overview_mask=None
            if self.overview_mask is None
            else _with_tiles(self.overview_mask, overview_side),
        )

    @property
    def framing(self) -> tuple[int, int]:
        """Bytes before and after each tile."""
        return framing(self.ghost.decode("ascii"))

    def by_chunk(self) -> Template:
        """The same for tiles that lie chunk by chunk, bare: a ghost area that claims nothing else."""
        lines = [line.strip(" \0") for line in self.ghost.decode("ascii").split("\n")[1:]]
        # GDAL rewrites NO as YES, which takes the space after the line
        text = (
            "".join(f"{line}\n" for line in lines if line.partition("=")[0] in _TRUE_OF_CHUNKS)
            + " "
        )
        ghost = f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode("ascii")
        return replace(self, ghost=ghost + b"\0" * (len(ghost) % 2))


def _with_tiles(directory: Directory, side: int) -> Directory:
    size = Tag.integer(side)
    return directory.with_tags(**{f"t{tiff.TILE_WIDTH}": size, f"t{tiff.TILE_LENGTH}": size})


@dataclass(frozen=True)
class _Placed:
    """A directory with its tile arrays, before offsets are known."""

    directory: Directory
    counts: Counts
    offsets_type: int
    counts_type: int


def build_header(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> bytes:
    """Header bytes of a COG whose levels (full size first) have the given tile sizes.

    The pixel data is understood to follow at once: smallest overview first, tiles in the order of the
    counts, each mask tile right after its image tile or, in a planar level, all of them after the last plane.
    """
    layout = Layout(big)
    placed = _directories(template, levels, layout)
    out_of_line = [_metadata_order(entry.directory, layout) for entry in placed]
    starts, position = _place_directories(template, placed, out_of_line, layout)
    arrays, data_start = _place_arrays(placed, len(levels), layout, position)
    offsets = _tile_offsets(levels, data_start, template.framing)
    header = bytearray(layout.header(starts[0]) + template.ghost)
    for k, (entry, tags) in enumerate(zip(placed, out_of_line, strict=True)):
        following = starts[k + 1] if k + 1 < len(starts) else 0
        header += b"\0" * (starts[k] - len(header))
        header += _directory_bytes(entry, offsets[k], tags, arrays[k], layout, starts[k], following)
    for raw in _array_bytes(placed, offsets, len(levels), layout):
        header += raw
    if len(header) != data_start:
        raise AssertionError(f"header of {len(header)} bytes, planned {data_start}")
    return bytes(header)


def header_size(template: Template, levels: tuple[LevelCounts, ...], *, big: bool) -> int:
    """Bytes of the header; of the counts only how many there are matters."""
    layout = Layout(big)
    placed = _directories(template, levels, layout)
    out_of_line = [_metadata_order(entry.directory, layout) for entry in placed]
    _, position = _place_directories(template, placed, out_of_line, layout)
    return _place_arrays(placed, len(levels), layout, position)[1]


def _place_directories(
    template: Template, placed: list[_Placed], out_of_line: list[list[int]], layout: Layout
) -> tuple[list[int], int]:
    """Offsets of the directories, and where the last one's values end."""
    starts, position = [], layout.header_size + len(template.ghost)
    for entry, tags in zip(placed, out_of_line, strict=True):
        starts.append(_even(position))
        position = starts[-1] + layout.directory_size(len(entry.directory.tags))
        for tag in tags:
            position = _even(position) + len(entry.directory.tags[tag].raw)
    return starts, position


def _even(position: int) -> int:
    """The next word boundary, where libtiff puts directories and out-of-line values (not tile arrays)."""
    return position + (position & 1)


def data_size(template: Template, levels: tuple[LevelCounts, ...]) -> int:
    """Bytes of pixel data, tile leaders and trailers included."""
    frame = sum(template.framing)
    return sum(
        int(_framed(c, frame).sum())
        for level in levels
        for c in (level.image, level.mask)
        if c is not None
    )


def _framed(counts: Counts, frame: int) -> npt.NDArray[np.int64]:
    wide = counts.astype(np.int64)
    return np.where(wide > 0, wide + frame, 0) if frame else wide


def _directories(
    template: Template, levels: tuple[LevelCounts, ...], layout: Layout
) -> list[_Placed]:
    """Directories in file order: full size, its mask, the overviews, their masks."""
    images = [
        _placed(template.image if k == 0 else template.overview, v, v.image, layout)
        for k, v in enumerate(levels)
    ]
    masks = []
    for k, level in enumerate(levels):
        source = template.mask if k == 0 else template.overview_mask
        if level.mask is not None and source is not None:
            masks.append(_placed(source, level, level.mask, layout))
    return [images[0], *masks[:1], *images[1:], *masks[1:]]


def _placed(source: Directory, level: LevelCounts, counts: Counts, layout: Layout) -> _Placed:
    directory = source.with_tags(
        **{
            f"t{tiff.IMAGE_WIDTH}": Tag.integer(level.width),
            f"t{tiff.IMAGE_LENGTH}": Tag.integer(level.height),
        }
    )
    if counts.size == 1:
        return _Placed(directory, counts, layout.offset_type, layout.offset_type)
    return _Placed(directory, counts, layout.offset_type, _counts_type(source))


def _counts_type(source: Directory) -> int:
    """Field type libtiff gives tile byte counts, from the largest a tile may get (_WriteAsType, tif_dirwrite.c)."""
    tile = uncompressed_tile(source)
    # libtiff takes the worst case of these compressions to be ten times the raw size
    factor = 1 if source.value(tiff.COMPRESSION) == 1 else 10
    for kind, limit in ((LONG8, 0xFFFFFFFF), (LONG, 0xFFFF)):
        if tile > limit if factor == 1 else tile >= limit // factor:
            return kind
    return SHORT


def uncompressed_tile(source: Directory) -> int:
    """Bytes of a tile of a directory before compression, of one band where bands are apart."""
    samples = (
        source.value(tiff.SAMPLES_PER_PIXEL, 1) if source.value(tiff.PLANAR_CONFIG, 1) == 1 else 1
    )
    bits = source.value(tiff.BITS_PER_SAMPLE, 1) * samples
    width, height = source.value(322), source.value(323)
    if source.value(tiff.PHOTOMETRIC) == 6 and samples == 3:
        return width * height * 3 // 2  # 2 x 2 chroma subsampling
    return -(-bits * width // 8) * height


def _metadata_order(directory: Directory, layout: Layout) -> list[int]:
    """Tags, other than tile arrays, whose values lie behind the directory, in the order they lie there."""
    found = [
        t
        for t, tag in directory.tags.items()
        if t not in _STRILE_TAGS and len(tag.raw) > layout.inline
    ]
    return sorted(
        found, key=lambda t: (directory.tags[t].offset is None, directory.tags[t].offset or t)
    )


def _level_order(placed: list[_Placed], levels: int) -> list[int]:
    """Indices of the directories in the order of their tile arrays: level by level, image before mask."""
    if len(placed) == levels:
        return list(range(levels))
    order = [0, 1]
    for k in range(1, levels):
        order += [1 + k, levels + k]
    return order


def _place_arrays(
    placed: list[_Placed], levels: int, layout: Layout, position: int
) -> tuple[dict[int, tuple[int, int]], int]:
    """Offsets of each directory's two tile arrays (0 where inline), and where the pixel data starts."""
    where: dict[int, tuple[int, int]] = {}
    for k in _level_order(placed, levels):
        found = []
        for kind in (placed[k].offsets_type, placed[k].counts_type):
            size = placed[k].counts.size * tiff.SIZES[kind]
            found.append(position if size > layout.inline else 0)
            position += size if size > layout.inline else 0
        where[k] = (found[0], found[1])
    return where, position


def _tile_offsets(
    levels: tuple[LevelCounts, ...], start: int, frame: tuple[int, int]
) -> list[npt.NDArray[np.int64]]:
    """Offsets of the tiles of each directory, in directory order; 0 for sparse tiles."""
    images: list[npt.NDArray[np.int64]] = []
    masks: list[npt.NDArray[np.int64]] = []
    for level in reversed(levels):
        sizes = [*_framed(level.image, sum(frame)).reshape(level.tile_planes, -1)]
        sizes += [] if level.mask is None else [_framed(level.mask, sum(frame))]
        stored = _in_file_order(level, sizes)
        ends = start + np.cumsum(stored)
        at = np.where(stored > 0, ends - stored + frame[0], 0)
        start = int(ends[-1])
        image, mask = np.split(_in_tile_order(level, at, len(sizes)), [level.image.size])
        images.insert(0, image)
        if level.mask is not None:
            masks.insert(0, mask)
    return [images[0], *masks[:1], *images[1:], *masks[1:]]


def _in_file_order(
    level: LevelCounts, planes: list[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    """What is known of the tiles of each plane, in the order of their bytes."""
    if level.places is None:
        return np.concatenate(planes) if level.planar else np.stack(planes, axis=1).reshape(-1)
    found = np.empty(level.places.size, np.int64)
    found[level.places.reshape(-1)] = np.concatenate(planes)
    return found


def _in_tile_order(
    level: LevelCounts, found: npt.NDArray[np.int64], planes: int
) -> npt.NDArray[np.int64]:
    """The inverse of ``_in_file_order``, plane after plane."""
    if level.places is not None:
        return found[level.places.reshape(-1)]
    return found if level.planar else found.reshape(-1, planes).T.reshape(-1)


def _directory_bytes(
    entry: _Placed,
    offsets: npt.NDArray[np.int64],
    out_of_line: list[int],
    arrays: tuple[int, int],
    layout: Layout,
    start: int,
    following: int,
) -> bytes:
    position = start + layout.directory_size(len(entry.directory.tags))
    entries, values = [], []
    for tag, found in entry.directory.tags.items():
        if tag in _STRILE_TAGS:
            continue
        if tag not in out_of_line:
            entries.append((tag, found.type, found.count, found.raw))
    for tag in out_of_line:
        found = entry.directory.tags[tag]
        gap = position & 1
        position += gap
        entries.append((tag, found.type, found.count, layout.pack_offset(position)))
        values.append(b"\0" * gap + found.raw)
        position += len(found.raw)
    values_of: tuple[npt.NDArray[Any], ...] = (offsets, entry.counts)
    kinds = (entry.offsets_type, entry.counts_type)
    for tag, where, array, kind in zip(_STRILE_TAGS, arrays, values_of, kinds, strict=True):
        value = layout.pack_offset(where) if where else tiff.pack_array(array, kind)
        entries.append((tag, kind, int(array.size), value))
    return layout.directory(entries, following) + b"".join(values)


def _array_bytes(
    placed: list[_Placed], offsets: list[npt.NDArray[np.int64]], levels: int, layout: Layout
) -> list[bytes]:
    chunks = []
    for k in _level_order(placed, levels):
        entry = placed[k]
        for array, kind in ((offsets[k], entry.offsets_type), (entry.counts, entry.counts_type)):
            raw = tiff.pack_array(array, kind)
            if len(raw) > layout.inline:
                chunks.append(raw)
    return chunks
