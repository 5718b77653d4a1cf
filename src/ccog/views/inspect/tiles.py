"""The tiles of a file as arrays, and which bytes of the file belong to which of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.tiff.directories import Range
from ccog.tiff.header import framing
from ccog.views.inspect.header import Counts, Header, ImageDirectory

Array = npt.NDArray[np.int64]

#: Owners of the bytes of the header, and of bytes that nothing points to.
#: Directories are numbered from 0.
HEADER, NOBODY = -1, -2

# word alignment leaves single bytes unused, which is not a gap
_LEAST_GAP = 2
_MOST_LISTED = 1000


class TileRanges(NamedTuple):
    """Offsets and byte counts of tiles."""

    offsets: Array
    counts: Counts


@dataclass(frozen=True)
class Grid:
    """The tiles of one directory as arrays of shape (plane, row, column); 0 bytes where sparse.

    Where the file has no tile yet, one zero stands for all: a file of 174 bytes can have billions.
    """

    directory: ImageDirectory
    offsets: Array
    counts: Counts

    @classmethod
    def of(cls, directory: ImageDirectory) -> Grid:
        """The tiles of a directory."""
        shape = directory.grid
        if not directory.offsets.size:
            zeros = np.broadcast_to(np.int64(0), shape)
            return cls(directory, zeros, zeros)
        offsets, counts = directory.offsets.reshape(shape), directory.counts.reshape(shape)
        has_offset, has_bytes = offsets > 0, counts > 0
        if not np.array_equal(has_offset, has_bytes):
            offsets, counts = np.where(has_bytes, offsets, 0), np.where(has_offset, counts, 0)
        return cls(directory, offsets, counts)

    def part(self, rows: slice, cols: slice, planes: slice = slice(None)) -> Grid:
        """A rectangle of the tiles."""
        index = planes, rows, cols
        return Grid(self.directory, self.offsets[index], self.counts[index])

    @cached_property
    def stored(self) -> TileRanges:
        """The tiles that have bytes, plane by plane and row by row."""
        if not self.directory.offsets.size:
            # the zero that stands for all must not be gone through
            return TileRanges(np.zeros(0, np.int64), np.zeros(0, np.int64))
        stored = self.counts > 0
        if stored.all():
            return TileRanges(self.offsets.reshape(-1), self.counts.reshape(-1))
        return TileRanges(self.offsets[stored], self.counts[stored])

    @property
    def size(self) -> int:
        """Bytes of all tiles."""
        return sum_of(self.stored.counts)

    def spans(self, owner: int = 0, leader: int = 0, trailer: int = 0) -> Spans:
        """The stored tiles with what is before and after each of them."""
        offsets, counts = self.stored
        owners = np.broadcast_to(np.int32(owner), offsets.size)
        return Spans(offsets - leader, offsets + counts + trailer, owners)

    @property
    def extent(self) -> Range | None:
        """First byte of its tiles and the one after their last; None where all are sparse."""
        offsets, counts = self.stored
        return (int(offsets.min()), int((offsets + counts).max())) if offsets.size else None


def sum_of(counts: Counts) -> int:
    """The sum of byte counts: exact to 9 PB, and those of a damaged file do not overflow."""
    return int(counts.sum(dtype=float))


class Spans(NamedTuple):
    """Ranges of the file, sorted by their first byte; ``owner`` is HEADER or a directory."""

    starts: Array
    stops: Array
    owner: npt.NDArray[np.int32]

    @classmethod
    def of(cls, header: Header, grids: Sequence[Grid]) -> Spans:
        """Everything in the file that something points to, leaders and trailers included."""
        extents = np.array(sorted(header.extents()), np.int64)
        own = cls(extents[:, 0], extents[:, 1], np.full(len(extents), HEADER, np.int32))
        leader, trailer = framing(header.ghost)
        tiles = [grid.spans(k, leader, trailer) for k, grid in enumerate(grids)]
        return cls.joined([own, *tiles])

    @classmethod
    def joined(cls, parts: Sequence[Spans]) -> Spans:
        """All of them in order."""
        some = [part for part in parts if part.starts.size]
        if not some:
            none = np.zeros(0, np.int64)
            return cls(none, none, none.astype(np.int32))
        # most files are sorted by this already: level by level, tile by tile
        some.sort(key=lambda part: int(part.starts[0]))
        spans = cls(*map(np.concatenate, zip(*some, strict=True)))
        if bool(np.all(np.diff(spans.starts) >= 0)):
            return spans
        order = np.argsort(spans.starts, kind="stable")
        return cls(spans.starts[order], spans.stops[order], spans.owner[order])

    def owners(self, at: Array) -> npt.NDArray[np.int32]:
        """Who owns each byte: a directory, HEADER or NOBODY."""
        index = np.searchsorted(self.starts, at, side="right") - 1
        inside = (index >= 0) & (at < self.stops[index])
        return np.where(inside, self.owner[index], np.int32(NOBODY))

    def gaps(self, size: int) -> tuple[Range, ...]:
        """Unused ranges of two bytes or more, the end of the file included."""
        reach = np.maximum.accumulate(self.stops)
        starts = np.append(self.starts[1:], size)
        at = np.flatnonzero(starts - reach >= _LEAST_GAP)[:_MOST_LISTED]
        return tuple((int(reach[k]), int(starts[k])) for k in at)

    def overlaps(self) -> tuple[Range, ...]:
        """Ranges that two parts of the file claim."""
        reach = np.maximum.accumulate(self.stops)[:-1]
        at = np.flatnonzero(self.starts[1:] < reach)[:_MOST_LISTED]
        return tuple((int(self.starts[k + 1]), int(min(reach[k], self.stops[k + 1]))) for k in at)

    def requests(self, *, join: int) -> int:
        """Ranges that are left when those at most ``join`` bytes apart are read together."""
        if not self.starts.size:
            return 0
        reach = np.maximum.accumulate(self.stops)[:-1]
        return 1 + int(np.count_nonzero(self.starts[1:] - reach > join))
