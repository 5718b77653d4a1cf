"""How GDAL calls files and types.

It relies on ``rasterio._path``, by which ``rasterio.open`` itself turns URLs into GDAL's names.
Without it, ``s3://`` and ``https://`` files could not stand in a VRT. Checked with rasterio 1.4.4
and 1.5.2.
"""

from __future__ import annotations

import os

from rasterio._path import _parse_path, _vsi_path

# types that GDAL calls otherwise than NumPy
_TYPES = {"uint8": "Byte", "complex64": "CFloat32", "complex128": "CFloat64"}


def gdal_type(dtype: str) -> str:
    """GDAL's name of a type of NumPy."""
    return _TYPES.get(dtype, dtype)


def gdal_name(path: str) -> str:
    """The name by which GDAL opens the file, from any directory; ``s3://`` becomes ``/vsis3/``."""
    return os.path.abspath(path) if os.path.exists(path) else str(_vsi_path(_parse_path(path)))
