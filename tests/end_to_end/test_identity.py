"""Byte for byte the file that GDAL writes: sizes, kernels, types, options, chunk layouts and schedulers."""

from __future__ import annotations

import os
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rio_cogeo import cog_validate

import ccog
from cases import cases, ccog_file, difference, gdal_file
from ccog.geometry.axis_reduction import KERNEL_RADIUS
from conftest import GEO, gdal_cog, terrain

pytestmark = pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")

FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def written(pixels: np.ndarray, chunks: Any, options: dict[str, Any], **kwargs: Any) -> bytes:
    array = da.from_array(pixels, chunks=chunks)
    with dask.config.set(scheduler="threads", num_workers=2):
        data = bytes(ccog.write_ccog(array, COG_creation_options=GEO | options, **kwargs).compute())
    check_cog(data)
    return data


def check_cog(data: bytes) -> None:
    """Readers accept it: rio-cogeo strictly, and GDAL as a COG."""
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        # rio-cogeo refuses files of GDAL that are one pixel wide at some level, or one tile wide in all
        narrow = (
            not min(dataset.shape) >> len(dataset.overviews(1))
            or dataset.width == dataset.block_shapes[0][1]
        )
        if not narrow:
            valid, errors, warned = cog_validate(memory.name, strict=bool(dataset.overviews(1)))
            assert valid, (errors, warned)


@settings(FUZZ, max_examples=25)
@given(cases())
def test_any_case_is_identical(case: dict[str, Any]) -> None:
    assert_identical(case)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(FUZZ, max_examples=int(os.environ.get("CCOG_FUZZ", "60")))
@given(cases())
def test_any_of_60_cases_or_as_many_as_ccog_fuzz_says_is_identical(case: dict[str, Any]) -> None:
    assert_identical(case)


def assert_identical(case: dict[str, Any]) -> None:
    try:
        expected = gdal_file(case)
    except Exception:  # whatever GDAL refuses: there is nothing to compare with
        reject()
    found = ccog_file(case, scheduler="threads", num_workers=2)
    assert found == expected, difference(found, expected)
    check_cog(found)


@pytest.mark.parametrize("method", sorted(KERNEL_RADIUS))
@pytest.mark.parametrize("masked", [False, True])
def test_levels_of_a_few_pixels_are_identical_beside_nodata_or_a_mask(
    method: str, masked: bool
) -> None:
    # down to one pixel: such levels are too small for a pixel that no kernel weighs
    for shape in [(1, 24, 128), (2, 9, 1), (1, 30, 6), (1, 7, 33), (1, 2, 2), (1, 38, 18)]:
        pixels = terrain(shape, "float64")
        pixels[0, : shape[1] // 3] = 0
        mask = np.random.default_rng(0).random(shape[1:]) > 0.3 if masked else None
        options = {"blocksize": 128, "overview_count": 5, "overview_resampling": method}
        extra = {} if masked else {"nodata": 0}
        assert written(pixels, 7, options | extra, mask=mask) == gdal_cog(
            pixels, options, mask, **extra
        ), shape


LAYOUTS = [
    (1, 128, 128),
    (2, 1024, 1024),
    (2, 128, -1),
    (2, -1, 128),
    (1, 211, 307),
    (2, -1, -1),
    (1, -1, -1),
]


@pytest.mark.parametrize(
    "chunks", LAYOUTS, ids=["tile", "8x8", "strips", "columns", "prime", "one", "bandwise"]
)
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_every_chunk_layout_gives_the_same_bytes(chunks: Any, method: str) -> None:
    pixels = terrain((2, 1301, 1151))
    options = {"blocksize": 128, "compress": "deflate", "overview_resampling": method}
    assert written(pixels, chunks, options) == gdal_cog(pixels, options)


@SLOW
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
)
def test_irregular_chunks_give_the_same_bytes(rows: list[int], cols: list[int]) -> None:
    pixels = terrain((1, sum(rows), sum(cols)), "int16")
    options = {"blocksize": 128, "compress": "zstd", "overview_resampling": "bilinear"}
    assert written(pixels, ((1,), tuple(rows), tuple(cols)), options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_local_schedulers_agree(scheduler: str) -> None:
    pixels = terrain((1, 900, 1300))
    options = {"blocksize": 128, "overview_resampling": "lanczos"}
    delayed = ccog.write_ccog(
        da.from_array(pixels, chunks=(1, 256, 256)), COG_creation_options=GEO | options
    )
    assert delayed.compute(scheduler=scheduler) == gdal_cog(pixels, options)


def test_worker_processes_agree(client: Any) -> None:
    pixels = terrain((1, 900, 1300), "float32")
    options = {"blocksize": 128, "overview_resampling": "cubic", "compress": "deflate"}
    delayed = ccog.write_ccog(
        da.from_array(pixels, chunks=(1, 256, 256)), COG_creation_options=GEO | options
    )
    assert client.compute(delayed).result() == gdal_cog(pixels, options)
    assert client.compute(delayed).result() == delayed.compute(scheduler="threads")


@pytest.mark.parametrize(
    ("bands", "options"),
    [
        (1, {"compress": "jpeg"}),
        (3, {"compress": "jpeg", "quality": 95}),
        (4, {"compress": "jpeg", "overview_quality": 50}),
        (3, {"compress": "webp"}),
        (4, {"compress": "webp", "quality": 100}),
        (3, {"compress": "webp", "quality": 60, "overview_quality": 30}),
        (2, {"compress": "deflate", "overview_compress": "jpeg"}),
        (1, {"compress": "lzw", "overview_compress": "none", "overview_predictor": "yes"}),
    ],
)
def test_lossy_and_overview_options_are_identical(bands: int, options: dict[str, Any]) -> None:
    pixels = terrain((bands, 700, 500), "uint8")
    options = options | {"blocksize": 128}
    assert written(pixels, 256, options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("compress", ["lerc", "lerc_deflate", "lerc_zstd"])
@pytest.mark.parametrize("error", [0, 0.5])
def test_lerc_is_identical(compress: str, error: float) -> None:
    pixels = terrain((1, 700, 500), "float32")
    options = {"compress": compress, "max_z_error": error, "blocksize": 128, "level": 6}
    assert written(pixels, 256, options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_metadata_is_identical(version: str) -> None:
    pixels = terrain((2, 600, 600), "int16")
    describe = {
        "update_tags": {0: {"AREA": "x", "note": 'a & b < "c" é'}, 1: {"k": "v"}},
        "descriptions": ["first", "second"],
        "scales": [0.5, 2.0],
        "offsets": [1.0, 0.0],
        "units": ["m", "K"],
    }
    options = {"blocksize": 128, "geotiff_version": version, "compress": "deflate"}
    data = written(pixels, 256, options | describe | {"nodata": -1})
    assert data == gdal_cog(pixels, options, describe=describe, nodata=-1)
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.descriptions == ("first", "second")


@pytest.mark.parametrize(
    "blocksize", [16, 48, 64, 192, 768, pytest.param(8192, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_block_sizes_that_overviews_do_not_share(blocksize: int, masked: bool) -> None:
    pixels, options = terrain((2, 500, 1701)), {"blocksize": blocksize, "compress": "deflate"}
    mask = np.random.default_rng(0).random((500, 1701)) > 0.3 if masked else None
    assert written(pixels, (1, 250, 333), options, mask=mask) == gdal_cog(pixels, options, mask)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "complex64"])
@pytest.mark.parametrize("nodata", [None, 0, 7])
@pytest.mark.parametrize("sparse", ["yes", "no"])
def test_blocks_of_zeros_are_identical(dtype: str, nodata: int | None, sparse: str) -> None:
    pixels = terrain((2, 600, 500), dtype)
    pixels[:, :300, :400] = 0
    options = {
        "blocksize": 128,
        "compress": "deflate",
        "sparse_ok": sparse,
        "overview_resampling": "AVERAGE",
    }
    extra = {} if nodata is None or dtype == "complex64" else {"nodata": nodata}
    assert written(pixels, 128, options | extra) == gdal_cog(pixels, options, **extra)


@pytest.mark.parametrize("method", sorted(KERNEL_RADIUS))
@pytest.mark.parametrize("nodata", [None, 0, 7])
def test_blank_blocks_reduce_to_blanks(method: str, nodata: int | None) -> None:
    pixels = np.zeros((1, 1100, 1000), "uint8")
    pixels[:, 700:900, 300:420] = terrain((1, 200, 120), "uint8")
    options = {"blocksize": 128, "compress": "lzw", "overview_resampling": method}
    extra = {} if nodata is None else {"nodata": nodata}
    assert written(pixels, 128, options | extra) == gdal_cog(pixels, options, **extra)


@pytest.mark.parametrize("side", [512, 1157])
def test_palette_defaults_to_nearest(side: int) -> None:
    pixels = terrain((1, side, side - 5), "uint8")
    describe = {"colormap": {k: (k, 255 - k, 7, 255) for k in range(256)}}
    assert written(pixels, 128, {"blocksize": 128} | describe) == gdal_cog(
        pixels, {"blocksize": 128}, describe=describe
    )


def test_xarray_dimensions_and_georeferencing_are_found() -> None:
    pixels = terrain((2, 300, 400))
    expected = gdal_cog(pixels, {"blocksize": 128}, nodata=3)
    array = xr.DataArray(pixels.transpose(1, 2, 0), dims=("latitude", "longitude", "band"))
    array = array.rio.set_spatial_dims(x_dim="longitude", y_dim="latitude").rio.write_crs(
        GEO["crs"]
    )
    array = array.rio.write_transform(GEO["transform"]).rio.write_nodata(3)
    assert ccog.write_ccog(array, COG_creation_options={"BlockSize": "128"}).compute() == expected


def test_coordinates_give_the_transform() -> None:
    y, x = 6e6 - 5 - 10 * np.arange(300), 5e5 + 5 + 10 * np.arange(200)
    array = xr.DataArray(
        terrain((1, 300, 200))[0], dims=("y", "x"), coords={"y": y, "x": x}
    ).rio.write_crs(GEO["crs"])
    assert ccog.write_ccog(array).compute() == gdal_cog(terrain((1, 300, 200)))


def test_booleans_become_bytes() -> None:
    pixels = terrain((1, 300, 300)) > 20000
    assert written(pixels, 128, {}) == gdal_cog(pixels.astype("uint8"))


SPECIAL = {
    "float32": (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-42),
    "float64": (0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324),
    "complex64": (0, 1j, complex(np.nan, 0), complex(0, np.inf), 1e-42),
    "complex128": (0, 1j, complex(np.nan, 0), complex(0, -np.inf), 5e-324, complex(-0.0, 0)),
    "int64": (0, -(2**63), 2**63 - 1),
    "uint8": (0, 255),
}


@pytest.mark.parametrize("dtype", SPECIAL)
@pytest.mark.parametrize("sparse", ["yes", "no"])
def test_pixels_that_begin_with_a_special_value_are_identical(dtype: str, sparse: str) -> None:
    method = "nearest" if dtype.startswith("complex") else "average"
    options = {"overview_resampling": method, "blocksize": 128, "sparse_ok": sparse}
    for value in SPECIAL[dtype]:
        pixels = terrain((1, 300, 270), dtype)
        pixels[:, :1, :140] = value
        assert written(pixels, (1, 128, 270), options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("first", [0, 1j])
def test_complex_zeros_are_written_without_a_method_too(dtype: str, first: complex) -> None:
    pixels = np.zeros((1, 600, 700), dtype)
    pixels[0, 0, 0] = first
    with MemoryFile(written(pixels, (1, 512, 512), {})) as memory, memory.open() as file:
        assert (file.read() == pixels).all()
        assert file.overviews(1) == [2]
    options = {"overview_resampling": "nearest"}
    assert written(pixels, (1, 512, 512), options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_of_int8_is_identical_and_warned_of(bands: int) -> None:
    pixels, options = terrain((bands, 300, 270), "int8"), {"compress": "jpeg", "blocksize": 128}
    with pytest.warns(ccog.CCOGWarning, match="takes int8 for bytes"):
        found = written(pixels, (bands, 128, 270), options)
    assert found == gdal_cog(pixels, options)


@pytest.mark.parametrize("side", [16, 32, 48, 96, 128, 144])
@pytest.mark.parametrize("nodata", [None, 0])
def test_small_tiles_on_a_tiling_scheme_are_identical(side: int, nodata: int | None) -> None:
    half, count = 20037508.342789244, 33 if side < 96 else 5
    pixel = 2 * half / 2**10 / side
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(pixel, 0, -half, 0, -pixel, half)}
    pixels = terrain((1, count * side, count * side), "uint8")
    options = {
        "tiling_scheme": "GoogleMapsCompatible",
        "blocksize": side,
        "zoom_level": 10,
        "overview_resampling": "average",
    }
    array = da.from_array(pixels, chunks=(1, 512, 512))
    call = {**options, **place, "nodata": nodata}
    found = ccog.write_ccog(array, COG_creation_options=call).compute(scheduler="sync")
    assert found == gdal_cog(pixels, options, **place, nodata=nodata)
