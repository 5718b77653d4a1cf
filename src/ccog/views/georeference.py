"""What one checks first: where a raster lies, its nodata value, its bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from affine import Affine


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """Where a raster lies, and what its bands are.

    Attributes
    ----------
    crs
        "EPSG:32755", or the text of a CRS without a number; None where there is none.
    transform
        Six numbers (a, b, c, d, e, f) from columns and rows to coordinates; None where there are
        none.
    bounds
        (left, bottom, right, top) in units of the CRS; None where there is no transform.
    nodata
        The nodata value; None where there is none.
    band_names
        The description of each band, None where it has none.
    placed_by
        What says where an array of xarray lies; None of others.
    """

    crs: str | None
    transform: tuple[float, ...] | None
    bounds: tuple[float, float, float, float] | None
    nodata: float | int | None
    band_names: tuple[str | None, ...]
    placed_by: str | None = None

    @classmethod
    def of(
        cls,
        *,
        crs: Any,
        transform: Affine | None,
        nodata: float | int | None,
        band_names: Sequence[str | None],
        size: tuple[int, int],
        placed_by: str | None = None,
    ) -> Georeference:
        """A georeference from rasterio's values; ``size`` is (height, width) in pixels."""
        return cls(
            crs=crs.to_string() if crs else None,
            transform=None if transform is None else tuple(transform[:6]),
            bounds=None if transform is None else _bounds(transform, *size),
            nodata=nodata,
            band_names=tuple(band_names),
            placed_by=placed_by,
        )

    def facts(self) -> list[str]:
        """Lines that say it."""
        crs = self.crs or "none"
        facts = [f"CRS: {crs[:_LONG]}{'...' if len(crs) > _LONG else ''}"]
        if self.transform is not None and self.bounds is not None:
            numbers = ", ".join(f"{number:.12g}" for number in self.transform)
            edges = ", ".join(f"{edge:.12g}" for edge in self.bounds)
            facts.append(f"Transform: {numbers}")
            facts.append(f"Bounds: {edges} (left, bottom, right, top)")
        if self.placed_by is not None:
            facts.append(f"Placed by: {self.placed_by}")
        nodata = self.nodata
        # rasterio has 7.0 for the 7 of whole numbers
        if nodata is not None and float(nodata).is_integer() and abs(nodata) < _EXACT:
            nodata = int(nodata)
        facts.append(f"Nodata: {'none' if nodata is None else str(nodata)}")
        if any(self.band_names):
            names = [name or "-" for name in self.band_names[:_MOST_NAMES]]
            more = ", ..." if len(self.band_names) > _MOST_NAMES else ""
            facts.append(f"Bands: {', '.join(names)}{more}")
        return facts


# whole numbers below it are exact as floats
_EXACT = 1 << 53

# characters of a CRS, and names of bands, that are shown
_LONG, _MOST_NAMES = 100, 20


def _bounds(transform: Affine, height: int, width: int) -> tuple[float, float, float, float]:
    a, b, c, d, e, f = transform[:6]
    corners = (0, 0), (width, 0), (0, height), (width, height)
    xs = [a * column + b * row + c for column, row in corners]
    ys = [d * column + e * row + f for column, row in corners]
    return min(xs), min(ys), max(xs), max(ys)
