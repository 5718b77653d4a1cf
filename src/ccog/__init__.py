"""Write one Cloud Optimised GeoTIFF from all the workers of a dask cluster.

The file is, byte for byte, the one that GDAL would have written.
"""

import wrapt

from ccog.api import plan, write_ccog
from ccog.errors import (
    ArgumentTypeError,
    CCOGError,
    CCOGWarning,
    ChunkError,
    DtypeError,
    EncodeError,
    MissingDependencyError,
    OptionError,
    RasterError,
    ReprojectionError,
    ResumeError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.stores import IncompleteUpload, WriteResult, abort_incomplete, list_incomplete
from ccog.views.inspect import Inspection, inspect
from ccog.views.plan import CogPlan, PlannedLevel, PlannedRead
from ccog.views.progress import progress
from ccog.views.validate import Validation, validate

__all__ = [
    "ArgumentTypeError",
    "CCOGError",
    "CCOGWarning",
    "ChunkError",
    "CogPlan",
    "DtypeError",
    "EncodeError",
    "IncompleteUpload",
    "Inspection",
    "MissingDependencyError",
    "OptionError",
    "PlannedLevel",
    "PlannedRead",
    "RasterError",
    "ReprojectionError",
    "ResumeError",
    "StoreError",
    "StoreExistsError",
    "StoreNotFoundError",
    "StorePermissionError",
    "Validation",
    "WriteResult",
    "abort_incomplete",
    "inspect",
    "list_incomplete",
    "plan",
    "progress",
    "validate",
    "write_ccog",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


# da.ccog and ds.ccog, without importing xarray here
wrapt.register_post_import_hook("ccog.accessor:register", "xarray")
