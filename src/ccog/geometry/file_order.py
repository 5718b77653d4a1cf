"""What comes where in the file behind the header: levels, planes, upload groups, tiles."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

from ccog.geometry.intervals import Size
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import Pyramid
from ccog.geometry.raster_facts import RasterFacts
from ccog.geometry.tile_order import Array, tile_positions

#: Order of the tiles of a level: row by row as GDAL writes them, or chunk by chunk.
FileLayout = Literal["gdal", "chunk"]

T = TypeVar("T")


def in_file_order(levels: Sequence[T]) -> Iterator[T]:
    """Levels, full resolution first, in the order of their pixel data: smallest overview first."""
    return reversed(levels)


class UploadGroup(NamedTuple):
    """Blocks whose tiles are uploaded together: the ``number``-th group of a plane of a level."""

    level: int
    plane: int
    number: int


class GroupsOfLevel(NamedTuple):
    """Groups of a level, the same numbers in each of its planes, one plane after the other."""

    level: int
    planes: int
    numbers: Sequence[int]


@dataclass(frozen=True)
class GroupSequence:
    """Groups in the order of their segments of the file: there may be too many for a list."""

    levels: tuple[GroupsOfLevel, ...]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, n: int) -> UploadGroup:
        at = bisect.bisect_right(self._starts, n) - 1
        k, _, numbers = self.levels[at]
        plane, m = divmod(n - self._starts[at], len(numbers))
        return UploadGroup(k, plane, numbers[m])

    def __iter__(self) -> Iterator[UploadGroup]:
        for k, planes, numbers in self.levels:
            for plane in range(planes):
                yield from (UploadGroup(k, plane, n) for n in numbers)

    def index(self, k: int, plane: int, n: int) -> int:
        """Where a group lies, for sequences that hold all groups of their levels."""
        at = next(at for at, of_level in enumerate(self.levels) if of_level.level == k)
        return self._starts[at] + plane * len(self.levels[at].numbers) + n

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        counts = (planes * len(numbers) for _, planes, numbers in self.levels)
        return tuple(itertools.accumulate(counts, initial=0))


@dataclass(frozen=True, kw_only=True)
class FileOrder:
    """The order of levels, planes and tiles."""

    options: CreationOptions
    pyramid: Pyramid
    raster: RasterFacts
    #: Whether the tiles of a chunk lie together.
    by_chunk: bool
    #: Whether the bands of full resolution, and of the overviews, are compressed each by itself.
    planar: tuple[bool, bool]

    def is_planar(self, k: int) -> bool:
        """Whether the bands of level ``k`` lie one after the other, in it or in each chunk."""
        return self.planar[min(k, 1)] and self.options.interleave != "TILE"

    def planes(self, k: int) -> int:
        """Separate segments of the file that level ``k`` consists of: bands and mask, or one."""
        if self.is_planar(k) and not self.by_chunk:
            return self.raster.count + self.raster.has_mask
        return 1

    def encoded_planes(self, k: int) -> int:
        """Planes whose tiles are compressed each by itself, the mask aside: the bands, or one."""
        return self.raster.count if self.planar[min(k, 1)] else 1

    def groups(self, numbers: Mapping[int, Sequence[int]]) -> GroupSequence:
        """Groups of each level, by their numbers in a plane, in the order of the file."""
        levels = []
        for level in in_file_order(self.pyramid.levels):
            k = level.index
            levels.append(GroupsOfLevel(k, self.planes(k), numbers[k]))
        return GroupSequence(tuple(levels))

    def tile_positions(self, k: int, corner: Size | None = None) -> Array:
        """Where the tiles of level ``k`` lie in ``layout="chunk"``, shape (plane, tile).

        They are counted from the level's first; ``corner``: only of (rows, columns) of tiles at the
        upper left.
        """
        return tile_positions(
            self.pyramid.levels[k],
            self.encoded_planes(k),
            mask=self.raster.has_mask,
            by_tile=self.options.interleave == "TILE",
            corner=corner,
        )
