"""The directory that holds the parts and checkpoints of one local upload.

It is ``.NAME.USER.parts/WRITE`` beside the file NAME, and its path is the upload id. All
uploads of a user to a file are in one directory, whose name can be asked for: to list a
folder of many files would take long.

Others may be able to write beside the target. So the directory must belong to this user
alone, every file in it is reached through its descriptor, and no symbolic link in it is
ever followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ccog.errors import StoreError, StorePermissionError
from ccog.geometry.parts import Buffer

# by name: Windows, where only other stores work, has not all of them
_SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC"))
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _SAFE
_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE

#: Flags of files in the directory: to read (no pipe keeps us waiting), to go on.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE
GO_ON = os.O_RDWR | os.O_CREAT | _SAFE

# the hidden directory of uploads to a file, and the one of an upload in it
_UPLOADS = re.compile(r"\.(?P<target>.+)\.[0-9a-f]+\.parts")
_UPLOAD = re.compile(r"[0-9a-f]{32}")

#: Bytes by which the name of a directory of uploads is longer than the file's, at most.
LONGER = len("...parts") + 32

# others may come into, or leave, a directory while it is removed or made
_ATTEMPTS, _PAUSE = 10, 0.01

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def uploads_to(target: Path) -> Path:
    """The directory of the uploads of this user to a file."""
    return target.with_name(f".{target.name}.{os.geteuid()}.parts")


def target_of(directory: Path) -> Path | None:
    """The file whose uploads are in a directory; None for other directories."""
    match = _UPLOADS.fullmatch(directory.name)
    return directory.with_name(match["target"]) if match else None


def is_upload(name: str) -> bool:
    """Whether a directory of that name is one of an upload."""
    return bool(_UPLOAD.fullmatch(name))


def directory_of(upload_id: str) -> tuple[Path, Path]:
    """The directory of an upload, and the file that its parts become."""
    directory = Path(upload_id)
    target = target_of(directory.parent)
    if target is None:
        raise StoreError(f"{upload_id!r} is not an upload to a local file")
    return directory, target


def create(target: Path, write: str, again: bool) -> Path:
    """The new directory of an upload; with ``again``, the one of this write if it is there.

    If it is there otherwise, the same Delayed is being computed elsewhere too, and gets
    another one.
    """
    uploads = uploads_to(target)
    try:
        return _create_in(uploads, write, again)
    except (PermissionError, NotADirectoryError):
        if not os.path.lexists(uploads):
            raise
        # somebody else has taken the name
        other = target.with_name(f".{target.name}.{uuid.uuid4().hex}.parts")
        return _create_in(other, write, again)


def _create_in(uploads: Path, write: str, again: bool) -> Path:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(uploads, 0o755)
        try:
            with opened(uploads) as folder:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(write, 0o700, dir_fd=folder)
                    return uploads / write
                if not again:
                    write = uuid.uuid4().hex
                    os.mkdir(write, 0o700, dir_fd=folder)
                return uploads / write
        except FileNotFoundError as error:
            # the last upload in it has just ended
            gone = error
    raise gone


def remove(directory: Path) -> None:
    """Remove the directory of an upload, and that of all if it is empty; OSError if it stays.

    A part file renamed into it while it is being removed takes another turn.
    """
    try:
        with contextlib.suppress(OSError), closing(os.open(directory.parent, _FOLDER)) as uploads:
            for _ in range(_ATTEMPTS):
                shutil.rmtree(directory.name, ignore_errors=True, dir_fd=uploads)
                if not os.path.lexists(directory):
                    break
                time.sleep(_PAUSE)
        # it may be empty by now; else this says why it stays
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(directory)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(directory.parent)


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
