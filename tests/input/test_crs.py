"""The CRS of an array is found wherever libraries keep it, with rioxarray or without."""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import Any

import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.crs import CRS
from rasterio.io import MemoryFile

import ccog
from xarray_cases import PLACES, STRAIGHT, pixels, without_crs

UTM, OTHER = "EPSG:32755", "EPSG:32756"


def bare() -> xr.DataArray:
    """An array with coordinates and without a CRS."""
    grid = STRAIGHT[0]
    coords = {
        "y": grid.f + grid.e * (np.arange(8) + 0.5),
        "x": grid.c + grid.a * (np.arange(9) + 0.5),
    }
    return xr.DataArray(pixels((8, 9)), dims=("y", "x"), coords=coords)


def written(arr: Any, **options: Any) -> tuple[CRS | None, int, list[str]]:
    """The CRS of the file, its bands, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = ccog.write_ccog(arr, compute=True, **options)
    told = [str(w.message) for w in caught if issubclass(w.category, ccog.CCOGWarning)]
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.transform == STRAIGHT[0]
        return dataset.crs, dataset.count, told


@pytest.fixture(params=["with rioxarray", "without rioxarray"])
def rioxarray_or_not(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without rioxarray":
        monkeypatch.setitem(sys.modules, "rioxarray", None)
        for kind in (xr.DataArray, xr.Dataset):
            monkeypatch.delattr(kind, "rio", raising=False)


@pytest.mark.tried(
    "a CRS in each place where libraries keep it", "found; with or without rioxarray"
)
@pytest.mark.parametrize("place", PLACES)
def test_a_crs_is_found_in_its_place(rioxarray_or_not: None, place: str) -> None:
    arr = PLACES[place](bare(), UTM)
    assert written(arr) == (CRS.from_user_input(UTM), 1, [])
    assert written(xr.Dataset({"a": arr, "b": arr})) == (CRS.from_user_input(UTM), 2, [])


def test_an_array_of_odc_lies_where_it_lies(rioxarray_or_not: None) -> None:
    turned = STRAIGHT[0] * Affine.rotation(30)
    part = wrap_xr(pixels((8, 9)), GeoBox((8, 9), turned, UTM))[2:3, 4:]
    with MemoryFile(ccog.write_ccog(part, compute=True)) as memory, memory.open() as dataset:
        assert dataset.crs == CRS.from_user_input(UTM)
        assert np.allclose(dataset.transform[:6], (turned * Affine.translation(4, 2))[:6])


def test_a_crs_that_the_array_names_counts_more_than_others_beside_it() -> None:
    dataset = xr.Dataset({"a": PLACES["grid mapping in attributes"](bare(), UTM)})
    dataset = dataset.assign_coords(
        other=xr.Variable((), 0, {"crs_wkt": pyproj.CRS(OTHER).to_wkt()})
    )
    assert written(dataset["a"]) == (CRS.from_user_input(UTM), 1, [])


@pytest.mark.tried(
    "netCDF files opened with xarray's defaults, or all coordinates decoded", "the CRS is kept"
)
@pytest.mark.parametrize("decode", [True, "all", False])
@pytest.mark.parametrize("name", ["spatial_ref", "utm"])
def test_the_crs_of_a_file_that_xarray_opened_is_kept(
    rioxarray_or_not: None, tmp_path: Any, name: str, decode: Any
) -> None:
    arr = PLACES["grid mapping in encoding"](bare(), UTM).rename(spatial_ref=name)
    arr.encoding["grid_mapping"] = name
    xr.Dataset({"v": arr}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf", decode_coords=decode) as opened:
        assert written(opened) == (CRS.from_user_input(UTM), 1, [])
        if decode == "all":
            assert written(opened["v"])[0] == CRS.from_user_input(UTM)
        else:
            crs, _, told = written(opened["v"])
            assert crs is None
            assert f"grid mapping {name} is not there" in told[0]
            assert "decode_coords='all'" in told[0]


def test_attributes_of_a_dataset_are_heeded() -> None:
    dataset = xr.Dataset({"a": bare(), "b": bare()}, attrs={"crs": UTM})
    assert written(dataset) == (CRS.from_user_input(UTM), 2, [])
    with pytest.raises(ccog.RasterError, match=r"32756.*the Dataset.*32755"):
        ccog.write_ccog(dataset.assign(a=bare().assign_attrs(crs=OTHER)))


ATTRIBUTES = ("attribute of text", "attributes of the coordinates", "coordinate of satpy")

# two places in which an array can have a CRS each: one does not take the place of the other
PAIRS = [
    (place, also)
    for place, also in itertools.product(PLACES, ATTRIBUTES)
    if place != also
    and not (place.startswith("attribute of") and also.startswith("attribute of"))
    and (place, also) != ("grid mapping in attributes", "coordinate of satpy")
]


@pytest.mark.tried("two CRSs in one array or Dataset", "refused, with both")
@pytest.mark.parametrize(("place", "also"), PAIRS)
def test_two_crs_are_refused(place: str, also: str) -> None:
    both = PLACES[also](PLACES[place](bare(), UTM), OTHER)
    with pytest.raises(ccog.RasterError, match=r"EPSG:3275[56], and that of .* EPSG:3275[56];"):
        ccog.write_ccog(both)
    assert written(both, crs=UTM) == (CRS.from_user_input(UTM), 1, [])


def test_variables_of_two_crs_are_refused() -> None:
    for place in ("attribute of text", "grid mapping in attributes"):
        first = PLACES[place](bare(), UTM)
        second = PLACES[place](bare(), OTHER)
        if "grid" in place:
            second = second.rename(crs="crs2").assign_attrs(grid_mapping="crs2")
        with pytest.raises(ccog.RasterError, match=r"32755.*32756"):
            ccog.write_ccog(xr.Dataset({"a": first, "b": second}))


def test_two_spellings_of_a_crs_are_one() -> None:
    arr = PLACES["grid mapping in encoding"](bare(), "EPSG:4326").assign_attrs(crs="OGC:CRS84")
    assert written(arr) == (CRS.from_epsg(4326), 1, [])
    arr = PLACES["grid mapping in attributes"](bare(), UTM)
    arr.crs.attrs["spatial_ref"] = pyproj.CRS(UTM).to_wkt("WKT1_GDAL")
    assert written(arr.assign_attrs(crs_wkt=pyproj.CRS(UTM).to_json()))[0] == CRS.from_user_input(
        UTM
    )


@pytest.mark.tried("a CRS that cannot be read", "a warning that shows it")
@pytest.mark.parametrize(
    "value",
    ["no such thing", 99999999, object(), {"what": "is this"}, b"?"],
    ids=lambda value: type(value).__name__,
)
def test_a_crs_that_cannot_be_read_is_warned_of(rioxarray_or_not: None, value: Any) -> None:
    crs, _, told = written(bare().assign_attrs(crs=value))
    assert crs is None
    assert len(told) == 1
    assert "cannot be read" in told[0]
    beside = PLACES["grid mapping in encoding"](bare(), UTM).assign_attrs(crs=value)
    crs, _, told = written(xr.Dataset({"a": beside, "b": beside}))
    assert crs == CRS.from_user_input(UTM)
    assert told
    assert all("cannot be read" in text for text in told)
    assert written(beside, crs=UTM)[2] == []


def test_a_grid_mapping_that_says_nothing_is_warned_of() -> None:
    arr = PLACES["grid mapping in encoding"](bare(), UTM)
    for empty in (arr.drop_vars("spatial_ref"), arr.assign_coords(spatial_ref=0)):
        crs, _, told = written(empty)
        assert crs is None
        assert len(told) == 1
        assert "spatial_ref" in told[0]
    without = without_crs(arr)
    assert written(without) == (None, 1, [])


def test_the_deprecated_way_of_rioxarray_is_heeded() -> None:
    arr = bare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arr.rio.set_crs(UTM)
    assert written(arr)[0] == CRS.from_user_input(UTM)


def test_two_indexes_with_different_crss_are_refused() -> None:
    pytest.importorskip("xproj")
    array = bare().proj.assign_crs(one=UTM)
    assert written(array)[0] == CRS.from_user_input(UTM)
    with pytest.raises(ccog.errors.RasterError, match="32756"):
        written(array.proj.assign_crs(two=OTHER))
