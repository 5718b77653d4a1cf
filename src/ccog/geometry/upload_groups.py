"""Which blocks are uploaded together, and how groups are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ccog.geometry.file_order import FileOrder, GroupSequence
from ccog.geometry.intervals import ceil_div
from ccog.geometry.level_reductions import LevelReductions
from ccog.geometry.parts import GroupSizes
from ccog.geometry.pyramid import Level
from ccog.geometry.tile_order import along_curve

# bytes beside the data of a tile: its leader and its trailer
_FRAMING = 8


@dataclass(frozen=True, kw_only=True)
class UploadGroups:
    """The groups of each plane of each level: its block rows, or runs along the Morton curve."""

    order: FileOrder
    reductions: LevelReductions
    #: Blocks of full resolution in a group of ``layout="chunk"``; overviews have fewer.
    size: int

    @property
    def _levels(self) -> tuple[Level, ...]:
        return self.order.pyramid.levels

    def count(self, k: int) -> int:
        """Groups of each plane of level ``k``."""
        rows, cols = self._levels[k].blocks
        return ceil_div(rows * cols, self.length(k))

    def length(self, k: int) -> int:
        """Blocks of a group of level ``k``; the last one may have fewer."""
        rows, cols = self._levels[k].blocks
        if not self.order.by_chunk:
            return cols
        return min(rows * cols, max(1, self.size >> min(k, 2)))

    @cached_property
    def all(self) -> GroupSequence:
        """The groups in the order of their segments of the file."""
        return self.order.groups({k: range(self.count(k)) for k in range(len(self._levels))})

    @cached_property
    def for_merges(self) -> GroupSequence:
        """The groups that merges join; others are joined to one of these when they are uploaded."""
        last = {k: self.last_joined(self.count(k)) for k in range(len(self._levels))}
        return self.order.groups(last)

    @property
    def sizes(self) -> tuple[GroupSizes, ...]:
        """How many groups have at most how many bytes, in the order of the file."""
        return tuple(
            GroupSizes(planes * len(numbers), self.bytes(k))
            for k, planes, numbers in self.all.levels
        )

    def blocks(self, k: int, n: int) -> list[tuple[int, int]]:
        """Blocks of group ``n`` of a plane of level ``k``, in the order of the file."""
        if not self.order.by_chunk:
            return [(n, j) for j in range(self._levels[k].blocks[1])]
        length = self.length(k)
        return [(int(i), int(j)) for i, j in self._curves[k][n * length : (n + 1) * length]]

    def of_block(self, k: int, i: int, j: int) -> int:
        """The group of block (i, j) of level ``k``, in each of its planes."""
        if not self.order.by_chunk:
            return i
        return int(self._positions[k][i, j]) // self.length(k)

    def joined_at(self, n: int) -> list[int]:
        """Groups of a level that group ``n`` is joined to once it is uploaded.

        Each comes with what it was joined to before. In ``layout="chunk"`` they are joined as a
        binary counter carries, so that few segments of the file wait at a time: group 1 to 0, 3 to
        2 and 1, 7 to 6, 5 and 3.
        """
        if not self.order.by_chunk:
            return []
        carries = (~n & (n + 1)).bit_length() - 1
        return [n - (1 << carry) for carry in reversed(range(carries))]

    def last_joined(self, count: int) -> Sequence[int]:
        """Of the first ``count`` groups of a plane, those that nothing joins to a later one."""
        if not self.order.by_chunk:
            return range(count)
        groups, stop = [], 0
        for bit in reversed(range(count.bit_length())):
            if count >> bit & 1:
                stop += 1 << bit
                groups.append(stop - 1)
        return groups

    def last_needed(self, k: int, n: int) -> int:
        """The last group of full resolution that group ``n`` of a plane of level ``k`` needs.

        Along the Morton curve, the last of a rectangle of blocks is in its last row and column.
        """
        rows, cols = (by_level[k] for by_level in self.reductions.last_needed)
        return max(self.of_block(0, rows[i], cols[j]) for i, j in self.blocks(k, n))

    def bytes(self, k: int) -> int:
        """Uncompressed bytes of a group of level ``k``, tile padding and framing included."""
        level, raster = self._levels[k], self.order.raster
        bands = 1 if self.order.planes(k) > 1 else raster.count
        tile = level.blocksize**2 * bands * raster.itemsize + _FRAMING
        mask = level.blocksize**2 // 8 + _FRAMING if raster.has_mask else 0
        if not self.order.by_chunk:
            return len(level.tile_rows(0)) * level.tiles[1] * (tile + mask)
        down, across = (side // level.blocksize for side in level.block)
        tiles = min(down, level.tiles[0]) * min(across, level.tiles[1])
        return self.length(k) * tiles * (tile + mask)

    @cached_property
    def _curves(self) -> list[npt.NDArray[np.int64]]:
        """Blocks of each level along the Morton curve."""
        return [along_curve(level.blocks) for level in self._levels]

    @cached_property
    def _positions(self) -> list[npt.NDArray[np.int64]]:
        """Where each block of each level lies along the Morton curve."""
        of_levels = []
        for level, curve in zip(self._levels, self._curves, strict=True):
            positions = np.empty(level.blocks, np.int64)
            positions[tuple(curve.T)] = np.arange(positions.size)
            of_levels.append(positions)
        return of_levels
