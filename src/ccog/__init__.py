"""Write one Cloud Optimised GeoTIFF from all the workers of a dask cluster, byte for byte as GDAL would."""

import wrapt

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
from ccog.inspection import Inspection, Validation, inspect, validate
from ccog.stores import WriteResult

__all__ = [
    "ArgumentTypeError",
    "CCOGError",
    "CCOGWarning",
    "DtypeError",
    "EncodeError",
    "Inspection",
    "MissingDependencyError",
    "OptionError",
    "RasterError",
    "ReprojectionError",
    "StoreError",
    "StoreExistsError",
    "StoreNotFoundError",
    "StorePermissionError",
    "Validation",
    "WriteResult",
    "inspect",
    "validate",
    "write_ccog",
]

# da.ccog and ds.ccog, without importing xarray here
wrapt.register_post_import_hook("ccog.accessor:register", "xarray")
