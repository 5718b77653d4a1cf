"""How GDAL calls a file that a user names by a path or URL.

It relies on ``rasterio._path``, by which ``rasterio.open`` itself turns URLs into GDAL's names.
Without it, ``s3://`` and ``https://`` files could not stand in a VRT. Checked with rasterio 1.4.4
and 1.5.2.
"""

from __future__ import annotations

import os

from rasterio._path import _parse_path, _vsi_path


def gdal_name(path: str) -> str:
    """The name by which GDAL opens the file, from any directory; ``s3://`` becomes ``/vsis3/``."""
    return os.path.abspath(path) if os.path.exists(path) else str(_vsi_path(_parse_path(path)))
