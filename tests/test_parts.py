"""Runs and parts, with a store whose parts are ten bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccog.parts import Buffer, Limits, Part, PartPlan, Run, emit, merge, split

LIMITS = Limits(min_part=10, max_part=1000, max_parts=10_000, preferred_part=16)


class Uploads(dict[int, bytes]):
    """Remembers what was put."""

    def put(self, number: int, buffers: list[Buffer]) -> Part:
        assert number not in self, "a number is used once"
        self[number] = b"".join(buffers)
        return number, len(self[number]), str(number)


def write(rows: list[bytes], arity: int) -> tuple[Run, Uploads, PartPlan]:
    plan = PartPlan.build([max(1, len(row)) for row in rows], LIMITS)
    assert plan is not None
    uploads = Uploads()
    runs = [
        (emit([row[:3], row[3:]], plan.firsts[n], plan.caps[n], LIMITS, plan.part_size, uploads.put), n, n)
        for n, row in enumerate(rows)
    ]
    while len(runs) > 1:
        groups = [runs[n : n + arity] for n in range(0, len(runs), arity)]
        runs = []
        for (run, first, last), *others in groups:
            for other, start, stop in others:
                numbers = plan.firsts[start], plan.firsts[stop]
                run = merge(run, other, *numbers, LIMITS, plan.part_size, uploads.put)
                last = stop
            runs.append((run, first, last))
    return runs[0][0], uploads, plan


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(2, 8))
def test_any_rows_become_valid_parts_of_the_same_bytes(sizes: list[int], arity: int) -> None:
    rows = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    (head, parts, tail), uploads, plan = write(rows, arity)
    assert [p[0] for p in parts] == sorted(uploads)
    assert all(1 < number < plan.last for number in uploads)
    assert b"".join(head) + b"".join(uploads[p[0]] for p in parts) + b"".join(tail) == b"".join(rows)
    assert all(LIMITS.min_part <= size <= LIMITS.max_part for _, size, _ in parts)
    assert not parts or sum(map(len, head)) >= LIMITS.min_part


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 60))
def test_split_cuts_anywhere(buffers: list[bytes], size: int) -> None:
    before, after = split(buffers, size)
    whole = b"".join(buffers)
    assert (b"".join(before), b"".join(after)) == (whole[:size], whole[size:])


def test_parts_grow_when_there_are_too_few_numbers() -> None:
    plan = PartPlan.build([10_000] * 10, Limits(10, 1 << 20, 100, 16))
    assert plan is not None
    assert plan.last <= 100
    assert plan.part_size > 1000


@pytest.mark.parametrize("rows", [60, 5000])
def test_more_rows_than_part_numbers_cannot_be_planned(rows: int) -> None:
    assert PartPlan.build([10] * rows, Limits(10, 1 << 20, 100, 16)) is None
