"""Ground control points and RPCs that DataArrays carry, and those of their parts."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC

from ccog.errors import warn_user

Points = tuple[GroundControlPoint, ...]


class OpenedPoints(NamedTuple):
    """The size (height, width) of the file that an array was opened from, and its RPCs."""

    size: tuple[int, int]
    rpcs: RPC | None


def stored_points(mappings: Mapping[str, Any]) -> Points:
    """The ground control points of grid mappings, as rioxarray and odc-geo keep them (GeoJSON)."""
    for name, variable in mappings.items():
        text = variable.attrs.get("gcps")
        if text is None:
            continue
        try:
            collection = json.loads(text) if isinstance(text, str) else text
            return tuple(map(_point, collection["features"]))
        except (KeyError, TypeError, ValueError) as error:
            warn_user(
                f"the ground control points of {name} cannot be read ({error!r}), "
                "and are left out: arr.rio.write_gcps(...), or give gcps="
            )
    return ()


def _point(feature: Mapping[str, Any]) -> GroundControlPoint:
    x, y, *z = feature["geometry"]["coordinates"]
    said = feature["properties"]
    return GroundControlPoint(
        row=said["row"],
        col=said["col"],
        x=x,
        y=y,
        z=z[0] if z else None,
        id=said.get("id"),
        info=said.get("info"),
    )


def opened_points(arr: Any) -> OpenedPoints | None:
    """What the file says that rioxarray opened the array from; None where it is gone.

    rioxarray leaves RPCs in the file.
    """
    source = arr.encoding.get("source")
    if not isinstance(source, str) or "rasterio_dtype" not in arr.encoding:
        return None
    with warnings.catch_warnings(), contextlib.suppress(RasterioError, OSError):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            return OpenedPoints(file.shape, file.rpcs)
    return None


def moved_points(points: Points, cut: Affine) -> Points:
    """The points in pixels of a part, whose pixels ``cut`` takes to those of the whole."""
    if cut == Affine.identity():
        return points
    return tuple(_moved(point, cut) for point in points)


def _moved(point: GroundControlPoint, cut: Affine) -> GroundControlPoint:
    return GroundControlPoint(
        row=(point.row - cut.f) / cut.e,
        col=(point.col - cut.c) / cut.a,
        x=point.x,
        y=point.y,
        z=point.z,
        id=point.id,
        info=point.info,
    )


def moved_rpcs(rpcs: RPC, cut: Affine) -> RPC | None:
    """RPCs of a part; None if it is flipped. They count from the centre of the first pixel."""
    if cut == Affine.identity():
        return rpcs
    if cut.a < 0 or cut.e < 0:
        return None
    changes = {
        "samp_off": (rpcs.samp_off + 0.5 - cut.c) / cut.a - 0.5,
        "line_off": (rpcs.line_off + 0.5 - cut.f) / cut.e - 0.5,
        "samp_scale": rpcs.samp_scale / cut.a,
        "line_scale": rpcs.line_scale / cut.e,
    }
    return RPC(**{**rpcs.to_dict(), **changes})
