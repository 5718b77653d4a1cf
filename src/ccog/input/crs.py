"""The CRS of DataArrays and Datasets, wherever today's libraries keep it.

* The grid mapping (CF, rioxarray, odc-geo): a variable without dimensions, which attributes or
  ``encoding`` name. xarray opens it as a coordinate or, by default, as a variable of the Dataset.
* An index that has one (xproj, rasterix), and a coordinate that is one (satpy).
* The attributes ``crs``, ``crs_wkt``, ``proj:code``, ... of the array, its coordinates and Dataset.

All that is found must agree. What cannot be read is warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

from ccog.errors import RasterError, warn_user
from ccog.input.rioxarray_edges import chosen_crs

# attributes of a grid mapping that are a CRS: those of GDAL and CF, and those of older products
_TEXTS = ("spatial_ref", "crs_wkt")
_OLDER_TEXTS = ("wkt", "proj4text", "proj4", "epsg_code")

# by one of these attributes a variable is known for a grid mapping
_MARKS = (*_TEXTS, "grid_mapping_name", "GeoTransform", "gcps")

# attributes of arrays, coordinates and Datasets
_ATTRIBUTES = ("crs", "crs_wkt", "spatial_ref", "proj:code", "proj:wkt2", "proj:projjson")

# characters of a CRS that an error shows
_LONG = 80


class _Said(NamedTuple):
    """A value that may be a CRS, and where it stands."""

    where: str
    value: Any


class _CFParameters(NamedTuple):
    """A CRS by the attributes of CF, without its text."""

    attrs: Mapping[str, Any]


def crs_of(variables: Mapping[str, Any], dataset: Any) -> CRS | None:
    """The CRS that arrays, and the Dataset that they are from, agree on.

    ``dataset`` is None for an array of its own. Keys of ``variables`` are what to call them.
    """
    said = [one for name, arr in variables.items() for one in _said_by(name, arr, dataset)]
    if dataset is not None:
        said += _attributes("the Dataset", dataset.attrs)
    found = _readable(said)
    if not found:
        chosen = (chosen_crs(arr) for arr in variables.values())
        return next((crs for crs in chosen if crs is not None), None)
    (where, crs), *others = found.items()
    for other, also in others:
        if not _same(crs, also):
            raise RasterError(
                f"the CRS of {where} is {_shown(crs)}, and that of {other} is {_shown(also)}; "
                "one file has one: delete the one that is wrong, or give crs="
            )
    return crs


def grid_mappings(arr: Any, dataset: Any) -> dict[str, Any]:
    """Grid mappings of an array by name: those that it names, else those that it has beside it."""
    inside: dict[str, Any] = {} if dataset is None else dict(dataset.variables)
    inside |= dict(arr.coords)
    named = {name: inside[name] for name in _names(arr, dataset) if name in inside}
    if named:
        return named
    scalars = {str(name): variable for name, variable in inside.items() if variable.ndim == 0}
    return {
        name: variable
        for name, variable in scalars.items()
        if any(mark in variable.attrs for mark in _MARKS)
    }


# What there is


def _said_by(name: str, arr: Any, dataset: Any) -> Iterator[_Said]:
    mappings = grid_mappings(arr, dataset)
    for mapping, variable in mappings.items():
        yield from _mapped(mapping, variable)
    for index in _indexes(arr):
        yield _Said(f"the index {type(index).__name__}", index.crs)
    for coordinate, variable in arr.coords.items():
        if variable.ndim == 0 and coordinate not in mappings:
            yield from _object(str(coordinate), variable)
    yield from _attributes(name, arr.attrs)
    for dim in arr.dims:
        if dim in arr.coords:
            yield from _attributes(f"the coordinate {dim}", arr.coords[dim].attrs)
    missing = [mapping for mapping in _names(arr, dataset) if mapping not in mappings]
    if missing and not mappings:
        yield _Said(f"the grid mapping {missing[0]}", None)


def _names(arr: Any, dataset: Any) -> list[str]:
    """The grid mappings that are named for the dimensions of an array."""
    owners = [arr] if dataset is None else [arr, dataset]
    texts = [
        text
        for owner in owners
        for text in (owner.encoding.get("grid_mapping"), owner.attrs.get("grid_mapping"))
    ]
    names = [name for text in texts if isinstance(text, str) for name in _named_in(text, arr)]
    return list(dict.fromkeys(names))


def _named_in(text: str, arr: Any) -> list[str]:
    """Of CF's extended form, ``"utm: x y wgs84: lat lon"``, the names for these dimensions."""
    if ":" not in text:
        return text.split()
    coordinates: dict[str, set[str]] = {}
    name = ""
    for word in text.split():
        if word.endswith(":"):
            name = word[:-1]
            coordinates[name] = set()
        elif name:
            coordinates[name].add(word)
    dims = {str(dim) for dim in arr.dims}
    fitting = [name for name, words in coordinates.items() if words & dims]
    return fitting or list(coordinates)


def _mapped(name: str, variable: Any) -> Iterator[_Said]:
    where, attrs = f"the grid mapping {name}", variable.attrs
    texts = [key for key in _TEXTS if _is_said(attrs.get(key))]
    for key in texts:
        yield _Said(f"{where} ({key})", attrs[key])
    if any(_crs(attrs[key]) is not None for key in texts):
        return
    if "grid_mapping_name" in attrs:
        rest = {key: value for key, value in attrs.items() if key not in _TEXTS}
        yield _Said(f"{where} (grid_mapping_name)", _CFParameters(rest))
        return
    older = [key for key in _OLDER_TEXTS if _is_said(attrs.get(key))][:1]
    for key in older:
        yield _Said(f"{where} ({key})", attrs[key])
    objects = list(_object(name, variable))
    yield from objects
    if not (texts or older or objects or any(mark in attrs for mark in _MARKS)):
        yield _Said(where, None)


def _object(name: str, variable: Any) -> Iterator[_Said]:
    """A coordinate that is a CRS itself, as satpy's, or the text of one."""
    is_text = variable.dtype.kind in "UST" or variable.dtype.kind == "O"
    if variable.ndim or not is_text:
        return
    value = variable.values.item()
    if hasattr(value, "to_wkt") or (name == "crs" and _is_said(value)):
        yield _Said(f"the coordinate {name}", value)


def _indexes(arr: Any) -> list[Any]:
    """Indexes that have a CRS, as those of xproj and rasterix."""
    indexes = {id(index): index for index in arr.xindexes.values()}
    return [index for index in indexes.values() if getattr(index, "crs", None) is not None]


def _attributes(owner: str, attrs: Mapping[Any, Any]) -> Iterator[_Said]:
    for key in _ATTRIBUTES:
        if _is_said(attrs.get(key)):
            yield _Said(f"{owner} (attribute {key})", attrs[key])


def _is_said(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return bool(value.strip())
    return value is not None and not (isinstance(value, CRS) and not value)


# What it says


def _readable(said: Iterable[_Said]) -> dict[str, CRS]:
    """CRSs by where they stand first; of what cannot be read, each is warned of once."""
    found, unread = {}, {}
    # variables of a Dataset say the same one after the other
    different: dict[str, _Said] = {}
    for one in said:
        different.setdefault(str(one.value), one)
    for where, value in different.values():
        crs = _crs(value)
        if crs is not None:
            found[where] = crs
        else:
            unread[where] = value
    rest = "another is taken" if found else "the file has none"
    for where, value in unread.items():
        if value is not None:
            warn_user(
                f"the CRS of {where} cannot be read, {str(value)[:_LONG]!r}, and {rest}: "
                "arr.rio.write_crs(...), or give crs="
            )
    empty = [where for where, value in unread.items() if value is None]
    if empty and len(empty) == len(unread) and not found:
        warn_user(
            f"{empty[0]} is not there, or says nothing, and the file has no CRS: "
            "open the source with decode_coords='all', arr.rio.write_crs(...), or give crs="
        )
    return found


def _crs(value: Any) -> CRS | None:
    if isinstance(value, _CFParameters):
        return _of_pyproj(lambda pyproj: pyproj.CRS.from_cf(dict(value.attrs)))
    if isinstance(value, np.generic | np.ndarray) and np.size(value) == 1:
        value = np.asarray(value).item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if value is None or isinstance(value, bool):
        return None
    return _of_text(value) if isinstance(value, str) else _of_input(value)


def _of_input(value: Any) -> CRS | None:
    try:
        return CRS.from_user_input(value)
    except (CRSError, TypeError, ValueError):
        return _of_pyproj(lambda pyproj: pyproj.CRS.from_user_input(value))


@lru_cache(maxsize=64)
def _of_text(text: str) -> CRS | None:
    """The same, remembered: each variable of a Dataset says it."""
    return _of_input(text)


def _of_pyproj(make: Any) -> CRS | None:
    """What pyproj reads, which knows CF and names, where it is installed."""
    if find_spec("pyproj") is None:
        return None
    import pyproj

    try:
        return CRS.from_wkt(make(pyproj).to_wkt())
    except (pyproj.exceptions.CRSError, CRSError, KeyError, TypeError, ValueError):
        return None


def _same(one: CRS, other: CRS) -> bool:
    """Whether they are the same on the ground: a raster has x first, whatever the axes say."""
    code = one.to_epsg()
    if one == other or (code is not None and code == other.to_epsg()):
        return True
    if find_spec("pyproj") is None:
        return False
    import pyproj

    first, second = pyproj.CRS.from_wkt(one.to_wkt()), pyproj.CRS.from_wkt(other.to_wkt())
    return bool(first.equals(second, ignore_axis_order=True))


def _shown(crs: CRS) -> str:
    text = crs.to_string()
    return f"{text[:_LONG]}..." if len(text) > _LONG else text
