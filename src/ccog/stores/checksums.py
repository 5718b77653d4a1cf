"""The checksums that S3 knows by name, as its headers carry them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ccog.geometry.parts import Buffer
from ccog.stores.body import crc32, md5

Array = npt.NDArray[Any]

# bytes whose CRC is computed at a time, side by side in that many lanes
_STRIDE = 4 << 20
_LANES = 1 << 13


def _hashed(new: Callable[[], Any], buffers: list[Buffer]) -> bytes:
    digest = new()
    for buffer in buffers:
        digest.update(buffer)
    return bytes(digest.digest())


def _crc(polynomial: int, bits: int, buffers: list[Buffer]) -> bytes:
    """A reflected CRC that begins and ends with all bits inverted, big-endian."""
    ones = (1 << bits) - 1
    state = ones
    for piece in _pieces(buffers):
        state = _advanced(state, piece, polynomial, bits)
    return (state ^ ones).to_bytes(bits // 8, "big")


def _pieces(buffers: list[Buffer]) -> Iterator[Array]:
    for buffer in buffers:
        data = np.frombuffer(buffer, np.uint8)
        for start in range(0, data.size, _STRIDE):
            yield data[start : start + _STRIDE]


def _advanced(state: int, piece: Array, polynomial: int, bits: int) -> int:
    """The state behind a piece.

    A state is what the bytes themselves give that it is added to, and bytes of zero in
    front give nothing. So the lanes begin at zero, and each is shifted by those behind it.
    """
    width = bits // 8
    if piece.size < width:
        return _advanced_by_bytes(state, piece, polynomial, bits)
    lanes = _LANES if piece.size >= _LANES * width else 1
    length = -(-piece.size // lanes)
    data = np.zeros(lanes * length, np.uint8)
    data[-piece.size :] = piece
    head = data[data.size - piece.size :][:width]
    head ^= np.frombuffer(state.to_bytes(width, "little"), np.uint8)
    table = _table(polynomial, bits)
    states = np.zeros(lanes, table.dtype)
    for column in np.ascontiguousarray(data.reshape(lanes, length).T):
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    return _joined(states, length, table)


def _advanced_by_bytes(state: int, piece: Array, polynomial: int, bits: int) -> int:
    table = _table(polynomial, bits)
    for byte in piece.tolist():
        state = int(table[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state


def _joined(states: Array, length: int, table: Array) -> int:
    """The state of lanes of ``length`` bytes one behind the other, two by two."""
    bits = table.dtype.itemsize * 8
    shifted = np.left_shift(np.ones(bits, table.dtype), np.arange(bits, dtype=table.dtype))
    if states.size > 1:
        for _ in range(length):
            shifted = table[shifted & 0xFF] ^ (shifted >> 8)
    while states.size > 1:
        states = _applied(shifted, states[::2]) ^ states[1::2]
        shifted = _applied(shifted, shifted)
    return int(states[0])


def _applied(shifted: Array, states: Array) -> Array:
    """States after as many bytes of zero as have made ``shifted`` of single bits."""
    found = np.zeros_like(states)
    for bit, moved in enumerate(shifted):
        found ^= np.where(states >> bit & 1, moved, 0).astype(found.dtype)
    return found


@cache
def _table(polynomial: int, bits: int) -> Array:
    table = np.arange(256, dtype=f"u{bits // 8}")
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ polynomial, table >> 1).astype(table.dtype)
    return table


#: Checksums by the name that ``ChecksumAlgorithm`` has for them.
ALGORITHMS: dict[str, Callable[[list[Buffer]], bytes]] = {
    "CRC32": crc32,
    "CRC32C": partial(_crc, 0x82F63B78, 32),
    "CRC64NVME": partial(_crc, 0x9A6C9329AC4BC9B5, 64),
    "MD5": md5,
    "SHA1": partial(_hashed, partial(hashlib.sha1, usedforsecurity=False)),
    "SHA256": partial(_hashed, hashlib.sha256),
    "SHA512": partial(_hashed, hashlib.sha512),
    "XXHASH3": partial(_hashed, xxhash.xxh3_64),
    "XXHASH64": partial(_hashed, xxhash.xxh64),
    "XXHASH128": partial(_hashed, xxhash.xxh3_128),
}
