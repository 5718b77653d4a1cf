"""Random DataArrays and Datasets as libraries make them, and what a file of each must say of its place.

``rasters()`` draws one. What it knows of the truth is by construction: the grid of the whole raster, and
which of its pixels are left. To draw more (nodata, encodings, names, attributes), change what it returns:
``draw(rasters()).arr``. Pixels come from the function of a shape that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyproj
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from conftest import terrain

CRSES = ("EPSG:32755", "EPSG:3857", "EPSG:4326", "ESRI:54009")

# those that parameters of the CF conventions can say
CF_CRSES = ("EPSG:32755", "EPSG:4326")

STRAIGHT = (
    Affine(10, 0, 5e5, 0, -10, 6e6),
    Affine(10, 0, 5e5, 0, 10, 6e6),
    Affine(-30, 0, 5e5, 0, -20, 6e6),
    Affine(1 / 3, 0, 140, 0, -1 / 3, -10),
    Affine(1e-6, 0, 150, 0, -1e-6, -30),
)
TURNED = (
    *(
        Affine.translation(5e5, 6e6) * Affine.rotation(t) * Affine.scale(10, -10)
        for t in (30, 90, 200, 270)
    ),
    Affine.translation(150, -30) * Affine.rotation(30) * Affine.scale(1e-6, -1e-6),
    # which rioxarray takes for straight
    Affine.translation(150, -30) * Affine.rotation(30) * Affine.scale(1e-6, -2e-6),
    Affine(9.8, 1.5, 5e5, 0.5, -9.8, 6e6),
    Affine(0, 10, 5e5, 10, 0, 6e6),
)
SOURCES = (
    "plain",
    "rioxarray",
    "odc",
    "stackstac",
    *(["rasterix"] if find_spec("rasterix") else []),
)
SIDES = (8, 5, 12, 9, 4, 7, 1)
NAMES = (
    ("y", "x"),
    ("lat", "lon"),
    ("latitude", "longitude"),
    ("northing", "easting"),
    ("Y", "X"),
    ("yc", "xc"),
)


@dataclass(frozen=True)
class Drawn:
    """An array, and what is true of it.

    ``transform`` is None where nobody can know it. A warning is allowed where ``is_doubtful``. ``made`` says
    what was drawn, for the eyes of who reads a failure.
    """

    arr: Any
    transform: Affine | None
    crs: CRS | None
    is_doubtful: bool
    made: dict[str, Any]


def pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of a raster (y, x)."""
    return terrain((1, *shape))[0]


@st.composite
def rasters(draw: st.DrawFn, values: Callable[[tuple[int, ...]], np.ndarray] = pixels) -> Drawn:
    """A raster by one of the libraries, cut, named, ordered and put into a Dataset as users do."""
    source = draw(st.sampled_from(SOURCES))
    is_turned = source in ("rioxarray", "odc") and draw(st.booleans())
    grid = draw(st.sampled_from(TURNED if is_turned else STRAIGHT))
    shape = draw(st.sampled_from(SIDES)), draw(st.sampled_from(SIDES))
    crs = draw(st.sampled_from(CRSES))
    arr = _SOURCES[source](draw, values(shape), grid, crs)
    y, x = arr.dims[-2:]
    rows, columns = (draw(_slices(side)) for side in shape)
    # an index of rasterix knows the step to the next pixel also where there is none
    is_sure = source == "rasterix"
    cut = _cut(rows, shape[0], is_sure), _cut(columns, shape[1], is_sure)
    arr = arr.isel({y: rows, x: columns})
    made = {
        "source": source,
        "grid": tuple(grid)[:6],
        "shape": shape,
        "rows": rows,
        "columns": columns,
    }
    drawn = Drawn(arr, grid * _transform(*cut), CRS.from_user_input(crs), False, made)
    if source in ("stackstac", "plain", "rasterix"):
        drawn = _alone(drawn, source, cut)
    arr, place = _placed(draw, drawn.arr, crs)
    return draw(_dressed(replace(drawn, arr=arr, made={**made, "crs": (crs, place)})))


# Cuts


def _slices(side: int) -> st.SearchStrategy[slice]:
    """Slices that leave at least one pixel."""
    steps = st.sampled_from([1, 2, -1, 1, 3, -2])
    ends = st.tuples(st.integers(0, (side - 1) // 2), st.integers(side // 2, side - 1))
    alone = st.integers(0, side - 1).map(lambda n: slice(n, n + 1))
    whole = st.sampled_from([slice(None), slice(None), slice(None, None, -1)])
    parts = st.builds(_slice, ends, steps)
    return st.one_of(whole, whole, parts, parts, parts, alone)


def _slice(ends: tuple[int, int], step: int) -> slice:
    low, high = sorted(ends)
    if step > 0:
        return slice(low, high + 1, step)
    return slice(high, None if low == 0 else low - 1, step)


def _cut(part: slice, side: int, is_sure: bool) -> tuple[int, int, int]:
    """The first pixel, the step to the next and how many there are; one alone keeps its size."""
    numbers = range(side)[part]
    step = numbers.step if is_sure or len(numbers) > 1 else 1
    return numbers[0], step, len(numbers)


def _transform(rows: tuple[int, int, int], columns: tuple[int, int, int]) -> Affine:
    (top, dy, _), (left, dx, _) = rows, columns
    return Affine(dx, 0, left + 0.5 - dx / 2, 0, dy, top + 0.5 - dy / 2)


def _alone(drawn: Drawn, source: str, cut: Any) -> Drawn:
    """What is known without a stored transform, or with coordinates that may be of corners."""
    (_, dy, height), (_, dx, width) = cut
    if source == "stackstac":
        return replace(drawn, is_doubtful=abs(dy) > 1 or abs(dx) > 1)
    if source == "plain" and min(height, width) == 1:
        return replace(drawn, transform=None, is_doubtful=True)
    return drawn


# Sources


def _centres(grid: Affine, shape: tuple[int, int]) -> dict[str, Any]:
    height, width = shape
    return {
        "y": grid.f + grid.e * (np.arange(height) + 0.5),
        "x": grid.c + grid.a * (np.arange(width) + 0.5),
    }


def _mapping(crs: Any, **attrs: Any) -> xr.Variable:
    return xr.Variable((), 0, {"crs_wkt": CRS.from_user_input(crs).to_wkt(), **attrs})


def _plain(draw: st.DrawFn, values: np.ndarray, grid: Affine, crs: str) -> xr.DataArray:
    arr = xr.DataArray(values, dims=("y", "x"), coords=_centres(grid, values.shape))
    arr = arr.assign_coords(spatial_ref=_mapping(crs))
    arr.encoding["grid_mapping"] = "spatial_ref"
    return arr


def _rioxarray(draw: st.DrawFn, values: np.ndarray, grid: Affine, crs: str) -> xr.DataArray:
    height, width = values.shape
    profile = {"count": 1, "height": height, "width": width, "dtype": values.dtype.name}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", transform=grid, crs=crs, **profile) as file:
            file.write(values, 1)
        with rioxarray.open_rasterio(memory.name) as opened:
            return opened.load().squeeze("band", drop=draw(st.booleans()))


def _odc(draw: st.DrawFn, values: np.ndarray, grid: Affine, crs: str) -> xr.DataArray:
    arr = wrap_xr(values, GeoBox(values.shape, grid, crs))
    if not draw(st.booleans()):
        return arr
    # readers of Zarr and netCDF have coordinates as single floats at times
    y, x = arr.dims
    coarse = {dim: arr[dim].astype("float32") for dim in (y, x)}
    steps = [np.spacing(np.abs(values).max()) for values in coarse.values()]
    is_fine = max(steps) < 0.1 * min(np.hypot(grid.a, grid.d), np.hypot(grid.b, grid.e))
    return arr.assign_coords(coarse) if is_fine else arr


def _stackstac(draw: st.DrawFn, values: np.ndarray, grid: Affine, crs: str) -> xr.DataArray:
    coords = _centres(grid, values.shape)
    if draw(st.booleans()):
        coords = {"y": coords["y"] - grid.e / 2, "x": coords["x"] - grid.a / 2}
    attrs = {
        "crs": crs.lower() if crs.startswith("EPSG") else crs,
        "transform": grid,
        "spec": "one of stackstac",
    }
    return xr.DataArray(values, dims=("y", "x"), coords=coords, attrs=attrs)


def _rasterix(draw: st.DrawFn, values: np.ndarray, grid: Affine, crs: str) -> xr.DataArray:
    import rasterix
    import xproj  # noqa: F401

    attrs = {"GeoTransform": " ".join(map(str, grid.to_gdal()))}
    arr = xr.DataArray(values, dims=("y", "x"), attrs={"grid_mapping": "spatial_ref"})
    arr = arr.assign_coords(spatial_ref=_mapping(crs, **attrs))
    if draw(st.booleans()):
        arr = arr.proj.assign_crs(spatial_ref=crs)
    return rasterix.assign_index(arr, x_dim="x", y_dim="y")


_SOURCES = {
    "plain": _plain,
    "rioxarray": _rioxarray,
    "odc": _odc,
    "stackstac": _stackstac,
    "rasterix": _rasterix,
}


# Places of a CRS


def without_crs(arr: xr.DataArray) -> xr.DataArray:
    """The array, whose stored transform stays where it was, without a CRS."""
    arr = arr.copy()
    transforms = [c.attrs["GeoTransform"] for c in arr.coords.values() if "GeoTransform" in c.attrs]
    scalars = [
        name
        for name, c in arr.coords.items()
        if c.ndim == 0 and ("crs_wkt" in c.attrs or c.dtype == "O")
    ]
    arr = arr.drop_vars(scalars)
    arr.encoding.pop("grid_mapping", None)
    for attrs in (arr.attrs, *(arr.coords[name].attrs for name in arr.coords)):
        for key in ("crs", "grid_mapping"):
            attrs.pop(key, None)
    if transforms:
        arr = arr.assign_coords(spatial_ref=xr.Variable((), 0, {"GeoTransform": transforms[0]}))
        arr.encoding["grid_mapping"] = "spatial_ref"
    return arr


def _named(key: str, attrs_of: Callable[[str], dict[str, Any]], name: str) -> Callable[..., Any]:
    """A grid mapping ``name`` that ``key`` (attrs or encoding) names."""

    def put(arr: xr.DataArray, crs: str) -> xr.DataArray:
        kept = arr.coords["spatial_ref"].attrs if "spatial_ref" in arr.coords else {}
        arr = arr.drop_vars("spatial_ref", errors="ignore")
        arr = arr.assign_coords({name: xr.Variable((), 0, {**kept, **attrs_of(crs)})})
        arr.encoding.pop("grid_mapping", None)
        getattr(arr, key)["grid_mapping"] = name
        return arr

    return put


def _wkt(crs: str) -> dict[str, Any]:
    return {"crs_wkt": CRS.from_user_input(crs).to_wkt()}


def _gdal(crs: str) -> dict[str, Any]:
    return {"spatial_ref": CRS.from_user_input(crs).to_wkt()}


def _parameters(crs: str) -> dict[str, Any]:
    return {key: value for key, value in pyproj.CRS(crs).to_cf().items() if key != "crs_wkt"}


def _extended(arr: xr.DataArray, crs: str) -> xr.DataArray:
    arr = _named("attrs", _wkt, "here")(arr, crs)
    y, x = arr.dims[-2:]
    arr.attrs["grid_mapping"] = f"here: {y} {x} there: lat2 lon2"
    return arr.assign_coords(there=xr.Variable((), 0, _wkt("EPSG:27700")))


def _unnamed(arr: xr.DataArray, crs: str) -> xr.DataArray:
    arr = _named("attrs", _wkt, "anything")(arr, crs)
    del arr.attrs["grid_mapping"]
    return arr


def _attribute(value: Callable[[str], Any], key: str = "crs") -> Callable[..., Any]:
    return lambda arr, crs: arr.assign_attrs({key: value(crs)})


def _of_coordinates(arr: xr.DataArray, crs: str) -> xr.DataArray:
    arr = arr.copy()
    for dim in arr.dims[-2:]:
        if dim in arr.coords:
            arr.coords[dim].attrs["crs"] = crs
    return arr if any(dim in arr.coords for dim in arr.dims[-2:]) else arr.assign_attrs(crs=crs)


def _satpy(arr: xr.DataArray, crs: str) -> xr.DataArray:
    return arr.assign_coords(crs=pyproj.CRS(crs))


def _xproj(arr: xr.DataArray, crs: str) -> xr.DataArray:
    import xproj  # noqa: F401

    return arr.proj.assign_crs(somewhere=crs)


PLACES: dict[str, Callable[[xr.DataArray, str], xr.DataArray]] = {
    "grid mapping in encoding": _named("encoding", _wkt, "spatial_ref"),
    "grid mapping in encoding, by another name": _named("encoding", _gdal, "utm"),
    "grid mapping in attributes": _named("attrs", _wkt, "crs"),
    "grid mapping by parameters": _named("attrs", _parameters, "projection"),
    "grid mapping of some coordinates": _extended,
    "grid mapping without a name": _unnamed,
    "attribute of text": _attribute(str),
    "attribute of text in WKT": _attribute(lambda crs: pyproj.CRS(crs).to_wkt()),
    "attribute crs_wkt": _attribute(lambda crs: CRS.from_user_input(crs).to_wkt(), "crs_wkt"),
    "attribute of pyproj": _attribute(pyproj.CRS),
    "attribute of rasterio": _attribute(CRS.from_user_input),
    "attributes of the coordinates": _of_coordinates,
    "coordinate of satpy": _satpy,
    **({"index of xproj": _xproj} if find_spec("xproj") else {}),
}


def _placed(draw: st.DrawFn, arr: Any, crs: str) -> tuple[Any, str]:
    """The array with its CRS in another place; an index of rasterix has it inside."""
    has_index = any(hasattr(index, "xy_dims") for index in arr.xindexes.values())
    places = [place for place in PLACES if crs in CF_CRSES or place != "grid mapping by parameters"]
    place = "as made" if has_index else draw(st.sampled_from(["as made", *places]))
    return (arr if place == "as made" else PLACES[place](without_crs(arr), crs)), place


# Dimensions and Datasets


@st.composite
def _dressed(draw: st.DrawFn, drawn: Drawn) -> Drawn:
    arr, made = drawn.arr, dict(drawn.made)
    names = draw(st.sampled_from(NAMES))
    y, x = arr.dims[-2:]
    is_free = made["source"] in ("plain", "odc", "stackstac")
    if (
        is_free
        and made["crs"][1] != "grid mapping of some coordinates"
        and set(names).isdisjoint(arr.coords)
    ):
        arr = arr.rename({y: names[0], x: names[1]})
        y, x = names
    other = draw(st.sampled_from([None, None, "band", "time"]))
    bands = 1
    if other is not None:
        bands = draw(st.integers(1, 3)) if other == "band" else 1
        # a band of its own comes from rioxarray at times
        arr = arr.drop_vars(other, errors="ignore").expand_dims({other: bands})
        arr = arr.transpose(*draw(st.permutations(arr.dims)))
    elif draw(st.integers(0, 3)) == 0:
        arr = arr.transpose(x, y)
    made["dims"] = dict(arr.sizes)
    if bands == 1 and draw(st.booleans()):
        arr, made["dataset"] = draw(_datasets(arr)), True
    return replace(drawn, arr=arr, made=made)


@st.composite
def _datasets(draw: st.DrawFn, arr: xr.DataArray) -> xr.Dataset:
    """A Dataset of one or two variables; grid mappings are variables at times, as xarray opens them."""
    encoding = dict(arr.encoding)
    dataset = xr.Dataset({name: arr for name in "ab"[: draw(st.integers(1, 2))]})
    for variable in dataset.data_vars.values():
        variable.encoding.update(encoding)
    mapping = encoding.get("grid_mapping", arr.attrs.get("grid_mapping", "")).split(":")[0]
    if mapping in dataset.coords and mapping not in dataset.xindexes and draw(st.booleans()):
        dataset = dataset.reset_coords(mapping)
        for name in dataset.data_vars:
            if name != mapping:
                dataset[name].encoding.update(encoding)
    elif "crs" in arr.attrs and draw(st.booleans()):
        dataset.attrs["crs"] = arr.attrs["crs"]
        for variable in dataset.data_vars.values():
            variable.attrs.pop("crs")
    return dataset
