"""The nodata value, wherever an array has it: a number that its pixels can be, or an error in words."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from rasterio.io import MemoryFile

import ccog
from conftest import GEO


def array(dtype: str = "int16", **attrs: Any) -> xr.DataArray:
    arr = xr.DataArray(np.ones((8, 9), dtype), dims=("y", "x"), attrs=attrs)
    return arr.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])


def encoded(dtype: str, **encoding: Any) -> xr.DataArray:
    arr = array("float32" if dtype != "float64" else dtype)
    arr.encoding = {"dtype": dtype, **encoding}
    return arr


#: Where a nodata value can be: gives the array and options.
PLACES: dict[str, Callable[[str, Any], tuple[Any, dict[str, Any]]]] = {
    "nodata=": lambda dtype, value: (array(dtype), {"nodata": value}),
    "nodata= of NumPy": lambda dtype, value: (np.ones((8, 9), dtype), {"nodata": value, **GEO}),
    "attrs['_FillValue']": lambda dtype, value: (array(dtype, _FillValue=value), {}),
    "attrs['missing_value']": lambda dtype, value: (array(dtype, missing_value=value), {}),
    "attrs['nodata']": lambda dtype, value: (array(dtype, nodata=value), {}),
    "encoding['_FillValue']": lambda dtype, value: (encoded(dtype, _FillValue=value), {}),
    "encoding['missing_value']": lambda dtype, value: (encoded(dtype, missing_value=value), {}),
    "a Dataset": lambda dtype, value: (array(dtype, _FillValue=value).to_dataset(name="a"), {}),
}
NAN = float("nan")


def nodata_of(arr: Any, options: dict[str, Any]) -> Any:
    file = ccog.write_ccog(arr, COG_creation_options=options).compute()
    with MemoryFile(file) as memory, memory.open() as dataset:
        return dataset.nodata


@pytest.mark.tried(
    "nodata values that are none: lists, arrays, booleans, text, NaN of integers, values out of range",
    "refused, wherever they stand; the place, the value and what to do are named",
)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int16", [-9999]),
        ("int16", (-9999,)),
        ("int16", [1, 2]),
        ("int16", np.array([-9999])),
        ("int16", np.array([], "int16")),
        ("int16", True),
        ("int16", np.True_),
        ("uint8", False),
        ("int16", "none"),
        ("int16", b"-9999"),
        ("int16", 1 + 2j),
        ("int16", np.datetime64("2020-01-01")),
        ("int16", {"value": 1}),
        ("int16", np.ma.masked),
        ("int16", NAN),
        ("int16", float("inf")),
        ("int16", 0.5),
        ("int16", 32768),
        ("uint8", -1),
        ("uint64", 2**64),
        ("float32", 1e39),
        ("float32", "x"),
        ("float64", [0.0]),
    ],
    ids=str,
)
def test_what_is_no_nodata_value_is_refused_in_words(place: str, dtype: str, value: Any) -> None:
    arr, options = PLACES[place](dtype, value)
    name = place if "[" in place else "nodata"
    name = "attrs['_FillValue']" if place == "a Dataset" else name.split("=")[0]
    with pytest.raises(ccog.CCOGError) as caught:
        ccog.plan(arr, COG_creation_options=options)
    text = str(caught.value)
    shown = [str(value), repr(value), f"{value:g}" if isinstance(value, float) else "?"]
    assert any(form in text for form in shown)
    assert name in text or "nodata=" in text
    assert any(word in text for word in ("give ", "use ", "set ")), text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int16", -9999, -9999),
        ("int16", -9999.0, -9999),
        ("int16", np.float32(-9999), -9999),
        ("int16", np.array(-9999), -9999),
        ("int16", decimal.Decimal(-9999), -9999),
        ("int16", "-9999", -9999),
        ("uint8", np.int64(255), 255),
        ("float32", NAN, NAN),
        ("float32", np.float16("nan"), NAN),
        ("float64", float("inf"), float("inf")),
        ("float64", 1e300, 1e300),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38),
        ("int16", None, None),
    ],
    ids=str,
)
def test_one_number_is_one_nodata_value(
    place: str, dtype: str, value: Any, expected: float | None
) -> None:
    found = nodata_of(*PLACES[place](dtype, value))
    assert found == expected or (expected != expected and found != found)


STALE: dict[str, Any] = {
    "another type": lambda: array("uint8", _FillValue=np.int16(-9999)),
    "text": lambda: array("uint8", _FillValue="none"),
    "a list": lambda: array("uint8", missing_value=[1, 2]),
    "encoding": lambda: encoded("uint8", _FillValue=-9999),
    "encoding of text": lambda: encoded("uint8", _FillValue="none"),
    "two that differ": lambda: encoded("uint8", _FillValue=1).assign_attrs(_FillValue=2),
    "variables": lambda: xr.Dataset({"a": array("uint8", nodata=1), "b": array("uint8", nodata=2)}),
    "nodata": lambda: array("uint8", nodata=-9999),
}


@pytest.mark.parametrize("stale", STALE.values(), ids=STALE)
def test_the_nodata_value_that_is_given_wins_before_any_other_is_looked_at(stale: Any) -> None:
    assert nodata_of(stale(), {"nodata": 7}) == 7


@pytest.mark.parametrize("stale", ["another type", "encoding", "text", "two that differ"])
def test_what_is_left_over_is_refused_where_none_is_given(stale: str) -> None:
    with pytest.raises(ccog.CCOGError, match=r"give nodata=|use a whole number|delete one"):
        ccog.plan(STALE[stale]())


def test_comparisons_keep_attributes_that_their_type_cannot_hold() -> None:
    arr = array("int16", _FillValue=np.int16(-9999)) > 0
    arr.attrs["_FillValue"] = -9999
    with pytest.raises(ccog.RasterError, match=r"attrs\['_FillValue'\] is -9999, and uint8"):
        ccog.plan(arr)
    del arr.attrs["_FillValue"]
    assert nodata_of(arr, {}) is None
    arr.attrs["_FillValue"] = 255  # which bytes can be
    assert nodata_of(arr, {}) == 255


@pytest.mark.parametrize(
    ("one", "other"), [(-9999, -9999.0), (NAN, np.float32("nan")), (np.int16(3), 3.0)], ids=str
)
def test_equal_values_agree(one: Any, other: Any) -> None:
    dtype = "float32" if one != one else "int16"
    a, b = array(dtype, _FillValue=one), array(dtype, _FillValue=other)
    found = nodata_of(xr.Dataset({"a": a, "b": b}), {})
    assert found == one or (one != one and found != found)
    both = encoded(dtype, _FillValue=one).assign_attrs(_FillValue=other)
    assert nodata_of(both, {}) == found or found != found


def test_a_value_that_rio_chose_is_the_nodata_value() -> None:
    arr = array("int16", _FillValue=-1)
    arr.rio.set_nodata(-9999, inplace=True)
    assert nodata_of(arr, {}) == -9999
    assert nodata_of(array("uint8", nodatavals=(3.0, 3.0)), {}) == 3


def test_floats_have_the_nodata_value_that_their_pixels_can_be() -> None:
    assert nodata_of(array("float32", _FillValue=0.1), {}) == float(np.float32(0.1))


def test_decoded_nan_becomes_the_value_that_is_given() -> None:
    arr = encoded("float32", _FillValue=-9999.0).where(False)
    arr.encoding = {"dtype": "float32", "_FillValue": -9999.0}
    with MemoryFile(ccog.write_ccog(arr, nodata=-1).compute()) as memory, memory.open() as dataset:
        assert (dataset.read() == -1).all()


@pytest.mark.parametrize("name", ["ns", "bidx"])
def test_tags_that_rasterio_cannot_be_given_are_refused(name: str) -> None:
    with pytest.raises(ccog.OptionError, match=f"tag '{name}'.*another name"):
        ccog.plan(array(), update_tags={1: {name: "x"}})


def test_the_value_that_rio_writes_wins_over_the_missing_value_of_the_encoding() -> None:
    arr = array("float32").where(False)
    arr.encoding = {"dtype": "int16", "missing_value": -9}
    arr = arr.rio.write_nodata(7)
    data = ccog.write_ccog(arr).compute()
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.nodata == 7
        assert (dataset.read() == 7).all()
