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


class Place(NamedTuple):
    """Where the array lies, and what says so."""

    transform: Affine | None
    gcps: tuple[GroundControlPoint, ...] | None
    rpcs: RPC | None
    source: str


NOWHERE = Place(None, None, None, "nothing")


class _Run(NamedTuple):
    """Every ``step``-th pixel of a grid along a side; the first one's centre, in its pixels."""

    first: float
    step: float


_WHOLE = _Run(0.5, 1.0)


class _Cut(NamedTuple):
    """The part of a grid that an array has."""

    x: _Run
    y: _Run

    @property
    def transform(self) -> Affine:
        """From pixels of the array to pixels of the grid."""
        (left, dx), (top, dy) = self.x, self.y
        return Affine(dx, 0, left - dx / 2, 0, dy, top - dy / 2)

    def last(self, size: tuple[int, int]) -> tuple[float, float]:
        """The row and column of the grid that the last pixel is."""
        return (
            self.y.first + self.y.step * (size[0] - 1),
            self.x.first + self.x.step * (size[1] - 1),
        )

    def of(self, grid: Affine) -> Affine:
        """The transform of the part of a grid; ``grid`` is that of the whole."""
        a, b, c, d, e, f = grid[:6]
        dx, _, left, _, dy, top = self.transform[:6]
        numbers = a * dx, b * dy, a * left + b * top + c, d * dx, e * dy, d * left + e * top + f
        # not -0.0, which would be another file
        return Affine(*(number + 0.0 for number in numbers))


class _Stored(NamedTuple):
    """A transform that is stored beside the coordinates, and where."""

    transform: Affine
    where: str


def place_of(
    arr: Any, y: Any, x: Any, mappings: Mapping[str, Any], *, with_rpcs: bool = True
) -> Place:
    """Where the array lies; ``mappings`` are its grid mappings by name."""
    indexed = _of_index(arr, y, x)
    if indexed is not None:
        return Place(indexed, None, None, "the index of its coordinates")
    stored, coordinates = _stored(arr, mappings), coordinates_of(arr, y, x)
    is_unplaced = stored is None or stored.transform == Affine.identity()
    points = points_of(arr, mappings, is_unplaced=is_unplaced, with_rpcs=with_rpcs)
    size = arr.sizes[y], arr.sizes[x]
    if points is not None and is_unplaced:
        place = _by_points(arr, size, coordinates, points)
        if place is not None:
            return place
    cut = _cut(arr, coordinates, stored.transform) if coordinates and stored else None
    if coordinates is not None:
        place = _by_coordinates(arr, coordinates, stored, cut)
    elif stored is not None:
        place = Place(stored.transform, None, None, stored.where)
    else:
        warn_of_curvilinear(arr, y, x)
        place = NOWHERE
    if points is None:
        return place
    is_whole = coordinates is None and points.may_be_of(size)
    return _with_rpcs(
        place, points, cut.transform if cut else Affine.identity() if is_whole else None
    )


def _of_index(arr: Any, y: Any, x: Any) -> Affine | None:
    """The transform of an index of rasterix, which slices keep right."""
    for index in arr.xindexes.values():
        if getattr(index, "xy_dims", None) == (x, y) and hasattr(index, "transform"):
            transform: Affine = index.transform()
            return transform
    return None


# Stored transforms


def _stored(arr: Any, mappings: Mapping[str, Any]) -> _Stored | None:
    for name, variable in mappings.items():
        text = variable.attrs.get("GeoTransform")
        if text is not None:
            transform = _of_gdal(text, name)
            if transform is not None:
                return _Stored(transform, f"GeoTransform of {name}")
    numbers = _numbers(arr.attrs.get("transform"))
    if numbers is None or len(numbers) < 6:
        return None
    transform = Affine(*numbers[:6])
    if not _is_sound(transform):
        return None
    warn_of_gdal_order(transform)
    return _Stored(transform, "the attribute transform")


def _of_gdal(text: Any, name: str) -> Affine | None:
    """A GeoTransform, which is in GDAL's order; one in another order is no place."""
    numbers = _numbers(text)
    if numbers is None or len(numbers) != 6:
        warn_user(
            f"GeoTransform of {name} is {text!r}, which is not six numbers in GDAL's order; "
            "it is left out: arr.rio.write_transform(...), or give transform="
        )
        return None
    transform, shuffled = Affine.from_gdal(*numbers), Affine(*numbers)
    if not _is_upright(transform) and _is_upright(shuffled) and not tastes_like_gdal(numbers):
        right = " ".join(map(str, shuffled.to_gdal()))
        warn_user(
            f"GeoTransform of {name}, {text!r}, is in the order of affine; it is left out: "
            f"GDAL's order is {right!r}, or give transform="
        )
        return None
    if not _is_sound(transform):
        warn_user(
            f"GeoTransform of {name}, {text!r}, gives pixels no size; it is left out: "
            "arr.rio.write_transform(...), or give transform="
        )
        return None
    warn_of_gdal_order(transform)
    return transform


def _numbers(value: Any) -> list[float] | None:
    if value is None:
        return None
    entries = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return [float(entry) for entry in entries]
    except (TypeError, ValueError):
        return None


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
    arr: Any, coordinates: Coordinates, stored: _Stored | None, cut: _Cut | None
) -> Place:
    what = f"the coordinates {coordinates.names}"
    if stored is None and coordinates.are_pixels:
        warn_user(
            f"{what} number pixels, and nothing says where these lie, so the file has no place: "
            "arr.rio.write_transform(...), or give transform="
        )
        return NOWHERE
    if stored is None:
        return _by_transform(coordinates.transform(None), what)
    is_known = stored.transform != Affine.identity()
    if cut is not None and (is_known or abs(cut.x.step) == abs(cut.y.step)):
        return _of_cut(cut, coordinates, stored)
    if coordinates.are_pixels:
        warn_user(
            f"the coordinates {coordinates.names} number pixels, but not those of {stored.where}, "
            "which is taken as it is: if the array is a part of its raster, give transform="
        )
        return Place(stored.transform, None, None, stored.where)
    if isinstance(coordinates, Lines) and is_turned(stored.transform):
        return _of_turned(arr, coordinates, stored)
    computed = coordinates.transform(stored.transform if is_known else None)
    if computed is not None and is_known:
        _warn_of_contradiction(stored.transform, computed, coordinates)
    return _by_transform(computed, what)


def _by_transform(transform: Affine | None, source: str) -> Place:
    return NOWHERE if transform is None else Place(transform, None, None, source)


def _of_turned(arr: Any, coordinates: Lines, stored: _Stored) -> Place:
    """The place of an array whose coordinates cannot be those of its turned grid."""
    file = opened_points(arr)
    if (
        file is not None
        and file.size == coordinates.size
        and coordinates.say_nothing_of(stored.transform)
    ):
        return Place(stored.transform, None, None, stored.where)
    raise RasterError(
        f"{stored.where} is turned, {tuple(stored.transform)[:6]}, and coordinates of one "
        f"dimension, {coordinates.names}, cannot lie on it. If they number its pixels, say so: "
        "units='pixel' in the attributes of both. If the transform is that of the array, "
        f"arr.drop_vars({coordinates.dims!r}); if it is old, delete it; or give transform="
    )


def _of_cut(cut: _Cut, coordinates: Coordinates, stored: _Stored) -> Place:
    if cut.transform == Affine.identity():
        return Place(stored.transform, None, None, stored.where)
    source = f"the coordinates {coordinates.names}, on the grid of {stored.where}"
    return Place(cut.of(stored.transform), None, None, source)


def _warn_of_contradiction(stored: Affine, computed: Affine, coordinates: Coordinates) -> None:
    warn_user(
        f"the transform {tuple(stored)[:6]} contradicts the coordinates {coordinates.names}, "
        f"whose transform is {tuple(computed)[:6]}; the coordinates are taken, as by rioxarray. "
        "If they are right, arr.rio.write_transform(arr.rio.transform(recalc=True)); "
        f"if the transform is, arr.drop_vars({coordinates.dims!r}), or give transform="
    )


def _cut(arr: Any, coordinates: Coordinates, stored: Affine) -> _Cut | None:
    """The part of the stored grid that the coordinates name, None if they are not of it."""
    lines = coordinates.in_pixels(stored)
    if lines is None:
        return None
    # stackstac keeps an Affine, and by default coordinates of corners
    if isinstance(arr.attrs.get("transform"), Affine):
        lines = _centred(lines, coordinates, is_sure="spec" in arr.attrs)
    x, y = map(_run, lines)
    return None if x is None or y is None else _Cut(x, y)


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
    if len(runs) > 1 or any(_fits(line, run) for run in _neighbours(runs[0])):
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


def _neighbours(run: _Run) -> tuple[_Run, _Run]:
    return run._replace(first=run.first - 1), run._replace(first=run.first + 1)


def _fits(line: Line, run: _Run) -> bool:
    off = np.abs(run.first + run.step * line.numbers - line.positions)
    last = run.first + run.step * (line.length - 1)
    return bool(np.all(off <= ROUNDING + line.slack)) and min(run.first, last) > 0


def _centred(
    lines: tuple[Line, Line], coordinates: Coordinates, *, is_sure: bool
) -> tuple[Line, Line]:
    """Positions of centres, where they may be of corners.

    Every other corner looks like the centres of twice as large pixels: ``is_sure`` says that
    stackstac made them.
    """
    steps = [abs(line.positions[1] - line.positions[0]) for line in lines if line.length > 1]
    is_coarser = any(abs(step - 1) > ROUNDING for step in steps)
    if not all(map(_is_of_corners, lines)) or (is_coarser and not is_sure):
        return lines
    if is_coarser:
        warn_user(
            f"the coordinates {coordinates.names} are taken for corners of pixels, as stackstac "
            "makes them; if they are of centres, the file lies half a pixel beside its place: "
            "give transform="
        )
    x, y = (line._replace(positions=line.positions + 0.5) for line in lines)
    return x, y


def _is_of_corners(line: Line) -> bool:
    first = line.positions[0]
    return bool(abs(first - np.rint(first)) <= ROUNDING + line.slack)


# Points


def _by_points(
    arr: Any, size: tuple[int, int], coordinates: Coordinates | None, points: Points
) -> Place | None:
    """The place by ground control points or RPCs; None where coordinates say another."""
    what, options = points.names
    part = Affine.identity()
    if coordinates is not None:
        cut = _cut(arr, coordinates, Affine.identity())
        if cut is None or not (coordinates.are_pixels or points.number(*cut.last(size))):
            return None
        part = cut.transform
    elif not points.may_be_of(size):
        warn_user(
            f"the {what} are of a raster of {points.size[0]} x {points.size[1]} pixels and the "
            f"array has {size[0]} x {size[1]}, without coordinates that say where; "
            f"they are left out: give {options}"
        )
        return NOWHERE
    moved = points.of_part(part)
    return Place(None, moved.gcps or None, moved.rpcs, f"its {what}")


def _with_rpcs(place: Place, points: Points, part: Affine | None) -> Place:
    """A place that coordinates or a stored transform say, which RPCs may stand beside."""
    if points.gcps:
        warn_user(
            "the array has ground control points beside coordinates or a stored transform, which "
            "are taken, and the points left out: give gcps= to write them"
        )
    if points.rpcs is not None and part is None:
        warn_user("RPCs are of other pixels than the array's; they are left out: give rpcs=")
        return place
    return place if part is None else place._replace(rpcs=points.of_part(part).rpcs)
