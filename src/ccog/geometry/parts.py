"""Pure rules: runs of neighbouring file bytes, and how they become the parts of an upload.

A run is ``(head, parts, tail)``: buffers not yet uploaded at its start, parts uploaded from its middle, and
buffers left at its end. A run that has parts keeps a head of at least the store's smallest part, so that
whatever precedes it can always be joined to that head and uploaded. Runs are plain tuples: they travel
between workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ccog.errors import RasterError
from ccog.geometry.pyramid import ceil_div

Buffer = bytes | memoryview

#: (number, size in bytes, tag of the store, e.g. an ETag)
Part = tuple[int, int, str]

#: (head buffers, uploaded parts, tail buffers), all in file order
Run = tuple[list[bytes], list[Part], list[bytes]]

#: Uploads buffers as the part of the given number.
Put = Callable[[int, list[Buffer]], Part]

#: Calls it with numbers and buffers, as ``map`` does.
Each = Callable[[Put, Iterable[int], Iterable[list[Buffer]]], Iterable[Part]]

MIB = 1 << 20

#: Size parts aim at where the store's limits leave the choice.
PREFERRED_PART = 16 * MIB


@dataclass(frozen=True)
class Limits:
    """What a store allows: bytes of a part (the last may be smaller than ``min_part``), and how many parts.

    Where ``equal_parts``, all but the last must have one size. Where a part begins then depends on the length of
    all that precedes it, which is known when every tile is: no run is uploaded before the end, which cuts the file.
    """

    min_part: int
    max_part: int
    max_parts: int
    preferred_part: int = PREFERRED_PART
    equal_parts: bool = False


class Rows(NamedTuple):
    """Rows of the file that follow each other and have at most the same number of bytes."""

    number: int
    size: int


class Share(NamedTuple):
    """Rows that follow each other, and the part numbers that each of them owns."""

    number: int
    cap: int


class Numbers(NamedTuple):
    """The first part number of a row of the file, how many it owns, and the size that parts aim at."""

    first: int
    cap: int
    part_size: int


@dataclass(frozen=True)
class PartPlan:
    """Part numbers by position: each row of the file owns some, the first for joins with what precedes.

    Number 1 is the header's; the last number is for what remains at the end. ``part_size`` is what parts aim at,
    and where they must be equal the size of all but the last. ``shares`` are those of all rows, in file order.
    """

    part_size: int
    shares: tuple[Share, ...]

    @property
    def last(self) -> int:
        """The last part number."""
        return _FIRST_NUMBER + _total(self.shares)

    def numbers(self, row: int) -> Numbers:
        """Part numbers of a row of the file."""
        number = _FIRST_NUMBER
        for count, cap in self.shares:
            if row < count:
                return Numbers(number + row * cap, cap, self.part_size)
            row -= count
            number += count * cap
        raise IndexError(f"the file has fewer rows: {row} behind the last")

    @classmethod
    def build(cls, rows: Sequence[Rows], limits: Limits) -> PartPlan | None:
        """Numbers for rows of at most the given sizes, in file order; None where the store has too few."""
        for size in _part_sizes(limits):
            shares = _shares(rows, size, limits)
            if _total(shares) + 2 <= limits.max_parts:
                return cls(size, shares)
        return None

    @classmethod
    def build_for_compressed(
        cls, rows: Sequence[Rows], limits: Limits
    ) -> tuple[PartPlan, int] | None:
        """Numbers for rows that compress to the share of their sizes that comes with them, in percent."""
        for percent in range(95, 15, -5):
            smaller = [Rows(count, size * percent // 100) for count, size in rows]
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


def _shares(rows: Sequence[Rows], size: int, limits: Limits) -> tuple[Share, ...]:
    """Part numbers each row needs: none where the file is cut at the end, one for joins, and its own parts."""
    if limits.equal_parts:
        whole = sum(count * n for count, n in rows)
        return Share(1, ceil_div(whole, size)), Share(sum(count for count, _ in rows) - 1, 0)
    return tuple(Share(count, _cap(n, size, limits)) for count, n in rows)


def _cap(row_bytes: int, size: int, limits: Limits) -> int:
    return 1 if row_bytes < 2 * limits.min_part else ceil_div(row_bytes, size) + 1


def fewest_parts(rows: Sequence[Rows], limits: Limits) -> int:
    """Part numbers that rows of at most the given sizes need with the largest parts, for the error that says so."""
    return _total(_shares(rows, limits.max_part, limits)) + 2


def cut(buffers: Sequence[Buffer], size: int) -> list[list[Buffer]]:
    """The buffers as stretches of ``size`` bytes, the last of what remains."""
    pieces, left = [], total(buffers)
    while left > size:
        piece, buffers = split(buffers, size)
        pieces.append(piece)
        left -= size
    return [*pieces, list(buffers)]


def total(buffers: Iterable[Buffer]) -> int:
    """Bytes in a list of buffers."""
    return sum(len(b) for b in buffers)


def emit(
    buffers: list[Buffer],
    first: int,
    cap: int,
    limits: Limits,
    part_size: int,
    put: Put,
    each: Each = map,
) -> Run:
    """Upload a row's bytes, but for the head that later joins need, or keep it whole where it is small.

    What is kept is copied where it is a view, perhaps of much more that can go.

    ``each`` maps ``put`` over the parts, perhaps several at a time.
    """
    size = total(buffers)
    if size < 2 * limits.min_part or not size or limits.equal_parts or cap < 2:
        return _own(buffers), [], []
    head, rest = split(buffers, limits.min_part)
    left = size - total(head)
    count = max(1, min(cap - 1, -(-left // part_size), left // max(1, limits.min_part)))
    if left > count * limits.max_part:
        raise RasterError(
            f"a row of blocks has {size} bytes, for which {count} parts of at most {limits.max_part} bytes are left: "
            "the raster does not compress as well as the store's limit needs"
        )
    bodies, done = [], 0
    for k in range(count):
        stop = left * (k + 1) // count
        body, rest = split(rest, stop - done)
        bodies.append(body)
        done = stop
    return _own(head), list(each(put, range(first + 1, first + 1 + count), bodies)), []


def merge(
    left: Run, right: Run, first: int, last: int, limits: Limits, part_size: int, put: Put
) -> Run:
    """Join two neighbouring runs; ``first`` and ``last`` are the join numbers of the right run's end rows."""
    head, parts, tail = left
    right_head, right_parts, right_tail = right
    if not parts:
        if right_parts:
            return head + right_head, right_parts, right_tail
        return _shrink(head + right_head, last, limits, part_size, put)
    joined = tail + right_head
    if right_parts:
        extra = [put(first, list(joined))] if joined else []
        return head, parts + extra + right_parts, right_tail
    if total(joined) >= max(part_size, 1):
        return head, [*parts, put(last, list(joined))], []
    return head, parts, joined


def _shrink(buffers: list[bytes], number: int, limits: Limits, part_size: int, put: Put) -> Run:
    if limits.equal_parts or total(buffers) < limits.min_part + part_size:
        return buffers, [], []
    head, rest = split(buffers, limits.min_part)
    return _own(head), [put(number, rest)], []


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
