"""xarray DataArrays and Datasets as arrays and metadata, read as rioxarray and CF users store them.

* CRS, transform and ground control points: see :mod:`ccog.input.georeferencing`.
* Values that were decoded (``mask_and_scale``) are stored as ``encoding`` says, which also gives
  nodata, scales and offsets: see :mod:`ccog.input.encoding`.
* Nodata of other values comes from ``rio.set_nodata``, else from ``_FillValue`` and the like.
* Descriptions: ``long_name`` where it is a list, else a band coordinate of text, else
  ``long_name``, else the name of the array; of a Dataset those of its variables.
* ``units``, ``scales`` (or ``scale_factor``) and ``offsets`` (or ``add_offset``) of the attributes,
  one for all bands or one each.
* Other attributes become text, and tags of the dataset (of a Dataset's variables: of their bands).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import is_dask_collection

from ccog.errors import ArgumentTypeError, DtypeError, RasterError, warn_user
from ccog.input.arrays import UserArray
from ccog.input.chunk_checks import type_name
from ccog.input.coordinates import dimension
from ccog.input.encoding import Encoding, encoding_of, read_nodata, rounded
from ccog.input.georeferencing import aligned, georeferenced
from ccog.input.metadata import (
    ARGUMENTS_OF_RASTERIO,
    Metadata,
    TagKey,
    misfit,
    per_band,
    same_value,
)
from ccog.input.rioxarray_edges import chosen_nodata
from ccog.input.xarray_edges import is_read_lazily

# attributes that hold the nodata value, the first that is there, as rioxarray takes them
_NODATA_NAMES = ("_FillValue", "missing_value", "fill_value", "nodata")

# attributes that say how values are stored or where they lie, or that have a field of their own
_NOT_TAGS = frozenset({
    "AREA_OR_POINT", *_NODATA_NAMES, "scale_factor", "scales", "add_offset", "offsets",
    "grid_mapping", "crs", "crs_wkt", "spatial_ref", "transform", "GeoTransform", "res",
    "is_tiled", "nodatavals", "band_tags", "spec",
})  # fmt: skip

# how names of dask's arrays end
_DASK_NAME = re.compile("-[0-9a-f]{32}$")

# names of dimensions whose entries are times, and not bands
_TIMES = ("time", "t", "date", "datetime", "valid_time")


def is_xarray(arr: Any) -> bool:
    """Whether it is a DataArray or Dataset; xarray need not be installed to ask."""
    return hasattr(arr, "dims") and hasattr(arr, "coords") and hasattr(arr, "attrs")


def array_inside(arr: Any) -> Any:
    """The dask or NumPy array inside; the DataArray itself where xarray has not read it yet."""
    if is_read_lazily(arr):
        return arr
    data = arr.data
    # Quantities of pint, whose ``to_numpy`` computes
    data = getattr(data, "magnitude", data)
    if isinstance(data, da.Array | np.ndarray):
        return data
    if not is_dask_collection(data):
        try:
            return arr.to_numpy()
        except (RuntimeError, TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"the array holds {type_name(arr.data)}, which does not become a NumPy array: "
                f"{error}; convert it first, e.g. arr.copy(data=arr.data.todense())"
            ) from error
    whole = dask.delayed(np.asarray)(data)
    return da.from_delayed(whole, arr.shape, arr.dtype)


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
    array, metadata = _from_array(arr, "the array", replaced)
    _warn_of_lost(replaced, arr.attrs)
    return [array], georeferenced(metadata, {"the array": arr}, None, replaced)


# Datasets


def _from_dataset(dataset: Any, replaced: Collection[str]) -> tuple[list[UserArray], Metadata]:
    variables = _variables(dataset)
    if not variables:
        raise RasterError(
            "the Dataset has no variable of two dimensions; there is nothing to write"
        )
    named = {f"the variable {name}": variable for name, variable in variables.items()}
    bands = [_one_band(variable, name, replaced) for name, variable in named.items()]
    arrays = [array for array, _ in bands]
    by_name = dict(zip(variables, (metadata for _, metadata in bands), strict=True))
    dtypes = dict(zip(variables, (array.dtype.name for array in arrays), strict=True))
    if len(set(dtypes.values())) > 1:
        raise DtypeError(
            f"the variables are stored as {_listed(dtypes)}; bands of one file share one dtype: "
            "ds.astype(...) first"
        )
    nodata = {name: metadata.nodata for name, metadata in by_name.items()}
    first_nodata = next(iter(nodata.values()))
    if not all(same_value(value, first_nodata) for value in nodata.values()):
        raise RasterError(
            f"the variables have nodata values {_listed(nodata)}; bands share one: give nodata="
        )
    _warn_of_lost(replaced, dataset.attrs, *(variable.attrs for variable in variables.values()))
    metadata = _together(by_name, dataset.attrs)
    return arrays, georeferenced(metadata, named, dataset, replaced)


def _variables(dataset: Any) -> dict[str, Any]:
    """The variables that are bands: not the edges of pixels, nor grid mappings."""
    edges = [coordinate.attrs.get("bounds") for coordinate in dataset.coords.values()]
    return {
        str(name): variable
        for name, variable in dataset.data_vars.items()
        if variable.ndim >= 2 and name not in edges
    }


def _one_band(variable: Any, name: str, replaced: Collection[str]) -> tuple[UserArray, Metadata]:
    """A variable that is (y, x), but for dimensions of one entry."""
    _check_time(variable, name)
    sides = dimension(variable, "y"), dimension(variable, "x")
    alone = [dim for dim in variable.dims if variable.sizes[dim] == 1 and dim not in sides]
    flat = variable.squeeze(alone, drop=True)
    array, metadata = _from_array(flat, name, replaced)
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
    return array, metadata


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _together(bands: Mapping[str, Metadata], attrs: Mapping[Any, Any]) -> Metadata:
    """One metadata for bands that were variables."""
    each = list(bands.values())
    tags = {0: _tags(attrs, "long_name")}
    tags |= {n: dict(metadata.tags.get(0, {})) for n, metadata in enumerate(each, 1)}
    of_bands = [of_band.pop("AREA_OR_POINT", None) for of_band in tags.values()]
    if "Point" in (attrs.get("AREA_OR_POINT"), *of_bands):
        tags[0]["AREA_OR_POINT"] = "Point"
    names = [metadata.descriptions for metadata in each]
    return replace(
        each[0],
        tags={band: of_band for band, of_band in tags.items() if of_band},
        descriptions=tuple((own or (name,))[0] for own, name in zip(names, bands, strict=True)),
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


def _from_array(arr: Any, name: str, replaced: Collection[str]) -> tuple[UserArray, Metadata]:
    _check_time(arr, name)
    y, x = dimension(arr, "y"), dimension(arr, "x")
    others = [dim for dim in arr.dims if dim not in (y, x)]
    if len(others) > 1:
        raise RasterError(
            f"the array has dimensions {arr.dims}; write one raster at a time: "
            f"(y, x) or (band, y, x), e.g. arr.isel({others[0]}=0)"
        )
    axes = tuple(map(arr.dims.index, (*others, y, x)))
    nodata_given = "NODATA" in replaced
    count = arr.sizes[others[0]] if others else 1
    encoding = encoding_of(arr, count, nodata_given=nodata_given)
    nodata = encoding.nodata
    if nodata is None and not nodata_given:
        nodata = _nodata(arr)
    array = UserArray(array_inside(arr), axes, name, encoding if encoding.changes_values else None)
    return array, _metadata(arr, others, encoding, nodata)


def _check_time(arr: Any, name: str) -> None:
    """Refuse times as bands: who writes them wants files, or one of them."""
    for dim in arr.dims:
        text = str(dim).lower()
        is_time = dim in arr.coords and arr.coords[dim].dtype.kind in "mM" and text != "band"
        if arr.sizes[dim] > 1 and (is_time or text in _TIMES):
            raise RasterError(
                f"{name} has dimensions {arr.dims}, of which {dim} has {arr.sizes[dim]} steps; "
                f"write one raster at a time: a step, e.g. arr.isel({dim}=0), "
                f"or one file a step, for i, step in enumerate(arr.{dim}): "
                f"arr.sel({dim}=step).ccog.write(f'{{i}}.tif'), "
                f"or make the steps bands, arr.rename({dim}='band')"
            )


def _nodata(arr: Any) -> float | int | None:
    """Nodata of values that were not decoded, which their type can hold."""
    where, value, remedy = "rio.set_nodata", chosen_nodata(arr), "arr.rio.set_nodata(None)"
    name = next((name for name in _NODATA_NAMES if arr.attrs.get(name) is not None), None)
    if value is None and name is not None:
        where, value, remedy = f"attrs[{name!r}]", arr.attrs[name], f"del arr.attrs[{name!r}]"
    elif value is None and len(np.atleast_1d(arr.attrs.get("nodatavals", ()))):
        where, remedy = "attrs['nodatavals']", "del arr.attrs['nodatavals']"
        value = np.atleast_1d(arr.attrs["nodatavals"])[0]
    nodata = read_nodata(where, value, remedy)
    if nodata is None:
        return None
    dtype = np.dtype(np.uint8) if arr.dtype.kind == "b" else arr.dtype
    allowed = misfit(nodata, dtype) if dtype.kind in "iufc" else None
    if allowed is not None:
        raise RasterError(
            f"{where} is {nodata}, and {dtype} pixels cannot be that but {allowed}: "
            f"give nodata=, or {remedy}"
        )
    return rounded(nodata, dtype)


def _metadata(
    arr: Any, band_dims: list[Any], encoding: Encoding, nodata: float | int | None
) -> Metadata:
    attrs = arr.attrs
    count = arr.sizes[band_dims[0]] if band_dims else 1
    scales = attrs.get("scales", attrs.get("scale_factor"))
    offsets = attrs.get("offsets", attrs.get("add_offset"))
    scales = per_band("the attribute scale_factor", scales, count, float)
    offsets = per_band("the attribute add_offset", offsets, count, float)
    return Metadata(
        nodata=nodata,
        tags=_tags_of_array(attrs, count),
        descriptions=_descriptions(arr, band_dims, count),
        units=per_band("the attribute units", attrs.get("units"), count, str),
        scales=encoding.scales or scales,
        offsets=encoding.offsets or offsets,
        stored_type=encoding.stored_type,
    )


def _descriptions(arr: Any, band_dims: list[Any], count: int) -> tuple[Any, ...] | None:
    """The names of bands; rioxarray knows all but those of the coordinate."""
    long_name = arr.attrs.get("long_name")
    is_list = isinstance(long_name, list | tuple)
    if band_dims and band_dims[0] in arr.coords and not is_list:
        values = np.asarray(arr.coords[band_dims[0]].values)
        if values.dtype.kind in "UTO" and len(values) == count:
            return tuple(map(str, values))
    if isinstance(long_name, str | None):
        # xarray takes the names of dask's arrays for those of its own
        is_own = isinstance(arr.name, str) and not _DASK_NAME.search(arr.name)
        long_name = long_name or (arr.name if is_own else None)
    return per_band("the attribute long_name", long_name or None, count, str)


def _tags_of_array(attrs: Mapping[Any, Any], count: int) -> dict[TagKey, dict[str, str]]:
    """Tags of the dataset, and those of its bands, which rioxarray takes from ``band_tags``."""
    others = () if isinstance(attrs.get("long_name"), str) else ("long_name",)
    tags: dict[TagKey, dict[str, str]] = {0: _tags(attrs, *others)}
    if attrs.get("AREA_OR_POINT") == "Point":
        tags[0]["AREA_OR_POINT"] = "Point"
    band_tags = attrs.get("band_tags")
    for band, of_band in enumerate(band_tags if isinstance(band_tags, list) else [], 1):
        if band <= count and isinstance(of_band, Mapping):
            tags[band] = _tags(of_band)
    return {band: items for band, items in tags.items() if items}


def _tags(attrs: Mapping[Any, Any], *others: str) -> dict[str, str]:
    """Attributes as text, as rasterio makes it of them; ``others`` are no tags either."""
    items = ((str(key), str(value)) for key, value in attrs.items())
    return {
        name: text
        for name, text in items
        if name not in (*_NOT_TAGS, *others) and _can_be_tag(name, text)
    }


def _warn_of_lost(replaced: Collection[str], *of_all: Mapping[Any, Any]) -> None:
    """Warn once of the attributes, of an array or of all variables, that cannot be tags."""
    items = itertools.chain(*(attrs.items() for attrs in of_all))
    lost = [key for key, value in items if not _can_be_tag(str(key), str(value))]
    if lost and "UPDATE_TAGS" not in replaced:
        warn_user(
            f"the attributes {', '.join(map(repr, dict.fromkeys(lost)))} are left out: GDAL has no "
            "tags of such names (empty, with '=' or ':', 'ns' and 'bidx') or such text (with NUL "
            "or surrogates); rename them to keep them"
        )


def _can_be_tag(name: str, text: str) -> bool:
    """Whether rasterio hands it to GDAL, and GDAL gives it back."""
    if not name or name in ARGUMENTS_OF_RASTERIO or any(mark in name for mark in "=:"):
        return False
    try:
        return b"\0" not in (name + text).encode()
    except UnicodeEncodeError:
        return False
