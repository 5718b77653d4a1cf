"""Pure rules: neighbouring segments of a file, and how they become the parts of an upload.

A segment that has parts keeps a head of at least the store's smallest part, so that whatever
precedes it can always be joined to that head and uploaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ccog.errors import RasterError
from ccog.geometry.intervals import ceil_div

Buffer = bytes | memoryview


class Part(NamedTuple):
    """An uploaded part: its number, its size in bytes, and the tag of the store, e.g. an ETag."""

    number: int
    size: int
    tag: str


#: Uploads buffers as the part of the given number.
Put = Callable[[int, list[Buffer]], Part]

#: Calls it with numbers and buffers, as ``map`` does.
Each = Callable[[Put, Iterable[int], Iterable[list[Buffer]]], Iterable[Part]]

MIB = 1 << 20

#: Size parts aim at where the store's limits leave the choice.
PREFERRED_PART = 16 * MIB


class Segment(NamedTuple):
    """A contiguous range of the file: loose bytes, uploaded parts, loose bytes."""

    head: list[bytes]
    parts: list[Part]
    tail: list[bytes]


@dataclass(frozen=True)
class Limits:
    """Limits of a store: bytes of a part, and how many parts.

    The last part may be smaller than ``min_part``. Where ``equal_parts``, all but the last must
    have one size. Where a part begins then depends on the length of all that precedes it, which
    is known when every tile is: nothing is uploaded before the end, which cuts the file.
    """

    min_part: int
    max_part: int
    max_parts: int
    preferred_part: int = PREFERRED_PART
    equal_parts: bool = False


class GroupSizes(NamedTuple):
    """Upload groups that follow each other in the file, and the most bytes one of them has."""

    number: int
    size: int


class Share(NamedTuple):
    """Upload groups that follow each other, and the part numbers that each of them owns."""

    number: int
    cap: int


class Numbers(NamedTuple):
    """Part numbers of an upload group: the first, how many; and the size that parts aim at."""

    first: int
    cap: int
    part_size: int


@dataclass(frozen=True)
class PartPlan:
    """Part numbers by position: each upload group owns some, the first for joins.

    Number 1 is the header's; the last number is for the bytes that remain at the end.
    ``part_size`` is the size that parts aim at, or must have where all are equal. ``shares`` are
    those of all groups, in file order.
    """

    part_size: int
    shares: tuple[Share, ...]

    @property
    def last(self) -> int:
        """The last part number."""
        return _FIRST_NUMBER + _total(self.shares)

    def numbers(self, group: int) -> Numbers:
        """Part numbers of an upload group."""
        first = _FIRST_NUMBER
        for count, cap in self.shares:
            if group < count:
                return Numbers(first + group * cap, cap, self.part_size)
            group -= count
            first += count * cap
        raise IndexError(f"the file has fewer upload groups: {group} behind the last")

    @classmethod
    def build(cls, rows: Sequence[GroupSizes], limits: Limits) -> PartPlan | None:
        """Numbers for groups of at most these sizes; None where the store has too few."""
        for size in _part_sizes(limits):
            shares = _shares(rows, size, limits)
            if _total(shares) + 2 <= limits.max_parts:
                return cls(size, shares)
        return None

    @classmethod
    def build_for_compressed(
        cls, rows: Sequence[GroupSizes], limits: Limits
    ) -> tuple[PartPlan, int] | None:
        """Numbers for groups that compress to a share of their sizes, and that share in percent."""
        for percent in range(95, 15, -5):
            smaller = [GroupSizes(count, size * percent // 100) for count, size in rows]
            if plan := cls.build(smaller, limits):
                return plan, percent
        return None


# number 1 is the header's
_FIRST_NUMBER = 2


def _total(shares: Iterable[Share]) -> int:
    return sum(count * cap for count, cap in shares)


def _part_sizes(limits: Limits) -> Iterator[int]:
    """Sizes that parts may aim at, the preferred one first."""
    size = max(limits.min_part, limits.preferred_part)
    while size < limits.max_part:
        yield size
        size *= 2
    yield limits.max_part


def _shares(rows: Sequence[GroupSizes], size: int, limits: Limits) -> tuple[Share, ...]:
    """Part numbers of each group: one for joins and its own; one for all where parts are equal."""
    if limits.equal_parts:
        whole = sum(count * most for count, most in rows)
        groups = sum(count for count, _ in rows)
        return Share(1, ceil_div(whole, size)), Share(groups - 1, 0)
    joined = 2 * limits.min_part
    return tuple(
        Share(count, 1 if most < joined else ceil_div(most, size) + 1) for count, most in rows
    )


def fewest_parts(rows: Sequence[GroupSizes], limits: Limits) -> int:
    """Part numbers that groups of at most these sizes need with the largest parts."""
    return _total(_shares(rows, limits.max_part, limits)) + 2


def cut(buffers: Sequence[Buffer], size: int) -> list[list[Buffer]]:
    """The buffers as bodies of parts of ``size`` bytes, the last one of the rest."""
    bodies, left = [], total(buffers)
    while left > size:
        body, buffers = split(buffers, size)
        bodies.append(body)
        left -= size
    return [*bodies, list(buffers)]


def total(buffers: Iterable[Buffer]) -> int:
    """Bytes in a list of buffers."""
    return sum(len(buffer) for buffer in buffers)


def emit(
    buffers: list[Buffer],
    numbers: Numbers,
    limits: Limits,
    put: Put,
    each: Each = map,
) -> Segment:
    """Upload the bytes of a group, but for the head that later joins need; a small one is kept.

    Bytes that are kept are copied where they are a view, perhaps of much more that can go.
    ``each`` maps ``put`` over the parts, perhaps several at a time.
    """
    first, cap, part_size = numbers
    size = total(buffers)
    if size < 2 * limits.min_part or not size or limits.equal_parts or cap < 2:
        return Segment(_own(buffers), [], [])
    head, rest = split(buffers, limits.min_part)
    left = size - total(head)
    most = left // max(1, limits.min_part)
    count = max(1, min(cap - 1, ceil_div(left, part_size), most))
    if left > count * limits.max_part:
        raise RasterError(
            f"a row of blocks has {size} bytes, for which {count} parts of at most "
            f"{limits.max_part} bytes are left: the raster does not compress as well as the "
            "store's limit needs"
        )
    bodies = []
    for k in range(count):
        body, rest = split(rest, left * (k + 1) // count - left * k // count)
        bodies.append(body)
    own_numbers = range(first + 1, first + 1 + count)
    return Segment(_own(head), list(each(put, own_numbers, bodies)), [])


class Joins(NamedTuple):
    """Part numbers for joins: of a segment's first upload group, and of its last one."""

    first: int
    last: int


def merge(
    left: Segment, right: Segment, joins: Joins, limits: Limits, part_size: int, put: Put
) -> Segment:
    """Join two neighbouring segments; ``joins`` are those of the right one."""
    if not left.parts:
        head = left.head + right.head
        is_small = limits.equal_parts or total(head) < limits.min_part + part_size
        if right.parts or is_small:
            return Segment(head, right.parts, right.tail)
        kept, rest = split(head, limits.min_part)
        return Segment(_own(kept), [put(joins.last, rest)], [])
    joined = left.tail + right.head
    if right.parts:
        extra = [put(joins.first, list(joined))] if joined else []
        return Segment(left.head, left.parts + extra + right.parts, right.tail)
    if total(joined) >= max(part_size, 1):
        return Segment(left.head, [*left.parts, put(joins.last, list(joined))], [])
    return Segment(left.head, left.parts, joined)


def _own(buffers: list[Buffer]) -> list[bytes]:
    return [bytes(buffer) for buffer in buffers]


def split(buffers: Sequence[Buffer], size: int) -> tuple[list[Buffer], list[Buffer]]:
    """The first ``size`` bytes, and the rest."""
    before: list[Buffer] = []
    for k, buffer in enumerate(buffers):
        if size >= len(buffer):
            before.append(buffer)
            size -= len(buffer)
            continue
        after = list(buffers[k + 1 :])
        if size:
            return [*before, buffer[:size]], [buffer[size:], *after]
        return before, [buffer, *after]
    return before, []
