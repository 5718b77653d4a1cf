"""--storage-option for an INPUT on S3: what fsspec calls an option, by GDAL's names."""

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

_NAMES = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
}
_REMOTE = re.compile(r"(?!file:)\w+://|/vsi(?!mem|zip|tar|gzip)")
_S3 = ("s3://", "/vsis3/")
_UNDERSTOOD = (*_NAMES, "anon", "endpoint_url")


@contextmanager
def access_to_input(sources: Sequence[str], request: Request) -> Iterator[Request]:
    """GDAL may read INPUT by the storage options in the block; the request is what OUTPUT needs.

    Raises
    ------
    StoreError
        GDAL does not know such options, or runs on a cluster, where it does not get them.
    """
    remote = [text for text in sources if _REMOTE.match(text)]
    if not remote or not request.storage:
        yield request
        return
    is_for_input_alone = "://" not in request.output
    if is_for_input_alone:
        _check(remote, request)
    variables = _variables(request.storage) if remote[0].startswith(_S3) else {}
    if variables and request.scheduler:
        raise StoreError(
            f"--storage-option for {redacted(remote[0])} does not reach the workers of a cluster, "
            f"where GDAL reads it: set {', '.join(variables)} in their environment"
        )
    with _environment(variables):
        yield replace(request, storage={}) if is_for_input_alone else request


def names_for_gdal(sources: Sequence[str], request: Request) -> Sequence[str]:
    """INPUT by GDAL's names where storage options lead to it.

    For ``s3://`` rasterio asks boto3, which does not heed all of them.
    """
    if not request.storage:
        return sources
    return [_name_for_gdal(text) for text in sources]


def _name_for_gdal(text: str) -> str:
    from ccog.input.gdal_name import gdal_name
    from ccog.input.opening import is_variable

    is_for_gdal = text.startswith("s3://") and not is_variable(text)
    return gdal_name(text) if is_for_gdal else text


def _check(remote: list[str], request: Request) -> None:
    """Refuse options that only INPUT can be meant to have, and does not understand."""
    others = [text for text in remote if not text.startswith(_S3)]
    unknown = sorted(request.storage.keys() - set(_UNDERSTOOD))
    if others or unknown:
        what = f"for {redacted(others[0])}" if others else f"named {', '.join(unknown)}"
        raise StoreError(
            f"no --storage-option {what} is known to GDAL, which reads INPUT; for s3:// give "
            f"{', '.join(_UNDERSTOOD)}, and else GDAL's own options: --config KEY=VALUE"
        )


def _variables(storage: dict[str, Any]) -> dict[str, str]:
    """Options of s3fs as variables that GDAL and boto3 heed."""
    variables = {
        name: str(storage[option]) for option, name in _NAMES.items() if storage.get(option)
    }
    if storage.get("anon"):
        variables["AWS_NO_SIGN_REQUEST"] = "YES"
    if endpoint := storage.get("endpoint_url"):
        scheme, host, path, *_ = urlsplit(str(endpoint))
        variables["AWS_S3_ENDPOINT"] = f"{host}{path}".rstrip("/")
        variables["AWS_HTTPS"] = "NO" if scheme == "http" else "YES"
        variables["AWS_VIRTUAL_HOSTING"] = "FALSE"
    return variables


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
