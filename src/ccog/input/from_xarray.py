"""xarray DataArrays and Datasets as arrays and metadata, read as rioxarray and CF users store them.

* CRS, transform and ground control points: see :mod:`ccog.input.georeferencing`.
* Values that were decoded (``mask_and_scale``) are stored as ``encoding`` says, which also gives
  nodata, scales and offsets: see :mod:`ccog.input.encoding`.
* Nodata of other values comes from rioxarray's accessor, else from ``_FillValue``.
* Descriptions: ``long_name`` where it is a list, else a band coordinate of text, else
  ``long_name``; of a Dataset the names of its variables.
* ``units``, ``scale_factor`` (or ``scales``) and ``add_offset`` (or ``offsets``) of the attributes,
  one for all bands or one each.
* Other attributes that are text, numbers or booleans become tags of the dataset (of a Dataset's
  variables: of their bands).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ccog.errors import DtypeError, RasterError
from ccog.input.arrays import UserArray
from ccog.input.coordinates import dimension
from ccog.input.encoding import encoding_of
from ccog.input.georeferencing import aligned, georeferenced, has_rioxarray
from ccog.input.metadata import Metadata, per_band, python_number

# attributes that hold the nodata value, the first that is there, as rioxarray takes them
_NODATA_NAMES = ("_FillValue", "missing_value", "fill_value", "nodata")

# attributes that say how values are stored or where they lie, or that have a field of their own
_NOT_TAGS = frozenset({
    "AREA_OR_POINT", *_NODATA_NAMES, "scale_factor", "scales", "add_offset", "offsets",
    "long_name", "units", "grid_mapping", "coordinates", "crs", "crs_wkt", "spatial_ref",
    "transform", "GeoTransform", "res", "is_tiled", "nodatavals", "band_names", "spec",
})  # fmt: skip

# names of dimensions whose entries are times, and not bands
_TIMES = ("time", "t", "date", "datetime", "valid_time")

_TAG_TYPES = str | bool | int | float | np.number | np.bool_


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


def mask_of(mask: Any, arr: Any) -> Any:
    """The array inside a mask, laid on ``arr`` by coordinates where both have them."""
    if hasattr(arr, "data_vars"):
        arr = next(iter(_variables(arr).values()), None)
    return array_inside(aligned(mask, arr if is_xarray(arr) else None))


def arrays_and_metadata(arr: Any, replaced: Collection[str]) -> tuple[list[UserArray], Metadata]:
    """The arrays whose bands are those of the raster, and its metadata.

    ``replaced`` are the options (upper case) that the user gives instead: with one nodata value
    for all, variables of a Dataset may differ in theirs.
    """
    if hasattr(arr, "data_vars"):
        return _from_dataset(arr, replaced)
    array, metadata = _from_array(arr, "the array")
    return [array], georeferenced(metadata, {"the array": arr}, None, replaced)


# Datasets


def _from_dataset(dataset: Any, replaced: Collection[str]) -> tuple[list[UserArray], Metadata]:
    variables = _variables(dataset)
    if not variables:
        raise RasterError(
            "the Dataset has no variable of two dimensions; there is nothing to write"
        )
    bands = {name: _one_band(v, f"the variable {name}") for name, v in variables.items()}
    dtypes = {name: band.array.dtype.name for name, band in bands.items()}
    if len(set(dtypes.values())) > 1:
        raise DtypeError(
            f"the variables are stored as {_listed(dtypes)}; bands of one file share one dtype: "
            "ds.astype(...) first"
        )
    nodata = {name: band.metadata.nodata for name, band in bands.items()}
    if "NODATA" not in replaced and len(set(map(repr, nodata.values()))) > 1:
        raise RasterError(
            f"the variables have nodata values {_listed(nodata)}; bands share one: give nodata="
        )
    arrays = [band.array for band in bands.values()]
    metadata = _together({name: band.metadata for name, band in bands.items()}, dataset.attrs)
    named = {f"the variable {name}": v for name, v in variables.items()}
    return arrays, georeferenced(metadata, named, dataset, replaced)


def _variables(dataset: Any) -> dict[str, Any]:
    """The variables that are bands: not the edges of pixels, nor grid mappings."""
    edges = [coordinate.attrs.get("bounds") for coordinate in dataset.coords.values()]
    return {
        str(name): variable
        for name, variable in dataset.data_vars.items()
        if variable.ndim >= 2 and name not in edges
    }


def _one_band(variable: Any, name: str) -> _Described:
    """A variable that is (y, x), but for dimensions of one entry."""
    _check_time(variable, name)
    sides = dimension(variable, "y"), dimension(variable, "x")
    alone = [dim for dim in variable.dims if variable.sizes[dim] == 1 and dim not in sides]
    flat = variable.squeeze(alone, drop=True)
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
        axes = tuple(map(variable.dims.index, dims))
        array = array._replace(array=array_inside(variable), axes=axes)
    return _Described(array, metadata)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _together(bands: Mapping[str, Metadata], attrs: Mapping[Any, Any]) -> Metadata:
    """One metadata for bands that were variables."""
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
    _check_time(arr, name)
    y, x = dimension(arr, "y"), dimension(arr, "x")
    others = [dim for dim in arr.dims if dim not in (y, x)]
    if len(others) > 1:
        raise RasterError(
            f"the array has dimensions {arr.dims}; write one raster at a time: "
            f"(y, x) or (band, y, x), e.g. arr.isel({others[0]}=0)"
        )
    axes = tuple(map(arr.dims.index, (*others, y, x)))
    encoding = encoding_of(arr, arr.sizes[others[0]] if others else 1)
    nodata = _nodata(arr) if encoding.nodata is None else encoding.nodata
    metadata = _with_attributes(Metadata(nodata=nodata), arr, others)
    metadata = replace(
        metadata,
        scales=encoding.scales or metadata.scales,
        offsets=encoding.offsets or metadata.offsets,
        stored_type=encoding.stored_type,
    )
    array = UserArray(array_inside(arr), axes, name, encoding if encoding.changes_values else None)
    return _Described(array, metadata)


def _check_time(arr: Any, name: str) -> None:
    """Refuse times as bands: who writes them wants files, or one of them."""
    for dim in arr.dims:
        if arr.sizes[dim] > 1 and _is_time(arr, dim):
            raise RasterError(
                f"{name} has dimensions {arr.dims}, of which {dim} has {arr.sizes[dim]} steps; "
                f"write one raster at a time: a step, e.g. arr.isel({dim}=0), "
                f"or one file a step, for i, step in enumerate(arr.{dim}): "
                f"arr.sel({dim}=step).ccog.write(f'{{i}}.tif'), "
                f"or make the steps bands, arr.rename({dim}='band')"
            )


def _is_time(arr: Any, dim: Any) -> bool:
    if str(dim).lower() in (*_TIMES, "band"):
        return str(dim).lower() in _TIMES
    return dim in arr.coords and arr.coords[dim].dtype.kind in "mM"


def _nodata(arr: Any) -> float | int | None:
    """Nodata of values that were not decoded."""
    if has_rioxarray():
        return python_number(arr.rio.nodata)
    values = (arr.attrs[name] for name in _NODATA_NAMES if name in arr.attrs)
    return python_number(next(values, None))


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
        descriptions = per_band("the attribute long_name", long_name, count, str)
    scales = attrs.get("scale_factor", attrs.get("scales"))
    offsets = attrs.get("add_offset", attrs.get("offsets"))
    return replace(
        metadata,
        tags={0: tags} if tags else {},
        descriptions=descriptions,
        units=per_band("the attribute units", attrs.get("units"), count, str),
        scales=per_band("the attribute scale_factor", scales, count, float),
        offsets=per_band("the attribute add_offset", offsets, count, float),
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
