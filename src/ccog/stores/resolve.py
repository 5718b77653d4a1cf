"""From what the user names to a store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ccog.errors import ArgumentTypeError, StoreError
from ccog.redaction import Address, Hidden, holds_credentials, redacted
from ccog.stores.azure import AzureStore
from ccog.stores.base import Store
from ccog.stores.gcs import GCSStore
from ccog.stores.generic import FsspecStore
from ccog.stores.local import LocalStore
from ccog.stores.s3 import S3Store
from ccog.stores.single_writer import BytesStore, SingleWriterStore

_SUPPORTED = (
    "a local path, file://, s3://, az://, abfs://, gs://, or a protocol that fsspec can write"
)
_GCS_ENDPOINT = "https://storage.googleapis.com"

_LOCAL = ("", "file", "local")
_S3 = ("s3", "s3a")
_AZURE = ("az", "abfs", "abfss")
_GCS = ("gs", "gcs")
# access points, also of several regions; outposts; object lambdas: as s3fs knows them
_NAME = r"[a-zA-Z0-9-]{1,63}"
_ARN = re.compile(
    r"arn:aws[^/:]*:(?:"
    r"s3:[a-z0-9-]*:[0-9]{12}:accesspoint[:/][^/]+"
    rf"|s3-outposts:[a-z0-9-]+:[0-9]{{12}}:outpost[:/]{_NAME}[:/](?:bucket|accesspoint)[:/]{_NAME}"
    rf"|s3-object-lambda:[a-z0-9-]+:[0-9]{{12}}:accesspoint[:/]{_NAME}"
    r")"
)

_READ_ONLY = ("http", "https", "data", "git", "github")


class _Target(NamedTuple):
    """A path or URL, its protocol, and the options of its file system."""

    text: str
    protocol: str
    options: dict[str, Any]


def resolve_store(
    target: Any, storage_options: Mapping[str, Any] | None, *, overwrite: bool = True
) -> Store | SingleWriterStore:
    """The store for a path, URL, fsspec mapping or None."""
    if target is None:
        _refuse_options(dict(storage_options or {}), "without a store")
        return BytesStore()
    text, protocol, options = named = _named(target, storage_options)
    if protocol in _LOCAL:
        return LocalStore(_local_path(named), overwrite)
    if protocol in _S3:
        bucket, key = _bucket_and_key(named, "an object; use s3://bucket/path/name.tif")
        return S3Store(bucket, key, options, overwrite=overwrite)
    if protocol in _AZURE:
        _bucket_and_key(named, "a blob; use az://container/path/name.tif")
        return AzureStore(text, options, overwrite)
    if protocol in _GCS:
        bucket, key = _bucket_and_key(named, "an object; use gs://bucket/path/name.tif")
        return _in_gcs(bucket, key, options, overwrite)
    if protocol in _READ_ONLY:
        raise StoreError(
            f"cannot write to {protocol}:// ({redacted(text)}), it can only be read; "
            f"supported are {_SUPPORTED}"
        )
    if text.endswith("/") or not text.split("://", 1)[1]:
        raise StoreError(f"{redacted(text)} does not name a file; give {protocol}://path/name.tif")
    return FsspecStore(text, options, overwrite)


def resolve_place(target: Any, storage_options: Mapping[str, Any] | None) -> Store:
    """The store of a target, or above targets, to ask for unfinished uploads."""
    named = _named(target, storage_options)
    if named.protocol in _LOCAL:
        return LocalStore(_local_path(named._replace(text=named.text.rstrip("/") or "/")))
    bucket, key = _split(named.text)
    if bucket and named.protocol in _S3:
        return S3Store(bucket, key, named.options)
    if bucket and named.protocol in _GCS:
        return _in_gcs(bucket, key, named.options)
    raise StoreError(
        f"{redacted(named.text)}: incomplete uploads are known of local directories, "
        "s3://bucket and gs://bucket only"
    )


def _named(target: Any, storage_options: Mapping[str, Any] | None) -> _Target:
    text, options = _text(target, Hidden(storage_options or {}))
    protocol = text.split("://", 1)[0].lower() if "://" in text else ""
    # these protocols know no credentials in URLs, and would take them for part of a name
    if protocol in (*_S3, *_AZURE, *_GCS) and holds_credentials(text):
        raise StoreError(
            f"{redacted(text)} holds credentials, which {protocol}:// takes as storage_options only"
        )
    return _Target(Address(text), protocol, options)


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
        return filesystem.unstrip_protocol(root), Hidden(filesystem.storage_options) | options
    if not isinstance(target, str | os.PathLike):
        raise ArgumentTypeError(
            "the store must be a path, URL or fsspec mapping, "
            f"not {type(target).__name__}; supported: {_SUPPORTED}"
        )
    text = os.fspath(target)
    if not isinstance(text, str):
        raise ArgumentTypeError(f"the store must be text, not bytes: {text!r}")
    return text, options


def _refuse_options(options: dict[str, Any], where: str) -> None:
    if options:
        raise StoreError(f"storage_options {sorted(options)} have no meaning {where}")


def _local_path(named: _Target) -> str:
    text, protocol, options = named
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


def _split(text: str) -> tuple[str, str]:
    """Bucket or container, and key; empty where the URL has none."""
    rest = text.partition("://")[2]
    if arn := _ARN.match(rest):
        return arn[0], re.sub("^[:/]", "", rest[arn.end() :])
    bucket, _, key = rest.partition("/")
    if bucket.startswith("arn:"):
        raise StoreError(
            f"{redacted(text)} names no access point, outpost or object lambda; use "
            "s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path/name.tif"
        )
    return bucket, key


def _bucket_and_key(named: _Target, expected: str) -> tuple[str, str]:
    """Bucket or container, and key, of a URL that names an object."""
    bucket, key = _split(named.text)
    if not bucket or not key or key.endswith("/"):
        raise StoreError(f"{named.text} does not name {expected}")
    return bucket, key


def _in_gcs(
    bucket: str, key: str, options: dict[str, Any], overwrite: bool = True
) -> GCSStore | S3Store:
    """By multipart upload if there are HMAC keys for it, else by composing objects."""
    if "key" not in options or "secret" not in options:
        return GCSStore(bucket, key, options, overwrite=overwrite)
    config = {"request_checksum_calculation": "when_required"}
    config |= dict(options.get("config_kwargs") or {})
    s3_options = {"endpoint_url": _GCS_ENDPOINT} | options | {"config_kwargs": config}
    return S3Store(bucket, key, s3_options, overwrite=overwrite, protocol="gs")
