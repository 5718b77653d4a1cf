"""Ground control points and RPCs that DataArrays carry, and those of their parts."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC

from ccog.errors import warn_user


class Points(NamedTuple):
    """Ground control points and RPCs, which count the pixels of a raster.

    ``size`` is its (height, width), or the least that it can be where it is not known.
    """

    gcps: tuple[GroundControlPoint, ...]
    rpcs: RPC | None
    size: tuple[int, int]
    is_size_known: bool = True

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

    def may_have(self, part: Affine, size: tuple[int, int]) -> bool:
        """Whether the whole may have the last pixel of a part of this size."""
        rows, columns = self.size
        if not self.is_size_known and self.rpcs is not None:
            rows = max(rows, int(self.rpcs.line_off + 2 * self.rpcs.line_scale))
            columns = max(columns, int(self.rpcs.samp_off + 2 * self.rpcs.samp_scale))
        row, column = part.f + part.e * (size[0] - 0.5), part.c + part.a * (size[1] - 0.5)
        return bool(row < rows and column < columns)

    def of_part(self, part: Affine) -> Points:
        """Those of a part, whose pixels ``part`` takes to those of the whole."""
        if part == Affine.identity():
            return self
        rpcs = self.rpcs
        if rpcs is not None and (part.a < 0 or part.e < 0):
            warn_user("the array is flipped, and RPCs cannot be; they are left out: give rpcs=")
            rpcs = None
        if rpcs is not None:
            # RPCs count from the centre of the first pixel
            changes = {
                "samp_off": (rpcs.samp_off + 0.5 - part.c) / part.a - 0.5,
                "line_off": (rpcs.line_off + 0.5 - part.f) / part.e - 0.5,
                "samp_scale": rpcs.samp_scale / part.a,
                "line_scale": rpcs.line_scale / part.e,
            }
            rpcs = RPC(**{**rpcs.to_dict(), **changes})
        return self._replace(gcps=tuple(_moved(point, part) for point in self.gcps), rpcs=rpcs)


def _moved(point: GroundControlPoint, part: Affine) -> GroundControlPoint:
    row, col = (point.row - part.f) / part.e, (point.col - part.c) / part.a
    return GroundControlPoint(**{**point.asdict(), "row": row, "col": col})


def points_of(
    arr: Any, mappings: Mapping[str, Any], *, is_unplaced: bool, with_rpcs: bool
) -> Points | None:
    """The points of grid mappings; of an array that nothing else places, also those of its file."""
    gcps = _stored(mappings, "gcps", lambda said: tuple(map(_point, said["features"]))) or ()
    rpcs = _stored(mappings, "rpcs", lambda said: RPC(**said)) if with_rpcs else None
    file = opened_points(arr) if gcps or rpcs or (is_unplaced and with_rpcs) else None
    if file is not None and with_rpcs:
        rpcs = rpcs or file.rpcs
    if not gcps and rpcs is None:
        return None
    if file is not None:
        return file._replace(gcps=gcps, rpcs=rpcs)
    rows, columns = [p.row for p in gcps], [p.col for p in gcps]
    least = math.ceil(max(rows, default=0)), math.ceil(max(columns, default=0))
    return Points(gcps, rpcs, least, is_size_known=False)


def _stored(mappings: Mapping[str, Any], key: str, read: Callable[[Any], Any]) -> Any:
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


def _point(feature: Mapping[str, Any]) -> GroundControlPoint:
    x, y, *z = feature["geometry"]["coordinates"]
    said = feature["properties"]
    kept = {"id": said.get("id"), "info": said.get("info")}
    return GroundControlPoint(said["row"], said["col"], x, y, z[0] if z else None, **kept)


def opened_points(arr: Any) -> Points | None:
    """Size and RPCs of the file that rioxarray opened the array from; None where it is gone.

    rioxarray 0.19 leaves RPCs in the file; 0.23 keeps them in the grid mapping.
    """
    source = arr.encoding.get("source")
    if not isinstance(source, str) or "rasterio_dtype" not in arr.encoding:
        return None
    with warnings.catch_warnings(), contextlib.suppress(RasterioError, OSError):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            return Points((), file.rpcs, file.shape)
    return None
