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
from ccog.stores.body import md5
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

    If the answer has no CRC32, an ETag that looks like an MD5 must be the MD5 of the part.
    """
    tag = _tag_of(answer)
    if "ChecksumCRC32" in answer and "ChecksumCRC32" in checksum:
        same = answer["ChecksumCRC32"] == checksum["ChecksumCRC32"]
    elif _has_opaque_tags(answer) or not _MD5.fullmatch(tag):
        same = True
    else:
        same = tag == md5(buffers).hex()
    if not same:
        raise TagMismatchError(
            f"the store received other bytes: it answers {tag} to a part of {total(buffers)} bytes"
        )
    return tag


def is_proven(head: Mapping[str, Any], parts: list[Part], write: str | None) -> bool:
    """Whether the object is made of these parts, by its ETag, or else by its mark.

    The mark counts only where ETags say nothing: an array that is written twice has the
    same mark twice.
    """
    if int(head["ContentLength"]) != total_size(parts):
        return False
    expected_tag = _expected_tag(head, parts)
    if expected_tag:
        return _tag_of(head) == expected_tag
    return write is not None and _mark_shown(head) == write


def difference(head: Mapping[str, Any], parts: list[Part], write: str | None) -> str:
    """How the object differs from these parts by size, ETag or mark; or nothing."""
    size, expected_size = int(head["ContentLength"]), total_size(parts)
    if size != expected_size:
        return f"{size} bytes instead of {expected_size}"
    tag, expected_tag = _tag_of(head), _expected_tag(head, parts)
    if expected_tag is not None:
        return "" if tag == expected_tag else f"ETag {tag} instead of {expected_tag}"
    mark = _mark_shown(head)
    if write is not None and mark not in (None, write):
        return f"it is of the write {mark} instead of {write}"
    return ""


def are_md5s(parts: list[Part]) -> bool:
    """Whether equal bytes have equal tags."""
    return all(_MD5.fullmatch(part.tag) for part in parts)


def _tag_of(head: Mapping[str, Any]) -> str:
    return str(head["ETag"]).strip('"')


def _expected_tag(head: Mapping[str, Any], parts: list[Part]) -> str | None:
    """The MD5 of the parts' MD5s; None if ETags are something else."""
    opaque = _has_opaque_tags(head) or not _MD5_OF_MD5S.fullmatch(_tag_of(head))
    if opaque or not are_md5s(parts):
        return None
    digests = b"".join(bytes.fromhex(part.tag) for part in parts)
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
