"""Georeferencing that cannot be right is refused or warned of; what is right stays silent."""

from __future__ import annotations

import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from rasterio import Affine
from rasterio.io import MemoryFile

import ccog
from ccog.input.opening import open_source
from conftest import GEO, terrain

NORTH_UP = Affine(10, 0, 5e5, 0, -10, 6e6)


def grid(height: int = 60, width: int = 70, **coords: Any) -> xr.DataArray:
    """An array of rioxarray: coordinates, CRS and stored transform agree."""
    places = {"y": 6e6 - 5 - 10.0 * np.arange(height), "x": 5e5 + 5 + 10.0 * np.arange(width)}
    arr = xr.DataArray(terrain((1, height, width))[0], dims=("y", "x"), coords=places | coords)
    return arr.rio.write_crs(GEO["crs"]).rio.write_transform(NORTH_UP)


def transform_of(arr: Any, **options: Any) -> Affine:
    data = ccog.write_ccog(arr, COG_creation_options=options, compute=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with MemoryFile(data) as memory, memory.open() as dataset:
            return dataset.transform


@pytest.fixture
def silent() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ccog.CCOGWarning)
        yield


# Transforms


@pytest.mark.tried("a transform in GDAL's order", "refused, as rasterio refuses it")
def test_a_transform_in_the_order_of_gdal_is_refused() -> None:
    gdal = NORTH_UP.to_gdal()
    with pytest.raises(TypeError, match="GDAL-style"):
        rasterio.transform.guard_transform(gdal)
    for given in (gdal, list(gdal), np.array(gdal)):
        with pytest.raises(ccog.OptionError, match=r"GDAL's order.*Affine.from_gdal"):
            ccog.write_ccog(terrain((1, 60, 70)), COG_creation_options={"transform": given})
    assert transform_of(terrain((1, 60, 70)), transform=Affine.from_gdal(*gdal)) == NORTH_UP
    assert transform_of(terrain((1, 60, 70)), transform=tuple(NORTH_UP)) == NORTH_UP


def test_an_affine_that_looks_like_the_order_of_gdal_is_warned_of() -> None:
    shuffled = Affine(*NORTH_UP.to_gdal())
    with pytest.warns(ccog.CCOGWarning, match="looks like GDAL's order"):
        ccog.write_ccog(terrain((1, 60, 70)), COG_creation_options={"transform": shuffled})
    arr = grid().drop_vars(["x", "y"]).rio.write_transform(shuffled)
    with pytest.warns(ccog.CCOGWarning, match="looks like GDAL's order"):
        ccog.write_ccog(arr)


@pytest.mark.parametrize(
    "numbers", [(0, 0, 5, 0, -10, 6), (10, 0, float("nan"), 0, -10, 6), (1, 1, 0, 1, 1, 0)]
)
def test_a_transform_that_places_nothing_is_refused(numbers: Any) -> None:
    for given in (numbers, Affine(*numbers)):
        with pytest.raises(ccog.OptionError, match="gives pixels no size"):
            ccog.write_ccog(terrain((1, 60, 70)), COG_creation_options={"transform": given})


# Coordinates


@pytest.mark.tried("irregular coordinates", "refused, unless transform= is given")
@pytest.mark.parametrize("wrong", [[0, 1, 5, 6, 100], [0, 1, 2, 3, 5], [3, 3, 3, 3, 3]], ids=str)
def test_irregular_coordinates_are_refused(wrong: list[float]) -> None:
    arr = xr.DataArray(np.ones((5, 5)), dims=("y", "x"), coords={"y": range(5), "x": wrong})
    with pytest.raises(ccog.RasterError, match=r"coordinates along x .*give transform="):
        ccog.write_ccog(arr)
    with pytest.raises(ccog.RasterError, match="coordinates along x"):
        ccog.plan(arr.rio.write_crs(3857).rio.write_transform(NORTH_UP))
    assert transform_of(arr, transform=NORTH_UP) == NORTH_UP
    assert transform_of(arr.drop_vars("x")) == Affine.identity()


def test_coordinates_that_are_not_numbers_are_refused() -> None:
    names = xr.DataArray(np.ones((2, 2)), dims=("y", "x"), coords={"y": ["a", "b"], "x": [1, 2]})
    with pytest.raises(ccog.RasterError, match="along y are <U1, not numbers"):
        ccog.write_ccog(names)
    missing = names.assign_coords(y=[1, float("nan")])
    with pytest.raises(ccog.RasterError, match=r"along y begin with .* and end with nan"):
        ccog.write_ccog(missing)


def test_hardly_uneven_coordinates_are_warned_of() -> None:
    x = np.arange(70.0)
    x[40] += 0.1
    arr = xr.DataArray(np.ones((60, 70)), dims=("y", "x"), coords={"y": np.arange(60), "x": x})
    with pytest.warns(ccog.CCOGWarning, match=r"along x, 0, 1, 2, 3, 4, \.\.\., are not evenly"):
        ccog.write_ccog(arr)


@pytest.mark.parametrize("rounded", ["float32", 2, 3])
def test_coordinates_that_were_rounded_are_taken(silent: None, rounded: Any) -> None:
    x = 140 + np.arange(500) / 24
    x = x.astype(rounded) if rounded == "float32" else np.round(x, rounded)
    coords = {"lat": -20 - np.arange(300) / 24, "lon": x}
    arr = xr.DataArray(np.ones((300, 500), "uint8"), dims=("lat", "lon"), coords=coords)
    if rounded == 2:
        with pytest.warns(ccog.CCOGWarning, match="not evenly spaced"):
            ccog.write_ccog(arr.rio.write_crs(4326))
        return
    assert abs(transform_of(arr.rio.write_crs(4326)).a - 1 / 24) < 1e-4


@pytest.mark.tried(
    "coordinates that contradict the stored transform", "a warning that names both; as rioxarray"
)
@pytest.mark.parametrize(
    "x", [np.arange(70), 4e5 + 5 + 10.0 * np.arange(70), 5e5 + 7 + 10.0 * np.arange(70)], ids=str
)
def test_coordinates_that_contradict_the_transform_are_warned_of(x: Any) -> None:
    arr = grid().assign_coords(x=x)
    both = r"transform \(10.0, 0.0, 500000.0.*contradicts the coordinates y and x, whose transform"
    with pytest.warns(ccog.CCOGWarning, match=both):
        found = transform_of(arr)
    assert found == arr.rio.transform(recalc=True)
    with pytest.warns(ccog.CCOGWarning, match=both):
        ccog.plan(arr)


def test_the_remedies_for_a_contradiction_are_right(silent: None) -> None:
    arr = grid().assign_coords(x=np.arange(70))
    right = arr.rio.transform(recalc=True)
    assert transform_of(arr.rio.write_transform(right)) == right
    assert transform_of(arr.drop_vars(["y", "x"])) == NORTH_UP
    assert transform_of(arr, transform=NORTH_UP) == NORTH_UP


def test_slices_are_silent(silent: None) -> None:
    arr = grid()
    shifted = Affine(10, 0, 5e5 + 100, 0, -10, 6e6 - 50)
    assert transform_of(arr[5:, 10:40]) == shifted
    assert transform_of(arr.sortby("y")) == Affine(10, 0, 5e5, 0, 10, 6e6 - 600)
    assert transform_of(arr) == NORTH_UP


@pytest.mark.tried("latitudes and longitudes without a CRS", "a warning with the remedy")
@pytest.mark.parametrize("names", [("lat", "lon"), ("latitude", "longitude"), ("y", "x")])
def test_degrees_without_a_crs_are_warned_of(names: tuple[str, str]) -> None:
    y, x = names
    coords = {y: -10 - 0.1 * np.arange(60), x: 100 + 0.1 * np.arange(70)}
    arr = xr.DataArray(terrain((1, 60, 70))[0], dims=names, coords=coords)
    if y == "y":
        arr.y.attrs["units"], arr.x.attrs["standard_name"] = "degrees_north", "longitude"
    with pytest.warns(ccog.CCOGWarning, match=r"no CRS.*rio.write_crs\('EPSG:4326'\)") as caught:
        ccog.write_ccog(xr.Dataset({"a": arr, "b": arr}))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", ccog.CCOGWarning)
        ccog.write_ccog(arr.rio.write_crs("EPSG:4326"))
        ccog.write_ccog(arr, COG_creation_options={"crs": "EPSG:4326"})


# Orders and times


@pytest.mark.tried("an image in the order (y, x, band)", "refused, with the remedy")
@pytest.mark.parametrize("shape", [(600, 700, 3), (64, 64, 4), (50, 60, 1), (300, 200, 13)])
def test_images_with_bands_last_are_refused(shape: tuple[int, int, int]) -> None:
    pixels = np.zeros(shape, "uint8")
    lazy = da.from_array(pixels, chunks=(32, 32, -1))
    for image in (pixels, lazy, np.ma.asarray(pixels)):
        with pytest.raises(ccog.RasterError, match=r"numpy\.moveaxis\(arr, -1, 0\)"):
            ccog.write_ccog(image)
    named = xr.DataArray(lazy, dims=("y", "x", "band"))
    for right in (np.moveaxis(pixels, -1, 0), da.moveaxis(lazy, -1, 0), named):
        assert ccog.plan(right).shape == (shape[2], *shape[:2])
    assert ccog.plan(xr.DataArray(pixels, dims=("band", "y", "x"))).shape == shape


@pytest.mark.parametrize("shape", [(3, 600, 700), (5, 700, 3), (300, 16, 16), (224, 100, 90)])
def test_other_shapes_are_rasters(shape: tuple[int, int, int]) -> None:
    assert ccog.plan(np.zeros(shape, "uint8")).shape == shape


@pytest.mark.tried("a time dimension of length over 1", "refused: choose, or one file a step")
@pytest.mark.parametrize("name", ["time", "valid_time", "when"])
def test_several_times_are_refused(name: str) -> None:
    steps = np.array(["2024-01-01", "2024-01-02"], "datetime64[ns]")
    arr = grid().expand_dims({name: steps})
    remedies = rf"arr.isel\({name}=0\).*one file a step.*arr.rename\({name}='band'\)"
    for times in (arr, arr.expand_dims(band=3), xr.Dataset({"a": arr})):
        with pytest.raises(ccog.RasterError, match=f"{name} has 2 steps.*{remedies}"):
            ccog.write_ccog(times)
    assert ccog.plan(arr.isel({name: 0})).shape == (1, 60, 70)
    assert ccog.plan(arr.isel({name: [0]})).shape == (1, 60, 70)
    assert ccog.plan(arr.rename({name: "band"})).shape == (2, 60, 70)
    files = [arr.sel({name: step}).ccog.write() for step in arr[name]]
    assert len(files) == 2


def test_times_of_a_file_are_bands_on_the_command_line(tmp_path: Any) -> None:
    """As GDAL has them: there is no arr.isel there."""
    steps = np.array(["2024-01-01", "2024-01-02"], "datetime64[ns]")
    arr = grid().expand_dims(time=steps)
    arr.to_dataset(name="rain").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    source = open_source(f"{tmp_path}/a.nc:rain")
    assert ccog.plan(source.array, COG_creation_options=source.options).shape == (2, 60, 70)
