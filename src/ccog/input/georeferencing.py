"""Where DataArrays and Datasets lie: CRS and place, each from one rule, checked against each other.

What cannot be right is refused or warned of: a file in the wrong place looks like any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ccog.errors import RasterError, warn_user
from ccog.input.coordinates import (
    ROUNDING,
    along,
    are_in_degrees,
    dimensions,
    half_step,
    meshes_of,
)
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
    place = _only_place(variables, dataset, with_rpcs="RPCS" not in replaced)
    if crs is None and place.gcps is None and "CRS" not in replaced:
        arr = next(iter(variables.values()))
        y, x = dimensions(arr)
        if are_in_degrees(arr, y, x):
            warn_user(
                f"the coordinates {y} and {x} are latitudes and longitudes, but there is no CRS, "
                "so readers cannot place the file: "
                "arr.rio.write_crs('EPSG:4326'), or give crs='EPSG:4326'"
            )
    return replace(
        metadata,
        transform=place.transform,
        gcps=place.gcps,
        rpcs=place.rpcs,
        placed_by=place.source,
    )


def _only_place(variables: Mapping[str, Any], dataset: Any, *, with_rpcs: bool) -> Place:
    """The place of the first array; the others of a Dataset must not have another."""
    (name, arr), *others = variables.items()
    y, x = dimensions(arr)
    for other, also in others:
        dims = dimensions(also)
        if dims != (y, x):
            raise RasterError(
                f"{name} lies along the dimensions {(y, x)}, and {other} along {dims}; "
                "bands of one file share them: write one file for each, e.g. ds[['a', 'b']]"
            )
    place = place_of(arr, y, x, grid_mappings(arr, dataset), with_rpcs=with_rpcs)
    for other, also in others:
        # with the same coordinates and the same stored transform, the place is the same
        if _stored_text(also, dataset) != _stored_text(arr, dataset):
            second = place_of(also, y, x, grid_mappings(also, dataset), with_rpcs=with_rpcs)
            if second.transform != place.transform:
                here, there = (p.transform and tuple(p.transform)[:6] for p in (place, second))
                raise RasterError(
                    f"{name} lies at {here} and {other} at {there}, by "
                    f"{place.source} and {second.source}; bands of one file lie in one place"
                )
    return place


def _stored_text(arr: Any, dataset: Any) -> str:
    mappings = grid_mappings(arr, dataset).values()
    texts = [mapping.attrs.get("GeoTransform") for mapping in mappings]
    return str([*texts, arr.attrs.get("transform")])


# Masks

_FLIPS = slice(None), slice(None, None, -1)


def aligned(mask: Any, arr: Any) -> Any:
    """A mask in the order (..., y, x), its rows and columns where those of the array are.

    What has no names or coordinates is taken by position.
    """
    if hasattr(mask, "data_vars"):
        raise RasterError("mask is a Dataset; give one of its variables, mask=ds['name']")
    try:
        y, x = dimensions(mask)
    except RasterError:
        return mask
    mask = mask.transpose(..., y, x)
    if arr is None:
        return mask
    our_y, our_x = dimensions(arr)
    rows, columns = along(arr, "y", our_y), along(arr, "x", our_x)
    mask = _ordered(mask, y, rows, along(mask, "y", y))
    mask = _ordered(mask, x, columns, along(mask, "x", x))
    ours, theirs = meshes_of(arr, our_y, our_x), meshes_of(mask, y, x)
    return mask.isel(_flips(ours, theirs)) if ours and theirs else mask


def _flips(ours: list[Any], theirs: list[Any]) -> dict[Any, slice]:
    """The flips of sides that bring coordinates of each pixel into our order."""
    wanted, there = ([mesh.values for mesh in meshes] for meshes in (ours, theirs))
    for rows, columns in itertools.product(_FLIPS, _FLIPS):
        if all(map(_are_same, wanted, (mesh[rows, columns] for mesh in there))):
            return dict(zip(theirs[0].dims, (rows, columns), strict=True))
    raise RasterError(
        f"the mask has other coordinates {theirs[0].name} and {theirs[1].name} than the array; "
        "cut both alike, or lay it on by position, mask=mask.values"
    )


def _are_same(wanted: Any, there: Any) -> bool:
    if wanted.shape != there.shape:
        return False
    pixel = np.ptp(wanted) / max(1, *wanted.shape)
    return bool(np.all(np.abs(wanted - there) <= ROUNDING * pixel))


def _ordered(mask: Any, dim: Any, ours: Any, theirs: Any) -> Any:
    """The mask in the order of our coordinates along a side, refused where they are others."""
    if ours is None or theirs is None:
        return mask
    wanted, there = np.asarray(ours.values), np.asarray(theirs.values)
    if len(wanted) == len(there):
        for flip in _FLIPS:
            if _are_close(wanted, there[flip]):
                return mask.isel({dim: flip})
        sorted_wanted, sorted_there = np.argsort(wanted), np.argsort(there)
        if _are_close(wanted[sorted_wanted], there[sorted_there]):
            return mask.isel({dim: sorted_there[np.argsort(sorted_wanted)]})
    raise RasterError(
        f"the mask has other coordinates along {theirs.name} than the array: "
        f"{_span(there)}, not {_span(wanted)}; mask.reindex_like(arr, method='nearest'), "
        "or lay it on by position, mask=mask.values"
    )


def _are_close(wanted: Any, there: Any) -> bool:
    if wanted.dtype.kind not in "iuf" or there.dtype.kind not in "iuf":
        return bool(np.array_equal(wanted, there))
    floats = wanted.astype(float)
    step = np.abs(np.diff(floats)).min() if len(floats) > 1 else 0.0
    slack = max(half_step(values.dtype, values.astype(float)) for values in (wanted, there))
    return bool(np.all(np.abs(floats - there) <= ROUNDING * step + 2 * slack))


def _span(values: Any) -> str:
    return f"{len(values)} from {values[0]} to {values[-1]}" if len(values) else "none"
