"""--storage-option for INPUT: xarray takes it as it is, GDAL has other names for some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ccog.cli.options import Request
from ccog.errors import StoreError
from ccog.redaction import redacted

# options of fsspec by GDAL's names (documentation of its virtual file systems)
_NAMES = {
    "s3": {
        "key": "AWS_ACCESS_KEY_ID",
        "secret": "AWS_SECRET_ACCESS_KEY",
        "token": "AWS_SESSION_TOKEN",
        "anon": "AWS_NO_SIGN_REQUEST",
    },
    "az": {
        "account_name": "AZURE_STORAGE_ACCOUNT",
        "account_key": "AZURE_STORAGE_ACCESS_KEY",
        "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
        "sas_token": "AZURE_STORAGE_SAS_TOKEN",
        "anon": "AZURE_NO_SIGN_REQUEST",
    },
    "gs": {
        "key": "GS_ACCESS_KEY_ID",
        "secret": "GS_SECRET_ACCESS_KEY",
        "anon": "GS_NO_SIGN_REQUEST",
    },
}
# understood too, and not by another name alone
_OTHERS = {"s3": ("endpoint_url",), "az": (), "gs": ("endpoint_url", "project", "token")}
_PREFIXES = {
    **dict.fromkeys(("s3://", "/vsis3/"), "s3"),
    **dict.fromkeys(("az://", "abfs://", "/vsiaz/"), "az"),
    **dict.fromkeys(("gs://", "gcs://", "/vsigs/"), "gs"),
}
_REMOTE = re.compile(r"(?!file:)\w+://|/vsi(?!mem|zip|tar|gzip)")


@contextmanager
def access_to_input(sources: Sequence[str], request: Request) -> Iterator[Request]:
    """Let GDAL read INPUT by the storage options in the block; gives what OUTPUT needs.

    It is a StoreError if GDAL does not know such options, or runs on a cluster.
    """
    remote = [text for text in sources if _REMOTE.match(text)]
    if not remote or not request.storage:
        yield request
        return
    from ccog.input.opening import is_variable

    is_for_input_alone = "://" not in request.output
    # xarray takes the options as they are
    remote = [text for text in remote if not is_variable(text)]
    if remote and is_for_input_alone:
        _check(remote, request)
    variables = _variables(_store(remote[0]), request.storage) if remote else {}
    if variables and request.scheduler:
        raise StoreError(
            f"--storage-option for {redacted(remote[0])} does not reach the workers of a "
            f"cluster, where GDAL reads it: set {', '.join(variables)} in their environment"
        )
    with _environment(variables):
        yield replace(request, storage={}) if is_for_input_alone else request


def names_for_gdal(sources: Sequence[str], request: Request) -> Sequence[str]:
    """INPUT by GDAL's names where storage options lead to it.

    Of ``s3://`` rasterio asks boto3, which does not heed all; it knows no ``abfs://``.
    """
    if not request.storage:
        return sources
    from ccog.input.gdal_names import gdal_name
    from ccog.input.opening import is_variable

    names = []
    for text in sources:
        if not is_variable(text):
            text = re.sub("^abfs://", "az://", text)
            text = gdal_name(text) if text.startswith("s3://") else text
        names.append(text)
    return names


def _store(text: str) -> str | None:
    """Which of the stores a file is in whose options have names in GDAL."""
    return next((store for prefix, store in _PREFIXES.items() if text.startswith(prefix)), None)


def _check(remote: list[str], request: Request) -> None:
    """Refuse options that only INPUT can be meant to have, and does not understand."""
    for text in remote:
        store = _store(text)
        known = [] if store is None else [*_NAMES[store], *_OTHERS[store]]
        unknown = sorted(request.storage.keys() - set(known))
        if unknown:
            give = f"give {', '.join(known)}, or " if known else "give "
            raise StoreError(
                f"no --storage-option named {', '.join(unknown)} of {redacted(text)} is known "
                f"to GDAL, which reads INPUT; {give}GDAL's own options: --config KEY=VALUE"
            )


def _variables(store: str | None, storage: dict[str, Any]) -> dict[str, str]:
    """Options of fsspec as variables that GDAL and boto3 heed."""
    if store is None:
        return {}
    names = _NAMES[store]
    variables = {
        name: str(storage[option])
        for option, name in names.items()
        if option != "anon" and storage.get(option)
    }
    if store == "gs" and str(storage.get("token", "")).endswith(".json"):
        variables["GOOGLE_APPLICATION_CREDENTIALS"] = str(storage["token"])
    if storage.get("anon") or (store == "gs" and storage.get("token") == "anon"):
        variables[names["anon"]] = "YES"
    if endpoint := storage.get("endpoint_url"):
        variables |= _endpoint(store, str(endpoint))
    return variables


def _endpoint(store: str, url: str) -> dict[str, str]:
    if store != "s3":
        return {"CPL_GS_ENDPOINT": f"{url.rstrip('/')}/"}
    scheme, host, path, *_ = urlsplit(url)
    return {
        "AWS_S3_ENDPOINT": f"{host}{path}".rstrip("/"),
        "AWS_HTTPS": "NO" if scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
