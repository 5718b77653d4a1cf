"""A part's bytes as a body to upload, without joining the buffers it is made of."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any

from ccog.geometry.parts import Buffer

# large enough to cost little, small enough to be sent without a copy of the part
_CHUNK = 256 << 10


class Body:
    """A seekable file for signing, and an asynchronous iterable of views for sending.

    Each iteration starts at the beginning, so a consumed body is never sent again as an
    empty one.
    """

    def __init__(self, buffers: list[Buffer]) -> None:
        self._views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._starts = list(itertools.accumulate(map(len, self._views), initial=0))
        self._at = 0

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, size: int = -1) -> bytes | memoryview:
        """All that is left, or a view of at most ``size`` bytes of one buffer."""
        at = self._at
        if size is None or size < 0:
            self._at = len(self)
            return b"".join(self._views)[at:]
        if at >= len(self):
            return b""
        index = bisect_right(self._starts, at) - 1
        view = self._views[index][at - self._starts[index] :][:size]
        self._at += len(view)
        return view

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position, as files do."""
        start = (0, self._at, len(self))[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def seekable(self) -> bool:
        """True."""
        return True

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Views of the whole body in turn."""
        for view in self._views:
            for start in range(0, len(view), _CHUNK):
                yield view[start : start + _CHUNK]


def hashed(new: Callable[[], Any], buffers: Iterable[Buffer]) -> bytes:
    """The digest of the joined buffers by a hash of hashlib or xxhash."""
    digest = new()
    for buffer in buffers:
        digest.update(buffer)
    return bytes(digest.digest())


def md5(buffers: list[Buffer]) -> bytes:
    """The MD5 digest of the joined buffers."""
    return hashed(partial(hashlib.md5, usedforsecurity=False), buffers)


def crc32(buffers: list[Buffer]) -> bytes:
    """The CRC32 of the joined buffers, big-endian."""
    checksum = 0
    for buffer in buffers:
        checksum = zlib.crc32(buffer, checksum)
    return checksum.to_bytes(4, "big")


def base64_text(digest: bytes) -> str:
    """A digest as HTTP headers carry it."""
    return base64.b64encode(digest).decode("ascii")
