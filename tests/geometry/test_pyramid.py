"""Geometry, by brute force."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccog
from ccog.geometry.axis_reduction import SIMD_GROUP, AxisReduction, Kernel
from ccog.geometry.blocks import choose_block
from ccog.geometry.intervals import Interval
from ccog.geometry.pyramid import Pyramid, halve, level_sizes
from ccog.geometry.seams import Seam, Seams
from ccog.geometry.settings import settings, use_settings


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
    lambda n, kernel, align: AxisReduction(n, halve(n), kernel, align=align),
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
def test_blocks_and_seams_make_the_whole_axis_once(
    n: int, tiles: int, kernel: Kernel, align: int
) -> None:
    axis = AxisReduction(n, halve(n), kernel, align=align)
    side = tiles * 16
    blocks = [Interval(start, min(n, start + side)) for start in range(0, n, side)]
    seams = Seams(axis, side)
    straddling = seams.overlapping(Interval(0, axis.dst))
    assert [seams.block(b) for b in range(seams.count)] == blocks
    made: list[int] = []
    for b, block in enumerate(blocks):
        alone = seams.alone(b)
        made += range(alone.start, alone.stop)
        assert not len(alone) or axis.source_of(alone).within(block)
    halos: dict[int, list[Seam]] = {}
    for seam in straddling:
        made += range(seam.dst.start, seam.dst.stop)
        assert axis.source_of(seam.dst) == seam.source
        for b in {pixel // side for pixel in range(seam.source.start, seam.source.stop)}:
            halos.setdefault(b, []).append(seam)
    for b in range(seams.count):
        assert list(seams.needing(b)) == halos.get(b, [])
    assert sorted(made) == list(range(axis.dst))
    probe = Interval(axis.dst // 3, axis.dst // 3 + 1)
    expected = [seam for seam in straddling if len(seam.dst.intersect(probe))]
    assert seams.overlapping(probe) == Seams(axis, side).overlapping(probe) == expected


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


@pytest.mark.tried(
    "complex pixels with a mask, averages, odd sides",
    "right: GDAL's mask, where some pixels were not set",
)
def test_masks_beside_complex_pixels_are_reduced_from_all_that_gdal_fetches() -> None:
    pixels = da.zeros((1198, 1050), chunks=(256, 512), dtype="complex64")
    options = {"blocksize": 128, "overview_resampling": "average"}
    delayed = ccog.write_ccog(pixels, mask=pixels.real > 0, COG_creation_options=options)
    flows = delayed.dask.layers[delayed.key].mapping.job.geometry.reductions.all
    masks = [flow for flow in flows if flow.mask]
    assert masks
    for axis in [axis for flow in masks for axis in (flow.y, flow.x)]:
        for start in range(0, axis.dst, 16):
            want = Interval(start, min(axis.dst, start + 16))
            assert all(read.queried.within(axis.source_of(want)) for read in axis.reads(want))


def test_settings_hold_until_the_end_of_the_block() -> None:
    before = settings()
    with use_settings(few_blocks=1) as inner:
        assert settings() is inner
        assert inner == replace(before, few_blocks=1)
    assert settings() is before
    with pytest.raises(TypeError, match="few_block"), use_settings(few_block=1):
        pass
    assert settings() is before


def test_many_chunks_make_up_a_block_of_several() -> None:
    chunks = ((1,), (512,) * 8, (512,) * 8)
    assert choose_block(chunks, 512, 2) == (512, 512)
    with use_settings(many_blocks=16):
        assert choose_block(chunks, 512, 2) == (1024, 1024)
    with use_settings(many_blocks=16, most_block_bytes=512 * 512 * 2):
        assert choose_block(chunks, 512, 2) == (512, 512)


def blocks_of_overviews(size: tuple[int, int], block: int) -> list[tuple[int, int]]:
    sizes = level_sizes(*size, 512)
    options = {"least_low_pixels": 1 << 20}
    pyramid = Pyramid.build(
        sizes, 512, (block, block), Kernel.of("average", "uint16", masked=False), **options
    )
    return [level.block for level in pyramid.levels[1:]]


def test_a_row_of_large_blocks_makes_a_row_of_each_overview() -> None:
    assert blocks_of_overviews((49152, 24576), 4096)[:3] == [
        (2048, 8192),
        (1024, 16384),
        (512, 32768),
    ]
    # no lower than a tile
    assert blocks_of_overviews((1 << 18, 1 << 18), 4096)[4] == (512, 32768)


def test_blocks_of_overviews_stay_as_large_as_those_above_where_these_are_small() -> None:
    assert blocks_of_overviews((2048, 2048), 1024) == [(1024, 1024), (1024, 1024)]
    assert blocks_of_overviews((8192, 8192), 1024)[0] == (512, 2048)
