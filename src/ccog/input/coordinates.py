"""Coordinates of a DataArray along its rows and columns: lines, or a mesh of a turned grid."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from affine import Affine

from ccog.errors import RasterError, warn_user
from ccog.input.rioxarray_edges import chosen_dimension

Axis = Literal["y", "x"]
Floats = npt.NDArray[np.float64]

NAMES: dict[Axis, tuple[str, ...]] = {
    "y": ("y", "latitude", "lat", "northing", "yc", "rlat"),
    "x": ("x", "longitude", "lon", "easting", "xc", "rlon"),
}

# how the CF conventions mark coordinates
_STANDARD_NAMES = {
    "y": ("latitude", "projection_y_coordinate", "grid_latitude"),
    "x": ("longitude", "projection_x_coordinate", "grid_longitude"),
}
_DEGREES = {"y": ("latitude", "degrees_north"), "x": ("longitude", "degrees_east")}

# names of coordinates of two dimensions that may be those of a turned grid, as of rioxarray
_MESHES = (("yc", "xc"), ("y", "x"))

#: Part of a pixel by which coordinates may lie beside a grid: they carry rounding.
ROUNDING = 1e-3

# part of a pixel by which coordinates may be uneven: more is warned of, and much more refused
_UNEVEN, _IRREGULAR = 0.05, 0.25

# part of a pixel that a straight grid may lean by: sines and cosines are rounded
_STRAIGHT = 1e-9

# part of a pixel below which no rounding can hide which pixel is meant
_FINE = 0.1

# rows and columns of a mesh that are looked at
_LOOKS = 33


class Line(NamedTuple):
    """Positions along a side, in pixels of a grid: those numbered ``numbers``, first and last too.

    ``slack`` is what they may be off, since they are rounded.
    """

    name: Any
    positions: Floats
    numbers: Floats
    slack: float


# Dimensions


def dimension(arr: Any, axis: Axis) -> Any:
    """The name of the dimension of rows or columns."""
    chosen = chosen_dimension(arr, axis)
    if chosen in arr.dims:
        return chosen
    named = [dim for dim in arr.dims if str(dim).lower() in NAMES[axis]]
    marked = [dim for dim in arr.dims if dim in arr.coords and _is_marked(arr.coords[dim], axis)]
    for dims in (named, marked):
        if len(dims) == 1:
            return dims[0]
    raise RasterError(
        f"cannot tell which of the dimensions {arr.dims} is {axis}; "
        f"name it one of {', '.join(NAMES[axis])}"
    )


def dimensions(arr: Any) -> tuple[Any, Any]:
    """The dimensions of rows and of columns."""
    return dimension(arr, "y"), dimension(arr, "x")


def _is_marked(coordinate: Any, axis: Axis) -> bool:
    attrs = coordinate.attrs
    is_named = str(attrs.get("standard_name")).lower() in _STANDARD_NAMES[axis]
    return is_named or str(attrs.get("axis")).lower() == axis


def are_in_degrees(arr: Any, y: Any, x: Any) -> bool:
    """Whether the coordinates along both dimensions are latitudes and longitudes."""
    return _is_in_degrees(along(arr, "y", y), "y") and _is_in_degrees(along(arr, "x", x), "x")


def _is_in_degrees(coordinate: Any, axis: Axis) -> bool:
    if coordinate is None:
        return False
    name, units = _DEGREES[axis]
    attrs = coordinate.attrs
    is_marked = attrs.get("standard_name") == name or attrs.get("units") == units
    return is_marked or str(coordinate.name).lower() in (name, name[:3])


# What there is


def coordinates_of(arr: Any, y: Any, x: Any) -> Coordinates | None:
    """The coordinates of an array; None where it has none, or for one side only."""
    if not (arr.sizes[y] and arr.sizes[x]):
        return None
    rows, columns = along(arr, "y", y), along(arr, "x", x)
    if rows is not None and columns is not None:
        return Lines(rows, columns)
    meshes = meshes_of(arr, y, x)
    if meshes:
        return Mesh(*meshes)
    if rows is not None or columns is not None:
        has, lacks = (y, x) if rows is not None else (x, y)
        warn_user(
            f"there are coordinates along {has}, but not along {lacks}, "
            "so they do not place the array: assign both, or give transform="
        )
    return None


def meshes_of(arr: Any, y: Any, x: Any) -> list[Any]:
    """The coordinates y and x of each pixel of a turned grid; empty where there are none."""
    for names in _MESHES:
        meshes = [arr.coords[name] for name in names if name in arr.coords]
        if len(meshes) == 2 and all(set(mesh.dims) == {y, x} for mesh in meshes):
            return [mesh.transpose(y, x) for mesh in meshes]
    return []


def warn_of_curvilinear(arr: Any, y: Any, x: Any) -> None:
    """Warn of latitudes and longitudes of each pixel, as of a swath, which place no GeoTIFF."""
    names = [
        str(name)
        for name, coordinate in arr.coords.items()
        if set(coordinate.dims) == {y, x}
        and (_is_in_degrees(coordinate, "y") or _is_in_degrees(coordinate, "x"))
    ]
    if names:
        warn_user(
            f"the coordinates {' and '.join(names)} are of each pixel, not of a grid, "
            "so the file has no place: resample to a grid, or give gcps="
        )


def along(arr: Any, axis: Axis, dim: Any) -> Any:
    """The coordinate along a dimension: that of its name, else one that is named or marked."""
    if dim in arr.coords and arr.coords[dim].dims == (dim,):
        return arr.coords[dim]
    others = [
        coordinate
        for name, coordinate in arr.coords.items()
        if coordinate.dims == (dim,)
        and (str(name).lower() in NAMES[axis] or _is_marked(coordinate, axis))
    ]
    return others[0] if len(others) == 1 else None


def is_turned(transform: Affine) -> bool:
    """Whether rows and columns lie aslant, so that no lines of coordinates can name them."""
    a, b, _, d, e, _ = transform[:6]
    return bool(max(abs(b), abs(d)) > _STRAIGHT * min(abs(a), abs(e)))


# Lines


class _Named:
    """What coordinates are called, and what to drop to be without them."""

    def __init__(self, y: Any, x: Any) -> None:
        self.names = f"{y.name} and {x.name}"
        self.dims = [y.name, x.name]


class Lines(_Named):
    """One coordinate for each row and each column.

    ``are_pixels`` says that they number pixels: then they say nothing of where these lie.
    """

    def __init__(self, rows: Any, columns: Any) -> None:
        super().__init__(rows, columns)
        self._rows, self._columns = rows, columns
        self.size = len(rows), len(columns)
        self.are_pixels = all(line.attrs.get("units") == "pixel" for line in (rows, columns))

    def say_nothing_of(self, stored: Affine) -> bool:
        """Whether they are of any part of a grid: all alike, as rioxarray's at 90 degrees."""
        a, b, c, d, e, f = stored[:6]
        pixel = max(abs(b), abs(d))
        if self.are_pixels or max(abs(a), abs(e)) > _STRAIGHT * pixel:
            return False
        x, y = _numbers(self._columns) - (c + b / 2), _numbers(self._rows) - (f + d / 2)
        return bool(max(np.abs(x).max(), np.abs(y).max()) <= ROUNDING * pixel)

    def in_pixels(self, stored: Affine) -> tuple[Line, Line] | None:
        """Centres along x and y in pixels of a stored grid; None if they cannot be of it."""
        a, b, c, d, e, f = stored[:6]
        if not (self.are_pixels or is_turned(stored)):
            return _line(self._columns, c, a), _line(self._rows, f, e)
        # floats are of centres, as odc-geo's; whole numbers count pixels
        left, top = (
            -0.5 if line.dtype.kind in "iu" else 0.0 for line in (self._columns, self._rows)
        )
        numbered = _line(self._columns, left, 1), _line(self._rows, top, 1)
        is_whole = all(np.array_equal(line.positions, line.numbers + 0.5) for line in numbered)
        if self.are_pixels or is_whole:
            return numbered
        if min(abs(a), abs(e)) <= _STRAIGHT * max(abs(b), abs(d)):
            return None
        # where rioxarray takes pixels for straight: x of the first row, y of the first column
        return _line(self._columns, c + b / 2, a), _line(self._rows, f + d / 2, e)

    def transform(self, stored: Affine | None) -> Affine | None:
        """The transform that they give, None where the size of pixels is not known.

        ``stored`` says the size where a side has one pixel.
        """
        height, width = (None, None) if stored is None else (stored.e, stored.a)
        top, left = _first_and_step(self._rows, height), _first_and_step(self._columns, width)
        if top is None or left is None:
            return None
        (y, dy), (x, dx) = top, left
        return Affine(dx, 0, x - dx / 2, 0, dy, y - dy / 2)


def _line(coordinate: Any, origin: float, size: float) -> Line:
    values = _numbers(coordinate)
    half = half_step(coordinate.dtype, values) / abs(size)
    return Line(
        name=coordinate.name,
        positions=(values - origin) / size,
        numbers=np.arange(len(values), dtype=float),
        # a whole step where they were computed in few digits, and it is a small part of a pixel
        slack=max(half, min(2 * half, _FINE)),
    )


def _numbers(coordinate: Any) -> Floats:
    values = np.asarray(coordinate.values)
    if values.dtype.kind not in "iuf":
        raise _irregular(coordinate.name, f"are {values.dtype}, not numbers")
    return values.astype(float)


def half_step(dtype: np.dtype[Any], values: Floats) -> float:
    """Half the step between floats at the largest of the values: what rounding takes."""
    largest = np.max(np.abs(values))
    if dtype.kind != "f" or not np.isfinite(largest):
        return 0.0
    return float(np.spacing(dtype.type(largest))) * 0.5


def _first_and_step(coordinate: Any, stored: float | None) -> tuple[float, float] | None:
    """The first coordinate along a dimension, and the step to the next."""
    values = _numbers(coordinate)
    dim, first, last = coordinate.name, values[0], values[-1]
    if len(values) == 1:
        # odc-geo keeps the size of pixels at the coordinate, too
        resolution = coordinate.attrs.get("resolution")
        step = stored or (resolution if isinstance(resolution, int | float) else None)
        if step and math.isfinite(first):
            return float(first), float(step)
        warn_user(
            f"there is one pixel along {dim}, and nothing says how large it is, "
            "so the file has no place: arr.rio.write_transform(...), or give transform="
        )
        return None
    step = (last - first) / (len(values) - 1)
    if not math.isfinite(step) or step == 0:
        raise _irregular(dim, f"begin with {first} and end with {last}")
    uneven = np.abs(values - (first + step * np.arange(len(values))))
    # coordinates may have been rounded to few digits
    worst = np.max(uneven) - 4 * half_step(coordinate.dtype, values)
    if not worst <= _IRREGULAR * abs(step):
        raise _irregular(dim, f"{_some(values)} are not evenly spaced")
    if worst > _UNEVEN * abs(step):
        warn_user(
            f"the coordinates along {dim}, {_some(values)}, are not evenly spaced: "
            f"pixels are up to {worst / abs(step):.2f} of a pixel beside their coordinates"
        )
    return float(first), float(step)


def _some(values: Floats) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown


def _irregular(dim: Any, fault: str) -> RasterError:
    return RasterError(
        f"the coordinates along {dim} {fault}; a GeoTIFF has pixels of one size: "
        f"resample, e.g. arr.interp({dim}=numpy.linspace(...)), give transform=, "
        f"or write without georeferencing, arr.drop_vars([{dim!r}])"
    )


# Meshes


class Mesh(_Named):
    """A coordinate of both dimensions for x, and one for y, as of a turned grid."""

    are_pixels = False

    def __init__(self, ys: Any, xs: Any) -> None:
        super().__init__(ys, xs)
        self._rows, self._columns = map(_looks, ys.shape)
        y, x = ys.dims
        looks = {y: self._rows.astype(int), x: self._columns.astype(int)}
        self._ys, self._xs = (_numbers(mesh.isel(looks)) for mesh in (ys, xs))
        self._slack = max(half_step(ys.dtype, self._ys), half_step(xs.dtype, self._xs))

    def in_pixels(self, stored: Affine) -> tuple[Line, Line] | None:
        """As :meth:`Lines.in_pixels`."""
        a, b, c, d, e, f = (~stored)[:6]
        columns = a * self._xs + b * self._ys + c
        rows = d * self._xs + e * self._ys + f
        slack = self._slack * max(abs(a) + abs(b), abs(d) + abs(e))
        beside = max(np.abs(columns - columns[:1]).max(), np.abs(rows - rows[:, :1]).max())
        if not beside <= ROUNDING + 2 * slack:
            return None
        y, x = self.dims
        return (
            Line(x, columns.mean(axis=0), self._columns, slack),
            Line(y, rows.mean(axis=1), self._rows, slack),
        )

    def transform(self, stored: Affine | None) -> Affine | None:
        """As :meth:`Lines.transform`."""
        right, down = self._steps(stored)
        if right is None or down is None:
            warn_user(
                f"a side has one pixel, and nothing says how large it is, "
                f"so the coordinates {self.names} do not place the file: "
                "arr.rio.write_transform(...), or give transform="
            )
            return None
        (a, d), (b, e) = right, down
        c = self._xs[0, 0] - (a + b) / 2
        f = self._ys[0, 0] - (d + e) / 2
        transform = Affine(a, b, c, d, e, f)
        columns, rows = np.meshgrid(self._columns + 0.5, self._rows + 0.5)
        off = np.hypot(a * columns + b * rows + c - self._xs, d * columns + e * rows + f - self._ys)
        pixel = min(math.hypot(a, d), math.hypot(b, e))
        if transform.is_degenerate or not off.max() <= _UNEVEN * pixel + 2 * self._slack:
            raise RasterError(
                f"the coordinates {self.names} are not of a grid of equal pixels; "
                "a GeoTIFF has pixels of one size: resample, give transform=, "
                f"or write without georeferencing, arr.drop_vars({self.dims!r})"
            )
        return transform

    def _steps(self, stored: Affine | None) -> tuple[Any, Any]:
        """How far it is (x, y) to the next column, and to the next row."""
        right = None if stored is None else (stored.a, stored.d)
        down = None if stored is None else (stored.b, stored.e)
        meshes = self._xs, self._ys
        if self._columns[-1]:
            right = tuple(float(v[0, -1] - v[0, 0]) / self._columns[-1] for v in meshes)
        if self._rows[-1]:
            down = tuple(float(v[-1, 0] - v[0, 0]) / self._rows[-1] for v in meshes)
        return right, down


def _looks(length: int) -> Floats:
    """The numbers of some rows or columns, the first and the last among them."""
    return np.unique(np.floor(np.linspace(0, length - 1, min(length, _LOOKS))))


Coordinates = Lines | Mesh
