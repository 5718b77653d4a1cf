"""The version of GDAL, on which some rules depend."""

from __future__ import annotations

import rasterio

#: (major, minor) of the GDAL that rasterio brings.
GDAL_VERSION = tuple(int(number) for number in rasterio.__gdal_version__.split(".")[:2])
