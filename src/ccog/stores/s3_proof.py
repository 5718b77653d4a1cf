"""What proves that an S3 server holds what was sent: checksums of parts, ETags of objects, and marks of our own.

An upload carries the name of its write twice. As metadata, which the server shows of the finished object. And as
its part 1, until the header replaces it, which the server shows of an upload in progress.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ccog.geometry.parts import Buffer, Part
from ccog.stores.base import size_of, total_size
from ccog.stores.body import md5
from ccog.stores.s3_errors import TagMismatchError

#: Key of the object's user metadata that holds the name of the write.
MARK_KEY = "ccog-write"

#: Bytes of the part that marks an upload in progress.
MARK_BYTES = 37

_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_MD5S = re.compile(r"[0-9a-f]{32}-\d+")


def mark_of(write: str) -> bytes:
    """The part that marks an upload of a write (32 hex digits): too short for a first part of anybody else's."""
    return f"ccog {write}".encode("ascii")


def checked_tag(found: Mapping[str, Any], guard: Mapping[str, Any], buffers: list[Buffer]) -> str:
    """The ETag of a part that the server has received as it was sent.

    Where the server does not answer with the CRC32, the ETag must be the MD5 of the part, if it looks like one.
    """
    tag = str(found["ETag"]).strip('"')
    if "ChecksumCRC32" in found and "ChecksumCRC32" in guard:
        same = found["ChecksumCRC32"] == guard["ChecksumCRC32"]
    else:
        same = not _MD5.fullmatch(tag) or _has_opaque_tags(found) or tag == md5(buffers).hex()
    if not same:
        raise TagMismatchError(
            f"the store received other bytes: it answers {tag} to a part of {size_of(buffers)} bytes"
        )
    return tag


def is_proven(head: Mapping[str, Any], parts: list[Part], write: str | None) -> bool:
    """Whether the object is certainly made of these parts: by its ETag, or, where that says nothing, by its mark."""
    if int(head["ContentLength"]) != total_size(parts):
        return False
    expected = _expected_tag(head, parts)
    # an array that is written a second time has the mark of the first
    return (
        _tag_of(head) == expected if expected else write is not None and _mark_shown(head) == write
    )


def difference(head: Mapping[str, Any], parts: list[Part], write: str | None) -> str:
    """What tells the object from these parts: size, ETag or mark; empty where nothing does."""
    size, expected = int(head["ContentLength"]), total_size(parts)
    if size != expected:
        return f"{size} bytes instead of {expected}"
    tag, expected_tag = _tag_of(head), _expected_tag(head, parts)
    if expected_tag is not None and tag != expected_tag:
        return f"ETag {tag} instead of {expected_tag}"
    mark = _mark_shown(head)
    if write is not None and mark not in (None, write) and expected_tag is None:
        return f"it is of the write {mark} instead of {write}"
    return ""


def are_md5s(parts: list[Part]) -> bool:
    """Whether equal bytes have equal tags."""
    return all(_MD5.fullmatch(tag) for _, _, tag in parts)


def _tag_of(head: Mapping[str, Any]) -> str:
    return str(head["ETag"]).strip('"')


def _expected_tag(head: Mapping[str, Any], parts: list[Part]) -> str | None:
    """The MD5 of the parts' MD5s; None where ETags are something else."""
    opaque = _has_opaque_tags(head) or not _MD5_OF_MD5S.fullmatch(_tag_of(head))
    if opaque or not are_md5s(parts):
        return None
    digests = b"".join(bytes.fromhex(tag) for _, _, tag in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _mark_shown(head: Mapping[str, Any]) -> str | None:
    """The mark among the metadata, whose names some servers write with capitals."""
    shown = {str(name).lower(): str(value) for name, value in (head.get("Metadata") or {}).items()}
    return shown.get(MARK_KEY)


def _has_opaque_tags(found: Mapping[str, Any]) -> bool:
    """Whether ETags are not MD5s: encryption with a key of KMS or of the customer (S3 API, Object)."""
    return (
        str(found.get("ServerSideEncryption", "")).startswith("aws:kms")
        or "SSECustomerAlgorithm" in found
    )
