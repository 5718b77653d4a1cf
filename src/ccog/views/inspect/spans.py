"""Which bytes of the file belong to which of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.tiff.directories import Range
from ccog.tiff.header import Framing, framing
from ccog.views.inspect.directory import Array, ImageDirectory
from ccog.views.inspect.header import Header

#: Owners of the bytes of the header, and of bytes that nothing points to.
#: Directories are numbered from 0.
HEADER, NOBODY = -1, -2

# word alignment leaves single bytes unused, which is not a gap
_LEAST_GAP = 2
_MOST_LISTED = 1000


class Spans(NamedTuple):
    """Ranges of the file by their first byte; ``owner`` is HEADER or a directory."""

    starts: Array
    stops: Array
    owner: npt.NDArray[np.int32]

    @classmethod
    def of(cls, header: Header) -> Spans:
        """All that something in the file points to, leaders and trailers included."""
        extents = np.array(sorted(header.extents()), np.int64)
        own = cls(extents[:, 0], extents[:, 1], np.full(len(extents), HEADER, np.int32))
        return cls._joined([own, *_tiles(header.directories, framing(header.ghost))])

    @classmethod
    def of_tiles(cls, directories: Sequence[ImageDirectory]) -> Spans:
        """The stored tiles of some directories."""
        return cls._joined(_tiles(directories, Framing(0, 0)))

    @classmethod
    def _joined(cls, parts: Iterable[Spans]) -> Spans:
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
        return tuple(zip(reach[at].tolist(), starts[at].tolist(), strict=True))

    def overlaps(self) -> tuple[Range, ...]:
        """Ranges that two parts of the file claim."""
        reach = np.maximum.accumulate(self.stops)[:-1]
        at = np.flatnonzero(self.starts[1:] < reach)[:_MOST_LISTED]
        stops = np.minimum(reach[at], self.stops[at + 1])
        return tuple(zip(self.starts[at + 1].tolist(), stops.tolist(), strict=True))

    def requests(self, *, join: int) -> int:
        """Ranges that are left when those within ``join`` bytes are read together."""
        if not self.starts.size:
            return 0
        reach = np.maximum.accumulate(self.stops)[:-1]
        return 1 + int(np.count_nonzero(self.starts[1:] - reach > join))


def _tiles(directories: Sequence[ImageDirectory], around: Framing) -> Iterator[Spans]:
    for k, directory in enumerate(directories):
        offsets, counts = directory.stored
        owner = np.broadcast_to(np.int32(k), offsets.size)
        yield Spans(offsets - around.leader, offsets + counts + around.trailer, owner)
