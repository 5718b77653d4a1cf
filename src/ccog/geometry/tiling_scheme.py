"""The one tiling scheme that ccog writes to, and whether a raster already lies on its grid.

GDAL reprojects to a scheme unless size and corners are those of the grid (GDALCOGCreator::Create);
then it only notes the scheme and the zoom level in the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ccog.errors import ReprojectionError

#: As GDAL names it.
GOOGLE_MAPS = "GoogleMapsCompatible"
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


@dataclass(frozen=True, kw_only=True)
class SchemeOptions:
    """What the user asks of the scheme.

    ``blocksize`` is the tile side in pixels. ``zoom_level`` None is the one nearest to the pixels.
    The tiles of ``aligned_levels`` zoom levels begin where tiles of the raster begin.
    """

    blocksize: int
    zoom_level: int | None = None
    aligned_levels: int | None = None


def check_grid(
    epsg: int | None,
    transform: tuple[float, ...] | None,
    height: int,
    width: int,
    options: SchemeOptions,
) -> None:
    """Refuse a raster that GDAL would reproject to the scheme, and say what grid it would need.

    ``transform`` holds the affine coefficients a to f.

    Raises
    ------
    ReprojectionError
        The raster has another CRS, is rotated, or its pixels or corners are not those of the
        scheme's tiles.
    """
    if epsg != EPSG or transform is None or transform[1] or transform[3] or transform[4] >= 0:
        crs = f"EPSG:{epsg}" if epsg else "unknown"
        raise ReprojectionError(
            f"TILING_SCHEME={GOOGLE_MAPS} needs a north-up raster in EPSG:{EPSG}, this one has CRS "
            f"{crs} and transform {transform}; {_ADVICE}"
        )
    blocksize = options.blocksize
    zoom = options.zoom_level
    if zoom is None:
        zoom = _zoom(transform[0] * blocksize)
    span = 2 * _HALF / 2**zoom
    step = 2 ** max(0, min(options.aligned_levels or 0, zoom) - 1)
    x = _Axis(transform[2] + _HALF, width * transform[0], span, step)
    y = _Axis(_HALF - transform[5], -height * transform[4], span, step)
    pixel = span / blocksize
    square = math.isclose(transform[0], -transform[4], rel_tol=_TOLERANCE)
    is_of_zoom = math.isclose(transform[0], pixel, rel_tol=_TOLERANCE)
    if not (square and is_of_zoom and x.fits and y.fits):
        left, upper = x.first * span - _HALF, _HALF - y.first * span
        raise ReprojectionError(
            f"the raster is not on the grid of TILING_SCHEME={GOOGLE_MAPS}; at zoom level {zoom} "
            f"it would be {y.count * blocksize} x {x.count * blocksize} pixels (y, x) with the "
            f"transform ({pixel!r}, 0, {left!r}, 0, {-pixel!r}, {upper!r}); {_ADVICE}"
        )


_ADVICE = (
    "reproject the array to that grid first, e.g. with odc.geo.xr.xr_reproject or rioxarray's "
    "rio.reproject"
)


def _zoom(tile: float) -> int:
    """The zoom level whose tiles are at most ``tile`` metres wide."""
    return min(_DEEPEST_ZOOM, max(0, math.ceil(math.log2(2 * _HALF / tile) - 1e-6)))
