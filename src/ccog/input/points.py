"""Ground control points and RPCs that DataArrays carry, and those of their parts."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC

from ccog.errors import warn_user

_Read = TypeVar("_Read")


class OpenedPoints(NamedTuple):
    """The size (height, width) of the file that an array was opened from, and its RPCs."""

    size: tuple[int, int]
    rpcs: RPC | None


class Points(NamedTuple):
    """Ground control points and RPCs, which count the pixels of a raster of a ``size``.

    The size is the least that it can have where it is not known.
    """

    gcps: tuple[GroundControlPoint, ...]
    rpcs: RPC | None
    size: tuple[int, int]
    is_size_known: bool

    @property
    def names(self) -> tuple[str, str]:
        """What there is, and the options that would give it."""
        if self.gcps and self.rpcs:
            return "ground control points and RPCs", "gcps= and rpcs="
        return ("ground control points", "gcps=") if self.gcps else ("RPCs", "rpcs=")

    def may_be_of(self, size: tuple[int, int]) -> bool:
        """Whether a raster of this size may be the whole."""
        if self.is_size_known:
            return size == self.size
        return size[0] >= self.size[0] and size[1] >= self.size[1]

    def number(self, row: float, column: float) -> bool:
        """Whether these can be numbers of pixels of the whole, and are not coordinates."""
        rows, columns = self.size
        if not self.is_size_known and self.rpcs is not None:
            rows = max(rows, int(self.rpcs.line_off + 2 * self.rpcs.line_scale))
            columns = max(columns, int(self.rpcs.samp_off + 2 * self.rpcs.samp_scale))
        return row < rows and column < columns

    def of_part(self, cut: Affine) -> Points:
        """Those of a part, whose pixels ``cut`` takes to those of the whole."""
        if cut == Affine.identity():
            return self
        rpcs = None if self.rpcs is None else _moved_rpcs(self.rpcs, cut)
        if self.rpcs is not None and rpcs is None:
            warn_user("the array is flipped, and RPCs cannot be; they are left out: give rpcs=")
        return self._replace(gcps=tuple(_moved(point, cut) for point in self.gcps), rpcs=rpcs)


def points_of(
    arr: Any, mappings: Mapping[str, Any], *, is_unplaced: bool, with_rpcs: bool
) -> Points | None:
    """The points of grid mappings; of an array that nothing else places, also those of its file."""
    gcps = _stored(mappings, "gcps", _gcps) or ()
    rpcs = _stored(mappings, "rpcs", _rpcs) if with_rpcs else None
    file = opened_points(arr) if gcps or rpcs or (is_unplaced and with_rpcs) else None
    if file is not None and rpcs is None and with_rpcs:
        rpcs = file.rpcs
    if not gcps and rpcs is None:
        return None
    rows, columns = [p.row for p in gcps], [p.col for p in gcps]
    least = math.ceil(max(rows, default=0)), math.ceil(max(columns, default=0))
    return Points(gcps, rpcs, least if file is None else file.size, file is not None)


def _stored(mappings: Mapping[str, Any], key: str, read: Callable[[Any], _Read]) -> _Read | None:
    """What rioxarray and odc-geo keep as JSON in a grid mapping."""
    for name, variable in mappings.items():
        text = variable.attrs.get(key)
        if text is None:
            continue
        try:
            return read(json.loads(text) if isinstance(text, str) else text)
        except (KeyError, TypeError, ValueError) as error:
            warn_user(
                f"{key} of the grid mapping {name} cannot be read ({error!r}), and are left out: "
                f"arr.rio.write_{key}(...), or give {key}="
            )
    return None


def _gcps(collection: Any) -> tuple[GroundControlPoint, ...]:
    return tuple(map(_point, collection["features"]))


def _rpcs(numbers: Any) -> RPC:
    return RPC(**numbers)


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

    rioxarray 0.19 leaves RPCs in the file; 0.23 keeps them in the grid mapping.
    """
    source = arr.encoding.get("source")
    if not isinstance(source, str) or "rasterio_dtype" not in arr.encoding:
        return None
    with warnings.catch_warnings(), contextlib.suppress(RasterioError, OSError):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            return OpenedPoints(file.shape, file.rpcs)
    return None


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


def _moved_rpcs(rpcs: RPC, cut: Affine) -> RPC | None:
    """None if the part is flipped. RPCs count from the centre of the first pixel."""
    if cut.a < 0 or cut.e < 0:
        return None
    changes = {
        "samp_off": (rpcs.samp_off + 0.5 - cut.c) / cut.a - 0.5,
        "line_off": (rpcs.line_off + 0.5 - cut.f) / cut.e - 0.5,
        "samp_scale": rpcs.samp_scale / cut.a,
        "line_scale": rpcs.line_scale / cut.e,
    }
    return RPC(**{**rpcs.to_dict(), **changes})
