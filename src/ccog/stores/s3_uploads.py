"""Uploads to an S3 object that are in progress, or were left: listing and aborting them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

from ccog.errors import StoreError, StoreNotFoundError, StorePermissionError
from ccog.stores.base import QUICK_SECONDS, IncompleteUpload
from ccog.stores.retry import BRISK, ONCE, Patience
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_parts import stored_parts
from ccog.stores.s3_proof import MARK_LENGTH

# parts that arrive while an upload is aborted can outlive the first call (AbortMultipartUpload)
_ABORTS = 5

# uploads that a server lists at a time
_PAGE = 1000


def list_uploads(
    client: S3Client, patience: Patience, timeout: float | None = None
) -> Iterator[IncompleteUpload]:
    """Uploads to keys that begin with this one."""
    doing = f"list the incomplete uploads to {client.url}"
    ask = partial(client.once, "list_multipart_uploads", timeout=timeout, Prefix=client.key)
    marker: dict[str, Any] = {}
    while True:
        page = client.retry(partial(ask, **marker), doing, patience)
        for upload in page.get("Uploads") or []:
            yield IncompleteUpload(
                url=client.url_of(upload["Key"]),
                upload_id=upload["UploadId"],
                started=upload["Initiated"],
            )
        if not page.get("IsTruncated"):
            return
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def uploads_here(client: S3Client) -> list[IncompleteUpload]:
    """Uploads to this very key, asked once."""
    return [upload for upload in list_uploads(client, ONCE) if upload.url == client.url]


def uploads_here_quickly(client: S3Client) -> list[IncompleteUpload]:
    """Those of the first page, which begins with uploads to this very key."""
    page = itertools.islice(list_uploads(client, ONCE, timeout=QUICK_SECONDS), _PAGE)
    return [upload for upload in page if upload.url == client.url]


def is_marked(client: S3Client, upload_id: str) -> bool:
    """Whether the first part of the upload is a mark of ccog; the header replaces it at the end."""
    with contextlib.suppress(StoreError):
        first = stored_parts(client, upload_id, 1, 1, BRISK).get(1)
        return first is not None and first.size == MARK_LENGTH
    return False


def abort_upload(client: S3Client, upload_id: str) -> None:
    """Abort the upload until the server no longer knows it."""
    doing = f"abort the upload to {client.url}"
    upload: dict[str, Any] = {"Key": client.key, "UploadId": upload_id}
    with contextlib.suppress(StoreNotFoundError):
        for _ in range(_ABORTS):
            client.call("abort_multipart_upload", doing, BRISK, **upload)
            try:
                client.call("list_parts", doing, BRISK, **upload)
            except StorePermissionError:
                return
