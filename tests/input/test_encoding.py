"""Decoded xarray data is stored as ``encoding`` says: rioxarray and xarray's own writers are the oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from rasterio.dtypes import check_dtype
from rasterio.io import MemoryFile

import ccog
from conftest import GEO, gdal_cog, terrain

SHAPE = 2, 300, 260
SCALES: dict[str, Any] = {"scales": (0.1, 0.1), "offsets": (5.0, 5.0)}


def stored(dtype: str = "int16", nodata: int = -9999, shape: tuple[int, int, int] = SHAPE) -> Any:
    """Pixels of a file, with nodata in a corner."""
    pixels = terrain(shape, dtype)
    pixels[:, :40, :60] = nodata
    return pixels


def decoded(pixels: np.ndarray, encoding: dict[str, Any], dtype: str = "float32") -> xr.DataArray:
    """What xarray holds of pixels with such an encoding."""
    values = pixels.astype(dtype)
    values[pixels == encoding.get("_FillValue", encoding.get("missing_value"))] = np.nan
    values = values * encoding.get("scale_factor", 1) + encoding.get("add_offset", 0)
    arr = xr.DataArray(values.astype(dtype), dims=("band", "y", "x")[-pixels.ndim :])
    arr = arr.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])
    arr.encoding = encoding
    return arr


def written(arr: Any, **options: Any) -> bytes:
    return bytes(ccog.write_ccog(arr, COG_creation_options=options).compute(scheduler="threads"))


def read(data: bytes) -> Any:
    with MemoryFile(data) as memory, memory.open() as dataset:
        return dataset.read(masked=True)


@pytest.mark.parametrize("chunks", [None, {"band": 1, "y": 100, "x": 128}], ids=["array", "dask"])
@pytest.mark.parametrize("opened", [{"masked": True}, {"mask_and_scale": True}], ids=str)
@pytest.mark.parametrize("scaled", [{}, SCALES], ids=["plain", "scaled"])
def test_files_that_rioxarray_decodes_come_out_as_they_were(
    tmp_path: Path, scaled: dict[str, Any], opened: dict[str, bool], chunks: Any
) -> None:
    file = gdal_cog(stored(), describe=scaled, nodata=-9999)
    (tmp_path / "a.tif").write_bytes(file)
    arr = rioxarray.open_rasterio(tmp_path / "a.tif", chunks=chunks, **opened)
    assert arr.dtype == "float32"
    assert written(arr) == file
    arr.rio.to_raster(tmp_path / "b.tif", driver="COG")
    assert written(arr) == (tmp_path / "b.tif").read_bytes()


def test_each_band_has_its_own_scale(tmp_path: Path) -> None:
    """rioxarray cannot store that: it takes the values for pixels."""
    scales = {"scales": (0.1, 0.25), "offsets": (5.0, -7.0)}
    file = gdal_cog(stored(), describe=scales, nodata=-9999)
    (tmp_path / "a.tif").write_bytes(file)
    with pytest.warns(match="Scales differ"):
        arr = rioxarray.open_rasterio(tmp_path / "a.tif", mask_and_scale=True, chunks={"band": 1})
    assert written(arr) == file
    assert written(arr.transpose("y", "x", "band")) == file


@pytest.mark.parametrize("kind", ["nc", "zarr"])
@pytest.mark.parametrize(
    "encoding",
    [
        {"dtype": "uint16", "_FillValue": 0},
        {"dtype": "int16", "_FillValue": -9999, "scale_factor": 0.01, "add_offset": -3.0},
        {"dtype": "int16", "missing_value": -9999, "scale_factor": 0.1},
        {"dtype": "uint8", "_FillValue": 255, "scale_factor": 0.5},
        {"dtype": "int32", "_FillValue": -(2**31)},
        {"dtype": "float32", "_FillValue": -9999.0},
        {"dtype": "float32", "_FillValue": 1e20},
    ],
    ids=str,
)
def test_datasets_that_xarray_decodes_come_out_as_they_were(
    tmp_path: Path, encoding: dict[str, Any], kind: str
) -> None:
    nodata = encoding.get("_FillValue", encoding.get("missing_value"))
    pixels = stored(encoding["dtype"], nodata, (1, *SHAPE[1:]))[0]
    arr, path = decoded(pixels, encoding, "float64"), tmp_path / f"a.{kind}"
    ds = arr.to_dataset(name="a")
    if kind == "zarr":
        ds.to_zarr(path)
    else:
        ds.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, decode_coords="all", chunks={}) as opened:
        assert opened.a.encoding["dtype"] == encoding["dtype"]
        assert opened.a.dtype.kind == "f"
        data = written(opened.a)
    scales = {"descriptions": ["a"], "scales": (encoding.get("scale_factor", 1.0),)}
    scales["offsets"] = (encoding.get("add_offset", 0.0),)
    exact = float(np.float32(nodata)) if encoding["dtype"] == "float32" else nodata
    expected = gdal_cog(pixels[np.newaxis], describe=scales, nodata=exact)
    assert data == expected
    # and what a user reads back is what they held
    (tmp_path / "b.tif").write_bytes(data)
    again = rioxarray.open_rasterio(tmp_path / "b.tif", mask_and_scale=True)[0]
    np.testing.assert_allclose(again, opened.a, rtol=1e-6, atol=1e-6)


def test_unsigned_integers_of_netcdf_are_stored_as_such() -> None:
    pixels = stored("uint8", 255, (1, *SHAPE[1:]))
    encoding = {"dtype": "int8", "_Unsigned": "true", "_FillValue": np.int8(-1)}
    arr = decoded(pixels, {"_FillValue": 255})
    arr.encoding = encoding
    assert written(arr) == gdal_cog(pixels, nodata=255)
    arr = decoded(stored("int16"), {"_FillValue": -9999})
    arr.encoding = {"dtype": "uint16", "_Unsigned": "false", "_FillValue": np.uint16(2**16 - 9999)}
    assert written(arr) == gdal_cog(stored("int16"), nodata=-9999)


def test_complex_integers_of_rioxarray_stay_such() -> None:
    pixels = (terrain((1, 300, 300), "complex64") * 500).round().astype("complex64")
    arr = xr.DataArray(pixels, dims=("band", "y", "x"))
    arr.encoding = {"rasterio_dtype": "complex_int16", "dtype": "complex64"}
    data = written(arr, blocksize=128, overview_resampling="average")
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.dtypes == ("complex_int16",)
        assert np.array_equal(dataset.read(), pixels)


def test_nodata_of_complex_data_is_real(tmp_path: Path) -> None:
    pixels = (terrain((1, 300, 300), "complex64") * 50).astype("complex64")
    pixels[:, :40, :60] = 7
    options = {"overview_resampling": "average"}
    file = gdal_cog(pixels, options, nodata=7)
    (tmp_path / "a.tif").write_bytes(file)
    for opened in ({}, {"masked": True}):
        assert written(rioxarray.open_rasterio(tmp_path / "a.tif", **opened), **options) == file


@pytest.mark.tried(
    "values that rioxarray decoded from a file with a mask and no nodata value",
    "refused: there is no pixel for NaN; the message says how to write the mask",
)
def test_a_mask_that_was_decoded_can_be_written_again(tmp_path: Path) -> None:
    pixels, mask = terrain((2, 300, 260), "uint8"), np.tri(300, 260, dtype=bool)
    options = {"overviews": "none"}
    file = gdal_cog(np.where(mask, pixels, 0).astype("uint8"), options, mask)
    (tmp_path / "a.tif").write_bytes(file)
    arr = rioxarray.open_rasterio(tmp_path / "a.tif", masked=True, chunks={})
    remedy = r"arr.fillna\(0\).astype\('uint8'\) with mask=arr.notnull\(\).all\('band'\)"
    with pytest.raises(ccog.ChunkError, match=remedy):
        written(arr, **options)
    valid = arr.notnull().all("band")
    again = ccog.write_ccog(
        arr.fillna(0).astype("uint8"), mask=valid, COG_creation_options=options, compute=True
    )
    assert again == file


def test_scaled_values_are_rounded_as_xarray_rounds_them() -> None:
    halves = np.arange(-300 * 260, 300 * 260, 2, dtype="float64").reshape(300, 260) / 4
    arr = xr.DataArray(halves, dims=("y", "x"))
    arr.encoding = {"dtype": "int32", "_FillValue": -(2**31), "scale_factor": 0.2}
    expected = np.asarray(xr.conventions.encode_cf_variable(arr.variable))
    assert np.array_equal(read(written(arr))[0], expected)


@pytest.mark.tried(
    "arithmetic in place on decoded integers (`arr *= 0.0001`), which keeps their encoding",
    "refused: the value is named; rioxarray writes zeros",
)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("decoded_as", ["float32", "float64"])
@pytest.mark.parametrize("encoding", [{}, {"_FillValue": 0}, {"scale_factor": 1.0}], ids=str)
def test_decoded_integers_that_are_no_longer_whole_are_refused(
    encoding: dict[str, Any], decoded_as: str, lazy: bool
) -> None:
    arr = decoded(stored("uint16", 0), {"dtype": "uint16", **encoding}, decoded_as).fillna(1)
    arr.encoding = {"dtype": "uint16", **encoding}
    arr = arr.chunk(128) if lazy else arr
    written(arr)
    arr *= 0.0001
    with pytest.raises(ccog.ChunkError, match=r"is not a whole number.*scale_factor"):
        written(arr)
    rounded = arr.copy(data=arr.round().data)
    assert np.array_equal(read(written(rounded)).data, np.rint(arr))
    arr.encoding["scale_factor"] = 0.0001
    written(arr)


def test_values_stay_as_they_are_without_encoding() -> None:
    pixels = stored("uint16", 0)
    arr = decoded(pixels, {"dtype": "uint16", "_FillValue": 0})
    nan = float("nan")
    values = arr.to_numpy()
    assert written(arr.drop_encoding(), nodata=nan) == gdal_cog(values, nodata=nan)
    assert written(arr.drop_encoding().rio.write_nodata(nan)) == gdal_cog(values, nodata=nan)
    assert written(arr * 1) == gdal_cog(values)  # arithmetic drops it, too
    encoded_again = (arr * 1).rio.write_nodata(0, encoded=True)
    encoded_again.encoding["dtype"] = "uint16"
    assert written(encoded_again) == gdal_cog(pixels, nodata=0)


def test_a_fill_value_that_no_single_float_is_marks_the_pixels_that_it_fills() -> None:
    array = decoded(
        np.where(np.eye(40, 50) > 0, np.nan, 3.0), {"dtype": "float64", "_FillValue": 0.1}
    )
    with MemoryFile(written(array)) as memory, memory.open() as file:
        assert (file.dtypes[0], file.nodata) == ("float64", 0.1)
        assert ((file.read_masks(1) == 0) == np.isnan(array.values)).all()


def test_values_of_the_stored_type_are_not_touched() -> None:
    pixels = stored("int16")
    arr = xr.DataArray(pixels, dims=("band", "y", "x"), attrs={"_FillValue": -9999, **SCALES})
    arr = arr.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])
    arr.encoding = {"dtype": "int16", "chunksizes": (1, 64, 64)}
    assert written(arr) == gdal_cog(pixels, describe=SCALES, nodata=-9999)
    arr = arr.astype("float32")
    arr.encoding = {"dtype": np.dtype("datetime64[ns]"), "units": "days"}
    assert read(written(arr)).dtype == "float32"


def test_variables_have_their_own_encodings() -> None:
    pixels = stored()
    first = decoded(pixels[0], {"dtype": "int16", "_FillValue": -9999, "scale_factor": 0.1})
    second = decoded(pixels[1], {"dtype": "int16", "_FillValue": -9999, "add_offset": 5.0})
    ds = xr.Dataset({"a": first, "b": second.chunk(100)})
    describe = {"descriptions": ["a", "b"], "scales": (0.1, 1.0), "offsets": (0.0, 5.0)}
    assert written(ds) == gdal_cog(pixels, describe=describe, nodata=-9999)
    ds["b"].encoding["_FillValue"] = 7
    with pytest.raises(ccog.RasterError, match="nodata values a: -9999, b: 7"):
        written(ds)
    assert written(ds, nodata=-9999) == gdal_cog(pixels, describe=describe, nodata=-9999)
    ds["b"].encoding["dtype"] = "int32"
    with pytest.raises(ccog.DtypeError, match="stored as a: int16, b: int32"):
        written(ds)


def test_nodata_that_is_given_wins() -> None:
    pixels = stored()
    other = np.where(pixels == -9999, -1, pixels).astype("int16")
    arr = decoded(pixels, {"dtype": "int16", "_FillValue": -9999})
    assert written(arr, nodata=-1) == gdal_cog(other, nodata=-1)
    with pytest.raises(ccog.OptionError, match=r"nodata=nan is not a int16.*drop_encoding"):
        written(arr, nodata=float("nan"))


@pytest.mark.tried(
    "decoded values that their encoding cannot hold", "refused: the chunk and the value are named"
)
@pytest.mark.parametrize(
    ("value", "encoding", "message"),
    [
        (70000, {"dtype": "uint16", "_FillValue": 0}, "70000.0 is out of the range of uint16"),
        (-1, {"dtype": "uint16"}, r"-1.0 is out of the range of uint16, 0 to 65535"),
        (np.inf, {"dtype": "int16", "_FillValue": 0}, "inf is out of the range of int16"),
        (np.nan, {"dtype": "int16"}, r"int16 has no NaN, and there is no fill value: give nodata="),
        (400, {"dtype": "int8", "_FillValue": 0, "scale_factor": 0.1}, "4000.0 is out of"),
        (2.0**63, {"dtype": "int64", "_FillValue": 0}, "out of the range of int64"),
        (1e39, {"dtype": "float32", "_FillValue": 0}, r"1e\+39 is out of the range of float32"),
    ],
    ids=str,
)
def test_values_that_cannot_be_stored_are_refused(
    value: float, encoding: dict[str, Any], message: str
) -> None:
    arr = xr.DataArray(np.ones((300, 300)), dims=("y", "x")).chunk(128)
    arr = arr.where((arr.y != 299) | (arr.x != 299), value)
    arr.encoding = encoding
    place = r"chunk \(2, 2\) of the array, pixels \[256:300, 256:300\] \(row, column\), "
    with pytest.raises(ccog.ChunkError, match=place + f"cannot be stored.*{message}"):
        written(arr)


def test_integers_that_do_not_fit_are_refused() -> None:
    arr = xr.DataArray(np.full((30, 30), 300), dims=("y", "x"))
    arr.encoding = {"dtype": "uint8"}
    with pytest.raises(ccog.ChunkError, match="300 is out of the range of uint8"):
        written(arr)


def test_integers_and_complex_values_are_encoded() -> None:
    pixels = terrain((2, 300, 260), "uint8")
    arr = xr.DataArray(pixels, dims=("band", "y", "x"))
    arr.encoding = {"dtype": "int32"}
    assert np.array_equal(read(written(arr)), pixels)
    waves = terrain((1, 300, 260), "complex128")
    arr = xr.DataArray(waves, dims=("band", "y", "x"))
    arr.encoding = {"dtype": "complex64", "scale_factor": 0.5}
    found = read(written(arr, overview_resampling="nearest"))
    np.testing.assert_allclose(found, waves / 0.5, rtol=1e-6)


def test_contradictions_are_refused_before_anything_is_computed() -> None:
    arr = decoded(stored(), {"dtype": "int16", "_FillValue": -9999, "scale_factor": 0.1})
    with pytest.raises(ccog.RasterError, match=r"encoding\['_FillValue'\] is -9999 and attrs"):
        ccog.write_ccog(arr.assign_attrs(_FillValue=-1))
    with pytest.raises(ccog.OptionError, match=r"scales=.*encoded with.*drop_encoding"):
        ccog.write_ccog(arr, COG_creation_options={"scales": [1, 1]})
    arr.encoding["scale_factor"] = 0.0
    with pytest.raises(ccog.RasterError, match="nothing can be stored so"):
        ccog.write_ccog(arr)
    arr.encoding = {"dtype": "int16"}
    with pytest.raises(ccog.RasterError, match="no imaginary part"):
        ccog.write_ccog(arr.astype("complex64").assign_attrs().pipe(_with, arr.encoding))
    if not check_dtype("float16"):
        arr.encoding = {"dtype": "float16"}
        with pytest.raises(ccog.DtypeError, match=r"float16, which is encoding\['dtype'\]"):
            ccog.write_ccog(arr)


def _with(arr: xr.DataArray, encoding: dict[str, Any]) -> xr.DataArray:
    arr.encoding = encoding
    return arr


def test_masked_chunks_that_xarray_does_not_know_of_are_encoded_too() -> None:
    pixels = stored()
    arr = decoded(pixels, {"dtype": "int16", "_FillValue": -9999}).chunk(128)
    no_nan = arr.data.map_blocks(np.nan_to_num)
    masked = da.map_blocks(
        lambda values, nan: np.ma.MaskedArray(values, np.isnan(nan)),
        no_nan,
        arr.data,
        meta=np.empty((0, 0, 0), "float32"),
    )
    assert written(arr.copy(data=masked)) == gdal_cog(pixels, nodata=-9999)


def test_a_plan_says_what_will_be_stored() -> None:
    arr = decoded(stored(), {"dtype": "int16", "_FillValue": -9999, "scale_factor": 0.1})
    plan = ccog.plan(arr)
    assert plan.dtype == "int16"
    assert "2 bands of int16" in str(plan)
    values = "Values: float32, stored as int16 with nodata -9999, scale 0.1"
    assert values in str(plan)
    assert "Values:" not in str(ccog.plan(arr.drop_encoding()))


def test_workers_encode(client: Any) -> None:
    arr = decoded(stored(), {"dtype": "int16", "_FillValue": -9999}).chunk(128)
    delayed = ccog.write_ccog(arr)
    assert client.compute(delayed).result() == gdal_cog(stored(), nodata=-9999)


@pytest.mark.parametrize("where", ["attribute", "option"])
def test_nan_that_the_encoding_does_not_fill_stays(where: str) -> None:
    arr = decoded(stored("float32"), {"_FillValue": -9999})
    arr.encoding = {"dtype": "float64"}
    given = {"nodata": -1} if where == "option" else {}
    arr = arr if where == "option" else arr.assign_attrs(_FillValue=-1)
    with pytest.warns(ccog.CCOGWarning, match="4800 pixels are NaN"):
        found = written(arr, **given)
    assert found == gdal_cog(arr.to_numpy().astype("float64"), nodata=-1)
