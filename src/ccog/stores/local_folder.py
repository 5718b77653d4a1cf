"""The directory that holds the parts and checkpoints of one local upload.

Others may be able to write beside the target. So the directory must belong to this user
alone, every file in it is reached through its descriptor, and no symbolic link in it is
ever followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from ccog.errors import StorePermissionError
from ccog.geometry.parts import Buffer

# by name: Windows, where only other stores work, has not all of them
_SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC"))
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _SAFE
_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE

#: Flags of files in the directory: to read (no pipe keeps us waiting), to go on.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE
GO_ON = os.O_RDWR | os.O_CREAT | _SAFE

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the directory; StorePermissionError if others can write to it."""
    with closing(os.open(path, _FOLDER)) as folder:
        _refuse_foreign(path, os.fstat(folder))
        yield folder


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Close the descriptor in the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    mine = status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE
    if mine or _rights(status) == _rights_of_a_new_one(path.parent):
        return
    raise StorePermissionError(
        f"{path} belongs to user {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):o}: "
        f"others than user {os.geteuid()} can write to it, so it is not used. "
        "Remove it, or have its owner remove it"
    )


def _rights(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_mode & _OTHERS_WRITE


def _rights_of_a_new_one(parent: Path) -> tuple[int, int] | None:
    """Rights of a new directory: FAT, SMB and NFS for root keep no owners or modes."""
    try:
        probe = tempfile.mkdtemp(prefix=".ccog-", dir=parent)
    except OSError:
        return None
    try:
        return _rights(os.stat(probe, follow_symlinks=False))
    finally:
        os.rmdir(probe)


def write_file(folder: int, name: str, buffers: list[Buffer]) -> None:
    """Write a file under a temporary name, then rename it: it is whole or absent."""
    temporary = f"{name}.{uuid.uuid4().hex}"
    try:
        with open(os.open(temporary, _WRITE_NEW, 0o600, dir_fd=folder), "wb") as file:
            for buffer in buffers:
                file.write(buffer)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def read_file(folder: int, name: str, limit: int | None = None) -> bytes:
    """The bytes of a file, or the first of them."""
    with open(os.open(name, READ, dir_fd=folder), "rb") as file:
        return file.read(-1 if limit is None else limit)


def has_file(path: Path, name: str) -> bool:
    """Whether a directory of this user alone has a file of that name."""
    try:
        with opened(path) as folder:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return stat.S_ISREG(status.st_mode)
    except OSError:
        return False


def can_link(folder: int) -> bool:
    """Whether files can have a second name, which never replaces an existing file."""
    name = uuid.uuid4().hex
    write_file(folder, name, [])
    link = f"{name}-link"
    try:
        os.link(name, link, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(link, dir_fd=folder)
    except OSError:
        return False
    finally:
        os.unlink(name, dir_fd=folder)
    return True
