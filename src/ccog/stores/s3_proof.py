"""Proof that an S3 server holds what was sent: checksums, ETags, marks of our own.

An upload carries the name of its write twice: as metadata, which the server shows of
the finished object, and as part 1, which the server lists while the upload is in
progress. The header replaces that part in the end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ccog.geometry.parts import Buffer, Part, total
from ccog.stores.base import total_size
from ccog.stores.body import base64_text, md5
from ccog.stores.checksums import ALGORITHMS
from ccog.stores.retry import needed
from ccog.stores.s3_errors import TagMismatchError

#: Key of the object's user metadata that holds the name of the write.
MARK_KEY = "ccog-write"

_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_MD5S = re.compile(r"[0-9a-f]{32}-\d+")


def mark_of(write: str) -> bytes:
    """The part that marks an upload; no other program's first part is so short."""
    return f"ccog {write}".encode("ascii")


#: Bytes of every mark.
MARK_LENGTH = len(mark_of("0" * 32))


def checked_tag(
    answer: Mapping[str, Any], checksum: Mapping[str, str], buffers: list[Buffer]
) -> str:
    """The ETag of an uploaded part; TagMismatchError if the server received other bytes.

    If the answer has no checksum, an ETag that looks like an MD5 must be the MD5 of the part.
    """
    tag = str(needed(answer, "ETag")).strip('"')
    if answered := answer.keys() & checksum.keys():
        same = all(answer[name] == checksum[name] for name in answered)
    elif _has_opaque_tags(answer) or not _MD5.fullmatch(tag):
        same = True
    else:
        same = tag == md5(buffers).hex()
    if not same:
        raise TagMismatchError(
            f"the store received other bytes: it answers {tag} to a part of {total(buffers)} bytes"
        )
    return tag


def part_tag(etag: str, algorithm: str | None, checksum: str | None) -> str:
    """The tag of a part: its ETag, and the checksum that the object's is made of, if any."""
    return etag if not algorithm or not checksum else f"{etag} {algorithm}={checksum}"


def expected_tag(algorithm: str | None, buffers: list[Buffer]) -> str:
    """The tag of a part of these bytes, where ETags are MD5s."""
    checksum = base64_text(ALGORITHMS[algorithm](buffers)) if algorithm else None
    return part_tag(md5(buffers).hex(), algorithm, checksum)


def etag_of(part: Part) -> str:
    """The ETag of a part."""
    return part.tag.partition(" ")[0]


def completed_part(part: Part) -> dict[str, Any]:
    """A part as a completion names it."""
    etag, _, checksum = part.tag.partition(" ")
    algorithm, _, value = checksum.partition("=")
    named = {f"Checksum{algorithm}": value} if value else {}
    return {"PartNumber": part.number, "ETag": f'"{etag}"'} | named


def is_proven(head: Mapping[str, Any], parts: list[Part], write: str | None) -> bool:
    """Whether the object is made of these parts, by its ETag, or else by its mark.

    The mark counts only where ETags say nothing: an array that is written twice has the
    same mark twice.
    """
    if int(head["ContentLength"]) != total_size(parts):
        return False
    if expected := _expected_etag(head, parts):
        return shown_etag(head) == expected
    return write is not None and _mark_shown(head) == write


def difference(head: Mapping[str, Any], parts: list[Part], write: str | None) -> str:
    """How the object differs from these parts by size, ETag or mark; or nothing."""
    size, expected_size = int(head["ContentLength"]), total_size(parts)
    if size != expected_size:
        return f"{size} bytes instead of {expected_size}"
    etag, expected = shown_etag(head), _expected_etag(head, parts)
    if expected is not None:
        return "" if etag == expected else f"ETag {etag} instead of {expected}"
    mark = _mark_shown(head)
    if write is not None and mark not in (None, write):
        return f"it is of the write {mark} instead of {write}"
    return ""


def are_md5s(parts: list[Part]) -> bool:
    """Whether equal bytes have equal tags."""
    return all(_MD5.fullmatch(etag_of(part)) for part in parts)


def shown_etag(head: Mapping[str, Any]) -> str:
    """The ETag that an answer shows, or nothing."""
    return str(head.get("ETag") or "").strip('"')


def _expected_etag(head: Mapping[str, Any], parts: list[Part]) -> str | None:
    """The MD5 of the parts' MD5s; None if ETags are something else."""
    opaque = _has_opaque_tags(head) or not _MD5_OF_MD5S.fullmatch(shown_etag(head))
    if opaque or not are_md5s(parts):
        return None
    digests = b"".join(bytes.fromhex(etag_of(part)) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _mark_shown(head: Mapping[str, Any]) -> str | None:
    """The mark among the metadata, whose names some servers write with capitals."""
    metadata = head.get("Metadata") or {}
    by_name = {str(name).lower(): str(value) for name, value in metadata.items()}
    return by_name.get(MARK_KEY)


def _has_opaque_tags(answer: Mapping[str, Any]) -> bool:
    """Whether encryption by KMS or a customer's key makes ETags other than MD5s."""
    encryption = str(answer.get("ServerSideEncryption", ""))
    return encryption.startswith("aws:kms") or "SSECustomerAlgorithm" in answer
