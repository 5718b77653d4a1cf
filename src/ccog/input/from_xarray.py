"""xarray DataArrays and Datasets as arrays and metadata, read as rioxarray and CF users store them.

* CRS, transform, nodata and ground control points come from rioxarray's accessor, else from the
  coordinates and ``_FillValue``.
* Descriptions: ``long_name`` where it is a list, else a band coordinate of text, else
  ``long_name``; of a Dataset the names of its variables.
* ``units``, ``scale_factor`` (or ``scales``) and ``add_offset`` (or ``offsets``) of the attributes,
  one for all bands or one each. Those of ``encoding`` are left out, as the values are decoded.
* Other attributes that are text, numbers or booleans become tags of the dataset (of a Dataset's
  variables: of their bands).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
from affine import Affine
from rasterio.crs import CRS

from ccog.errors import DtypeError, RasterError
from ccog.input.arrays import UserArray
from ccog.input.metadata import Metadata, python_number
from ccog.input.rioxarray_edges import chosen_dimension, stored_transform

_NAMES = {
    "y": ("y", "latitude", "lat", "northing", "Y", "LATITUDE", "LAT"),
    "x": ("x", "longitude", "lon", "easting", "X", "LONGITUDE", "LON"),
}

# attributes that say how values are stored or where they lie, or that have a field of their own
_NOT_TAGS = frozenset({
    "AREA_OR_POINT", "_FillValue", "missing_value", "scale_factor", "scales", "add_offset",
    "offsets", "long_name", "units", "grid_mapping", "coordinates", "crs", "crs_wkt", "spatial_ref",
    "transform", "GeoTransform", "res", "is_tiled", "nodatavals", "band_names", "spec",
})  # fmt: skip

_TAG_TYPES = str | bool | int | float | np.number | np.bool_

# part of a pixel by which a stored transform and coordinates may differ, which carry rounding
_ROUNDING = 1e-3


class _Described(NamedTuple):
    """An array and its metadata."""

    array: UserArray
    metadata: Metadata


def is_xarray(arr: Any) -> bool:
    """Whether it is a DataArray or Dataset; xarray need not be installed to ask."""
    return hasattr(arr, "dims") and hasattr(arr, "coords") and hasattr(arr, "attrs")


def array_inside(arr: Any) -> Any:
    """The dask or NumPy array inside."""
    return arr.data if isinstance(arr.data, da.Array | np.ndarray) else arr.to_numpy()


def mask_of(arr: Any) -> Any:
    """The array inside a mask, its axes in the order (y, x) where it names both."""
    for names in _NAMES.values():
        if not any(dim in names for dim in arr.dims):
            return array_inside(arr)
    return array_inside(arr.transpose(..., _dimension(arr, "y"), _dimension(arr, "x")))


def arrays_and_metadata(arr: Any, *, nodata_given: bool) -> tuple[list[UserArray], Metadata]:
    """The arrays whose bands are those of the raster, and its metadata.

    Variables of a Dataset may differ in their nodata values if ``nodata_given`` says that the user
    gives one for all.

    Raises
    ------
    RasterError
        Dimensions are not those of one raster, or per-band attributes do not fit the bands.
    DtypeError
        Variables of a Dataset differ in dtype.
    """
    if hasattr(arr, "data_vars"):
        return _from_dataset(arr, nodata_given=nodata_given)
    array, metadata = _from_array(arr, "the array")
    return [array], metadata


# Datasets


def _from_dataset(dataset: Any, *, nodata_given: bool) -> tuple[list[UserArray], Metadata]:
    bands = {
        str(name): _one_band(variable, f"the variable {name}")
        for name, variable in dataset.data_vars.items()
        if variable.ndim >= 2
    }
    if not bands:
        raise RasterError(
            "the Dataset has no variable of two dimensions; there is nothing to write"
        )
    dtypes = {name: band.array.array.dtype.name for name, band in bands.items()}
    if len(set(dtypes.values())) > 1:
        raise DtypeError(
            f"the variables have dtypes {_listed(dtypes)}; bands of one file share one: "
            "ds.astype(...) first"
        )
    nodata = {name: band.metadata.nodata for name, band in bands.items()}
    if not nodata_given and len(set(map(repr, nodata.values()))) > 1:
        raise RasterError(
            f"the variables have nodata values {_listed(nodata)}; bands share one: give nodata="
        )
    arrays = [band.array for band in bands.values()]
    metadata = {name: band.metadata for name, band in bands.items()}
    return arrays, _together(metadata, dataset.attrs)


def _one_band(variable: Any, name: str) -> _Described:
    """A variable that is (y, x), but for dimensions of one entry."""
    flat = variable.squeeze(drop=True)
    array, metadata = _from_array(flat, name)
    if array.array.ndim != 2:
        raise RasterError(
            f"{name} has dimensions of sizes {array.array.shape}; "
            "a variable is one band, (y, x): "
            "write one raster at a time, e.g. ds.isel(time=0)"
        )
    if variable.ndim == 3:
        # unsqueezed: a squeezed chunk cannot be compared with the declared one
        band = next(dim for dim in variable.dims if dim not in flat.dims)
        dims = (band, *(flat.dims[axis] for axis in array.axes))
        array = UserArray(array_inside(variable), tuple(map(variable.dims.index, dims)), name)
    return _Described(array, metadata)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _together(bands: Mapping[str, Metadata], attrs: Mapping[Any, Any]) -> Metadata:
    """One metadata for bands that were variables: georeferencing is that of the first."""
    each = list(bands.values())
    tags = {0: _tags(attrs)}
    for band, metadata in enumerate(each, 1):
        tags[band] = dict(metadata.tags.get(0, {}))
    return replace(
        each[0],
        tags={band: of_band for band, of_band in tags.items() if of_band},
        descriptions=tuple(bands),
        units=_gathered([metadata.units for metadata in each], ""),
        scales=_gathered([metadata.scales for metadata in each], 1.0),
        offsets=_gathered([metadata.offsets for metadata in each], 0.0),
    )


def _gathered(values: list[Any], default: Any) -> tuple[Any, ...] | None:
    """The first entry of each value, with ``default`` for None; None where all are None."""
    if all(value is None for value in values):
        return None
    return tuple((value or (default,))[0] for value in values)


# DataArrays


def _from_array(arr: Any, name: str) -> _Described:
    y, x = _dimension(arr, "y"), _dimension(arr, "x")
    others = [dim for dim in arr.dims if dim not in (y, x)]
    if len(others) > 1:
        raise RasterError(
            f"the array has dimensions {arr.dims}; write one raster at a time: "
            f"(y, x) or (band, y, x), e.g. arr.isel({others[0]}=0)"
        )
    axes = tuple(map(arr.dims.index, (*others, y, x)))
    metadata = _with_attributes(_georeferencing(arr, y, x), arr, others)
    return _Described(UserArray(array_inside(arr), axes, name), metadata)


def _dimension(arr: Any, axis: Literal["y", "x"]) -> Any:
    chosen = chosen_dimension(arr, axis)
    if chosen in arr.dims:
        return chosen
    names: Sequence[str] = _NAMES[axis]
    dims = [dim for dim in arr.dims if dim in names]
    if len(dims) != 1:
        raise RasterError(
            f"cannot tell which of the dimensions {arr.dims} is {axis}; "
            f"name it one of {', '.join(names)}"
        )
    return dims[0]


def _with_attributes(metadata: Metadata, arr: Any, band_dims: list[Any]) -> Metadata:
    attrs = arr.attrs
    count = arr.sizes[band_dims[0]] if band_dims else 1
    tags = _tags(attrs)
    if attrs.get("AREA_OR_POINT") == "Point":
        tags["AREA_OR_POINT"] = "Point"
    long_name = attrs.get("long_name")
    descriptions = None
    if band_dims and not isinstance(long_name, list | tuple):
        descriptions = _band_names(arr, band_dims[0])
    if descriptions is None:
        descriptions = _per_band("long_name", long_name, count, str)
    scales = attrs.get("scale_factor", attrs.get("scales"))
    offsets = attrs.get("add_offset", attrs.get("offsets"))
    return replace(
        metadata,
        tags={0: tags} if tags else {},
        descriptions=descriptions,
        units=_per_band("units", attrs.get("units"), count, str),
        scales=_per_band("scale_factor", scales, count, float),
        offsets=_per_band("add_offset", offsets, count, float),
    )


def _tags(attrs: Mapping[Any, Any]) -> dict[str, str]:
    return {
        str(key): str(value)
        for key, value in attrs.items()
        if str(key) not in _NOT_TAGS and isinstance(value, _TAG_TYPES)
    }


def _band_names(arr: Any, band: Any) -> tuple[str, ...] | None:
    if band not in arr.coords:
        return None
    values = np.asarray(arr.coords[band].values)
    if values.dtype.kind not in "UTO" or len(values) != arr.sizes[band]:
        return None
    return tuple(map(str, values))


def _per_band(name: str, value: Any, count: int, kind: type) -> tuple[Any, ...] | None:
    """One value for all bands, or one each; None where there is none."""
    if value is None:
        return None
    values = [value] if isinstance(value, str) else np.asarray(value).reshape(-1).tolist()
    values = values * count if len(values) == 1 else values
    if len(values) != count:
        raise RasterError(
            f"the attribute {name} has {len(values)} entries for {count} bands: {value!r}"
        )
    try:
        return tuple(kind(entry) for entry in values)
    except (TypeError, ValueError):
        raise RasterError(
            f"the attribute {name}={value!r} is not made of {kind.__name__}"
        ) from None


# Georeferencing


def _georeferencing(arr: Any, y: Any, x: Any) -> Metadata:
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return Metadata(transform=_from_coordinates(arr, y, x), nodata=_fill_value(arr))
    arr = arr.rio.set_spatial_dims(x_dim=x, y_dim=y)
    crs, gcps = arr.rio.crs, arr.rio.get_gcps()
    return Metadata(
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=None if gcps else _transform(arr, y, x),
        nodata=python_number(arr.rio.nodata),
        gcps=tuple(gcps) if gcps else None,
    )


def _fill_value(arr: Any) -> float | int | None:
    if "_FillValue" in arr.encoding and arr.dtype.kind == "f":
        return math.nan  # decoding has put NaN where the fill value was
    return python_number(arr.attrs.get("_FillValue", arr.attrs.get("missing_value")))


def _transform(arr: Any, y: Any, x: Any) -> Affine | None:
    """The stored GeoTransform where the coordinates agree with it, else the coordinates'."""
    stored = stored_transform(arr)
    computed = _from_coordinates(arr, y, x)
    if stored is None or stored == Affine.identity():
        return stored if computed is None else computed
    if computed is None or not stored.is_rectilinear:
        return stored
    tolerance = _ROUNDING * max(abs(stored.a), abs(stored.e))
    coefficients = zip(stored[:6], computed[:6], strict=True)
    agree = all(math.isclose(p, q, abs_tol=tolerance) for p, q in coefficients)
    return stored if agree else computed


def _from_coordinates(arr: Any, y: Any, x: Any) -> Affine | None:
    if y not in arr.coords or x not in arr.coords or min(arr.sizes[y], arr.sizes[x]) < 2:
        return None
    ys, xs = np.asarray(arr[y].values, float), np.asarray(arr[x].values, float)
    dy, dx = (ys[-1] - ys[0]) / (len(ys) - 1), (xs[-1] - xs[0]) / (len(xs) - 1)
    of_centres = Affine(dx, 0, xs[0] - dx / 2, 0, dy, ys[0] - dy / 2)
    if _are_corners(of_centres, arr.attrs.get("transform")):
        return Affine(dx, 0, xs[0], 0, dy, ys[0])
    return of_centres


def _are_corners(of_centres: Affine, stored: Any) -> bool:
    """Whether coordinates are of pixels' corners, as stackstac's are.

    The transform that they give as centres is then half a pixel off the one stored beside them.
    """
    if not isinstance(stored, Affine):
        return False
    sides = (of_centres.a, stored.a), (of_centres.e, stored.e)
    if not all(math.isclose(p, q, rel_tol=1e-6) for p, q in sides):
        return False
    right = (stored.c - of_centres.c) / stored.a
    down = (stored.f - of_centres.f) / stored.e
    return all(abs(offset % 1 - 0.5) < _ROUNDING for offset in (right, down))
