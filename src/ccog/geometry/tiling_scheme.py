"""The one tiling scheme that ccog writes to, and whether a raster already lies on its grid.

GDAL reprojects to a scheme unless size and corners are those of the grid (GDALCOGCreator::Create);
then it only notes the scheme and the zoom level in the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from affine import Affine

from ccog.errors import ReprojectionError
from ccog.geometry.options import GOOGLE_MAPS, CreationOptions

#: The CRS of the scheme.
EPSG = 3857

#: Half of the side of the whole map in metres (OGC Tile Matrix Set, WebMercatorQuad).
_HALF = 20037508.342789244

_DEEPEST_ZOOM = 30

# GDAL takes corners as equal within this part of their coordinates
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class _Axis:
    """One axis of the raster, in metres, on a zoom level whose tiles are ``span`` wide.

    It may begin and end at every ``step``-th tile.
    """

    start: float
    length: float
    span: float
    step: int

    @property
    def first(self) -> int:
        """Index of its first tile."""
        return math.floor(self.start / self.span / self.step + 1e-6) * self.step

    @property
    def count(self) -> int:
        """Tiles that it touches."""
        steps = math.ceil((self.start + self.length) / self.span / self.step - 1e-6)
        return max(1, steps * self.step - self.first)

    @property
    def fits(self) -> bool:
        """Whether it begins and ends where tiles do."""
        tolerance = _TOLERANCE * _HALF
        begins = math.isclose(self.start, self.first * self.span, abs_tol=tolerance)
        return begins and math.isclose(self.length, self.count * self.span, abs_tol=tolerance)


def check_grid(transform: Affine, height: int, width: int, options: CreationOptions) -> None:
    """Refuse a raster in EPSG:3857 that GDAL would move to the scheme's grid."""
    is_north_up = not transform.b and not transform.d and transform.e < 0
    is_square = math.isclose(transform.a, -transform.e, rel_tol=_TOLERANCE)
    _zoom, x, y = _on_grid(transform, height, width, options)
    is_of_zoom = math.isclose(transform.a, x.span / options.blocksize, rel_tol=_TOLERANCE)
    if not (is_north_up and is_square and is_of_zoom and x.fits and y.fits):
        raise ReprojectionError(
            f"the raster is not on the grid of TILING_SCHEME={GOOGLE_MAPS}; "
            + advice(transform, height, width, options)
        )


def advice(transform: Affine, height: int, width: int, options: CreationOptions) -> str:
    """The call that brings a raster to the grid on which it takes the fewest tiles.

    The arguments say where GDAL would reproject it to in EPSG:3857.
    """
    zoom, x, y = _on_grid(transform, height, width, options)
    left, upper = x.first * x.span - _HALF, _HALF - y.first * y.span
    right, lower = left + x.count * x.span, upper - y.count * y.span
    rows, cols = y.count * options.blocksize, x.count * options.blocksize
    return (
        f"at zoom level {zoom} it would be {rows} x {cols} pixels (y, x): reproject the array "
        "first, arr = odc.geo.xr.xr_reproject(arr, odc.geo.geobox.GeoBox.from_bbox("
        f'({left!r}, {lower!r}, {right!r}, {upper!r}), "EPSG:{EPSG}", shape=({rows}, {cols}), '
        'tight=True), resampling="cubic")'
    )


class _OnGrid(NamedTuple):
    """A raster on the grid of a zoom level."""

    zoom: int
    x: _Axis
    y: _Axis


def _on_grid(transform: Affine, height: int, width: int, options: CreationOptions) -> _OnGrid:
    """The raster on the zoom level that is asked for, or on the one nearest to its pixels.

    The tiles of so many ALIGNED_LEVELS begin where tiles of the raster begin.
    """
    zoom = options.zoom_level
    if zoom is None:
        zoom = _nearest_zoom(transform.a * options.blocksize)
    span = 2 * _HALF / 2**zoom
    step = 2 ** max(0, min(options.aligned_levels or 0, zoom) - 1)
    x = _Axis(transform.c + _HALF, width * transform.a, span, step)
    return _OnGrid(zoom, x, _Axis(_HALF - transform.f, -height * transform.e, span, step))


def _nearest_zoom(tile: float) -> int:
    """The zoom level whose tiles are nearest to ``tile`` metres, by their ratio.

    That is ZOOM_LEVEL_STRATEGY=AUTO of the COG driver (COGGetWarpingCharacteristics).
    """
    return min(_DEEPEST_ZOOM, max(0, round(math.log2(2 * _HALF / tile))))
