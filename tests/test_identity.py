"""Byte for byte the file that GDAL writes: sizes, kernels, types, options, chunk layouts and schedulers."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rio_cogeo import cog_validate

import ccog
from ccog.pyramid import KERNEL_RADIUS
from conftest import GEO, gdal_cog, terrain

pytestmark = pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")

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
        narrow = not min(dataset.shape) >> len(dataset.overviews(1)) or dataset.width == dataset.block_shapes[0][1]
        if not narrow:
            valid, errors, warned = cog_validate(memory.name, strict=True)
            assert valid, (errors, warned)


REAL_TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
SIDES = st.one_of(st.sampled_from([128, 256, 384, 512, 640]), st.integers(1, 700))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from([*REAL_TYPES, "complex64", "complex128"]))
    is_complex = dtype.startswith("complex")
    shape = draw(st.integers(1, 4)), draw(SIDES), draw(SIDES)
    options: dict[str, Any] = {
        "blocksize": draw(st.sampled_from([128, 256])),
        "compress": draw(st.sampled_from(["none", "lzw", "deflate", "zstd"])),
        "overview_resampling": draw(st.sampled_from(["nearest", "average"] if is_complex else sorted(KERNEL_RADIUS))),
        "bigtiff": draw(st.sampled_from(["yes", "no", "if_needed", "if_safer"])),
        "sparse_ok": draw(st.sampled_from(["yes", "no"])),
    }
    if options["compress"] != "none" and not is_complex:
        options["predictor"] = draw(st.sampled_from(["yes", "no", "standard"]))
    if options["compress"] in ("deflate", "zstd"):
        options["level"] = draw(st.integers(1, 9))
    nodata = None if is_complex else draw(st.sampled_from([None, None, 0, 7]))
    if np.dtype(dtype).kind == "f" and draw(st.booleans()):
        nodata = float("nan")
    chunk = st.one_of(st.sampled_from([128, 256, 512, 333, 97]), st.integers(50, 700))
    return {
        "dtype": dtype,
        "shape": shape,
        "options": options,
        "nodata": nodata,
        "masked": draw(st.booleans()),
        "holes": draw(st.booleans()),
        "chunks": (draw(st.integers(1, shape[0])), draw(chunk), draw(chunk)),
        "seed": draw(st.integers(0, 99)),
    }


@SLOW
@given(cases())
def test_any_case_is_identical(case: dict[str, Any]) -> None:
    pixels = terrain(case["shape"], case["dtype"], case["seed"])
    _, height, width = case["shape"]
    if case["holes"] and case["nodata"] is not None:
        pixels[:, height // 4 : height // 2 + 1, width // 3 : width // 2 + 1] = case["nodata"]
    mask = None
    if case["masked"]:
        mask = np.random.default_rng(case["seed"]).random((height, width)) > 0.1
        mask[: height // 3] = False
    nodata = {} if case["nodata"] is None else {"nodata": case["nodata"]}
    expected = gdal_cog(pixels, case["options"], mask, **nodata)
    assert written(pixels, case["chunks"], case["options"] | nodata, mask=mask) == expected


LAYOUTS = [(1, 128, 128), (2, 1024, 1024), (2, 128, -1), (2, -1, 128), (1, 211, 307), (2, -1, -1), (1, -1, -1)]


@pytest.mark.parametrize("chunks", LAYOUTS, ids=["tile", "8x8", "strips", "columns", "prime", "one", "bandwise"])
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_every_chunk_layout_gives_the_same_bytes(chunks: Any, method: str) -> None:
    pixels = terrain((2, 1301, 1151))
    options = {"blocksize": 128, "compress": "deflate", "overview_resampling": method}
    assert written(pixels, chunks, options) == gdal_cog(pixels, options)


@SLOW
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_irregular_chunks_give_the_same_bytes(rows: list[int], cols: list[int]) -> None:
    pixels = terrain((1, sum(rows), sum(cols)), "int16")
    options = {"blocksize": 128, "compress": "zstd", "overview_resampling": "bilinear"}
    assert written(pixels, ((1,), tuple(rows), tuple(cols)), options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_local_schedulers_agree(scheduler: str) -> None:
    pixels = terrain((1, 900, 1300))
    options = {"blocksize": 128, "overview_resampling": "lanczos"}
    delayed = ccog.write_ccog(da.from_array(pixels, chunks=(1, 256, 256)), COG_creation_options=GEO | options)
    assert delayed.compute(scheduler=scheduler) == gdal_cog(pixels, options)


def test_worker_processes_agree(client: Any) -> None:
    pixels = terrain((1, 900, 1300), "float32")
    options = {"blocksize": 128, "overview_resampling": "cubic", "compress": "deflate"}
    delayed = ccog.write_ccog(da.from_array(pixels, chunks=(1, 256, 256)), COG_creation_options=GEO | options)
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
def test_lossy_and_overview_options(bands: int, options: dict[str, Any]) -> None:
    pixels = terrain((bands, 700, 500), "uint8")
    options = options | {"blocksize": 128}
    assert written(pixels, 256, options) == gdal_cog(pixels, options)


@pytest.mark.parametrize("compress", ["lerc", "lerc_deflate", "lerc_zstd"])
@pytest.mark.parametrize("error", [0, 0.5])
def test_lerc(compress: str, error: float) -> None:
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
    array = array.rio.set_spatial_dims(x_dim="longitude", y_dim="latitude").rio.write_crs(GEO["crs"])
    array = array.rio.write_transform(GEO["transform"]).rio.write_nodata(3)
    assert ccog.write_ccog(array, COG_creation_options={"BlockSize": "128"}).compute() == expected


def test_coordinates_give_the_transform() -> None:
    y, x = 6e6 - 5 - 10 * np.arange(300), 5e5 + 5 + 10 * np.arange(200)
    array = xr.DataArray(terrain((1, 300, 200))[0], dims=("y", "x"), coords={"y": y, "x": x}).rio.write_crs(GEO["crs"])
    assert ccog.write_ccog(array).compute() == gdal_cog(terrain((1, 300, 200)))


def test_booleans_become_bytes() -> None:
    pixels = terrain((1, 300, 300)) > 20000
    assert written(pixels, 128, {}) == gdal_cog(pixels.astype("uint8"))
