"""The versions of the libraries that decide the bytes of a file."""

from __future__ import annotations

from typing import NamedTuple

import rasterio

#: (major, minor) of the GDAL that rasterio brings.
GDAL_VERSION = tuple(int(number) for number in rasterio.__gdal_version__.split(".")[:2])


class Libraries(NamedTuple):
    """Versions of rasterio and GDAL, as a process has them."""

    rasterio: str
    gdal: str

    @classmethod
    def here(cls) -> Libraries:
        """Those of this process."""
        return cls(rasterio.__version__, rasterio.__gdal_version__)

    def __str__(self) -> str:
        return f"rasterio {self.rasterio} with GDAL {self.gdal}"
