"""From what the user names to a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ccog.errors import ArgumentTypeError, StoreError
from ccog.stores.base import Store
from ccog.stores.local import LocalStore
from ccog.stores.memory import BytesStore
from ccog.stores.s3 import S3Store

_PROTOCOLS = "a local path, file:// or s3://"


def resolve_store(target: Any, storage_options: Mapping[str, Any] | None) -> Store:
    """The store for a path, URL or None.

    Raises
    ------
    ArgumentTypeError
        The target is no path, or an array was given where the store belongs.
    StoreError
        The URL is incomplete or of an unknown protocol.
    """
    options = dict(storage_options or {})
    if target is None:
        _refuse_options(options, "without a store")
        return BytesStore()
    if hasattr(target, "dtype") or hasattr(target, "shape"):
        raise ArgumentTypeError(
            f"the store is {type(target).__name__}, an array; "
            "pass the mask by keyword: write_ccog(arr, store, mask=...)"
        )
    if not isinstance(target, str | os.PathLike):
        raise ArgumentTypeError(
            f"the store must be a path or URL, not {type(target).__name__}; supported: {_PROTOCOLS}"
        )
    text = os.fspath(target)
    if not isinstance(text, str):
        raise ArgumentTypeError(f"the store must be text, not bytes: {text!r}")
    protocol = text.split("://", 1)[0].lower() if "://" in text else ""
    if protocol in ("", "file", "local"):
        _refuse_options(options, "for local files")
        return LocalStore(_local_path(text, protocol))
    if protocol in ("s3", "s3a"):
        return _s3_store(text, options)
    raise StoreError(f"cannot write to {protocol}:// ({text}); supported are {_PROTOCOLS}")


def _refuse_options(options: dict[str, Any], where: str) -> None:
    if options:
        raise StoreError(f"storage_options {sorted(options)} have no meaning {where}")


def _local_path(text: str, protocol: str) -> str:
    if protocol == "file":
        parsed = urlsplit(text)
        if parsed.netloc not in ("", "localhost"):
            raise StoreError(f"{text} names the host {parsed.netloc!r}; use file:///absolute/path")
        text = unquote(parsed.path)
    elif protocol:
        text = text.split("://", 1)[1]
    if not text:
        raise StoreError("the store is an empty path; name the file to write, or leave it out to get bytes")
    if text.endswith(("/", os.sep)):
        raise StoreError(f"{text} ends in a slash; name the file to write")
    return str(Path(text).expanduser().absolute())


def _s3_store(text: str, options: dict[str, Any]) -> S3Store:
    bucket, _, key = text.split("://", 1)[1].partition("/")
    if not bucket or not key or key.endswith("/"):
        raise StoreError(f"{text} does not name an object; use s3://bucket/path/name.tif")
    return S3Store(bucket, key, options)
