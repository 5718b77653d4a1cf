"""Multipart uploads to an S3 object: their parts, listing and aborting them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from ccog.errors import StoreError, StoreNotFoundError, StorePermissionError
from ccog.geometry.parts import Buffer, Part, total
from ccog.stores.base import QUICK_SECONDS, IncompleteUpload
from ccog.stores.body import Body, base64_text, crc32, md5
from ccog.stores.retry import BRISK, ONCE, PATIENT, Patience
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_proof import MARK_LENGTH, checked_tag

#: Parts or uploads that a server lists at a time.
PAGE = 1000

# parts that arrive meanwhile can outlive the first call (S3 API, AbortMultipartUpload)
_ABORTS = 5


def put_part(
    client: S3Client,
    upload_id: str,
    number: int,
    buffers: list[Buffer],
    doing: str,
    patience: Patience = PATIENT,
) -> Part:
    """Upload one part; the server verifies its checksum, and we the answer."""
    checksum = checksum_of(client, buffers)
    request = _upload(client, upload_id) | {"PartNumber": number} | checksum

    def attempt() -> Part:
        answer = client.once("upload_part", **request, Body=Body(buffers))
        return Part(number, total(buffers), checked_tag(answer, checksum, buffers))

    return client.retry(attempt, doing, patience)


def _upload(client: S3Client, upload_id: str) -> dict[str, Any]:
    """The upload, as calls about it name it."""
    return {"Key": client.key, "UploadId": upload_id}


def checksum_of(client: S3Client, buffers: list[Buffer]) -> dict[str, Any]:
    """The checksum to send.

    It is CRC32 as Amazon's SDKs do, MD5 if the user says that the server knows no other.
    """
    config = client.options.get("config_kwargs") or {}
    if config.get("request_checksum_calculation") == "when_required":
        return {"ContentMD5": base64_text(md5(buffers))}
    return {"ChecksumCRC32": base64_text(crc32(buffers))}


def stored_parts(
    client: S3Client, upload_id: str, first: int, count: int, patience: Patience = PATIENT
) -> dict[int, Part]:
    """Parts as the server lists them; ETags are MD5s unless KMS encrypts them."""
    request = _upload(client, upload_id) | {"MaxParts": min(count, PAGE)}
    if first > 1:
        request["PartNumberMarker"] = first - 1
    doing = f"look at the parts of {client.url}"
    page = client.call("list_parts", doing, patience, **request)
    parts = {}
    for listed in page.get("Parts") or []:
        number, tag = int(listed["PartNumber"]), str(listed["ETag"]).strip('"')
        if number < first + count:
            parts[number] = Part(number, int(listed["Size"]), tag)
    return parts


def first_part(client: S3Client, upload_id: str, patience: Patience = ONCE) -> Part | None:
    """The part of number 1; None if it is not stored."""
    return stored_parts(client, upload_id, 1, 1, patience).get(1)


def is_marked(client: S3Client, upload_id: str) -> bool:
    """Whether the first part is a mark of ccog, which the header replaces at the end."""
    with contextlib.suppress(StoreError):
        first = first_part(client, upload_id, BRISK)
        return first is not None and first.size == MARK_LENGTH
    return False


def list_uploads(
    client: S3Client, patience: Patience, timeout: float | None = None
) -> Iterator[IncompleteUpload]:
    """Uploads to keys that begin with this one."""
    pages = client.pages(
        "list_multipart_uploads",
        f"list the incomplete uploads to {client.url}",
        patience,
        markers=("KeyMarker", "UploadIdMarker"),
        timeout=timeout,
        Prefix=client.key,
    )
    for page in pages:
        for upload in page.get("Uploads") or []:
            url, upload_id = client.url_of(upload["Key"]), upload["UploadId"]
            yield IncompleteUpload(url=url, upload_id=upload_id, started=upload["Initiated"])


def uploads_here(client: S3Client, quick: bool = False) -> list[IncompleteUpload]:
    """Uploads to this very key, asked once; if quick, among those of the first page."""
    uploads = list_uploads(client, ONCE, timeout=QUICK_SECONDS if quick else None)
    page = itertools.islice(uploads, PAGE if quick else None)
    return [upload for upload in page if upload.url == client.url]


def abort_upload(client: S3Client, upload_id: str) -> None:
    """Abort the upload until the server no longer knows it."""
    doing = f"abort the upload to {client.url}"
    upload = _upload(client, upload_id)
    with contextlib.suppress(StoreNotFoundError):
        for _ in range(_ABORTS):
            client.call("abort_multipart_upload", doing, BRISK, **upload)
            try:
                client.call("list_parts", doing, BRISK, **upload)
            except StorePermissionError:
                return
