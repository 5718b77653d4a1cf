"""Geometry, by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccog.geometry.cog import Seams, choose_block
from ccog.geometry.pyramid import SIMD_GROUP, AxisReduction, Interval, Kernel, halve, level_sizes


@pytest.mark.parametrize(
    ("height", "width", "count", "expected"),
    [
        (512, 512, None, [(512, 512)]),
        (513, 100, None, [(513, 100), (256, 50)]),
        (1025, 1, None, [(1025, 1), (512, 1)]),
        (100, 100, 2, [(100, 100), (50, 50), (25, 25)]),
        (3, 1, 64, [(3, 1), (1, 1)]),
        (2000, 2000, 0, [(2000, 2000)]),
    ],
)
def test_level_sizes(
    height: int, width: int, count: int | None, expected: list[tuple[int, int]]
) -> None:
    assert list(level_sizes(height, width, 512, count)) == expected


KERNELS = st.builds(Kernel, radius=st.integers(0, 3), sampled=st.booleans(), spare=st.booleans())
AXES = st.builds(
    lambda n, kernel, align: AxisReduction(n, halve(n), kernel, align),
    st.integers(1, 3000),
    KERNELS,
    st.sampled_from([1, SIMD_GROUP]),
)


@given(AXES, st.data())
def test_reads_cover_what_is_wanted_with_the_exact_ratio(
    axis: AxisReduction, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, axis.dst - 1))
    want = Interval(start, data.draw(st.integers(start + 1, axis.dst)))
    reads = axis.reads(want)
    assert [read.keep.start for read in reads] == [
        want.start,
        *(read.keep.stop for read in reads[:-1]),
    ]
    assert reads[-1].keep.stop == want.stop
    for read in reads:
        assert read.keep.within(read.dst)
        assert read.length / len(read.dst) == axis.ratio
        assert 0 <= read.offset <= read.offset + read.length <= axis.src
        assert read.dst.start % axis.align == 0
        assert read.dst.stop % axis.align == 0 or read.dst.stop == axis.dst


@given(AXES, st.data())
def test_the_spare_pixel_is_outside_every_kernel(axis: AxisReduction, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.dst - 1))
    for read in axis.reads(Interval(start, data.draw(st.integers(start + 1, axis.dst)))):
        if read.spare is None:
            continue
        assert read.spare in range(read.queried.start, read.queried.stop)
        reach = max(axis.kernel.radius, 0.5) * axis.ratio
        first = (read.keep.start + 0.5) * axis.ratio - reach
        last = (read.keep.stop - 0.5) * axis.ratio + reach
        assert read.spare + 1 <= first or read.spare >= last


@given(st.integers(1, 4000), st.integers(1, 40), KERNELS, st.sampled_from([1, SIMD_GROUP]))
def test_blocks_and_gaps_make_the_whole_axis_once(
    n: int, tiles: int, kernel: Kernel, align: int
) -> None:
    axis = AxisReduction(n, halve(n), kernel, align)
    side = tiles * 16
    blocks = tuple(Interval(a, min(n, a + side)) for a in range(0, n, side))
    seams = Seams(axis, side)
    gaps = seams.gaps_in(Interval(0, axis.dst))
    assert [seams.block(b) for b in range(seams.count)] == list(blocks)
    made = [
        i
        for b in range(seams.count)
        for done in [seams.done(b)]
        for i in range(done.start, done.stop)
    ]
    made += [i for gap in gaps for i in range(gap.dst.start, gap.dst.stop)]
    assert sorted(made) == list(range(axis.dst))
    for b, block in enumerate(blocks):
        if len(seams.done(b)):
            assert axis.source_of(seams.done(b)).within(block)
    for gap in gaps:
        assert axis.source_of(gap.dst) == gap.source
        for b, block in enumerate(blocks):
            assert (gap in seams.fed(b)) == bool(len(gap.source.intersect(block)))
    probe = Interval(axis.dst // 3, axis.dst // 3 + 1)
    expected = [gap for gap in gaps if len(gap.dst.intersect(probe))]
    assert seams.gaps_in(probe) == Seams(axis, side).gaps_in(probe) == expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (((1,), (512, 512, 3), (1024, 1024)), (512, 1024)),
        (((1,), (333, 333), (100, 7)), (1024, 1024)),
        (((1,), (20000,), (20000,)), (4096, 4096)),
        (((1,), (5,), (7,)), (1024, 1024)),
    ],
)
def test_blocks_follow_chunks_that_are_whole_tiles(
    chunks: tuple[tuple[int, ...], ...], expected: tuple[int, int]
) -> None:
    assert choose_block(chunks, 512, 2) == expected
