"""Sizes, intervals and areas of pixels: (y, x) throughout, intervals are half open."""

from __future__ import annotations

from dataclasses import dataclass

#: (height, width), or any other pair of numbers along y and x.
Size = tuple[int, int]


def ceil_div(a: int, b: int) -> int:
    """Quotient rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Interval:
    """Consecutive pixel indices along one axis, without ``stop``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def intersect(self, other: Interval) -> Interval:
        """The part in both; empty intervals have ``stop == start``."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def within(self, other: Interval) -> bool:
        """Whether all of this lies in ``other``."""
        return other.start <= self.start and self.stop <= other.stop

    def slice_of(self, other: Interval) -> slice:
        """The interval as a slice into an array that covers ``other``."""
        return slice(self.start - other.start, self.stop - other.start)


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels of one level."""

    rows: Interval
    cols: Interval

    @property
    def shape(self) -> Size:
        """(height, width)."""
        return len(self.rows), len(self.cols)

    def intersect(self, other: Area) -> Area:
        """The part in both."""
        return Area(self.rows.intersect(other.rows), self.cols.intersect(other.cols))

    def slices_of(self, outer: Area) -> tuple[slice, slice]:
        """Where the area lies in an array of the pixels of ``outer``."""
        return self.rows.slice_of(outer.rows), self.cols.slice_of(outer.cols)
