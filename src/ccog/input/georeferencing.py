"""Where a DataArray lies: CRS, transform and ground control points, checked against each other.

They come from rioxarray's accessor, else from the coordinates. What cannot be right is refused or
warned of: a file in the wrong place looks like any other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from ccog.errors import RasterError, warn_user
from ccog.input.metadata import Metadata, warn_of_gdal_order
from ccog.input.rioxarray_edges import chosen_dimension, stored_transform

_Axis = Literal["y", "x"]

NAMES: dict[_Axis, tuple[str, ...]] = {
    "y": ("y", "latitude", "lat", "northing", "Y", "LATITUDE", "LAT"),
    "x": ("x", "longitude", "lon", "easting", "X", "LONGITUDE", "LON"),
}

# how the CF conventions mark longitudes and latitudes
_DEGREES = {"y": ("latitude", "degrees_north"), "x": ("longitude", "degrees_east")}

# part of a pixel by which a stored transform and coordinates may differ, which carry rounding
_ROUNDING = 1e-3

# part of a pixel by which coordinates may be uneven: more is warned of, and much more refused
_UNEVEN, _IRREGULAR = 0.05, 0.25


def dimension(arr: Any, axis: _Axis) -> Any:
    """The name of the dimension of rows or columns."""
    chosen = chosen_dimension(arr, axis)
    if chosen in arr.dims:
        return chosen
    names: Sequence[str] = NAMES[axis]
    dims = [dim for dim in arr.dims if dim in names]
    if len(dims) != 1:
        raise RasterError(
            f"cannot tell which of the dimensions {arr.dims} is {axis}; "
            f"name it one of {', '.join(names)}"
        )
    return dims[0]


def georeferenced(metadata: Metadata, arr: Any, replaced: Collection[str]) -> Metadata:
    """The metadata with CRS, transform and ground control points of a DataArray.

    ``replaced`` are the options (upper case) that the user gives instead.
    """
    y, x = dimension(arr, "y"), dimension(arr, "x")
    crs, gcps, transform = None, None, None
    if has_rioxarray():
        arr = arr.rio.set_spatial_dims(x_dim=x, y_dim=y)
        crs, gcps = arr.rio.crs, arr.rio.get_gcps()
    if not gcps and "TRANSFORM" not in replaced:
        transform = _transform(arr, y, x)
        if crs is None and "CRS" not in replaced:
            _warn_of_missing_crs(arr, y, x)
    return replace(
        metadata,
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=transform,
        gcps=tuple(gcps) if gcps else None,
    )


def has_rioxarray() -> bool:
    """Whether rioxarray is installed; then arrays have ``rio``."""
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return False
    return True


def _warn_of_missing_crs(arr: Any, y: Any, x: Any) -> None:
    if _is_in_degrees(arr, "y", y) and _is_in_degrees(arr, "x", x):
        warn_user(
            f"the coordinates {y} and {x} are latitudes and longitudes, but there is no CRS, "
            "so readers cannot place the file: "
            "arr.rio.write_crs('EPSG:4326'), or give crs='EPSG:4326'"
        )


def _is_in_degrees(arr: Any, axis: _Axis, dim: Any) -> bool:
    if dim not in arr.coords:
        return False
    name, units = _DEGREES[axis]
    attrs = arr.coords[dim].attrs
    is_marked = attrs.get("standard_name") == name or attrs.get("units") == units
    return is_marked or str(dim).lower() in (name, name[:3])


# Transforms


def _transform(arr: Any, y: Any, x: Any) -> Affine | None:
    """The stored GeoTransform where the coordinates agree with it, else the coordinates'."""
    stored = stored_transform(arr) if has_rioxarray() else None
    if stored is not None:
        warn_of_gdal_order(stored)
    if stored is not None and not stored.is_rectilinear:
        return stored
    computed = _from_coordinates(arr, y, x)
    if computed is None or stored is None or stored == Affine.identity():
        return stored if computed is None else computed
    if _agree(stored, computed):
        return stored
    if not _is_part_of(computed, stored):
        _warn_of_contradiction(stored, computed, y, x)
    return computed


def _agree(stored: Affine, computed: Affine) -> bool:
    tolerance = _ROUNDING * max(abs(stored.a), abs(stored.e))
    coefficients = zip(stored[:6], computed[:6], strict=True)
    return all(math.isclose(p, q, abs_tol=tolerance) for p, q in coefficients)


def _is_part_of(computed: Affine, stored: Affine) -> bool:
    """Whether coordinates are of the stored grid behind its origin.

    Slices of xarray, flipped or not, keep the transform of the whole.
    """
    sides = computed.a / stored.a, computed.e / stored.e
    shifts = (computed.c - stored.c) / stored.a, (computed.f - stored.f) / stored.e
    same_pixels = all(math.isclose(abs(side), 1, abs_tol=1e-6) for side in sides)
    whole = all(abs(shift - round(shift)) < _ROUNDING * 10 for shift in shifts)
    return same_pixels and whole and all(round(shift) >= 0 for shift in shifts)


def _warn_of_contradiction(stored: Affine, computed: Affine, y: Any, x: Any) -> None:
    warn_user(
        f"the transform {tuple(stored)[:6]} contradicts the coordinates {y} and {x}, "
        f"whose transform is {tuple(computed)[:6]}; the coordinates are taken, as by rioxarray. "
        "If they are right, arr.rio.write_transform(arr.rio.transform(recalc=True)); "
        f"if the transform is, arr.drop_vars([{y!r}, {x!r}]), or give transform="
    )


# Coordinates


def _from_coordinates(arr: Any, y: Any, x: Any) -> Affine | None:
    if y not in arr.coords or x not in arr.coords or min(arr.sizes[y], arr.sizes[x]) < 2:
        return None
    (top, dy), (left, dx) = _line_of(arr, y), _line_of(arr, x)
    of_centres = Affine(dx, 0, left - dx / 2, 0, dy, top - dy / 2)
    if _are_corners(of_centres, arr.attrs.get("transform")):
        return Affine(dx, 0, left, 0, dy, top)
    return of_centres


def _line_of(arr: Any, dim: Any) -> tuple[float, float]:
    """The first coordinate along a dimension, and the step to the next."""
    coordinates = np.asarray(arr[dim].values)
    dtype = coordinates.dtype
    if dtype.kind not in "iuf":
        raise _irregular(dim, f"are {dtype}, not numbers")
    values = coordinates.astype(float)
    first, last = values[0], values[-1]
    step = (last - first) / (len(values) - 1)
    if not math.isfinite(step) or step == 0:
        raise _irregular(dim, f"begin with {first} and end with {last}")
    uneven = np.abs(values - (first + step * np.arange(len(values))))
    # coordinates may have been rounded to few digits
    rounding = np.finfo(dtype).eps * max(abs(first), abs(last)) if dtype.kind == "f" else 0
    worst = np.max(uneven) - 2 * rounding
    if not worst <= _IRREGULAR * abs(step):
        raise _irregular(dim, f"{_some(values)} are not evenly spaced")
    if worst > _UNEVEN * abs(step):
        warn_user(
            f"the coordinates along {dim}, {_some(values)}, are not evenly spaced: "
            f"pixels are up to {worst / abs(step):.2f} of a pixel beside their coordinates"
        )
    return float(first), float(step)


def _some(values: np.ndarray[Any, Any]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown


def _irregular(dim: Any, fault: str) -> RasterError:
    return RasterError(
        f"the coordinates along {dim} {fault}; a GeoTIFF has pixels of one size: "
        f"resample, e.g. arr.interp({dim}=numpy.linspace(...)), give transform=, "
        f"or write without georeferencing, arr.drop_vars([{dim!r}])"
    )


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
