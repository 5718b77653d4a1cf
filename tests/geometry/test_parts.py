"""Segments and parts, with a store whose parts are ten bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccog.errors import RasterError
from ccog.geometry.parts import (
    Buffer,
    GroupSizes,
    Joins,
    Limits,
    Part,
    PartPlan,
    Segment,
    cut,
    emit,
    fewest_parts,
    merge,
    split,
)

LIMITS = Limits(min_part=10, max_part=1000, max_parts=10_000, preferred_part=16)


class Uploads(dict[int, bytes]):
    """Remembers what was put."""

    def put(self, number: int, buffers: list[Buffer]) -> Part:
        assert number not in self, "a number is used once"
        self[number] = b"".join(buffers)
        return number, len(self[number]), str(number)


def write(
    rows: list[bytes], arity: int, limits: Limits = LIMITS
) -> tuple[Segment, Uploads, PartPlan]:
    plan = PartPlan.build([GroupSizes(1, max(1, len(row))) for row in rows], limits)
    assert plan is not None
    uploads = Uploads()
    runs = [
        (emit([row[:3], row[3:]], plan.numbers(n), limits, uploads.put), n, n)
        for n, row in enumerate(rows)
    ]
    while len(runs) > 1:
        groups = [runs[n : n + arity] for n in range(0, len(runs), arity)]
        runs = []
        for (run, first, last), *others in groups:
            for other, start, stop in others:
                joins = Joins(plan.numbers(start).first, plan.numbers(stop).first)
                run = merge(run, other, joins, limits, plan.part_size, uploads.put)
                last = stop
            runs.append((run, first, last))
    return runs[0][0], uploads, plan


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(2, 8))
def test_any_rows_become_valid_parts_of_the_same_bytes(sizes: list[int], arity: int) -> None:
    rows = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    (head, parts, tail), uploads, plan = write(rows, arity)
    assert [p[0] for p in parts] == sorted(uploads)
    assert all(1 < number < plan.last for number in uploads)
    assert b"".join(head) + b"".join(uploads[p[0]] for p in parts) + b"".join(tail) == b"".join(
        rows
    )
    assert all(LIMITS.min_part <= size <= LIMITS.max_part for _, size, _ in parts)
    assert not parts or sum(map(len, head)) >= LIMITS.min_part


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 60))
def test_split_cuts_anywhere(buffers: list[bytes], size: int) -> None:
    before, after = split(buffers, size)
    whole = b"".join(buffers)
    assert (b"".join(before), b"".join(after)) == (whole[:size], whole[size:])


def test_parts_grow_when_there_are_too_few_numbers() -> None:
    plan = PartPlan.build([GroupSizes(10, 10_000)], Limits(10, 1 << 20, 100, 16))
    assert plan is not None
    assert plan.last <= 100
    assert plan.part_size > 1000


@pytest.mark.parametrize(("size", "rows"), [(10, 99), (10, 5000), (30, 50), (1 << 21, 33)])
def test_more_rows_than_part_numbers_cannot_be_planned(size: int, rows: int) -> None:
    limits = Limits(10, 1 << 20, 100, 16)
    assert PartPlan.build([GroupSizes(rows, size)], limits) is None
    assert fewest_parts([GroupSizes(rows, size)], limits) > 100


def test_parts_fill_what_the_store_takes() -> None:
    limits = Limits(10, 1 << 20, 100, 16)
    plan = PartPlan.build([GroupSizes(9, 9 << 20)], limits)
    assert plan is not None
    assert plan.part_size == limits.max_part


def test_near_the_limit_rows_must_compress() -> None:
    limits = Limits(10, 1000, 100, 16)
    rows = [GroupSizes(30, 6000)]
    assert PartPlan.build(rows, limits) is None
    found = PartPlan.build_for_compressed(rows, limits)
    assert found is not None
    plan, percent = found
    assert percent == 30
    fitting = bytes(6000 * percent // 100)
    parts = [emit([fitting], plan.numbers(n), limits, _put).parts for n in range(30)]
    assert all(size <= limits.max_part for row in parts for _, size, _ in row)
    with pytest.raises(RasterError, match="a row of blocks has 6000 bytes"):
        emit([bytes(6000)], plan.numbers(0), limits, _put)


def _put(number: int, buffers: list[Buffer]) -> Part:
    return number, sum(map(len, buffers)), ""


@given(st.lists(st.binary(max_size=40), max_size=9), st.integers(1, 50))
def test_equal_parts_are_cut_at_the_end(buffers: list[bytes], size: int) -> None:
    pieces = [b"".join(piece) for piece in cut(buffers, size)]
    assert b"".join(pieces) == b"".join(buffers)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert len(pieces[-1]) <= size


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_where_parts_must_be_equal_none_is_uploaded_early(sizes: list[int]) -> None:
    limits = Limits(10, 1000, 100, 16, equal_parts=True)
    plan = PartPlan.build([GroupSizes(1, max(1, size)) for size in sizes], limits)
    assert plan is not None
    assert plan.part_size * limits.max_parts >= sum(sizes)
    (head, parts, tail), uploads, _ = write(
        [bytes([n]) * size for n, size in enumerate(sizes)], 3, limits
    )
    assert (parts, tail, uploads) == ([], [], {})
    assert b"".join(head) == b"".join(bytes([n]) * size for n, size in enumerate(sizes))
