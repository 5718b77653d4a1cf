"""Multipart uploads to an S3 object: their parts, listing and aborting them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ccog.errors import StoreError, StoreNotFoundError, StorePermissionError
from ccog.geometry.parts import Buffer, Part, total
from ccog.stores.base import QUICK_SECONDS, IncompleteUpload, is_at
from ccog.stores.body import Body, base64_text, crc32, md5
from ccog.stores.checksums import ALGORITHMS
from ccog.stores.retry import BRISK, ONCE, PATIENT, Patience, needed
from ccog.stores.s3_client import S3Client, listing
from ccog.stores.s3_proof import MARK_LENGTH, checked_tag, part_tag

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
    request: dict[str, Any] = {"Key": client.key, "UploadId": upload_id, "PartNumber": number}

    def etag(answer: dict[str, Any]) -> str:
        return checked_tag(answer, checksum, buffers)

    tag = client.call(
        "upload_part", doing, patience, checked=etag, Body=Body(buffers), **request, **checksum
    )
    wanted = checksum.get(f"Checksum{client.algorithm}")
    return Part(number, total(buffers), part_tag(tag, client.algorithm, wanted))


def checksum_of(client: S3Client, buffers: list[Buffer]) -> dict[str, Any]:
    """The checksum to send.

    It is the one that the user has chosen, else CRC32 as Amazon's SDKs do, MD5 if the user
    says that the server knows no other.
    """
    if (algorithm := client.algorithm) is not None:
        return {f"Checksum{algorithm}": base64_text(ALGORITHMS[algorithm](buffers))}
    config = client.options.get("config_kwargs") or {}
    if config.get("request_checksum_calculation") == "when_required":
        return {"ContentMD5": base64_text(md5(buffers))}
    return {"ChecksumCRC32": base64_text(crc32(buffers))}


def stored_parts(
    client: S3Client, upload_id: str, first: int, count: int, patience: Patience = PATIENT
) -> dict[int, Part]:
    """Parts as the server lists them; ETags are MD5s unless KMS encrypts them."""

    def parts(answer: dict[str, Any]) -> dict[int, Part]:
        listed = [listed_part(part) for part in listing(answer).get("Parts") or []]
        return {part.number: part for part in listed if part.number < first + count}

    def listed_part(listed: dict[str, Any]) -> Part:
        number, size = int(needed(listed, "PartNumber")), int(needed(listed, "Size"))
        etag, checksum = str(needed(listed, "ETag")).strip('"'), f"Checksum{client.algorithm}"
        return Part(number, size, part_tag(etag, client.algorithm, listed.get(checksum)))

    start: dict[str, Any] = {"PartNumberMarker": first - 1} if first > 1 else {}
    stored: dict[int, Part] = client.call(
        "list_parts",
        f"look at the parts of {client.url}",
        patience,
        checked=parts,
        Key=client.key,
        UploadId=upload_id,
        MaxParts=min(count, PAGE),
        **start,
    )
    return stored


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
    client: S3Client, patience: Patience, timeout: float | None = None, pages: int | None = None
) -> Iterator[IncompleteUpload]:
    """Uploads to this key, or to those below it."""
    for upload in client.listed(
        "list_multipart_uploads",
        "Uploads",
        f"list the incomplete uploads to {client.url}",
        patience,
        markers=("KeyMarker", "UploadIdMarker"),
        needs=("Key", "UploadId", "Initiated"),
        most=pages,
        timeout=timeout,
        Prefix=client.key,
    ):
        if is_at(client.key, upload["Key"]):
            yield IncompleteUpload(
                url=client.url_of(upload["Key"]),
                upload_id=upload["UploadId"],
                started=upload["Initiated"],
            )


def uploads_here(client: S3Client, quick: bool = False) -> list[IncompleteUpload]:
    """Uploads to this very key, asked once; if quick, those of the first page."""
    timeout, pages = (QUICK_SECONDS, 1) if quick else (None, None)
    uploads = list_uploads(client, ONCE, timeout, pages)
    return [upload for upload in uploads if upload.url == client.url]


def abort_upload(client: S3Client, upload_id: str) -> None:
    """Abort the upload until the server no longer knows it; StoreError if it never forgets."""
    doing = f"abort the upload to {client.url}"
    upload: dict[str, Any] = {"Key": client.key, "UploadId": upload_id}
    with contextlib.suppress(StoreNotFoundError):
        for attempt in range(_ABORTS):
            time.sleep(BRISK.wait(attempt) if attempt else 0)
            client.call("abort_multipart_upload", doing, BRISK, **upload)
            try:
                client.call("list_parts", doing, BRISK, **upload)
            except StorePermissionError:
                return
        raise StoreError(
            f"cannot {doing}: the server still lists it after {_ABORTS} calls, each of which it "
            f"has answered; try `ccog uploads abort {client.url}` later"
        )
