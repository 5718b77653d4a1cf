"""The longest sides, the most tiles and the most bands that TIFF takes: planned and begun at once, or refused."""

from __future__ import annotations

import pickle
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

import ccog
from ccog.gdal.codec_options import encode_block
from ccog.gdal.encode import Codec
from ccog.geometry.file_order import in_file_order
from ccog.geometry.pyramid import Level
from ccog.geometry.tile_order import tile_positions
from ccog.graph.tasks import CcogTasks
from conftest import GEO, gdal_cog

SIDE = 2**31 - 1

#: (height, width) and chunk side of rasters that hold fewer tiles than libtiff's limit
LONGEST = {
    "tall": ((100_000_000, 16), 4096),
    "wide": ((16, 100_000_000), 4096),
    "tallest": ((SIDE, 16), 16_384),
    "square": ((1_600_000, 1_600_000), 4096),
    "large square": ((8_000_000, 8_000_000), 8192),
    "tall, odd chunks": ((30_000_000, 16), 1000),
    "square, odd chunks": ((1_600_000, 1_600_000), 4000),
}

#: What every call may cost: far more than it does, far less than a list of all blocks.
SECONDS, BYTES = 5.0, 100 << 20


def zeros(shape: tuple[int, ...], chunk: int, dtype: str = "uint8") -> da.Array:
    sides = (*shape[:-2], *(min(side, chunk) for side in shape[-2:]))
    return da.zeros(shape, chunks=sides, dtype=dtype)


def job_of(delayed: Any) -> Any:
    tasks = delayed.dask.layers[delayed.key].mapping
    assert isinstance(tasks, CcogTasks)
    return tasks.job


def assert_costs_little(make: Any) -> Any:
    tracemalloc.start()
    started = time.process_time()
    try:
        found = make()
    finally:
        seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seconds < SECONDS
    assert peak < BYTES
    return found


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("layout", ["gdal", "chunk"])
@pytest.mark.parametrize("name", LONGEST)
def test_the_longest_rasters_are_planned_and_begun_at_once(
    name: str, layout: Any, tmp_path: Path
) -> None:
    shape, chunk = LONGEST[name]
    pixels, target = zeros(shape, chunk), tmp_path / "x.tif"
    plan = assert_costs_little(lambda: ccog.plan(pixels, target, layout=layout))
    assert plan.shape == (1, *shape)
    delayed = assert_costs_little(lambda: ccog.write_ccog(pixels, target, layout=layout))
    assert len(pickle.dumps(job_of(delayed))) < 50_000


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float64", {"overview_resampling": "average", "nodata": 0}),
        ("uint16", {"overview_resampling": "lanczos", "statistics": "yes"}),
        ("complex64", {"overview_resampling": "nearest"}),
        ("uint8", {"overviews": "none"}),
    ],
)
def test_kernels_and_types_do_not_matter(dtype: str, options: dict[str, Any]) -> None:
    pixels = zeros((4, 16, 100_000_000), 4096, dtype)
    mask = None if "nodata" in options else zeros((16, 100_000_000), 4096)
    assert_costs_little(
        lambda: ccog.plan(pixels, mask=mask, COG_creation_options=options, layout="chunk")
    )


@pytest.mark.parametrize("call", [ccog.plan, ccog.write_ccog], ids=["plan", "write"])
@pytest.mark.parametrize("store", [None, "s3://bucket/x.tif"])
@pytest.mark.tried("2^31 - 1 x 2^31 - 1 pixels", "refused at once: libtiff takes 268,435,455 tiles")
def test_more_tiles_than_libtiff_takes_are_refused(call: Any, store: str | None) -> None:
    pixels = zeros((SIDE, SIDE), 1 << 20)
    with pytest.raises(
        ccog.RasterError, match="17,592,186,044,416 in all, and libtiff takes at most 268,435,455"
    ):
        assert_costs_little(lambda: call(pixels, store))


def test_the_refusal_names_a_tile_that_is_large_enough() -> None:
    pixels = zeros((1 << 18, 1 << 18), 4096)
    with pytest.raises(
        ccog.RasterError, match=r"16384 x 16384 tiles of 16 x 16, .*; use BLOCKSIZE=32"
    ):
        ccog.plan(pixels, COG_creation_options={"blocksize": 16})
    assert ccog.plan(pixels, COG_creation_options={"blocksize": 32})
    assert ccog.plan(pixels[:-16], COG_creation_options={"blocksize": 16})
    assert ccog.plan(pixels, COG_creation_options={"blocksize": 16, "bigtiff": "no"})


def test_gdal_refuses_the_same_number_of_tiles(tmp_path: Path) -> None:
    sizes = {
        "height": 1 << 18,
        "width": 1 << 18,
        "count": 1,
        "dtype": "uint8",
        "blockxsize": 16,
        "blockysize": 16,
    }
    # the file would stay sparse, but GDAL looks for the room of all its pixels
    with rasterio.Env(CHECK_DISK_FREE_SPACE=False):
        dataset = rasterio.open(
            tmp_path / "x.tif", "w", driver="GTiff", **sizes, **GEO, tiled=True, bigtiff="yes"
        )
        with pytest.raises(RasterioIOError):
            dataset.write(np.ones((1, 16, 16), "uint8"), window=((0, 16), (0, 16)))
        dataset.close()


def test_a_classic_tiff_of_too_many_pixels_is_refused_at_once() -> None:
    with pytest.raises(
        ccog.RasterError, match=r"have 6666638062 bytes, .* leave BIGTIFF out, or compress"
    ):
        ccog.write_ccog(
            zeros((50_000, 100_000), 4096),
            COG_creation_options={"compress": "none", "bigtiff": "no"},
        )


@pytest.mark.parametrize("layout", ["gdal", "chunk"])
def test_units_are_numbered_in_the_order_of_their_bytes(layout: Any) -> None:
    options = {"blocksize": 128, "interleave": "band", "compress": "none"}
    geometry = job_of(
        ccog.write_ccog(zeros((3, 3000, 2000), 256), COG_creation_options=options, layout=layout)
    ).geometry
    levels = [level.index for level in in_file_order(geometry.pyramid.levels)]
    expected = [
        (k, plane, n)
        for k in levels
        for plane in range(geometry.file_order.planes(k))
        for n in range(geometry.groups.count(k))
    ]
    assert list(geometry.groups.all) == expected
    assert [geometry.groups.all[n] for n in range(len(geometry.groups.all))] == expected
    assert [geometry.groups.all.index(*unit) for unit in expected] == list(range(len(expected)))
    apart = {k: set(geometry.groups.last_joined(geometry.groups.count(k))) for k in levels}
    assert list(geometry.groups.for_merges) == [
        unit for unit in expected if unit[2] in apart[unit[0]]
    ]
    assert sum(rows.number for rows in geometry.groups.sizes) == len(expected)


def test_places_of_a_corner_are_those_of_all_tiles() -> None:
    for split, tiles in ((1, (7, 5)), (2, (13, 22)), (4, (40, 3))):
        level = Level(
            index=0,
            height=16 * tiles[0] - 3,
            width=16 * tiles[1],
            blocksize=16,
            block=(32 * split, 48 * split),
            chunks_a_side=split,
        )
        for corner in ((1, 1), (5, 3), tiles):
            some = tile_positions(level, 2, mask=True, corner=corner).reshape(3, *corner)
            every = tile_positions(level, 2, mask=True).reshape(3, *tiles)
            assert np.array_equal(some, every[:, : corner[0], : corner[1]])
        assert sorted(every.reshape(-1)) == list(range(every.size))


def test_what_is_sent_to_workers_does_not_grow_when_the_graph_is_made() -> None:
    delayed = ccog.write_ccog(
        zeros((20_000, 20_000), 1024), COG_creation_options={"bigtiff": "yes"}
    )
    before = len(pickle.dumps(job_of(delayed)))
    dict(delayed.dask.layers[delayed.key].mapping)
    assert len(pickle.dumps(job_of(delayed))) == before


@pytest.mark.parametrize(
    ("compress", "dtype", "more"),
    [
        ("none", "uint8", {"interleave": "band"}),
        ("lzw", "int8", {"predictor": "yes"}),
        ("deflate", "int16", {"nodata": -1, "sparse_ok": True}),
        ("zstd", "float32", {"predictor": "yes", "interleave": "band"}),
        ("lzma", "uint8", {}),
        ("deflate", "complex64", {"overview_resampling": "nearest"}),
        ("lerc", "float64", {}),
    ],
)
@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
def test_files_of_many_bands_are_gdals(compress: str, dtype: str, more: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (260, 140, 17)).astype(dtype)
    pixels[::7] = -1 if "nodata" in more else 0
    options = {"blocksize": 128, "compress": compress} | more
    assert ccog.write_ccog(pixels, COG_creation_options=GEO | options).compute() == gdal_cog(
        pixels, options
    )


def test_many_bands_are_looked_at_before_the_write_in_far_less_than_gdal_takes() -> None:
    pixels = np.ones((800, 16, 16), "uint8")
    started = time.process_time()
    expected = gdal_cog(pixels)
    gdal = time.process_time() - started
    started = time.process_time()
    delayed = ccog.write_ccog(pixels, COG_creation_options=GEO)
    assert time.process_time() - started < 0.3 * gdal
    assert delayed.compute() == expected


@pytest.mark.parametrize("planar", [False, True])
def test_the_time_of_a_block_grows_with_its_bands_and_not_with_their_square(planar: bool) -> None:
    codec = Codec(16, "uint8", (("compress", "LZW"),), (), None, sparse=False, planar=planar)

    def seconds(count: int) -> float:
        pixels = np.ones((count, 16, 16), "uint8")
        started = time.process_time()
        encode_block(pixels, None, codec)
        return time.process_time() - started

    seconds(10)
    # seconds of CPU, the least of some: other processes do not count
    assert min(seconds(24_000) for _ in range(2)) < 2 + 10 * min(seconds(3000) for _ in range(3))


@pytest.mark.parametrize("call", [ccog.plan, ccog.write_ccog], ids=["plan", "write"])
@pytest.mark.tried(
    "A masked raster of more than 2^33 pixels and odd sides",
    "a warning: overview pixels beside the mask may differ from GDAL's by a rounding step",
)
def test_overviews_that_may_round_otherwise_are_warned_of(call: Any) -> None:
    def warned(side: int, **more: Any) -> bool:
        pixels, mask = zeros((side, side), 8192), zeros((side, side), 8192)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call(pixels, mask=mask, overview_resampling="average", **more)
        return any("may differ by one rounding step" in str(one.message) for one in seen)

    assert warned(100_001)
    assert not warned(98_304)
    assert not warned(50_001)
    assert not warned(100_001, overviews="none")
