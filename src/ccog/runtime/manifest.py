"""What an unfinished write was writing, so that only the same write continues it."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import rasterio
from dask.base import tokenize

from ccog.errors import CCOGWarning, ResumeError, StoreNotFoundError, StorePermissionError
from ccog.gdal.template import Described
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import PartPlan
from ccog.input.from_xarray import is_xarray, plain
from ccog.stores import IncompleteUpload, Store, WholeStore
from ccog.stores.base import MANIFEST
from ccog.tiff.header import Template

# of the records and of what they are called
_FORMAT = 2

# of a manifest, which holds names and options
_MOST_BYTES = 16 << 20

# options of GDAL and of rasterio.Env that say how to reach data, and never change a byte of it
_ACCESS = ("AWS_", "AZURE_", "CPL_", "GDAL_HTTP_", "GOOGLE_", "GS_", "OSS_", "PROFILE_NAME", "REGION_NAME", "SESSION",
           "SWIFT_", "VSI")  # fmt: skip

# any other option may be a secret too: guessing one from its digest is to take long
_ROUNDS = 100_000

_ARRAYS = ("array", "mask", "chunks")
_NOT_GIVEN = "not given"
_HINT = (
    "dask names an array by what makes it: give da.from_array(..., name='...') or functions that dask.base.tokenize "
    "can name, so that the name is the same at each run"
)


@dataclass(frozen=True)
class Kept:
    """A session that can be continued, and the names of its records."""

    session: str
    names: frozenset[str]


@dataclass(frozen=True)
class Resumption:
    """A write that can be continued: its manifest, and the session that it continues, if any."""

    manifest: str
    session: str | None


def manifest_of(
    arr: Any, mask: Any, chunks: Any, described: Described, template: Template, geometry: tuple[CogGeometry, PartPlan],
    env: dict[str, Any],
) -> str:  # fmt: skip
    """Array, options, versions and all else that decides the bytes of the file, as JSON."""
    found = {
        "format": _FORMAT,
        "array": _name(arr),
        "mask": None if mask is None else _name(mask),
        "chunks": _digest(chunks),
        "options": described.options.cog_options(),
        "environment": {
            key: _sealed(key, value)
            for key, value in env.items()
            if not key.upper().startswith(_ACCESS)
        },
        "metadata": _digest(template),
        "layout": geometry[0].layout,
        "geometry": _digest(geometry),
        "version of ccog": version("ccog"),
        "version of GDAL": rasterio.__gdal_version__,
        "version of rasterio": rasterio.__version__,
    }
    return json.dumps(found, sort_keys=True)


def _name(arr: Any) -> str:
    """Dask's name of an array, or of the values of one that is in memory; metadata is looked at elsewhere."""
    if not is_xarray(arr):
        return str(tokenize(arr))
    variables = arr.data_vars.items() if hasattr(arr, "data_vars") else [("", arr)]
    return str(tokenize(*((str(name), found.dims, plain(found)) for name, found in variables)))


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _sealed(key: str, value: Any) -> str:
    """A digest by which the value of an option is compared, and not known; other options have other salts."""
    return hashlib.pbkdf2_hmac(
        "sha256", str(value).encode(), f"ccog {key}".encode(), _ROUNDS
    ).hex()[:32]


def find_kept(store: Store | WholeStore, manifest: str) -> Kept | None:
    """The unfinished write of that manifest at the target, or None where nothing was begun.

    Raises
    ------
    ResumeError
        The store keeps nothing, or what is unfinished there is another write.
    """
    if not store.resumes:
        raise ResumeError(
            f"resume=True is not possible for {store.url}: unfinished writes are kept on local file systems, s3:// "
            "(without fixed_upload_size) and gs://"
        )
    others = []
    for upload in sorted(store.incomplete(), key=lambda upload: upload.started, reverse=True):
        if upload.url != store.url or not upload.resumable:
            continue
        found = _load(store, upload)
        if found == manifest:
            return Kept(upload.session, store.saved(upload.session))
        if found is not None:
            others.append((upload, found))
    if others:
        raise _refusal(*others[0], manifest)
    return None


def _load(store: Store, upload: IncompleteUpload) -> str | None:
    """The manifest of an unfinished write; None, with a warning, where it cannot be read."""
    try:
        data = store.load(upload.session, MANIFEST, _MOST_BYTES + 1)
        text = data.decode()
        if len(data) <= _MOST_BYTES and isinstance(json.loads(text), dict):
            return text
        error: object = "it is not an object of JSON, or too long"
    except (StoreNotFoundError, StorePermissionError, ValueError, RecursionError) as found:
        error = found
    warnings.warn(
        f"the unfinished write to {upload.url}, begun {upload.started:%Y-%m-%d %H:%M:%SZ}, cannot be continued, since "
        f"its {MANIFEST} cannot be read ({error}); remove it with `ccog uploads abort {upload.url}`",
        CCOGWarning,
        stacklevel=3,
    )
    return None


def _refusal(upload: IncompleteUpload, then: str, now: str) -> ResumeError:
    differences = _differences(json.loads(then), json.loads(now))
    hint = f" ({_HINT})" if any(name in _ARRAYS for name in differences) else ""
    return ResumeError(
        f"the unfinished write to {upload.url}, begun {upload.started:%Y-%m-%d %H:%M:%SZ}, is another one: "
        f"{', '.join(differences.values())}{hint}. Give what was given then to continue it, remove it with "
        f"`ccog uploads abort {upload.url}` (ccog.abort_incomplete), or write from the start with resume=False"
    )


def _differences(then: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What differs, in words, by its name; the geometry follows from the rest, and is named only alone."""
    found = {
        name: _words(name, then.get(name), now[name]) for name in now if then.get(name) != now[name]
    }
    for follows in ("geometry", *(["metadata"] if "layout" in found else [])):
        if len(found) > 1:
            found.pop(follows, None)
    return found


def _words(name: str, then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
        change = _change_of_value if name == "environment" else _change
        changes = (change(key, then.get(key, _NOT_GIVEN), now.get(key, _NOT_GIVEN)) for key in keys)
        return f"the {name} differ{'s' if name == 'environment' else ''} ({', '.join(changes)})"
    if name.startswith("version") or name == "layout":
        return f"the {name} was {then}, is {now}"
    return f"the {name} {'differ' if name == 'chunks' else 'differs'}"


def _change(key: str, then: Any, now: Any) -> str:
    return f"{key} was {then}, is {now}"


def _change_of_value(key: str, then: str, now: str) -> str:
    """The same where values are digests."""
    if _NOT_GIVEN in (then, now):
        was, is_ = ("not given" if value == _NOT_GIVEN else "given" for value in (then, now))
        return f"{key} was {was}, is {is_}"
    return f"{key} had another value"
