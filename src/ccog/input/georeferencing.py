"""Where DataArrays and Datasets lie: CRS and place, each from one rule, checked against each other.

What cannot be right is refused or warned of: a file in the wrong place looks like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ccog.errors import RasterError, warn_user
from ccog.input.coordinates import dimension, is_in_degrees
from ccog.input.crs import crs_of, grid_mappings
from ccog.input.metadata import Metadata
from ccog.input.place import Place, place_of


def georeferenced(
    metadata: Metadata, variables: Mapping[str, Any], dataset: Any, replaced: Collection[str]
) -> Metadata:
    """The metadata with CRS, transform, ground control points and RPCs of DataArrays.

    ``variables`` are one array, or those of a ``dataset``, by what to call them. ``replaced`` are
    the options (upper case) that the user gives instead.
    """
    crs = None if "CRS" in replaced else crs_of(variables, dataset)
    metadata = replace(metadata, crs=crs)
    if "TRANSFORM" in replaced or "GCPS" in replaced:
        return metadata
    place = _only_place(variables, dataset)
    if crs is None and place.gcps is None and "CRS" not in replaced:
        _warn_of_missing_crs(next(iter(variables.values())))
    return replace(
        metadata,
        transform=place.transform,
        gcps=place.gcps,
        rpcs=place.rpcs,
        placed_by=place.source,
    )


def has_rioxarray() -> bool:
    """Whether rioxarray is installed; then arrays have ``rio``."""
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return False
    return True


def _only_place(variables: Mapping[str, Any], dataset: Any) -> Place:
    """The place of the first array; the others of a Dataset must not have another."""
    (name, arr), *others = variables.items()
    y, x = dimension(arr, "y"), dimension(arr, "x")
    for other, also in others:
        dims = dimension(also, "y"), dimension(also, "x")
        if dims != (y, x):
            raise RasterError(
                f"{name} lies along the dimensions {(y, x)}, and {other} along {dims}; "
                "bands of one file share them: write one file for each, e.g. ds[['a', 'b']]"
            )
    return place_of(arr, y, x, grid_mappings(arr, dataset))


def _warn_of_missing_crs(arr: Any) -> None:
    y, x = dimension(arr, "y"), dimension(arr, "x")
    if is_in_degrees(arr, "y", y) and is_in_degrees(arr, "x", x):
        warn_user(
            f"the coordinates {y} and {x} are latitudes and longitudes, but there is no CRS, "
            "so readers cannot place the file: "
            "arr.rio.write_crs('EPSG:4326'), or give crs='EPSG:4326'"
        )
