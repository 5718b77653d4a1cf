"""One directory of a TIFF: what it says of its image, and its tiles as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.geometry.intervals import Size, ceil_div
from ccog.tiff import tags
from ccog.tiff.directories import Range, Tag

Array = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer]


class TileRanges(NamedTuple):
    """Offsets and byte counts of tiles."""

    offsets: Array
    counts: Counts


class TileGrid(NamedTuple):
    """How many tiles there are; bands that are stored apart are planes."""

    planes: int
    rows: int
    cols: int


@dataclass(frozen=True, kw_only=True)
class ImageDirectory:
    """One directory: where it lies, what it says, and its tiles (or strips).

    ``samples`` are bands, of ``bits`` each. ``offsets`` and ``counts`` have the shape (plane, row,
    column) and are 0 for sparse tiles. Where the file has no tile yet (``is_empty``), one zero
    stands for all: a file of 174 bytes can have billions.
    """

    extent: Range
    tags: Mapping[int, Tag]
    numbers: Mapping[int, int]
    height: int
    width: int
    samples: int
    bits: int
    offsets: Array
    counts: Counts
    is_empty: bool

    def value(self, tag: int, default: int = 0) -> int:
        """First value of one of the tags that say what the image is like."""
        return self.numbers.get(tag, default)

    @property
    def is_tiled(self) -> bool:
        """Whether it has tiles, not strips."""
        return tags.TILE_WIDTH in self.tags

    @property
    def tile(self) -> Size:
        """(height, width) of a tile; a strip is a tile as wide as the image."""
        if self.is_tiled:
            return self.value(tags.TILE_LENGTH), self.value(tags.TILE_WIDTH)
        return min(self.value(tags.ROWS_PER_STRIP, self.height), self.height), self.width

    @property
    def grid(self) -> TileGrid:
        """The tiles of the image."""
        height, width = self.tile
        planes = self.samples if self.value(tags.PLANAR_CONFIG, 1) == tags.SEPARATE else 1
        return TileGrid(planes, ceil_div(self.height, height), ceil_div(self.width, width))

    @property
    def size(self) -> Size:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def is_mask(self) -> bool:
        """Whether it holds a transparency mask."""
        return bool(self.value(tags.NEW_SUBFILE_TYPE) & tags.MASK)

    @property
    def is_overview(self) -> bool:
        """Whether it is a reduced-resolution version."""
        return bool(self.value(tags.NEW_SUBFILE_TYPE) & tags.REDUCED)

    @cached_property
    def stored(self) -> TileRanges:
        """The tiles that have bytes, plane by plane and row by row."""
        if self.is_empty:
            # the zero that stands for all must not be gone through
            return TileRanges(np.zeros(0, np.int64), np.zeros(0, np.int64))
        stored = self.counts > 0
        if stored.all():
            return TileRanges(self.offsets.reshape(-1), self.counts.reshape(-1))
        return TileRanges(self.offsets[stored], self.counts[stored])

    @property
    def tiles_extent(self) -> Range | None:
        """First byte of its tiles, and the one after their last; None if all are sparse."""
        offsets, counts = self.stored
        if not offsets.size:
            return None
        return int(offsets.min()), int((offsets + counts).max())

    def part(self, rows: slice, cols: slice, planes: slice = slice(None)) -> ImageDirectory:
        """The directory with only a rectangle of its tiles."""
        index = planes, rows, cols
        return replace(self, offsets=self.offsets[index], counts=self.counts[index])


def sum_of(counts: Counts) -> int:
    """The sum of byte counts, exact to 9 PB; those of a damaged file do not overflow."""
    return int(counts.sum(dtype=float))
