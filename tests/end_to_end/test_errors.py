"""Bad input: a typed error that says what was found and what to do, before any task runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.env import get_gdal_config

import ccog
from ccog import errors


def touched(*_: Any) -> Any:
    raise AssertionError("a pixel was touched")


def lazy(
    shape: tuple[int, ...] = (1, 300, 300), dtype: str = "uint16", chunks: int = 128
) -> da.Array:
    """An array whose chunks must never be computed."""
    source = da.zeros(shape, chunks=chunks, dtype=dtype)
    return source.map_blocks(touched, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"no_such_option": 1}, errors.OptionError, "NO_SUCH_OPTION"),
    ({1: 2}, errors.OptionError, "strings"),
    ({"compress": "lzw", "COMPRESS": "zstd"}, errors.OptionError, "twice"),
    ({"compress": "zip"}, errors.OptionError, "DEFLATE"),
    ({"blocksize": 100}, errors.OptionError, "multiple of 16"),
    ({"blocksize": "big"}, errors.OptionError, "whole number"),
    ({"blocksize": -512}, errors.OptionError, "out of range"),
    ({"compress": "deflate", "level": 99}, errors.OptionError, "99"),
    ({"compress": "deflate", "level": True}, errors.OptionError, "True"),
    ({"predictor": "maybe"}, errors.OptionError, "FLOATING_POINT"),
    ({"compress": "jpeg", "quality": 101}, errors.OptionError, "1 to 100"),
    ({"compress": "lerc", "max_z_error": -1}, errors.OptionError, "0 or more"),
    ({"bigtiff": "perhaps"}, errors.OptionError, "IF_SAFER"),
    ({"overview_resampling": "bicubic"}, errors.OptionError, "cubicspline"),
    ({"overviews": "some"}, errors.OptionError, "AUTO"),
    ({"overview_count": -1}, errors.OptionError, "out of range"),
    ({"geotiff_version": "2.0"}, errors.OptionError, "1.1"),
    ({"sparse_ok": "perhaps"}, errors.OptionError, "choose one of"),
    ({"interleave": "line"}, errors.OptionError, "PIXEL"),
    ({"nbits": 40}, errors.OptionError, "1 to 32"),
    ({"nbits": 20}, errors.OptionError, "9 to 16"),
    ({"statistics": "perhaps"}, errors.OptionError, "choose one of"),
    ({"src_mdd": 3}, errors.OptionError, "text"),
    ({"colorinterp": ["mauve"]}, errors.OptionError, "alpha"),
    ({"colorinterp": ["red", "green"]}, errors.OptionError, "2 entries for 1 bands"),
    ({"gcps": [(0, 0)]}, errors.OptionError, "GroundControlPoint"),
    ({"rpcs": {}}, errors.OptionError, "RPC"),
    ({"compress": "jxl"}, errors.OptionError, "GDAL 3"),
    ({"target_srs": "EPSG:3857"}, errors.ReprojectionError, "reproject the array first"),
    ({"tiling_scheme": "GoogleMapsCompatible"}, errors.ReprojectionError, "EPSG:3857"),
    ({"tiling_scheme": "NZTM2000"}, errors.ReprojectionError, "EPSG:2193"),
    ({"tiling_scheme": "MarsQuad"}, errors.ReprojectionError, "GoogleMapsCompatible, .*NZTM2000"),
    (
        {
            "tiling_scheme": "GoogleMapsCompatible",
            "crs": "EPSG:3857",
            "transform": (10, 0, 5e5, 0, -10, 6e6),
        },
        errors.ReprojectionError,
        "zoom level 14 it would be 512 x 512 pixels",
    ),
    ({"res": 10}, errors.ReprojectionError, "RES=10"),
    ({"extent": "0,0,1,1"}, errors.ReprojectionError, "xr_reproject"),
    ({"compress": "jpeg"}, errors.OptionError, "uint16"),
    ({"compress": "webp"}, errors.OptionError, "WEBP"),
    ({"crs": "EPSG:nonsense"}, errors.OptionError, "coordinate reference system"),
    ({"transform": (1, 2)}, errors.OptionError, "six numbers"),
    ({"nodata": 1e9}, errors.OptionError, "65535"),
    ({"nodata": float("nan")}, errors.OptionError, "whole number"),
    ({"nodata": "none"}, errors.OptionError, "not a number"),
    ({"descriptions": ["a", "b"]}, errors.OptionError, "2 entries for 1 bands"),
    ({"scales": ["x"]}, errors.OptionError, "float"),
    ({"update_tags": {5: {}}}, errors.OptionError, "band 5"),
    ({"update_tags": "tags"}, errors.OptionError, "update_tags"),
    ({"colormap": [1]}, errors.OptionError, "colormap"),
    ({"colormap": {-1: (0, 0, 0)}}, errors.OptionError, "whole number from 0"),
    ({"colormap": {1: (0, 0, 256)}}, errors.OptionError, "from 0 to 255"),
    ({"colormap": {1: (0, 0)}}, errors.OptionError, "three or four"),
    ({"colormap": {"water": (0, 0, 255)}}, errors.OptionError, "water"),
    ({"colormap": {1: "blue"}}, errors.OptionError, "blue"),
    ({"overwrite": "yes"}, errors.OptionError, "True nor False"),
]


@pytest.mark.parametrize(("options", "kind", "says"), OPTIONS, ids=[str(o[0]) for o in OPTIONS])
@pytest.mark.tried("options {id}", "refused before a pixel is read; the message says '{says}'")
def test_wrong_options_are_refused_by_name(
    options: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        ccog.write_ccog(lazy(), COG_creation_options=options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ccog.CCOGError)


def unknown_chunks() -> da.Array:
    x = da.ones((100, 100), chunks=50)
    return x[x[:, 0] > 0]


ARRAYS: list[tuple[Any, type[Exception], type[Exception], str]] = [
    (lazy((2, 2, 100, 100)), errors.RasterError, ValueError, "4 dimensions"),
    (lazy((100,)), errors.RasterError, ValueError, "has 1 dimension, shape"),
    (np.zeros((0, 5)), errors.RasterError, ValueError, "empty"),
    (unknown_chunks(), errors.RasterError, ValueError, "compute_chunk_sizes"),
    (np.zeros((5, 5), object), errors.DtypeError, TypeError, "cast"),
    (np.zeros((5, 5), "datetime64[s]"), errors.DtypeError, TypeError, "int64"),
    (np.zeros((5, 5), "longdouble"), errors.DtypeError, TypeError, "float32"),
    ([[1, 2], [3, 4]], errors.ArgumentTypeError, TypeError, "builtins.list"),
    (
        xr.DataArray(np.zeros((5, 5)), dims=("a", "b")),
        errors.RasterError,
        ValueError,
        "which of the dimensions",
    ),
    (
        xr.DataArray(np.zeros((2, 2, 5, 5)), dims=("t", "band", "y", "x")),
        errors.RasterError,
        ValueError,
        "one raster",
    ),
    (
        xr.Dataset({"v": ("x", np.zeros(5))}),
        errors.RasterError,
        ValueError,
        "no variable of two dimensions",
    ),
    (
        xr.Dataset({k: (("y", "x"), np.zeros((5, 5), k)) for k in ("int8", "uint8")}),
        errors.DtypeError,
        TypeError,
        "share one",
    ),
]


@pytest.mark.parametrize(("array", "kind", "builtin", "says"), ARRAYS, ids=[a[3] for a in ARRAYS])
@pytest.mark.tried("an array that is no raster: {id}", "refused before a pixel is read")
def test_arrays_that_are_not_rasters_are_refused(
    array: Any, kind: type[Exception], builtin: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        ccog.write_ccog(array)
    assert isinstance(caught.value, builtin)


@pytest.mark.parametrize(
    ("mask", "kind", "says"),
    [
        (np.ones((5, 5), bool), errors.RasterError, r"\(5, 5\)"),
        (np.full((300, 300), "x"), errors.DtypeError, "booleans"),
        ("mask.tif", errors.ArgumentTypeError, "the mask"),
    ],
)
@pytest.mark.tried(
    "masks of another shape, of text, and a path as mask", "refused before a pixel is read"
)
def test_masks_that_do_not_fit_are_refused(mask: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        ccog.write_ccog(lazy(), mask=mask)


@pytest.mark.parametrize(
    ("store", "kind", "says"),
    [
        (np.ones((300, 300)), errors.ArgumentTypeError, "mask by keyword"),
        (lazy(), errors.ArgumentTypeError, "mask=..."),
        (7, errors.ArgumentTypeError, "int"),
        (b"name.tif", errors.ArgumentTypeError, "bytes"),
        ("", errors.StoreError, "empty"),
        ("/no/such/directory/name.tif", errors.StoreNotFoundError, "does not exist"),
        ("/tmp/", errors.StoreError, "slash"),
        ("/tmp", errors.StoreError, "directory"),
        ("ftp://host/name.tif", errors.StoreError, "ftp"),
        ("https://host/name.tif", errors.StoreError, "https"),
        ("file://host/name.tif", errors.StoreError, "host"),
        ("s3://bucket", errors.StoreError, "s3://bucket/path"),
        ("s3://bucket/", errors.StoreError, "object"),
        ("s3:///key", errors.StoreError, "object"),
    ],
)
@pytest.mark.tried("a target that cannot be: {id}", "refused before a pixel is read")
def test_targets_that_cannot_be_are_refused(store: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        ccog.write_ccog(lazy(), store)


def test_options_must_be_a_mapping() -> None:
    with pytest.raises(errors.ArgumentTypeError, match="mapping"):
        ccog.write_ccog(lazy(), COG_creation_options="compress=lzw")


def test_storage_options_need_a_store(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreError, match="key"):
        ccog.write_ccog(lazy(), tmp_path / "name.tif", storage_options={"key": "x"})


def test_an_existing_file_is_kept_where_overwriting_is_not_allowed(tmp_path: Path) -> None:
    target = tmp_path / "there.tif"
    target.write_bytes(b"precious")
    with pytest.raises(errors.StoreExistsError, match="exists"):
        ccog.write_ccog(lazy(), target, COG_creation_options={"overwrite": False})
    assert target.read_bytes() == b"precious"


def test_good_input_touches_no_pixel_either() -> None:
    assert ccog.write_ccog(lazy()).key
    with pytest.raises(AssertionError, match="touched"):
        ccog.write_ccog(lazy()).compute(scheduler="synchronous")


@pytest.mark.tried(
    "Credentials of AWS in rasterio_env_options", "refused: the message says where they belong"
)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("call", [ccog.write_ccog, ccog.plan])
def test_credentials_are_refused_among_options_of_gdal(name: str, call: Any) -> None:
    message = rf"holds {name}, which rasterio does not take .*storage_options=dict.*AWSSession"
    with pytest.raises(errors.OptionError, match=message) as raised:
        call(np.ones((300, 300), "uint8"), rasterio_env_options={name: "hiddenvalue"})
    assert "hiddenvalue" not in str(raised.value)


@pytest.mark.parametrize("given", [0, -1, "5%", True, 0.5, None])
@pytest.mark.tried("GDAL_CACHEMAX={given}", "refused, with what is allowed")
def test_a_cache_of_gdal_without_a_size_is_refused(given: Any) -> None:
    with pytest.raises(errors.OptionError, match="is not a positive number of MB, such as 512"):
        ccog.write_ccog(np.ones((9, 9), "uint8"), rasterio_env_options={"GDAL_CACHEMAX": given})


@pytest.mark.parametrize(
    ("given", "expected"),
    [(64, 64 << 20), ("64", 64 << 20), (99_999, 99_999 << 20), (128_000_000, 128_000_000)],
)
def test_gdals_cache_has_as_many_megabytes_as_gdal_would_give_it(given: Any, expected: int) -> None:
    delayed = ccog.write_ccog(
        np.ones((300, 300), "uint8"), rasterio_env_options={"gdal_cachemax": given}
    )
    set_while_gdal_runs = delayed.dask.layers[delayed.key].mapping.job.with_env
    assert set_while_gdal_runs(get_gdal_config, "GDAL_CACHEMAX") == expected
    assert delayed.compute(scheduler="sync")


@pytest.mark.tried(
    "a cache of GDAL of 512 bytes, with which its threads crash",
    "refused in the task, with the remedy",
)
def test_a_cache_of_some_bytes_is_refused_wherever_it_was_set() -> None:
    delayed = ccog.write_ccog(np.ones((300, 300), "uint8"))
    with (
        rasterio.Env(GDAL_CACHEMAX=512),
        pytest.raises(errors.OptionError, match=r"limited to 512 bytes.*Give MB << 20 there"),
    ):
        delayed.compute(scheduler="sync")
    assert delayed.compute(scheduler="sync")


@pytest.mark.parametrize("given", ["GDAL_CACHEMAX=1", {1: 2}])
def test_options_of_gdal_are_a_mapping_by_name(given: Any) -> None:
    with pytest.raises(errors.ArgumentTypeError, match="rasterio_env_options"):
        ccog.write_ccog(np.ones((300, 300), "uint8"), rasterio_env_options=given)
