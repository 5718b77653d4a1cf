"""Where a DataArray lies, by the first thing that says it.

1. Coordinates, and indexes of rasterix. Beside a stored transform they are pixels of its grid: a
   slice, stride or flip of the whole lies where they say, to the last digit.
2. The stored transform: ``GeoTransform`` of the grid mapping (rioxarray, odc-geo, GDAL), or the
   attribute ``transform`` (stackstac). It also gives the size of pixels where a side has one.
3. Ground control points and RPCs, of the grid mapping or the file that rioxarray opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import tastes_like_gdal

from ccog.errors import RasterError, warn_user
from ccog.input.coordinates import (
    ROUNDING,
    Coordinates,
    Line,
    Lines,
    coordinates_of,
    is_turned,
    warn_of_curvilinear,
)
from ccog.input.metadata import warn_of_gdal_order
from ccog.input.points import Points, opened_points, points_of

# part of a pixel from which on rounding may hide the step from pixel to pixel
_COARSE = 0.25

# how much longer one side of a pixel may be for a transform to be believed
_LONGEST = 1e3

_IDENTITY = Affine.identity()


class Place(NamedTuple):
    """Where an array lies, and what says so."""

    source: str
    transform: Affine | None = None
    gcps: tuple[GroundControlPoint, ...] | None = None
    rpcs: RPC | None = None


NOWHERE = Place("nothing")


def place_of(
    arr: Any, y: Any, x: Any, mappings: Mapping[str, Any], *, with_rpcs: bool = True
) -> Place:
    """Where the array lies; ``mappings`` are its grid mappings by name."""
    for index in arr.xindexes.values():
        # of rasterix, which slices keep right
        if getattr(index, "xy_dims", None) == (x, y) and hasattr(index, "transform"):
            return Place("the index of its coordinates", index.transform())
    stored, coordinates = _stored(arr, mappings), coordinates_of(arr, y, x)
    is_unplaced = stored.transform is None or stored.transform == _IDENTITY
    points = points_of(arr, mappings, is_unplaced=is_unplaced, with_rpcs=with_rpcs)
    size = arr.sizes[y], arr.sizes[x]
    if points is not None and is_unplaced:
        place = _by_points(arr, size, coordinates, points)
        if place is not None:
            return place
    part = None
    if coordinates is not None:
        if stored.transform is not None:
            part = _part(arr, coordinates, stored.transform)
        place = _by_coordinates(arr, coordinates, stored, part)
    else:
        if stored.transform is None:
            warn_of_curvilinear(arr, y, x)
        place = stored
        if points is not None and points.may_be_of(size):
            part = _IDENTITY
    return place if points is None else _with_rpcs(place, points, part)


# Stored transforms


def _stored(arr: Any, mappings: Mapping[str, Any]) -> Place:
    for name, variable in mappings.items():
        text = variable.attrs.get("GeoTransform")
        transform = None if text is None else _of_gdal(text, name)
        if transform is not None:
            return Place(f"GeoTransform of {name}", transform)
    numbers = _numbers(arr.attrs.get("transform"))
    if len(numbers) < 6:
        return NOWHERE
    transform = Affine(*numbers[:6])
    if not _is_sound(transform):
        return NOWHERE
    warn_of_gdal_order(transform)
    return Place("the attribute transform", transform)


def _of_gdal(text: Any, name: str) -> Affine | None:
    """A GeoTransform, which is in GDAL's order; one in another order is no place."""
    numbers, remedy = _numbers(text), "arr.rio.write_transform(...)"
    if len(numbers) != 6:
        fault = f" is {text!r}, which is not six numbers in GDAL's order"
    else:
        transform, shuffled = Affine.from_gdal(*numbers), Affine(*numbers)
        if not _is_upright(transform) and _is_upright(shuffled) and not tastes_like_gdal(numbers):
            fault = f", {text!r}, is in the order of affine"
            remedy = f"GDAL's order is {' '.join(map(str, shuffled.to_gdal()))!r}"
        elif not _is_sound(transform):
            fault = f", {text!r}, gives pixels no size"
        else:
            warn_of_gdal_order(transform)
            return transform
    warn_user(f"GeoTransform of {name}{fault}; it is left out: {remedy}, or give transform=")
    return None


def _numbers(value: Any) -> list[float]:
    """The numbers of a list or text; none where it is another thing."""
    entries = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return [float(entry) for entry in entries]
    except (TypeError, ValueError):
        return []


def _is_sound(transform: Affine) -> bool:
    return all(map(math.isfinite, transform[:6])) and not transform.is_degenerate


def _is_upright(transform: Affine) -> bool:
    """Whether pixels are rectangles of a likely shape, turned or not."""
    if not _is_sound(transform):
        return False
    a, b, _, d, e, _ = transform[:6]
    width, height = math.hypot(a, d), math.hypot(b, e)
    is_likely = max(width, height) < _LONGEST * min(width, height)
    return is_likely and abs(a * b + d * e) <= 1e-6 * width * height


# Coordinates


def _by_coordinates(
    arr: Any, coordinates: Coordinates, stored: Place, part: Affine | None
) -> Place:
    """The place by coordinates, which are of a ``part`` of the stored grid if it is not None."""
    what = f"the coordinates {coordinates.names}"
    grid = stored.transform
    if grid is None and coordinates.are_pixels:
        warn_user(
            f"{what} number pixels, and nothing says where these lie, so the file has no place: "
            "arr.rio.write_transform(...), or give transform="
        )
        return NOWHERE
    known = None if grid == _IDENTITY else grid
    if grid is not None and part is not None and (known is not None or abs(part.a) == abs(part.e)):
        if part == _IDENTITY:
            return stored
        return Place(f"{what}, on the grid of {stored.source}", _of_grid(part, grid))
    if coordinates.are_pixels:
        warn_user(
            f"{what} number pixels, but not those of {stored.source}, "
            "which is taken as it is: if the array is a part of its raster, give transform="
        )
        return stored
    if isinstance(coordinates, Lines) and known is not None and is_turned(known):
        _check_turned(arr, coordinates, stored.source, known)
        return stored
    computed = coordinates.transform(known)
    if computed is None:
        return NOWHERE
    if known is not None:
        warn_user(
            f"the transform {tuple(known)[:6]} contradicts {what}, "
            f"whose transform is {tuple(computed)[:6]}; the coordinates are taken, as by "
            "rioxarray. If they are right, arr.rio.write_transform(arr.rio.transform(recalc=True))"
            f"; if the transform is, arr.drop_vars({coordinates.dims!r}), or give transform="
        )
    return Place(what, computed)


def _check_turned(arr: Any, coordinates: Lines, where: str, turned: Affine) -> None:
    """Refuse lines of coordinates, which cannot be those of a turned grid, unless they are void."""
    file = opened_points(arr)
    is_whole = file is not None and file.size == coordinates.size
    if not (is_whole and coordinates.say_nothing_of(turned)):
        raise RasterError(
            f"{where} is turned, {tuple(turned)[:6]}, and coordinates of one "
            f"dimension, {coordinates.names}, cannot lie on it. If they number its pixels, say so: "
            "units='pixel' in the attributes of both. If the transform is that of the array, "
            f"arr.drop_vars({coordinates.dims!r}); if it is old, delete it; or give transform="
        )


# Parts of grids


class _Run(NamedTuple):
    """Every ``step``-th pixel of a grid along a side; the first one's centre, in its pixels."""

    first: float
    step: float


_WHOLE = _Run(0.5, 1.0)


def _part(arr: Any, coordinates: Coordinates, grid: Affine) -> Affine | None:
    """From pixels of the array to those of a grid; None if coordinates are not of the grid."""
    lines = coordinates.in_pixels(grid)
    if lines is None:
        return None
    # stackstac keeps an Affine, and by default coordinates of corners
    if isinstance(arr.attrs.get("transform"), Affine):
        lines = _centred(lines, coordinates, is_sure="spec" in arr.attrs)
    x, y = map(_run, lines)
    if x is None or y is None:
        return None
    return Affine(x.step, 0, x.first - x.step / 2, 0, y.step, y.first - y.step / 2)


def _of_grid(part: Affine, grid: Affine) -> Affine:
    """The transform of a part of a grid; ``grid`` is that of the whole."""
    a, b, c, d, e, f = grid[:6]
    dx, _, left, _, dy, top = part[:6]
    numbers = a * dx, b * dy, a * left + b * top + c, d * dx, e * dy, d * left + e * top + f
    # not -0.0, which would be another file
    return Affine(*(number + 0.0 for number in numbers))


def _run(line: Line) -> _Run | None:
    """The pixels of the grid that a line of coordinates names, None if it names others."""
    positions, span = line.positions, line.numbers[-1] - line.numbers[0]
    if not np.isfinite(positions).all():
        return None
    if _fits(line, _WHOLE):
        return _WHOLE
    step = float(np.rint((positions[-1] - positions[0]) / span)) if span else 1.0
    # where coordinates are coarse, a slice is likelier than a stride
    steps = [step] if line.slack < _COARSE else [math.copysign(1, step), step]
    runs = [run for step in dict.fromkeys(steps) if step for run in _runs(line, step)]
    if not runs:
        return None
    beside = [runs[0]._replace(first=runs[0].first + pixels) for pixels in (-1, 1)]
    if len(runs) > 1 or any(_fits(line, run) for run in beside):
        warn_user(
            f"the coordinates along {line.name} are rounded to more than a pixel: "
            "the file may lie pixels beside its place; give transform="
        )
    return runs[0]


def _runs(line: Line, step: float) -> list[_Run]:
    """Runs that begin with a centre, or with the edge of a coarser pixel, of which one may fit."""
    # rounded coordinates are right on average
    estimate = float(np.mean(line.positions - step * line.numbers))
    halves = dict.fromkeys((0.5, step / 2 % 1))
    runs = [_Run(float(np.rint(estimate - half)) + half, step) for half in halves]
    return [run for run in runs if _fits(line, run)][:1]


def _fits(line: Line, run: _Run) -> bool:
    off = np.abs(run.first + run.step * line.numbers - line.positions)
    last = run.first + run.step * line.numbers[-1]
    return bool(np.all(off <= ROUNDING + line.slack) and min(run.first, last) > 0)


def _centred(
    lines: tuple[Line, Line], coordinates: Coordinates, *, is_sure: bool
) -> tuple[Line, Line]:
    """Positions of centres, where they may be of corners.

    Every other corner looks like the centres of twice as large pixels: ``is_sure`` says that
    stackstac made them.
    """
    steps = [abs(line.positions[1] - line.positions[0]) for line in lines if line.numbers[-1]]
    is_coarser = any(abs(step - 1) > ROUNDING for step in steps)
    starts = [(line.positions[0], ROUNDING + line.slack) for line in lines]
    are_corners = all(abs(start - np.rint(start)) <= slack for start, slack in starts)
    if not are_corners or (is_coarser and not is_sure):
        return lines
    if is_coarser:
        warn_user(
            f"the coordinates {coordinates.names} are taken for corners of pixels, as stackstac "
            "makes them; if they are of centres, the file lies half a pixel beside its place: "
            "give transform="
        )
    x, y = (line._replace(positions=line.positions + 0.5) for line in lines)
    return x, y


# Points


def _by_points(
    arr: Any, size: tuple[int, int], coordinates: Coordinates | None, points: Points
) -> Place | None:
    """The place by ground control points or RPCs; None where coordinates say another."""
    what, options = points.names
    part: Affine | None = _IDENTITY
    if coordinates is not None:
        part = _part(arr, coordinates, _IDENTITY)
        if part is None or not (coordinates.are_pixels or points.may_have(part, size)):
            return None
    elif not points.may_be_of(size):
        warn_user(
            f"the {what} are of a raster of {points.size[0]} x {points.size[1]} pixels and the "
            f"array has {size[0]} x {size[1]}, without coordinates that say where; "
            f"they are left out: give {options}"
        )
        return NOWHERE
    moved = points.of_part(part)
    return Place(f"its {what}", None, moved.gcps or None, moved.rpcs)


def _with_rpcs(place: Place, points: Points, part: Affine | None) -> Place:
    """A place that coordinates or a stored transform say, which RPCs may stand beside."""
    if points.gcps:
        warn_user(
            "the array has ground control points beside coordinates or a stored transform, which "
            "are taken, and the points left out: give gcps= to write them"
        )
    if part is not None:
        return place._replace(rpcs=points.of_part(part).rpcs)
    if points.rpcs is not None:
        warn_user("RPCs are of other pixels than the array's; they are left out: give rpcs=")
    return place
