"""Write one Cloud Optimised GeoTIFF from all the workers of a dask cluster.

The file is, byte for byte, the one that GDAL would have written.
"""

import importlib
from typing import TYPE_CHECKING

import wrapt

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

if TYPE_CHECKING:
    from ccog.api import plan, write_ccog
    from ccog.stores import IncompleteUpload, WriteResult, abort_incomplete, list_incomplete
    from ccog.views.inspect.report import Inspection, inspect
    from ccog.views.plan.report import CogPlan, PlannedLevel, PlannedRead
    from ccog.views.progress.live import progress
    from ccog.views.validate.checks import Validation, validate

# imported when they are asked for: `ccog --help` needs neither dask nor GDAL
_MODULES = {
    "ccog.api": ("plan", "write_ccog"),
    "ccog.stores": ("IncompleteUpload", "WriteResult", "abort_incomplete", "list_incomplete"),
    "ccog.views.inspect.report": ("Inspection", "inspect"),
    "ccog.views.plan.report": ("CogPlan", "PlannedLevel", "PlannedRead"),
    "ccog.views.progress.live": ("progress",),
    "ccog.views.validate.checks": ("Validation", "validate"),
}

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


if not TYPE_CHECKING:  # to type checkers other names stay unknown

    def __getattr__(name: str) -> object:
        """A public name whose module is imported now."""
        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(module), name)
                return value
        raise AttributeError(f"module 'ccog' has no attribute {name!r}")


# da.ccog and ds.ccog, without importing xarray here
wrapt.register_post_import_hook("ccog.accessor:register", "xarray")
