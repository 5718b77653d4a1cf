"""Files as ``gdal_translate`` changes them on the way: GDAL's ``vrt://`` connections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ccog.errors import OptionError, RasterError, StoreError
from ccog.input.gdal_names import gdal_name, gdal_type
from ccog.input.metadata import python_number
from ccog.input.source import VRT_CONNECTION, Source
from ccog.redaction import redacted

#: What removes the nodata value, as in ``gdal_translate -a_nodata none``.
NO_NODATA = "none"


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Other bands, type, nodata value or CRS than those of a file; None and () keep its own.

    ``bands`` count from 1. Values are cast as by GDAL: rounded and clamped.
    """

    bands: tuple[int, ...] = ()
    dtype: str | None = None
    nodata: str | None = None
    crs: str | None = None

    def path(self, path: str) -> str:
        """What GDAL opens to see the file at ``path`` with the changes."""
        if self.nodata is not None:
            # GDAL takes other words for 0
            _number(self.nodata)
        changes = {
            "bands": ",".join(map(str, self.bands)),
            "ot": self.dtype and gdal_type(self.dtype),
            "a_nodata": self.nodata,
            "a_srs": self.crs,
        }
        options = {key: value for key, value in changes.items() if value}
        if not options:
            return path
        # rasterio hands vrt:// to GDAL as it is
        name = gdal_name(path)
        if "?" in name:
            raise StoreError(
                f"{redacted(path)} holds a '?', and {', '.join(options)} cannot be changed of "
                "such a file; rename it, or make a VRT of it with gdal_translate -of VRT"
            )
        pairs = "&".join(f"{key}={value}" for key, value in options.items())
        return f"{VRT_CONNECTION}{name}?{pairs}"

    def of_variable(self, source: Source) -> Source:
        """A variable of a Zarr or netCDF file with the changes."""
        if self.bands or self.dtype:
            raise RasterError(
                "bands and type of a Zarr or netCDF variable cannot be changed on the way; "
                "select them with xarray and call ccog.write_ccog, or have GDAL read the file: "
                'NETCDF:"file.nc":variable'
            )
        options: dict[str, Any] = {}
        if self.nodata is not None:
            options["nodata"] = _number(self.nodata)
        if self.crs is not None:
            options["crs"] = self.crs
        return replace(source, options=source.options | options)


def _number(text: str) -> float | int | None:
    if text.lower() == NO_NODATA:
        return None
    try:
        return python_number(text)
    except ValueError:
        raise OptionError(f"nodata={text!r} is not a number, nan or none") from None
