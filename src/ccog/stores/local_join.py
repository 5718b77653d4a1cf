"""Joining the part files of a local upload to one file.

A part file is named by the number and the checksum of its part: a task that runs again
with other bytes never replaces a part that an earlier result speaks of. A part is
joined if, and only if, its range of the joined file has its checksum. That is looked at
after it was copied, and where its part file is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ccog.geometry.parts import Buffer, Part
from ccog.stores.base import MANIFEST
from ccog.stores.body import hashed
from ccog.stores.local_folder import GO_ON, READ, closing, read_file

# read at a time: they stay in the processor's cache
_READ_BYTES = 256 << 10

# joined files are named by this and a digest of their parts
_JOINED = "whole-"

_PART_NAME = re.compile(r"(?P<number>[0-9]{6,})-[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A part in its own file, and the offset of its bytes in the joined file."""

    number: int
    size: int
    checksum: str
    start: int

    @property
    def name(self) -> str:
        """The name of its own file."""
        return name_of(self.number, self.checksum)

    @property
    def stop(self) -> int:
        """The offset behind its bytes."""
        return self.start + self.size


@dataclass(frozen=True)
class Flaw:
    """A part that cannot be joined, and why."""

    part: PartFile
    why: str


def name_of(number: int, checksum: str) -> str:
    """The name of the file of a part."""
    return f"{number:06d}-{checksum}"


def checksum_of(buffers: Iterable[Buffer]) -> str:
    """The XXH3 (64 bits, 16 hex digits) of the joined buffers."""
    return hashed(xxhash.xxh3_64, buffers).hex()


def part_files(parts: list[Part]) -> list[PartFile]:
    """Parts in the order of their numbers, each with its offset."""
    files, start = [], 0
    for number, size, checksum in sorted(parts):
        files.append(PartFile(number=number, size=size, checksum=checksum, start=start))
        start += size
    return files


def joined_name(parts: list[PartFile]) -> str:
    """Name of the file that these parts, and no others, are joined in."""
    lines = [f"{part.name} {part.size}\n".encode() for part in parts]
    return _JOINED + checksum_of(lines)


@contextlib.contextmanager
def opened_joined(folder: int, parts: list[PartFile]) -> Iterator[int]:
    """A descriptor of the file that the parts are joined in, of the right length.

    Its mode is that of any new file, since it will get the name of the target.
    """
    with closing(os.open(joined_name(parts), GO_ON, 0o666, dir_fd=folder)) as joined:
        os.ftruncate(joined, sum(part.size for part in parts))
        yield joined


def join(folder: int, joined: int, parts: list[PartFile]) -> list[Flaw]:
    """Copy each part to its range and remove its file, if that was not done before.

    One after the other, since a file takes one write at a time. Returned are the parts
    that are neither in their files nor in their ranges. If there are none, the file is
    right and on disk.
    """
    flaws = [flaw for flaw in (_join_one(folder, joined, part) for part in parts) if flaw]
    if not flaws:
        os.fsync(joined)
    return flaws


def _join_one(folder: int, joined: int, part: PartFile) -> Flaw | None:
    try:
        with closing(os.open(part.name, READ, dir_fd=folder)) as source:
            size = os.fstat(source).st_size
            if size != part.size:
                return Flaw(part, f"has {size} bytes, not the {part.size} that were written")
            checksum = _copy(source, joined, part)
    except FileNotFoundError:
        is_joined = _checksum_in(joined, part) == part.checksum
        return None if is_joined else Flaw(part, f"({part.size} bytes) is missing")
    if checksum != part.checksum:
        why = f"holds other bytes than were written (checksum {checksum}, not {part.checksum})"
        return Flaw(part, why)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part.name, dir_fd=folder)
    return None


def has_other_parts(folder: int, parts: list[PartFile]) -> bool:
    """Whether an earlier run has put or joined other bytes as one of the parts."""
    numbers = {part.number for part in parts}
    expected = {joined_name(parts), *(part.name for part in parts)}
    for name in set(os.listdir(folder)) - expected:
        match = _PART_NAME.fullmatch(name)
        if name.startswith(_JOINED) or (match and int(match["number"]) in numbers):
            return True
    return False


def remove_checkpoints_of(folder: int, lost: list[PartFile]) -> None:
    """Remove the checkpoints of lost parts, so that resuming uploads them again.

    A checkpoint names its parts with their checksums, uncompressed.
    """
    checksums = [part.checksum.encode() for part in lost]
    for name in os.listdir(folder):
        if name == MANIFEST or _PART_NAME.fullmatch(name) or name.startswith(_JOINED):
            continue
        checkpoint = read_file(folder, name)
        if any(checksum in checkpoint for checksum in checksums):
            os.unlink(name, dir_fd=folder)


def is_made_of(path: Path, parts: list[PartFile]) -> bool:
    """Whether the file at a path exists and consists of exactly these parts."""
    try:
        with closing(os.open(path, READ)) as descriptor:
            status = os.fstat(descriptor)
            size = sum(part.size for part in parts)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                return False
            return all(_checksum_in(descriptor, part) == part.checksum for part in parts)
    except OSError:
        return False


def _checksum_in(descriptor: int, part: PartFile) -> str:
    """The checksum of the range of a part in a file, or of as much of it as there is."""
    return checksum_of(_read(descriptor, part.start, part.stop))


def _copy(source: int, joined: int, part: PartFile) -> str:
    """Copy a part file to its range; returns the checksum of what was copied."""

    def copied() -> Iterator[Buffer]:
        at = part.start
        for read in _read(source, 0, part.size):
            yield read
            while read:
                count = os.pwrite(joined, read, at)
                read, at = read[count:], at + count

    return checksum_of(copied())


def _read(descriptor: int, start: int, stop: int) -> Iterator[memoryview]:
    """The bytes of a range, in a buffer that is used again."""
    buffer = memoryview(bytearray(min(_READ_BYTES, stop - start)))
    while start < stop and (count := os.preadv(descriptor, [buffer[: stop - start]], start)):
        yield buffer[:count]
        start += count
