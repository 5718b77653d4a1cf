"""Parts of an upload to an S3 object: sending them, and asking which are stored."""

from __future__ import annotations

from typing import Any

from ccog.geometry.parts import Buffer, Part
from ccog.stores.base import new_part, size_of
from ccog.stores.body import Body, base64_text, crc32, md5
from ccog.stores.retry import PATIENT, Patience
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_proof import checked_tag

# parts that a server lists at a time
PAGE = 1000


def put_part(
    client: S3Client,
    upload_id: str,
    number: int,
    buffers: list[Buffer],
    doing: str,
    patience: Patience = PATIENT,
) -> Part:
    """Upload one part with a checksum that the server verifies.

    Its answer is compared too.
    """
    checksum = checksum_of(client, buffers)
    request: dict[str, Any] = {
        "Key": client.key,
        "UploadId": upload_id,
        "PartNumber": number,
        **checksum,
    }

    def attempt() -> Part:
        answer = client.once("upload_part", **request, Body=Body(buffers))
        return new_part(number, size_of(buffers), checked_tag(answer, checksum, buffers))

    return client.retry(attempt, doing, patience)


def checksum_of(client: S3Client, buffers: list[Buffer]) -> dict[str, str]:
    """The checksum to send.

    It is CRC32 as Amazon's SDKs do, MD5 if the user says that the server knows no other.
    """
    config = client.options.get("config_kwargs") or {}
    if config.get("request_checksum_calculation") == "when_required":
        return {"ContentMD5": base64_text(md5(buffers))}
    return {"ChecksumCRC32": base64_text(crc32(buffers))}


def stored_parts(
    client: S3Client,
    upload_id: str,
    first: int,
    count: int,
    patience: Patience = PATIENT,
) -> dict[int, Part]:
    """Parts as the server lists them, with their ETags, which are MD5s unless KMS encrypts them."""
    request: dict[str, Any] = {
        "Key": client.key,
        "UploadId": upload_id,
        "MaxParts": min(count, PAGE),
    }
    if first > 1:
        request["PartNumberMarker"] = first - 1
    page = client.call("list_parts", f"look at the parts of {client.url}", patience, **request)
    parts = {}
    for listed in page.get("Parts") or []:
        number = int(listed["PartNumber"])
        if number < first + count:
            tag = str(listed["ETag"]).strip('"')
            parts[number] = new_part(number, int(listed["Size"]), tag)
    return parts
