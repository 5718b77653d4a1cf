"""The checksums that S3 knows by name, as its headers carry them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import xxhash

from ccog.errors import needs
from ccog.geometry.parts import Buffer
from ccog.stores.body import crc32, hashed, md5


def _crc32c(buffers: list[Buffer]) -> bytes:
    """By google-crc32c if it is installed, else by awscrt."""
    try:
        from google_crc32c import extend
    except ImportError:
        return _by_awscrt("crc32c", 4, buffers)
    checksum = 0
    for buffer in buffers:
        # it takes no views
        checksum = extend(checksum, bytes(buffer))
    return checksum.to_bytes(4, "big")


def _by_awscrt(name: str, size: int, buffers: list[Buffer]) -> bytes:
    """A CRC of ``size`` bytes, as botocore computes it."""
    try:
        from awscrt import checksums
    except ImportError:
        raise needs(f"ChecksumAlgorithm={name.upper()}", "awscrt") from None
    checksum = 0
    for buffer in buffers:
        checksum = getattr(checksums, name)(buffer, checksum)
    return checksum.to_bytes(size, "big")


#: Checksums by the name that ``ChecksumAlgorithm`` has for them.
ALGORITHMS: dict[str, Callable[[list[Buffer]], bytes]] = {
    "CRC32": crc32,
    "CRC32C": _crc32c,
    "CRC64NVME": partial(_by_awscrt, "crc64nvme", 8),
    "MD5": md5,
    "SHA1": partial(hashed, partial(hashlib.sha1, usedforsecurity=False)),
    "SHA256": partial(hashed, hashlib.sha256),
    "SHA512": partial(hashed, hashlib.sha512),
    "XXHASH3": partial(hashed, xxhash.xxh3_64),
    "XXHASH64": partial(hashed, xxhash.xxh64),
    "XXHASH128": partial(hashed, xxhash.xxh3_128),
}
