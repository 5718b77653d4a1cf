"""Write one Cloud Optimised GeoTIFF from all the workers of a dask cluster, byte for byte as GDAL would."""

from ccog.api import write_ccog
from ccog.errors import (
    ArgumentTypeError,
    CCOGError,
    CCOGWarning,
    DtypeError,
    EncodeError,
    MissingDependencyError,
    OptionError,
    RasterError,
    ReprojectionError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.stores import IncompleteUpload, WriteResult, abort_incomplete, list_incomplete

__all__ = [
    "ArgumentTypeError",
    "CCOGError",
    "CCOGWarning",
    "DtypeError",
    "EncodeError",
    "IncompleteUpload",
    "MissingDependencyError",
    "OptionError",
    "RasterError",
    "ReprojectionError",
    "StoreError",
    "StoreExistsError",
    "StoreNotFoundError",
    "StorePermissionError",
    "WriteResult",
    "abort_incomplete",
    "list_incomplete",
    "write_ccog",
]
