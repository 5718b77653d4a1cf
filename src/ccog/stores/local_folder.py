"""The directory that holds the parts of one write, and how they become one file.

Others may be able to write beside the target. So every file in the directory is reached through the descriptor of a
directory that belongs to this user alone, and no symbolic link in it is ever followed.

A part's file is called by the part's number and checksum: a task that runs again with other bytes never replaces what
an earlier result speaks of. A part is in the joined file if, and only if, its range there has its checksum; that is
looked at when it was copied, and where its own file is gone.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xxhash

from ccog.errors import StorePermissionError
from ccog.geometry.parts import Buffer, Part
from ccog.stores.base import MANIFEST

_COPY_UNAVAILABLE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)
_CHUNK = 16 << 20

# bytes read at a time for a checksum: they stay in the processor's cache
_READ = 256 << 10

# part files that are copied at a time
_COPIERS = 4

# by name: Windows, where only other stores work, has not all of them
_SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC"))
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _SAFE
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
_OLD = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

#: What files that parts are joined in are called by, before a digest of what the parts are.
WHOLE = "whole-"

# of a part, or of what parts are joined in
_PART = re.compile(rf"(?P<number>[0-9]{{6,}})-[0-9a-f]{{16}}|{WHOLE}.*")


@dataclass(frozen=True)
class Piece:
    """A part and where in the file it begins."""

    number: int
    size: int
    checksum: str
    start: int

    @property
    def name(self) -> str:
        """The name of its own file."""
        return f"{self.number:06d}-{self.checksum}"


@dataclass(frozen=True)
class Flaw:
    """A part that cannot be joined, and why."""

    piece: Piece
    why: str


def checksum_of(buffers: list[Buffer]) -> str:
    """The XXH3 (64 bits, 16 hex digits) of the joined buffers."""
    digest = xxhash.xxh3_64()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


def pieces_of(parts: list[Part]) -> list[Piece]:
    """Parts in the order of their numbers, each with its place in the file."""
    ordered = sorted(parts)
    starts = itertools.accumulate((size for _, size, _ in ordered), initial=0)
    return [Piece(*part, start) for part, start in zip(ordered, starts, strict=False)]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the directory, which is this user's and can be written to by nobody else.

    Raises
    ------
    ccog.StorePermissionError
        It is somebody else's.
    OSError
        It does not exist, or is not a directory.
    """
    folder = os.open(path, _FOLDER)
    try:
        _refuse_foreign(path, os.fstat(folder))
        yield folder
    finally:
        os.close(folder)


def _refuse_foreign(path: Path, found: os.stat_result) -> None:
    if _is_mine(found) or _rights(found) == _rights_of_a_new_one(path.parent):
        return
    raise StorePermissionError(
        f"{path} belongs to user {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):o}: others than user "
        f"{os.geteuid()} can write to it, so it is not used. Remove it, or have its owner remove it"
    )


def _is_mine(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _rights(found: os.stat_result) -> tuple[int, int]:
    return found.st_uid, found.st_mode & _OTHERS_WRITE


def _rights_of_a_new_one(parent: Path) -> tuple[int, int] | None:
    """What a directory made now gets: some file systems keep neither owners nor modes (FAT, SMB, NFS for root)."""
    try:
        probe = tempfile.mkdtemp(prefix=".ccog-", dir=parent)
    except OSError:
        return None
    try:
        return _rights(os.stat(probe, follow_symlinks=False))
    finally:
        os.rmdir(probe)


def write_file(folder: int, name: str, buffers: list[Buffer]) -> None:
    """Write a file under a temporary name, then rename it, so that it is whole or absent."""
    partial_name = f"{name}.{uuid.uuid4().hex}"
    try:
        with _closing(os.open(partial_name, _NEW, 0o600, dir_fd=folder)) as descriptor:
            for buffer in buffers:
                _write_all(descriptor, buffer)
        os.replace(partial_name, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial_name, dir_fd=folder)
        raise


def read_file(folder: int, name: str, limit: int | None = None) -> bytes:
    """The bytes of a file, or the first of them."""
    with open(_open_part(folder, name), "rb") as file:
        return file.read(-1 if limit is None else limit)


def can_link(folder: int) -> bool:
    """Whether files can be given a second name, which no existing file can get."""
    name = uuid.uuid4().hex
    write_file(folder, name, [])
    try:
        os.link(name, f"{name}-link", src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(f"{name}-link", dir_fd=folder)
    except OSError:
        return False
    finally:
        os.unlink(name, dir_fd=folder)
    return True


def whole_name(pieces: list[Piece]) -> str:
    """The file that these very parts are joined in: a task that runs again with others joins them elsewhere."""
    return WHOLE + checksum_of([f"{piece.name} {piece.size}\n".encode() for piece in pieces])


@contextlib.contextmanager
def opened_whole(folder: int, pieces: list[Piece]) -> Iterator[int]:
    """A descriptor of the file that the parts are joined in, of the right length.

    Its mode is that of any new file: it is what gets the name of the target.
    """
    with _closing(
        os.open(whole_name(pieces), os.O_RDWR | os.O_CREAT | _SAFE, 0o666, dir_fd=folder)
    ) as whole:
        os.ftruncate(whole, _length(pieces))
        yield whole


def join(folder: int, whole: int, pieces: list[Piece]) -> list[Flaw]:
    """Copy the parts to their places, each removed when it is there; joining that was cut short goes on.

    Returns
    -------
    list of Flaw
        Parts that are neither there nor in their places; the file is right where there is none, and on disk.
    """
    with ThreadPoolExecutor(_COPIERS) as pool:
        flaws = [flaw for flaw in pool.map(partial(_join_one, folder, whole), pieces) if flaw]
    if not flaws:
        os.fsync(whole)
    return flaws


def ran_otherwise(folder: int, pieces: list[Piece]) -> bool:
    """Whether an earlier run has put other bytes under the number of a part, or begun to join them."""
    numbers = {f"{piece.number:06d}" for piece in pieces}
    known = {whole_name(pieces), *(piece.name for piece in pieces)}
    others = [_PART.fullmatch(name) for name in set(os.listdir(folder)) - known]
    return any(match and match["number"] in numbers | {None} for match in others)


def forget_records(folder: int, lost: list[Piece]) -> None:
    """Remove the records that speak of lost parts, so that who resumes uploads them again.

    A record names its parts with their checksums, uncompressed.
    """
    marks = [piece.checksum.encode() for piece in lost]
    for name in os.listdir(folder):
        if name == MANIFEST or _PART.fullmatch(name):
            continue
        record = read_file(folder, name)
        if any(mark in record for mark in marks):
            os.unlink(name, dir_fd=folder)


def has_file(path: Path, name: str) -> bool:
    """Whether a directory of this user alone has a file of that name."""
    try:
        with opened(path) as folder:
            return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def is_made_of(path: Path, pieces: list[Piece]) -> bool:
    """Whether there is a file of these parts, and nothing else, at a path."""
    try:
        with _closing(os.open(path, _OLD)) as descriptor:
            return stat.S_ISREG(os.fstat(descriptor).st_mode) and _holds(descriptor, pieces)
    except OSError:
        return False


def _holds(descriptor: int, pieces: list[Piece]) -> bool:
    if os.fstat(descriptor).st_size != _length(pieces):
        return False
    return all(_checksum_at(descriptor, piece) == piece.checksum for piece in pieces)


def _length(pieces: list[Piece]) -> int:
    return pieces[-1].start + pieces[-1].size if pieces else 0


def _join_one(folder: int, whole: int, piece: Piece) -> Flaw | None:
    try:
        with _closing(_open_part(folder, piece.name)) as part:
            size = os.fstat(part).st_size
            if size != piece.size:
                return Flaw(piece, f"has {size} bytes, not the {piece.size} that were written")
            _copy(part, whole, piece)
    except FileNotFoundError:
        # joined before, or lost
        if _checksum_at(whole, piece) == piece.checksum:
            return None
        return Flaw(piece, f"({piece.size} bytes) is missing")
    found = _checksum_at(whole, piece)
    if found != piece.checksum:
        return Flaw(
            piece, f"holds other bytes than were written (checksum {found}, not {piece.checksum})"
        )
    with contextlib.suppress(FileNotFoundError):
        os.unlink(piece.name, dir_fd=folder)
    return None


def _open_part(folder: int, name: str) -> int:
    return os.open(name, _OLD, dir_fd=folder)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, buffer: Buffer) -> None:
    view = memoryview(buffer)
    while view:
        view = view[os.write(descriptor, view) :]


def _checksum_at(descriptor: int, piece: Piece) -> str:
    """The checksum of the range that a part takes in a file; of as much of it as there is."""
    digest, buffer = xxhash.xxh3_64(), memoryview(bytearray(min(_READ, piece.size)))
    at, stop = piece.start, piece.start + piece.size
    while at < stop and (count := os.preadv(descriptor, [buffer[: stop - at]], at)):
        digest.update(buffer[:count])
        at += count
    return str(digest.hexdigest())


def _copy(part: int, whole: int, piece: Piece) -> None:
    """Copy a part file to its place, in the kernel where it can; what is copied is looked at afterwards."""
    done = 0
    while done < piece.size and (
        count := _copy_some(part, whole, piece.size - done, done, piece.start + done)
    ):
        done += count


def _copy_some(source: int, target: int, count: int, at: int, to: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, at, to)
        except OSError as error:
            if error.errno not in _COPY_UNAVAILABLE:
                raise
    return os.pwrite(target, os.pread(source, min(count, _CHUNK), at), to)
