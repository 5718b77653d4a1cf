"""From what the user names to a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ccog.errors import ArgumentTypeError, StoreError
from ccog.redaction import holds_credentials, redacted
from ccog.stores.azure import AzureStore
from ccog.stores.base import Store
from ccog.stores.gcs import GCSStore
from ccog.stores.generic import FsspecStore
from ccog.stores.local import LocalStore
from ccog.stores.s3 import S3Store
from ccog.stores.whole import BytesStore, WholeStore

_SUPPORTED = (
    "a local path, file://, s3://, az://, abfs://, gs://, or a protocol that fsspec can write"
)
_LOCAL = ("", "file", "local")
_GCS_ENDPOINT = "https://storage.googleapis.com"
_OBJECT_STORES = ("s3", "s3a", "az", "abfs", "abfss", "gs", "gcs")
_READ_ONLY = ("http", "https", "data", "git", "github")


def resolve_store(
    target: Any, storage_options: Mapping[str, Any] | None, *, overwrite: bool = True
) -> Store | WholeStore:
    """The store for a path, URL, fsspec mapping or None.

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
    text, options = _text(target, options)
    protocol = _protocol(text)
    if protocol in _LOCAL:
        return LocalStore(_local_path(text, protocol, options), overwrite)
    _refuse_credentials(text, protocol)
    if protocol in ("s3", "s3a"):
        return _s3_store(text, options, overwrite)
    if protocol in ("az", "abfs", "abfss"):
        return AzureStore(_azure_url(text), options, overwrite)
    if protocol in ("gs", "gcs"):
        return _gcs_store(text, options, overwrite)
    if protocol in _READ_ONLY:
        raise StoreError(
            f"cannot write to {protocol}:// ({redacted(text)}), it can only be read; supported are {_SUPPORTED}"
        )
    if text.endswith("/") or not text.split("://", 1)[1]:
        raise StoreError(f"{redacted(text)} does not name a file; give {protocol}://path/name.tif")
    return FsspecStore(text, options, overwrite)


def resolve_place(target: Any, storage_options: Mapping[str, Any] | None) -> Store:
    """The store of a target, or of the directory, bucket or prefix above targets, to ask what was left there."""
    text, options = _text(target, dict(storage_options or {}))
    protocol = _protocol(text)
    _refuse_credentials(text, protocol)
    if protocol in _LOCAL:
        return LocalStore(_local_path(text.rstrip("/") or "/", protocol, options))
    if protocol in ("s3", "s3a"):
        bucket, key = _bucket_and_key(text)
        if bucket:
            return S3Store(bucket, key, options)
    if protocol in ("gs", "gcs"):
        bucket, key = _bucket_and_key(text)
        if bucket:
            return _in_gcs(bucket, key, options, True)
    raise StoreError(
        f"{redacted(text)}: incomplete uploads are known of local directories, s3://bucket and gs://bucket only"
    )


def _text(target: Any, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path or URL, and the options of its file system."""
    if hasattr(target, "dtype") or hasattr(target, "shape"):
        raise ArgumentTypeError(
            f"the store is {type(target).__name__}, an array; "
            "pass the mask by keyword: write_ccog(arr, store, mask=...)"
        )
    filesystem, root = getattr(target, "fs", None), getattr(target, "root", None)
    if filesystem is not None and isinstance(root, str):
        # a mapping of fsspec: its root is the file
        if "file" in filesystem.protocol:
            return root, options
        return filesystem.unstrip_protocol(root), dict(filesystem.storage_options) | options
    if not isinstance(target, str | os.PathLike):
        raise ArgumentTypeError(
            f"the store must be a path, URL or fsspec mapping, not {type(target).__name__}; supported: {_SUPPORTED}"
        )
    text = os.fspath(target)
    if not isinstance(text, str):
        raise ArgumentTypeError(f"the store must be text, not bytes: {text!r}")
    return text, options


def _protocol(text: str) -> str:
    return text.split("://", 1)[0].lower() if "://" in text else ""


def _refuse_credentials(text: str, protocol: str) -> None:
    """Object stores know no credentials in URLs, and would take them for part of a name."""
    if protocol in _OBJECT_STORES and holds_credentials(text):
        raise StoreError(
            f"{redacted(text)} holds credentials, which {protocol}:// takes as storage_options only"
        )


def _refuse_options(options: dict[str, Any], where: str) -> None:
    if options:
        raise StoreError(f"storage_options {sorted(options)} have no meaning {where}")


def _local_path(text: str, protocol: str, options: dict[str, Any]) -> str:
    _refuse_options(options, "for local files")
    if protocol == "file":
        parsed = urlsplit(text)
        if parsed.netloc not in ("", "localhost"):
            raise StoreError(f"{text} names the host {parsed.netloc!r}; use file:///absolute/path")
        text = unquote(parsed.path)
    elif protocol:
        text = text.split("://", 1)[1]
    if not text:
        raise StoreError(
            "the store is an empty path; name the file to write, or leave it out to get bytes"
        )
    if text.endswith(("/", os.sep)) and text != "/":
        raise StoreError(f"{text} ends in a slash; name the file to write")
    return str(Path(text).expanduser().absolute())


def _bucket_and_key(text: str) -> tuple[str, str]:
    bucket, _, key = text.split("://", 1)[1].partition("/")
    return bucket, key


def _azure_url(text: str) -> str:
    container, key = _bucket_and_key(text)
    if not container or not key or key.endswith("/"):
        raise StoreError(f"{text} does not name a blob; use az://container/path/name.tif")
    return text


def _gcs_store(text: str, options: dict[str, Any], overwrite: bool) -> GCSStore | S3Store:
    bucket, key = _bucket_and_key(text)
    if not bucket or not key or key.endswith("/"):
        raise StoreError(f"{text} does not name an object; use gs://bucket/path/name.tif")
    return _in_gcs(bucket, key, options, overwrite)


def _in_gcs(bucket: str, key: str, options: dict[str, Any], overwrite: bool) -> GCSStore | S3Store:
    """By multipart upload where there are HMAC keys for it, else by composing objects."""
    if "key" in options and "secret" in options:
        config = {"request_checksum_calculation": "when_required"} | dict(
            options.get("config_kwargs") or {}
        )
        given = {"endpoint_url": _GCS_ENDPOINT} | options | {"config_kwargs": config}
        return S3Store(bucket, key, given, overwrite, "gs")
    return GCSStore(bucket, key, options, overwrite)


def _s3_store(text: str, options: dict[str, Any], overwrite: bool) -> S3Store:
    bucket, key = _bucket_and_key(text)
    if not bucket or not key or key.endswith("/"):
        raise StoreError(f"{text} does not name an object; use s3://bucket/path/name.tif")
    return S3Store(bucket, key, options, overwrite)
