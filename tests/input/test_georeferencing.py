"""Georeferencing that cannot be right is refused or warned of; what is right stays silent."""

from __future__ import annotations

import json
import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from odc.geo import geom, xy_
from odc.geo.gcp import GCPGeoBox, GCPMapping
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile

import ccog
from cases import RPCS
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


# Parts of grids


def of_odc(transform: Affine, crs: Any = "EPSG:32755") -> xr.DataArray:
    return wrap_xr(terrain((1, 60, 70))[0], GeoBox((60, 70), transform, crs))


def of_file(transform: Affine) -> xr.DataArray:
    profile = {"width": 70, "height": 60, "count": 1, "dtype": "uint16", "transform": transform}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs=GEO["crs"], **profile) as file:
            file.write(terrain((1, 60, 70)))
        return rioxarray.open_rasterio(memory.name).load()[0]


TURNED = {
    "by 30 degrees": NORTH_UP * Affine.rotation(30),
    "by 90 degrees": NORTH_UP * Affine.rotation(90),
    "by 90 degrees, exactly": Affine(0, 10, 5e5, 10, 0, 6e6),
    "in a millionth of a degree": (
        Affine.translation(150, -30) * Affine.rotation(30) * Affine.scale(1e-6, -1e-6)
    ),
}

PARTS = {
    "one row": (slice(5, 6), slice(None), Affine.translation(0, 5)),
    "one pixel": (slice(5, 6), slice(7, 8), Affine.translation(7, 5)),
    "a slice": (slice(10, None), slice(20, 33), Affine.translation(20, 10)),
    "a flip": (slice(None, None, -1), slice(None), Affine(1, 0, 0, 0, -1, 60)),
    "a stride": (slice(1, None, 3), slice(None, None, 2), Affine(2, 0, -0.5, 0, 3, 0)),
}


@pytest.mark.tried(
    "slices, strides, flips and single pixels of grids, turned or not",
    "the file lies where they lie",
)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("turn", ["not turned", *TURNED])
@pytest.mark.parametrize("made", [of_odc, of_file])
def test_a_part_lies_where_it_lies(silent: None, made: Any, turn: str, part: str) -> None:
    whole = TURNED.get(turn, NORTH_UP)
    rows, columns, cut = PARTS[part]
    found = transform_of(made(whole)[rows, columns])
    assert np.allclose(found[:6], (whole * cut)[:6], rtol=1e-12, atol=1e-9 * abs(whole.c))


def test_coarser_pixels_lie_on_the_edges_of_the_finer(silent: None) -> None:
    coarse = grid().coarsen(y=3, x=2).mean()
    assert transform_of(coarse) == NORTH_UP * Affine.scale(2, 3)


def test_the_transform_of_an_index_of_rasterix_is_taken(silent: None) -> None:
    rasterix = pytest.importorskip("rasterix")
    indexed = rasterix.assign_index(grid().drop_vars(["y", "x"]), x_dim="x", y_dim="y")
    assert transform_of(indexed) == NORTH_UP
    assert transform_of(indexed[5:6, 7:]) == Affine(10, 0, 5e5 + 70, 0, -10, 6e6 - 50)
    whole = TURNED["by 30 degrees"]
    turned = rasterix.assign_index(of_file(whole).drop_vars(["xc", "yc"]), x_dim="x", y_dim="y")
    assert np.allclose(transform_of(turned)[:6], whole[:6])
    part = whole * Affine.translation(7, 5)
    assert np.allclose(transform_of(turned[5:, 7:])[:6], part[:6])


@pytest.mark.tried(
    "one row, and nothing that says how large its pixels are", "a warning; the file has no place"
)
def test_one_row_of_unknown_size_is_not_placed() -> None:
    row = grid().drop_vars("spatial_ref")[5:6]
    del row.encoding["grid_mapping"]
    with pytest.warns(ccog.CCOGWarning, match=r"one pixel along y.*how large.*give transform="):
        assert transform_of(row) == Affine.identity()
    mesh = of_file(TURNED["by 30 degrees"])[5:6].drop_vars("spatial_ref")
    with pytest.warns(ccog.CCOGWarning, match=r"how large it is.*xc|xc.*do not place"):
        assert transform_of(mesh) == Affine.identity()


def test_one_row_of_odc_without_crs_has_the_size_that_its_coordinate_says(silent: None) -> None:
    row = wrap_xr(np.ones((60, 70)), GeoBox((60, 70), NORTH_UP, None))[5:6]
    del row.encoding["grid_mapping"]  # it names a CRS that is not there
    assert transform_of(row) == Affine(10, 0, 5e5, 0, -10, 6e6 - 50)


@pytest.mark.tried(
    "coordinates of single floats beside an exact transform", "the exact transform, silently"
)
@pytest.mark.parametrize("pixel", [10, 0.1])
def test_a_stored_transform_is_more_exact_than_single_floats(silent: None, pixel: float) -> None:
    whole = Affine(pixel, 0, 5e5, 0, -pixel, 6e6)
    arr = grid().rio.write_transform(whole)
    arr = arr.assign_coords(
        y=(6e6 - pixel * (np.arange(60) + 0.5)).astype("float32"),
        x=(5e5 + pixel * (np.arange(70) + 0.5)).astype("float32"),
    )
    assert transform_of(arr) == whole
    part = transform_of(arr[10:, 20:])
    assert np.allclose(part[:6], (whole * Affine.translation(20, 10))[:6], rtol=1e-12)


def test_coordinates_computed_in_single_floats_agree_with_the_transform(silent: None) -> None:
    whole = Affine(1 / 240, 0, 140, 0, -1 / 240, -10)
    arr = grid().rio.write_transform(whole)
    x = np.float32(140) + (np.arange(70, dtype="float32") + np.float32(0.5)) * np.float32(1 / 240)
    y = np.nextafter((-10 - (np.arange(60) + 0.5) / 240).astype("float32"), np.float32(0))
    assert transform_of(arr.assign_coords(x=x, y=y)) == whole


def test_coordinates_coarser_than_pixels_are_warned_of() -> None:
    arr = grid().rio.write_transform(Affine(0.1, 0, 5e5, 0, -0.1, 6e6))
    y = (6e6 - 0.1 * (np.arange(60) + 0.5)).astype("float32")
    x = 5e5 + 0.1 * (np.arange(70) + 0.5)
    with pytest.warns(ccog.CCOGWarning, match="along y are rounded to more than a pixel"):
        ccog.write_ccog(arr.assign_coords(y=y, x=x)[30:31])


@pytest.mark.tried(
    "a transform stored in the order of affine", "a warning with the right order; it is left out"
)
@pytest.mark.parametrize("whole", [NORTH_UP, TURNED["by 30 degrees"]], ids=["straight", "turned"])
def test_a_stored_transform_in_the_order_of_affine_is_left_out(whole: Affine) -> None:
    arr = grid()
    arr.spatial_ref.attrs["GeoTransform"] = " ".join(map(str, whole[:6]))
    with pytest.warns(ccog.CCOGWarning, match=r"in the order of affine.*GDAL's order is"):
        assert transform_of(arr) == NORTH_UP
    with pytest.warns(ccog.CCOGWarning, match=r"in the order of affine.*GDAL's order is"):
        assert transform_of(arr.drop_vars(["y", "x"])) == Affine.identity()


@pytest.mark.parametrize("text", ["1 2 3", "a b c d e f", "0 0 0 0 0 0", "0 10 0 nan 0 -10"])
def test_a_stored_transform_that_cannot_be_read_is_warned_of(text: str) -> None:
    arr = grid()
    arr.spatial_ref.attrs["GeoTransform"] = text
    with pytest.warns(ccog.CCOGWarning, match="GeoTransform of spatial_ref.*left out"):
        assert transform_of(arr) == NORTH_UP


@pytest.mark.tried(
    "labels of rows and columns beside a turned transform", "whole: taken; a part: refused"
)
def test_labels_beside_a_turned_transform_are_not_guessed_at() -> None:
    turned = of_odc(TURNED["by 30 degrees"])
    labels = turned.assign_coords(y=np.arange(60), x=np.arange(70))
    assert transform_of(labels) == TURNED["by 30 degrees"]
    for other in (labels[5:], turned.assign_coords(grid().coords)):
        stale = other.assign_coords(spatial_ref=turned.spatial_ref)
        with pytest.raises(ccog.RasterError, match=r"is turned.*units='pixel'.*give transform="):
            ccog.write_ccog(stale)
        assert transform_of(stale, transform=NORTH_UP) == NORTH_UP


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_grid_that_rioxarray_takes_for_straight_lies_where_it_lies(part: str) -> None:
    """It has x of the first row and y of the first column, of pixels of a millionth of a degree."""
    whole = Affine.translation(150, -30) * Affine.rotation(30) * Affine.scale(1e-6, -2e-6)
    rows, columns, cut = PARTS[part]
    opened = of_file(whole)
    assert opened.x.ndim == opened.y.ndim == 1
    found = transform_of(opened[rows, columns])
    assert np.allclose(found[:6], (whole * cut)[:6], rtol=1e-9, atol=1e-12)


@pytest.mark.tried(
    "a grid at 90 degrees whose coordinates rioxarray makes all alike",
    "whole: taken; a part: refused",
)
def test_coordinates_that_are_all_alike_are_of_the_whole_raster_or_refused(tmp_path: Any) -> None:
    whole = Affine(0, -10, 5e5, 10, 0, 6e6)
    profile = {"width": 70, "height": 60, "count": 1, "dtype": "uint8", "transform": whole}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", crs=GEO["crs"], **profile) as file:
        file.write(np.ones((1, 60, 70), "uint8"))
    opened = rioxarray.open_rasterio(tmp_path / "a.tif")
    assert len(set(opened.x.values)) == 1
    assert transform_of(opened) == whole
    with pytest.raises(ccog.RasterError, match=r"is turned.*arr.drop_vars\(\['y', 'x'\]\)"):
        ccog.write_ccog(opened[:, 5:])
    assert transform_of(opened.drop_vars(["y", "x"])) == whole


def test_variables_whose_stored_transforms_differ_are_refused() -> None:
    apart = {
        name: grid().drop_vars(["x", "y"]).rename(spatial_ref=name) for name in ("here", "there")
    }
    for name, arr in apart.items():
        arr.encoding["grid_mapping"] = name
    apart["there"].there.attrs["GeoTransform"] = "400000 10 0 6000000 0 -10"
    with pytest.raises(ccog.RasterError, match=r"variable a lies at .*variable b at .*400000"):
        ccog.write_ccog(xr.Dataset({"a": apart["here"], "b": apart["there"]}))
    whole = grid()
    stale = whole.assign_attrs(transform=tuple(NORTH_UP)).drop_vars("spatial_ref")
    stale.encoding["grid_mapping"] = "nothing"
    with pytest.warns(ccog.CCOGWarning, match="nothing is not there"):
        assert transform_of(xr.Dataset({"a": stale, "b": stale})[["a", "b"]]) == NORTH_UP


def test_an_empty_array_is_refused() -> None:
    for empty in (grid()[:0], xr.Dataset({"a": grid()[:, :0]})):
        with pytest.raises(ccog.RasterError, match="is empty"):
            ccog.write_ccog(empty)


def test_coordinates_of_each_pixel_must_be_of_a_grid() -> None:
    y, x = np.meshgrid(np.linspace(0, 1, 60) ** 2, np.linspace(0, 1, 70), indexing="ij")
    arr = xr.DataArray(np.ones((60, 70)), dims=("y", "x"))
    swath = arr.assign_coords(lat=(("y", "x"), y), lon=(("y", "x"), x))
    with pytest.warns(ccog.CCOGWarning, match="lat and lon are of each pixel"):
        assert transform_of(swath) == Affine.identity()
    with pytest.raises(ccog.RasterError, match="yc and xc are not of a grid of equal pixels"):
        ccog.write_ccog(swath.rename(lat="yc", lon="xc"))


def test_coordinates_along_one_side_do_not_place() -> None:
    arr = xr.DataArray(np.ones((60, 70)), dims=("y", "x"), coords={"y": np.arange(60)})
    with pytest.warns(ccog.CCOGWarning, match="coordinates along y, but not along x"):
        assert transform_of(arr) == Affine.identity()


@pytest.mark.parametrize(
    "names", [("Latitude", "Longitude"), ("yc", "xc"), ("LAT", "LON"), ("row", "col")]
)
def test_rows_and_columns_are_known_by_name_or_mark(silent: None, names: tuple[str, str]) -> None:
    arr = grid().rename(y=names[0], x=names[1])
    if names == ("row", "col"):
        arr[names[0]].attrs["axis"], arr[names[1]].attrs["axis"] = "Y", "X"
    assert transform_of(arr) == NORTH_UP
    # dimensions may have other names than their coordinates
    apart = grid().rename(y="lat", x="lon").swap_dims({"lat": "y", "lon": "x"})
    assert transform_of(apart) == NORTH_UP


def test_a_plan_says_what_places_the_array() -> None:
    assert ccog.plan(grid()[5:]).georeference.placed_by == (
        "the coordinates y and x, on the grid of GeoTransform of spatial_ref"
    )
    assert "Placed by: GeoTransform of spatial_ref" in str(ccog.plan(grid().drop_vars(["x", "y"])))
    assert "Placed by" not in str(ccog.plan(np.ones((60, 70))))


def test_variables_of_a_dataset_lie_in_one_place(silent: None) -> None:
    dataset = xr.Dataset({"a": grid(), "b": grid()})
    row = Affine(10, 0, 5e5, 0, -10, 6e6 - 50)
    assert transform_of(dataset.isel(y=[5])) == row
    assert transform_of(dataset.isel(y=[5], x=[0])) == row
    apart = xr.Dataset({"a": grid(), "b": grid().rename(y="lat", x="lon")})
    with pytest.raises(ccog.RasterError, match=r"variable a lies along.*variable b along"):
        ccog.write_ccog(apart)
    edges = dataset.assign(y_bounds=(("y", "edge"), np.zeros((60, 2))))
    edges.y.attrs["bounds"] = "y_bounds"
    assert ccog.plan(edges).shape == (2, 60, 70)


def test_overviews_lie_where_their_raster_lies(silent: None) -> None:
    arr = grid(60, 2)
    overview = arr[::2, :1].drop_vars("spatial_ref")
    assert transform_of(arr, overviews=[overview]) == NORTH_UP


# Points


POINTS = [
    GroundControlPoint(r, c, 147 + c / 64, -36 - r / 64) for r, c in ((0, 0), (0, 64), (64, 0))
]


def points_of(arr: Any) -> list[tuple[float, ...]]:
    with MemoryFile(ccog.write_ccog(arr, compute=True)) as memory, memory.open() as dataset:
        assert dataset.transform == Affine.identity()
        assert not dataset.gcps[0] or dataset.gcps[1].to_epsg() == 4326
        return [(p.row, p.col, p.x, p.y) for p in dataset.gcps[0]]


@pytest.mark.tried(
    "a part of a raster with ground control points",
    "the points move, or are dropped with a warning",
)
def test_ground_control_points_of_a_part_move_or_are_dropped(tmp_path: Any) -> None:
    mapping = GCPMapping(
        [xy_(p.col, p.row) for p in POINTS],
        geom.multipoint([(p.x, p.y) for p in POINTS], "EPSG:4326"),
    )
    part = wrap_xr(np.ones((64, 64), "uint8"), GCPGeoBox((64, 64), mapping))[10:, 20::2]
    expected = [(p.row - 10, (p.col - 20 + 0.5) / 2, p.x, p.y) for p in POINTS]
    assert np.allclose(points_of(part), expected)
    path = tmp_path / "a.tif"
    profile = {"width": 64, "height": 64, "count": 1, "dtype": "uint8", "gcps": POINTS}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:4326", **profile) as file:
        file.write(np.ones((1, 64, 64), "uint8"))
    opened = rioxarray.open_rasterio(path).load()
    assert points_of(opened) == [(p.row, p.col, p.x, p.y) for p in POINTS]
    for _ in range(2):
        with pytest.warns(ccog.CCOGWarning, match=r"points are of a raster of 64 x 64.*give gcps="):
            assert points_of(opened[:, 10:]) == []
        path.unlink(missing_ok=True)


def test_coordinates_win_over_ground_control_points() -> None:
    arr = grid(64, 64).rio.write_gcps(POINTS, "EPSG:32755")
    with pytest.warns(ccog.CCOGWarning, match=r"points beside coordinates.*give gcps="):
        assert transform_of(arr) == NORTH_UP
    broken = grid().drop_vars(["x", "y"])
    broken.spatial_ref.attrs |= {"gcps": "{}", "GeoTransform": "0 1 0 0 0 1"}
    with pytest.warns(
        ccog.CCOGWarning, match="gcps of the grid mapping spatial_ref cannot be read"
    ):
        ccog.write_ccog(broken)


@pytest.fixture(params=["by rioxarray", "in the file"])
def with_rpcs(tmp_path: Any, request: Any) -> Any:
    """An array as rioxarray 0.23 has it, which keeps RPCs, and as 0.19 has it, with coordinates."""
    profile = {"width": 70, "height": 60, "count": 1, "dtype": "uint8", "rpcs": RPCS}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", crs="EPSG:4326", **profile) as file:
        file.write(np.ones((1, 60, 70), "uint8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        arr = rioxarray.open_rasterio(tmp_path / "a.tif", chunks=32)
    arr = arr.assign_coords(y=np.arange(60) + 0.5, x=np.arange(70) + 0.5)
    if request.param == "by rioxarray":
        arr.spatial_ref.attrs["rpcs"] = json.dumps(RPCS.to_dict())
        (tmp_path / "a.tif").unlink()
        return arr.copy(data=np.ones(arr.shape, "uint8"))
    arr.spatial_ref.attrs.pop("rpcs", None)
    return arr


def rpcs_of(arr: Any, transform: Affine | None = None) -> Any:
    with MemoryFile(ccog.write_ccog(arr, compute=True)) as memory, memory.open() as dataset:
        assert dataset.transform == (transform or Affine.identity())
        return dataset.rpcs


@pytest.mark.tried(
    "RPCs that rioxarray carries", "kept; those of a part move, those of a flip are dropped"
)
def test_rpcs_that_rioxarray_carries_are_kept(silent: None, with_rpcs: Any) -> None:
    assert rpcs_of(with_rpcs).to_dict() == RPCS.to_dict()
    part = rpcs_of(with_rpcs[:, 10:, 20::2])
    assert (part.line_off, part.line_scale) == (RPCS.line_off - 10, RPCS.line_scale)
    assert (part.samp_off, part.samp_scale) == ((RPCS.samp_off - 20) / 2, RPCS.samp_scale / 2)
    assert rpcs_of(xr.Dataset({"a": with_rpcs[0]})).to_dict() == RPCS.to_dict()
    assert rpcs_of(with_rpcs.drop_vars(["y", "x"])).to_dict() == RPCS.to_dict()


def test_rpcs_that_cannot_be_right_are_dropped(with_rpcs: Any) -> None:
    with pytest.warns(ccog.CCOGWarning, match="flipped, and RPCs cannot be"):
        assert rpcs_of(with_rpcs[:, ::-1]) is None
    if "rpcs" not in with_rpcs.spatial_ref.attrs:
        with pytest.warns(ccog.CCOGWarning, match=r"RPCs are of a raster of 60 x 70.*give rpcs="):
            assert rpcs_of(with_rpcs[:, 10:].drop_vars(["y", "x"])) is None


def test_rpcs_that_are_given_win_silently(silent: None, with_rpcs: Any) -> None:
    flipped = ccog.write_ccog(with_rpcs[:, ::-1], COG_creation_options={"rpcs": RPCS}, compute=True)
    with MemoryFile(flipped) as memory, memory.open() as dataset:
        assert dataset.rpcs.to_dict() == RPCS.to_dict()


def test_rpcs_stand_beside_a_transform() -> None:
    arr = grid()
    arr.spatial_ref.attrs["rpcs"] = json.dumps(RPCS.to_dict())
    assert rpcs_of(arr, NORTH_UP).to_dict() == RPCS.to_dict()
    assert rpcs_of(arr.drop_vars(["y", "x"]), NORTH_UP).to_dict() == RPCS.to_dict()
    assert rpcs_of(arr[10:], NORTH_UP * Affine.translation(0, 10)).line_off == RPCS.line_off - 10
    other = arr.assign_coords(x=np.arange(70))
    with pytest.warns(ccog.CCOGWarning, match="RPCs are of other pixels"):
        assert rpcs_of(other, other.rio.transform(recalc=True)) is None


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
