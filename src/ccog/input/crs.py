"""The CRS of DataArrays and Datasets, wherever today's libraries keep it.

* The grid mapping (CF, rioxarray, odc-geo): a variable without dimensions, which attributes or
  ``encoding`` name. xarray opens it as a coordinate or, by default, as a variable of the Dataset.
* An index that has one (xproj, rasterix), and a coordinate that is one (satpy).
* The attributes ``crs``, ``crs_wkt``, ``proj:code``, ... of the array, its coordinates and Dataset.

All that is found must agree. What cannot be read is warned of.
"""

from __future__ import annotations

import re
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
_MARKS = frozenset({*_TEXTS, "grid_mapping_name", "GeoTransform", "gcps"})

# attributes of arrays, coordinates and Datasets
_ATTRIBUTES = ("crs", "crs_wkt", "spatial_ref", "proj:code", "proj:wkt2", "proj:projjson")

# characters of a CRS that an error shows
_LONG = 80


class _Said(NamedTuple):
    """A value that may be a CRS, None for a grid mapping that says nothing; where it stands."""

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
        return next(filter(None, map(chosen_crs, variables.values())), None)
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
    return {
        str(name): variable
        for name, variable in inside.items()
        if variable.ndim == 0 and not _MARKS.isdisjoint(variable.attrs)
    }


# What there is


def _said_by(name: str, arr: Any, dataset: Any) -> Iterator[_Said]:
    mappings = grid_mappings(arr, dataset)
    for mapping, variable in mappings.items():
        yield from _mapped(mapping, variable)
    for coordinate, index in arr.xindexes.items():
        # as those of xproj and rasterix
        if getattr(index, "crs", None) is not None:
            yield _Said(f"the {type(index).__name__} of {coordinate}", index.crs)
    for coordinate, variable in arr.coords.items():
        if coordinate not in mappings:
            yield from _object(str(coordinate), variable)
    yield from _attributes(name, arr.attrs)
    for dim in arr.dims:
        if dim in arr.coords:
            yield from _attributes(f"the coordinate {dim}", arr.coords[dim].attrs)
    if not mappings:
        for missing in _names(arr, dataset)[:1]:
            yield _Said(f"the grid mapping {missing}", None)


def _names(arr: Any, dataset: Any) -> list[str]:
    """The grid mappings that are named for the dimensions of an array."""
    kept = [arr.encoding, arr.attrs]
    if dataset is not None:
        kept += [dataset.encoding, dataset.attrs]
    texts = [each.get("grid_mapping") for each in kept]
    names = [name for text in texts if isinstance(text, str) for name in _named_in(text, arr)]
    return list(dict.fromkeys(names))


def _named_in(text: str, arr: Any) -> list[str]:
    """Of CF's extended form, ``"utm: x y wgs84: lat lon"``, the names for these dimensions."""
    if ":" not in text:
        return text.split()
    _, *parts = re.split(r"(\S+):(?!\S)", text)
    coordinates = dict(zip(parts[::2], map(str.split, parts[1::2]), strict=True))
    dims = set(map(str, arr.dims))
    fitting = [name for name, words in coordinates.items() if dims.intersection(words)]
    return fitting or list(coordinates)


def _mapped(name: str, variable: Any) -> Iterator[_Said]:
    where, attrs = f"the grid mapping {name}", variable.attrs
    texts = list(_attributes(where, attrs, _TEXTS, ""))
    yield from texts
    if any(_crs(text.value) is not None for text in texts):
        return
    if "grid_mapping_name" in attrs:
        rest = {key: value for key, value in attrs.items() if key not in _TEXTS}
        yield _Said(f"{where} (grid_mapping_name)", _CFParameters(rest))
        return
    others = list(_attributes(where, attrs, _OLDER_TEXTS, ""))[:1]
    others += _object(name, variable)
    yield from others
    if not (texts or others) and _MARKS.isdisjoint(attrs):
        yield _Said(where, None)


def _object(name: str, variable: Any) -> Iterator[_Said]:
    """A coordinate that is a CRS itself, as satpy's, or the text of one."""
    if variable.ndim or variable.dtype.kind not in "USTO":
        return
    value = variable.values.item()
    if hasattr(value, "to_wkt") or (name == "crs" and _is_said(value)):
        yield _Said(f"the coordinate {name}", value)


def _attributes(
    owner: str,
    attrs: Mapping[Any, Any],
    keys: tuple[str, ...] = _ATTRIBUTES,
    kind: str = "attribute ",
) -> Iterator[_Said]:
    for key in keys:
        if _is_said(attrs.get(key)):
            yield _Said(f"{owner} ({kind}{key})", attrs[key])


def _is_said(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return bool(value.strip())
    return value is not None and not (isinstance(value, CRS) and not value)


# What it says


def _readable(said: Iterable[_Said]) -> dict[str, CRS]:
    """CRSs by where they stand first; of what cannot be read, each is warned of once."""
    # variables of a Dataset say the same one after the other
    different: dict[str, _Said] = {}
    for one in said:
        different.setdefault(str(one.value), one)
    read = {where: (value, _crs(value)) for where, value in different.values()}
    found = {where: crs for where, (_, crs) in read.items() if crs is not None}
    unread = {where: value for where, (value, crs) in read.items() if crs is None}
    rest = "another is taken" if found else "the file has none"
    for where, value in unread.items():
        if value is not None:
            warn_user(
                f"the CRS of {where} cannot be read, {str(value)[:_LONG]!r}, and {rest}: "
                "arr.rio.write_crs(...), or give crs="
            )
        elif len(read) == 1:
            warn_user(
                f"{where} is not there, or says nothing, and the file has no CRS: "
                "open the source with decode_coords='all', arr.rio.write_crs(...), or give crs="
            )
    return found


def _crs(value: Any) -> CRS | None:
    if isinstance(value, _CFParameters):
        return _of_pyproj("from_cf", dict(value.attrs))
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
        return _of_pyproj("from_user_input", value)


@lru_cache(maxsize=64)
def _of_text(text: str) -> CRS | None:
    """The same, remembered: each variable of a Dataset says it."""
    return _of_input(text)


def _of_pyproj(method: str, value: Any) -> CRS | None:
    """What pyproj reads, which knows CF and names, where it is installed."""
    if find_spec("pyproj") is None:
        return None
    import pyproj

    try:
        return CRS.from_wkt(getattr(pyproj.CRS, method)(value).to_wkt())
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
