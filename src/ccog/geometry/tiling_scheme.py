"""The tiling schemes that ccog writes to, and whether a raster already lies on the grid of one.

GDAL reprojects to a scheme unless size and corners are those of the grid (GDALCOGCreator::Create);
then it only notes the scheme and the zoom level in the file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from affine import Affine

from ccog.errors import ReprojectionError
from ccog.geometry.options import CreationOptions

# side of the schemes' own tiles in pixels
_TILE = 256

# metres of a pixel on a map at 1:1 (OGC Tile Matrix Set)
_PIXEL = 0.28e-3

# GDAL takes corners as equal within this part of their coordinates
_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Tiles that begin at a corner, ``left`` and ``top``, and cover ``width`` x ``height``.

    ``pixels`` are the sides of a pixel at the zoom levels, the largest first. All are in units of
    the CRS.
    """

    crs: str
    left: float
    top: float
    width: float
    height: float
    pixels: tuple[float, ...]

    def ratios(self, zoom: int) -> Iterator[float]:
        """From each level, ``zoom`` first, to the next smaller one: how much larger pixels are."""
        for level in range(zoom, 0, -1):
            yield self.pixels[level - 1] / self.pixels[level]
        yield from itertools.repeat(2.0)

    def step(self, zoom: int, aligned_levels: int | None) -> int:
        """The number of tiles at whose multiples a raster begins (ALIGNED_LEVELS)."""
        count = max(0, min(aligned_levels or 0, zoom) - 1)
        ratios = itertools.islice(self.ratios(zoom), count)
        return math.prod(Fraction(ratio).limit_denominator(60).numerator for ratio in ratios)


def _halving(first: float, count: int) -> tuple[float, ...]:
    return tuple(first / 2**level for level in range(count))


def _of_scales(scales: Sequence[float]) -> tuple[float, ...]:
    return tuple(scale * _PIXEL for scale in scales)


# half of the side of the whole map in metres (WebMercatorQuad)
_HALF = 20037508.342789244

_NZTM = (
    *(32e6, 16e6, 8e6, 4e6, 2e6, 1e6, 500e3, 250e3, 100e3, 50e3, 25e3, 10e3, 5e3, 2.5e3, 1e3),
    *(500.0, 250.0),
)
_CBMT = (
    *(137016643.08090523, 80320101.1163927327, 47247118.3037604243, 28348270.982256256),
    *(16536491.40631615, 9449423.6607520857, 5669654.1964512512, 3307298.2812632299),
    *(1889884.7321504171, 1133930.8392902503, 661459.65625264601, 396875.79375158757),
    236235.59151880213,
)

SCHEMES = {
    "GoogleMapsCompatible": Scheme(
        crs="EPSG:3857",
        left=-_HALF,
        top=_HALF,
        width=2 * _HALF,
        height=2 * _HALF,
        pixels=_halving(2 * _HALF / _TILE, 31),
    ),
    "InspireCRS84Quad": Scheme(
        crs="EPSG:4326",
        left=-180,
        top=90,
        width=360,
        height=180,
        pixels=_halving(180 / _TILE, 18),
    ),
    "NZTM2000": Scheme(
        crs="EPSG:2193",
        left=-1e6,
        top=1e7,
        width=2 * _TILE * _PIXEL * 32e6,
        height=4 * _TILE * _PIXEL * 32e6,
        pixels=_of_scales(_NZTM),
    ),
    "LINZAntarticaMapTileGrid": Scheme(
        crs="EPSG:5482",
        left=-918457.73,
        top=6918457.73,
        width=11836000,
        height=11836000,
        pixels=_halving(409.6e6 * _PIXEL, 14),
    ),
    "MapML_APSTILE": Scheme(
        crs="EPSG:5936",
        left=-28567784.109255,
        top=32567784.109255,
        width=852895761.9785715 * _PIXEL * _TILE,
        height=852895761.9785715 * _PIXEL * _TILE,
        pixels=_halving(852895761.9785715 * _PIXEL, 20),
    ),
    "MapML_CBMTILE": Scheme(
        crs="EPSG:3978",
        left=-34655800,
        top=39310000,
        width=49106764,
        height=49106764,
        pixels=_of_scales([*_CBMT, *(scale / 1000 for scale in _CBMT)]),
    ),
}


@dataclass(frozen=True)
class _Axis:
    """One axis of the raster on a zoom level whose tiles are ``span`` wide, ``most`` of them.

    It may begin and end at every ``step``-th tile. ``slack`` are lengths that are as good as none.
    """

    start: float
    length: float
    span: float
    step: int
    most: int
    slack: float

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
        begins = math.isclose(self.start, self.first * self.span, abs_tol=self.slack)
        ends = math.isclose(self.length, self.count * self.span, abs_tol=self.slack)
        is_inside = self.first >= 0 and self.first + self.count <= self.most
        return begins and ends and is_inside


def scheme_of(options: CreationOptions) -> Scheme | None:
    """The tiling scheme of the file; None where it has none."""
    return None if options.tiling_scheme is None else SCHEMES[options.tiling_scheme]


def _zoom(scheme: Scheme, transform: Affine, options: CreationOptions) -> int:
    """The zoom level that is asked for, or the one whose pixels are nearest to the raster's.

    That is ZOOM_LEVEL_STRATEGY=AUTO of the COG driver (COGGetWarpingCharacteristics).
    """
    if options.zoom_level is not None:
        return min(options.zoom_level, len(scheme.pixels) - 1)
    pixel = transform.a * options.blocksize / _TILE
    levels = range(len(scheme.pixels))
    return min(levels, key=lambda level: abs(math.log(scheme.pixels[level] / abs(pixel))))


def with_zoom(options: CreationOptions, transform: Affine | None) -> CreationOptions:
    """The options with the zoom level of a raster, where they have a tiling scheme."""
    scheme = scheme_of(options)
    if scheme is None or transform is None:
        return options
    return replace(options, zoom_level=_zoom(scheme, transform, options))


def ratios_of(options: CreationOptions) -> Iterator[float] | None:
    """How much smaller each level is than the one before; None where they are halved."""
    scheme = scheme_of(options)
    return None if scheme is None else scheme.ratios(options.zoom_level or 0)


def check_grid(transform: Affine, height: int, width: int, options: CreationOptions) -> None:
    """Refuse a raster in the scheme's CRS that GDAL would move to its grid."""
    is_north_up = not transform.b and not transform.d and transform.e < 0
    is_square = math.isclose(transform.a, -transform.e, rel_tol=_TOLERANCE)
    _zoom, x, y = _on_grid(transform, height, width, options)
    is_of_zoom = math.isclose(transform.a, x.span / options.blocksize, rel_tol=_TOLERANCE)
    if not (is_north_up and is_square and is_of_zoom and x.fits and y.fits):
        raise ReprojectionError(
            f"the raster is not on the grid of TILING_SCHEME={options.tiling_scheme}; "
            + advice(transform, height, width, options)
        )


def advice(transform: Affine, height: int, width: int, options: CreationOptions) -> str:
    """The call that brings a raster to the grid on which it takes the fewest tiles.

    The arguments say where GDAL would reproject it to in the scheme's CRS.
    """
    scheme = SCHEMES[options.tiling_scheme or ""]
    zoom, x, y = _on_grid(transform, height, width, options)
    left, upper = scheme.left + x.first * x.span, scheme.top - y.first * y.span
    right, lower = left + x.count * x.span, upper - y.count * y.span
    rows, cols = y.count * options.blocksize, x.count * options.blocksize
    return (
        f"at zoom level {zoom} it would be {rows} x {cols} pixels (y, x): reproject the array "
        "first, arr = odc.geo.xr.xr_reproject(arr, odc.geo.geobox.GeoBox.from_bbox("
        f'({left!r}, {lower!r}, {right!r}, {upper!r}), "{scheme.crs}", shape=({rows}, {cols}), '
        'tight=True), resampling="cubic")'
    )


def _on_grid(
    transform: Affine, height: int, width: int, options: CreationOptions
) -> tuple[int, _Axis, _Axis]:
    """The zoom level that is asked for or nearest to the pixels, and the axes x and y on its grid.

    The tiles of so many ALIGNED_LEVELS begin where tiles of the raster begin.
    """
    scheme = SCHEMES[options.tiling_scheme or ""]
    zoom = _zoom(scheme, transform, options)
    span = scheme.pixels[zoom] * _TILE
    step = scheme.step(zoom, options.aligned_levels)
    slack = _TOLERANCE * max(abs(scheme.left), abs(scheme.top))
    columns, rows = (math.ceil(side / span - 1e-6) for side in (scheme.width, scheme.height))
    x = _Axis(transform.c - scheme.left, width * transform.a, span, step, columns, slack)
    y = _Axis(scheme.top - transform.f, -height * transform.e, span, step, rows, slack)
    return zoom, x, y
