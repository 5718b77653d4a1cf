"""The manifest of a resumable write: all that decides the bytes of the file.

By it only the same write is continued.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import rasterio
from dask.base import tokenize

from ccog.errors import CCOGWarning, ResumeError, StoreNotFoundError, StorePermissionError
from ccog.gdal.template import HeaderSpec
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import PartPlan
from ccog.input.from_xarray import array_inside, is_xarray
from ccog.input.memory_maps import PlaceInFile, map_below
from ccog.input.source import Source, file_stamp
from ccog.input.xarray_edges import is_read_lazily, token_of_file
from ccog.stores import IncompleteUpload, SingleWriterStore, Store
from ccog.stores.base import MANIFEST
from ccog.stores.incomplete import warn_of
from ccog.tiff.header import Template

# of the checkpoints and their names
_FORMAT = 3

# of a manifest, which holds names and options
_MAX_BYTES = 16 << 20

# options of GDAL and rasterio.Env that say how to reach data, and change no byte of it
_ACCESS = (
    "AWS_",
    "AZURE_",
    "CPL_",
    "GDAL_HTTP_",
    "GOOGLE_",
    "GS_",
    "OSS_",
    "PROFILE_NAME",
    "REGION_NAME",
    "SESSION",
    "SWIFT_",
    "VSI",
)

# any other option may be a secret too, and guessing one from its digest must take long
_ROUNDS = 100_000

_ARRAYS = ("array", "mask", "overviews", "chunks")
_PLURAL = ("chunks", "overviews")
_NOT_GIVEN = "not given"
_HINT = (
    "dask names an array by what makes it: give da.from_array(..., name='...') or functions that "
    "dask.base.tokenize can name, so that the name is the same at each run"
)


@dataclass(frozen=True)
class ResumableUpload:
    """An upload that can be continued, and the names of its checkpoints."""

    upload_id: str
    names: frozenset[str]


@dataclass(frozen=True)
class Resumption:
    """A resumable write: its manifest, and the upload that it continues, if any.

    ``looked``: somebody has looked for one.
    """

    manifest: str
    upload_id: str | None
    looked: bool


def manifest_of(
    arrays: tuple[Any, Any],
    overviews: tuple[Sequence[Any], Sequence[Any]] | None,
    chunks: Any,
    header_spec: HeaderSpec,
    template: Template,
    geometry: tuple[CogGeometry, PartPlan],
    env: dict[str, Any],
) -> str:
    """Array, options, versions and all else that decides the bytes of the file, as JSON.

    ``arrays`` are pixels and mask or None, ``overviews`` the pixels and the masks of each if they
    are given.
    """
    arr, mask = arrays
    decisive = {key: value for key, value in env.items() if not key.upper().startswith(_ACCESS)}
    manifest = {
        "format": _FORMAT,
        "array": _name(arr),
        "mask": None if mask is None else _name(mask),
        "overviews": overviews and [_names(overviews[0]), _names(overviews[1])],
        "chunks": _digest(chunks),
        "options": header_spec.options.cog_options(),
        "environment": {key: _slow_digest(key, value) for key, value in decisive.items()},
        "metadata": _digest(template),
        "layout": geometry[0].layout,
        "geometry": _digest(geometry),
        "version of ccog": version("ccog"),
        "version of GDAL": rasterio.__gdal_version__,
        "version of rasterio": rasterio.__version__,
    }
    return json.dumps(manifest, sort_keys=True)


def _names(arrays: Iterable[Any]) -> list[str | None]:
    return [None if arr is None else _name(arr) for arr in arrays]


def _name(arr: Any) -> str:
    """Dask's name of an array without its metadata; in memory, of its values."""
    if isinstance(arr, Source):
        return str(tokenize(_name(arr.array), arr.mask))
    if not is_xarray(arr):
        return str(tokenize(_by_file(arr)))
    variables = arr.data_vars.items() if hasattr(arr, "data_vars") else [("", arr)]
    named = [(str(name), variable.dims, _inside(variable)) for name, variable in variables]
    return str(tokenize(*named))


def _inside(variable: Any) -> Any:
    """What dask names a variable by; it would read those of files whole."""
    return token_of_file(variable) if is_read_lazily(variable) else _by_file(array_inside(variable))


def _by_file(arr: Any) -> Any:
    """The place of a memory map in its file, and its stamp; any other array as it is."""
    whole = None if isinstance(arr, np.ma.MaskedArray) else map_below(arr)
    place = None if whole is None else PlaceInFile.of(arr, whole)
    return arr if place is None else (place, file_stamp(place.path))


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _slow_digest(key: str, value: Any) -> str:
    """A digest by which the value of an option is compared, but not known."""
    salt = f"ccog {key}".encode()
    return hashlib.pbkdf2_hmac("sha256", str(value).encode(), salt, _ROUNDS).hex()[:32]


def find_resumable(
    store: Store | SingleWriterStore, manifest: str, warns: bool = False
) -> ResumableUpload | None:
    """The unfinished write of that manifest at the target; None if nothing was begun.

    ``warns``: of those there that nobody can continue.

    Raises
    ------
    ResumeError
        The store keeps no checkpoints, or what is unfinished there is another write.
    """
    if not store.keeps_checkpoints:
        raise ResumeError(
            f"resume=True is not possible for {store.url}: unfinished writes are kept on local "
            "file systems, s3:// (without fixed_upload_size) and gs://"
        )
    refusal = None
    uploads = [upload for upload in store.continuable() if upload.url == store.url]
    if warns:
        # what is over is removed when the write begins
        warn_of(store, [one for one in uploads if not (one.resumable or one.over)])
    for upload in sorted(uploads, key=lambda upload: upload.started, reverse=True):
        if not upload.resumable:
            continue
        other = _load(store, upload)
        if other == manifest:
            return ResumableUpload(upload.upload_id, store.checkpoint_names(upload.upload_id))
        if other is not None and refusal is None:
            refusal = _refusal(upload, other, manifest)
    if refusal is not None:
        raise refusal
    return None


def _load(store: Store, upload: IncompleteUpload) -> str | None:
    """The manifest of an unfinished write; None, with a warning, if it cannot be read."""
    try:
        data = store.load_checkpoint(upload.upload_id, MANIFEST, _MAX_BYTES + 1)
        text = data.decode()
        if len(data) > _MAX_BYTES or not isinstance(json.loads(text), dict):
            raise ValueError("it is not an object of JSON, or too long")
        return text
    except (StoreNotFoundError, StorePermissionError, ValueError, RecursionError) as error:
        warnings.warn(
            f"{_begun(upload)}, cannot be continued, since its {MANIFEST} cannot be read "
            f"({error}); remove it with `ccog uploads abort {upload.url}`",
            CCOGWarning,
            stacklevel=3,
        )
        return None


def _begun(upload: IncompleteUpload) -> str:
    return f"the unfinished write to {upload.url}, begun {upload.started:%Y-%m-%d %H:%M:%SZ}"


def _refusal(upload: IncompleteUpload, then: str, now: str) -> ResumeError:
    differences = _differences(json.loads(then), json.loads(now))
    hint = f" ({_HINT})" if any(name in _ARRAYS for name in differences) else ""
    return ResumeError(
        f"{_begun(upload)}, is another one: {', '.join(differences.values())}{hint}. "
        "Give what was given then to continue it, remove it with "
        f"`ccog uploads abort {upload.url}` (ccog.abort_incomplete), "
        "or write from the start with resume=False"
    )


def _differences(then: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Each difference in words, by name; what follows from others is named only alone."""
    names = [name for name in now if then.get(name) != now[name]]
    differences = {name: _words(name, then.get(name), now[name]) for name in names}
    follows = ["geometry", "metadata"] if "layout" in differences else ["geometry"]
    for name in follows:
        if len(differences) > 1:
            differences.pop(name, None)
    return differences


def _words(name: str, then: Any, now: Any) -> str:
    if name == "environment" and isinstance(then, dict):
        return f"the environment differs ({_changes(then, now, _change_of_digest)})"
    if name == "options" and isinstance(then, dict):
        return f"the options differ ({_changes(then, now, _change)})"
    if name.startswith("version") or name == "layout":
        return f"the {_change(name, then, now)}"
    return f"the {name} {'differ' if name in _PLURAL else 'differs'}"


def _changes(
    then: dict[str, Any], now: dict[str, Any], change: Callable[[str, Any, Any], str]
) -> str:
    keys = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    changes = [change(key, then.get(key, _NOT_GIVEN), now.get(key, _NOT_GIVEN)) for key in keys]
    return ", ".join(changes)


def _change(name: str, then: Any, now: Any) -> str:
    return f"{name} was {then}, is {now}"


def _change_of_digest(key: str, then: str, now: str) -> str:
    if then == _NOT_GIVEN:
        return f"{key} was not given, is given"
    if now == _NOT_GIVEN:
        return f"{key} was given, is not given"
    return f"{key} had another value"
