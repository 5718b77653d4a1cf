"""xarray DataArrays and Datasets as pixels and metadata, read as rioxarray and CF users store them.

* CRS, transform, nodata and ground control points come from rioxarray's accessor, else from the coordinates
  and ``_FillValue``.
* Descriptions: ``long_name`` where it is a list, else a band coordinate of text, else ``long_name``; of a
  Dataset the names of its variables.
* ``units``, ``scale_factor`` (or ``scales``) and ``add_offset`` (or ``offsets``) of the attributes, one for all
  bands or one each; those of ``encoding`` are left, as the values are decoded.
* Other attributes that are text, numbers or booleans become tags of the dataset (of a Dataset's variables: of
  their bands).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from affine import Affine
from rasterio.crs import CRS

from ccog.errors import DtypeError, RasterError
from ccog.input.metadata import Metadata, python_number

_Y_NAMES = ("y", "latitude", "lat", "northing", "Y", "LATITUDE", "LAT")
_X_NAMES = ("x", "longitude", "lon", "easting", "X", "LONGITUDE", "LON")

# attributes that say how values are stored or where they lie, or that have a field of their own
_NOT_TAGS = frozenset({
    "AREA_OR_POINT", "_FillValue", "missing_value", "scale_factor", "scales", "add_offset", "offsets", "long_name",
    "units", "grid_mapping", "coordinates", "crs", "crs_wkt", "spatial_ref", "transform", "GeoTransform", "res",
    "is_tiled", "nodatavals", "band_names", "spec",
})  # fmt: skip


def is_xarray(arr: Any) -> bool:
    """Whether it is a DataArray or Dataset; xarray need not be installed to ask."""
    return hasattr(arr, "dims") and hasattr(arr, "coords") and hasattr(arr, "attrs")


class Source(NamedTuple):
    """An array as the user has it: the numbers of its axes of bands (if any), rows and columns; its name."""

    array: Any
    axes: tuple[int, ...]
    what: str


def sources_and_metadata(arr: Any, *, nodata_given: bool) -> tuple[list[Source], Metadata]:
    """The arrays whose bands are those of the raster, and what the DataArray or Dataset says of them.

    Variables of a Dataset may differ in nodata value where one is given for all.

    Raises
    ------
    RasterError
        Dimensions are not those of one raster, or per-band attributes do not fit the bands.
    DtypeError
        Variables of a Dataset differ in dtype.
    """
    if hasattr(arr, "data_vars"):
        return _from_dataset(arr, nodata_given=nodata_given)
    source, metadata = _from_array(arr, "the array")
    return [source], metadata


def plain(arr: Any) -> Any:
    """The dask or NumPy array inside."""
    return arr.data if isinstance(arr.data, da.Array | np.ndarray) else arr.to_numpy()


def _from_array(arr: Any, what: str) -> tuple[Source, Metadata]:
    y, x = _dimension(arr, _Y_NAMES, "y"), _dimension(arr, _X_NAMES, "x")
    others = [d for d in arr.dims if d not in (y, x)]
    if len(others) > 1:
        raise RasterError(
            f"the array has dimensions {arr.dims}; write one raster at a time: (y, x) or (band, y, x), "
            f"e.g. arr.isel({others[0]}=0)"
        )
    count = arr.sizes[others[0]] if others else 1
    names = _band_names(arr, others[0]) if others else None
    source = Source(plain(arr), tuple(map(arr.dims.index, (*others, y, x))), what)
    return source, _described(_georeferencing(arr, y, x), arr.attrs, count, names)


def mask_of(arr: Any) -> Any:
    """The array inside a mask, its axes in the order (y, x) where it names both."""
    known = [any(d in names for d in arr.dims) for names in (_Y_NAMES, _X_NAMES)]
    if not all(known):
        return plain(arr)
    return plain(arr.transpose(..., _dimension(arr, _Y_NAMES, "y"), _dimension(arr, _X_NAMES, "x")))


def _from_dataset(dataset: Any, *, nodata_given: bool) -> tuple[list[Source], Metadata]:
    variables = {str(name): found for name, found in dataset.data_vars.items() if found.ndim >= 2}
    if not variables:
        raise RasterError(
            "the Dataset has no variable of two dimensions; there is nothing to write"
        )
    found = {
        name: _one_band(variable, f"the variable {name}") for name, variable in variables.items()
    }
    dtypes = {name: source.array.dtype.name for name, (source, _) in found.items()}
    if len(set(dtypes.values())) > 1:
        raise DtypeError(
            f"the variables have dtypes {_listed(dtypes)}; bands of one file share one: ds.astype(...) first"
        )
    nodata = {name: metadata.nodata for name, (_, metadata) in found.items()}
    if not nodata_given and len({repr(value) for value in nodata.values()}) > 1:
        raise RasterError(
            f"the variables have nodata values {_listed(nodata)}; bands share one: give nodata="
        )
    metadata = _together({name: metadata for name, (_, metadata) in found.items()}, dataset.attrs)
    return [source for source, _ in found.values()], metadata


def _one_band(variable: Any, what: str) -> tuple[Source, Metadata]:
    """A variable that is (y, x), but for dimensions of one entry."""
    flat = variable.squeeze(drop=True)
    source, metadata = _from_array(flat, what)
    if source.array.ndim != 2:
        raise RasterError(
            f"{what} has dimensions of sizes {source.array.shape}; a variable is one band, (y, x): "
            "write one raster at a time, e.g. ds.isel(time=0)"
        )
    if variable.ndim == 3:
        # as it is: what is squeezed can no longer be compared with what it declares
        band = next(d for d in variable.dims if d not in flat.dims)
        y, x = (flat.dims[axis] for axis in source.axes)
        source = Source(plain(variable), tuple(map(variable.dims.index, (band, y, x))), what)
    return source, metadata


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _together(bands: Mapping[str, Metadata], attrs: Mapping[Any, Any]) -> Metadata:
    """Metadata of bands that were variables: georeferencing of the first, and what each says of itself."""
    first = next(iter(bands.values()))
    tags = {0: _tags(attrs)} | {
        n: found.tags.get(0, {}) for n, found in enumerate(bands.values(), 1)
    }
    return replace(
        first,
        tags={key: value for key, value in tags.items() if value},
        descriptions=tuple(bands),
        units=_gathered([found.units for found in bands.values()], ""),
        scales=_gathered([found.scales for found in bands.values()], 1.0),
        offsets=_gathered([found.offsets for found in bands.values()], 0.0),
    )


def _gathered(values: list[Any], default: Any) -> tuple[Any, ...] | None:
    return (
        None
        if all(v is None for v in values)
        else tuple(default if v is None else v[0] for v in values)
    )


def _described(
    metadata: Metadata, attrs: Mapping[Any, Any], count: int, names: tuple[str, ...] | None
) -> Metadata:
    long_name = attrs.get("long_name")
    listed = isinstance(long_name, list | tuple)
    tags = _tags(attrs)
    if attrs.get("AREA_OR_POINT") == "Point":
        tags["AREA_OR_POINT"] = "Point"
    return replace(
        metadata,
        tags={0: tags} if tags else {},
        descriptions=names
        if names is not None and not listed
        else _per_band("long_name", long_name, count, str),
        units=_per_band("units", attrs.get("units"), count, str),
        scales=_per_band(
            "scale_factor", attrs.get("scale_factor", attrs.get("scales")), count, float
        ),
        offsets=_per_band(
            "add_offset", attrs.get("add_offset", attrs.get("offsets")), count, float
        ),
    )


def _band_names(arr: Any, band: Any) -> tuple[str, ...] | None:
    values = np.asarray(arr.coords[band].values) if band in arr.coords else np.empty(0)
    return (
        tuple(map(str, values))
        if values.dtype.kind in "UTO" and len(values) == arr.sizes[band]
        else None
    )


def _per_band(name: str, value: Any, count: int, kind: type) -> tuple[Any, ...] | None:
    """One value for all bands, or one each; None where there is none."""
    if value is None:
        return None
    values = list(np.asarray(value).reshape(-1).tolist()) if not isinstance(value, str) else [value]
    values = values * count if len(values) == 1 else values
    if len(values) != count:
        raise RasterError(
            f"the attribute {name} has {len(values)} entries for {count} bands: {value!r}"
        )
    try:
        return tuple(kind(v) for v in values)
    except (TypeError, ValueError):
        raise RasterError(
            f"the attribute {name}={value!r} is not made of {kind.__name__}"
        ) from None


def _tags(attrs: Mapping[Any, Any]) -> dict[str, str]:
    kinds = str | bool | int | float | np.number | np.bool_
    return {
        str(k): str(v) for k, v in attrs.items() if str(k) not in _NOT_TAGS and isinstance(v, kinds)
    }


def _dimension(arr: Any, names: Sequence[str], what: str) -> Any:
    found = [d for d in arr.dims if d in names]
    rio = getattr(arr, "rio", None)
    chosen = getattr(rio, f"_{what}_dim", None)
    if chosen in arr.dims:
        return chosen
    if len(found) != 1:
        raise RasterError(
            f"cannot tell which of the dimensions {arr.dims} is {what}; name it one of {', '.join(names)}"
        )
    return found[0]


def _georeferencing(arr: Any, y: Any, x: Any) -> Metadata:
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return Metadata(transform=_from_coordinates(arr, y, x), nodata=_fill_value(arr))
    arr = arr.rio.set_spatial_dims(x_dim=x, y_dim=y)
    crs, gcps = arr.rio.crs, arr.rio.get_gcps()
    return Metadata(
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=None if gcps else _rio_transform(arr, y, x),
        nodata=python_number(arr.rio.nodata),
        gcps=tuple(gcps) if gcps else None,
    )


def _fill_value(arr: Any) -> float | int | None:
    if "_FillValue" in arr.encoding and arr.dtype.kind == "f":
        return math.nan  # decoding has put NaN where the fill value was
    return python_number(arr.attrs.get("_FillValue", arr.attrs.get("missing_value")))


def _rio_transform(arr: Any, y: Any, x: Any) -> Affine | None:
    """The stored GeoTransform where the coordinates agree with it (they carry rounding), else the coordinates'."""
    stored = arr.rio._cached_transform()
    computed = _from_coordinates(arr, y, x)
    if stored is None or stored == Affine.identity():
        return computed if computed is not None else stored
    if computed is None or not stored.is_rectilinear:
        return stored
    pixel = max(abs(stored.a), abs(stored.e))
    agrees = all(
        math.isclose(p, q, abs_tol=1e-3 * pixel)
        for p, q in zip(stored[:6], computed[:6], strict=True)
    )
    return stored if agrees else computed


def _from_coordinates(arr: Any, y: Any, x: Any) -> Affine | None:
    if y not in arr.coords or x not in arr.coords or min(arr.sizes[y], arr.sizes[x]) < 2:
        return None
    ys, xs = np.asarray(arr[y].values, float), np.asarray(arr[x].values, float)
    dy, dx = (ys[-1] - ys[0]) / (len(ys) - 1), (xs[-1] - xs[0]) / (len(xs) - 1)
    centres = Affine(dx, 0, xs[0] - dx / 2, 0, dy, ys[0] - dy / 2)
    return (
        Affine(dx, 0, xs[0], 0, dy, ys[0])
        if _are_corners(centres, arr.attrs.get("transform"))
        else centres
    )


def _are_corners(centres: Affine, stored: Any) -> bool:
    """Whether coordinates are of pixels' corners, as stackstac's are: half a pixel off the transform beside them."""
    if not isinstance(stored, Affine) or not all(
        math.isclose(p, q, rel_tol=1e-6) for p, q in ((centres.a, stored.a), (centres.e, stored.e))
    ):
        return False
    offsets = (stored.c - centres.c) / stored.a, (stored.f - centres.f) / stored.e
    return all(abs(offset % 1 - 0.5) < 1e-3 for offset in offsets)
