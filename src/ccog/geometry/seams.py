"""Along one axis: which overview pixels a block reduces alone, and which straddle blocks."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property

from ccog.geometry.axis_reduction import AxisReduction
from ccog.geometry.intervals import Interval, ceil_div


@dataclass(frozen=True)
class Seam:
    """Destination pixels that straddle blocks, and the source they need: halos of the blocks."""

    dst: Interval
    source: Interval


@dataclass(frozen=True)
class Seams:
    """The seams of an axis that is cut into blocks of ``side`` source pixels.

    Everything is worked out when it is asked for, and kept: an axis may have millions of blocks of
    which a preview looks at two.
    """

    axis: AxisReduction
    side: int

    @property
    def count(self) -> int:
        """Blocks along the axis."""
        return ceil_div(self.axis.src, self.side)

    def block(self, b: int) -> Interval:
        """Source pixels of block ``b``."""
        return Interval(b * self.side, min(self.axis.src, (b + 1) * self.side))

    def alone(self, b: int) -> Interval:
        """The destination pixels that block ``b`` reduces alone; empty where there are none."""
        if b not in self._alone:
            self._alone[b] = _reducible(self.axis, self.block(b))
        return self._alone[b]

    def overlapping(self, want: Interval) -> list[Seam]:
        """Seams that overlap the destination interval ``want``."""
        seams = self._scan.up_to(want.stop)
        first = bisect.bisect_right(seams, want.start, key=lambda seam: seam.dst.stop)
        last = bisect.bisect_left(seams, want.stop, key=lambda seam: seam.dst.start)
        return seams[first:last]

    def needing(self, b: int) -> tuple[Seam, ...]:
        """The seams that need pixels of block ``b``: its halos lie in their sources."""
        return self._needing.get(b, ())

    @cached_property
    def _alone(self) -> dict[int, Interval]:
        return {}

    @cached_property
    def _scan(self) -> _Scan:
        return _Scan(self)

    @cached_property
    def _needing(self) -> dict[int, tuple[Seam, ...]]:
        by_block: dict[int, tuple[Seam, ...]] = {}
        for seam in self._scan.up_to(self.axis.dst):
            first = seam.source.start // self.side
            for b in range(first, ceil_div(seam.source.stop, self.side)):
                by_block[b] = (*by_block.get(b, ()), seam)
        return by_block


class _Scan:
    """The seams from the start of an axis to where they were last asked for."""

    def __init__(self, seams: Seams) -> None:
        self._of = seams
        self._seams: list[Seam] = []
        # the next block to look at, and where the destination is covered up to
        self._block, self._position = 0, 0

    def up_to(self, stop: int) -> list[Seam]:
        """All seams that begin before the destination pixel ``stop``, and perhaps more."""
        axis = self._of.axis
        while self._position < stop:
            at_end = self._block == self._of.count
            alone = Interval(axis.dst, axis.dst) if at_end else self._of.alone(self._block)
            self._block += 1
            if not len(alone) and not at_end:
                continue
            if alone.start > self._position:
                missing = Interval(self._position, alone.start)
                self._seams.append(Seam(missing, axis.source_of(missing)))
            self._position = max(self._position, alone.stop)
        return self._seams


def _reducible(axis: AxisReduction, block: Interval) -> Interval:
    """The destination pixels whose whole source lies in ``block``; empty where there are none."""
    start = 0 if block.start == 0 else int(block.start / axis.ratio)
    stop = axis.dst if block.stop == axis.src else min(axis.dst, int(block.stop / axis.ratio) + 1)
    while start < stop:
        need = axis.source_of(Interval(start, stop))
        if need.within(block):
            return Interval(start, stop)
        if need.start < block.start:
            start += 1
        if need.stop > block.stop:
            stop -= 1
    return Interval(0, 0)
