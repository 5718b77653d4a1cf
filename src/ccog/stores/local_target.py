"""Local targets: which are refused, and which properties a new file takes over."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
from pathlib import Path

from ccog.errors import StoreError, StoreNotFoundError, StorePermissionError
from ccog.stores.local_errors import typed
from ccog.stores.local_folder import closing

_NO_FILE = "; a file would take its place. Give the name of a file"
_KINDS = (
    (stat.S_ISDIR, "a directory; give the name of a file in it"),
    (stat.S_ISFIFO, f"a named pipe{_NO_FILE}"),
    (stat.S_ISSOCK, f"a socket{_NO_FILE}"),
    (stat.S_ISBLK, f"a block device{_NO_FILE}"),
    (stat.S_ISCHR, f"a device{_NO_FILE}"),
)

# FS_IOC_GETFLAGS, FS_IMMUTABLE_FL and FS_APPEND_FL of Linux (linux/fs.h)
_GET_FLAGS = 0x80086601
_FIXED = 0x10 | 0x20

# extended attributes that describe the content, which changes
_OF_CONTENT = ("security.capability", "security.evm", "security.ima")
_ACL = "system.posix_acl_access"


def real_path(path: str) -> Path:
    """The file that ``path`` names: what a symbolic link, or one on the way, points to.

    A link that somebody else has put into a directory like /tmp, where everybody may, is
    refused. Linux does not follow it either, if ``fs.protected_symlinks`` is set.
    """
    _refuse_impossible(path)
    parent, name = os.path.split(path)
    with typed("look at", path):
        status = _lstat(path)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return Path(os.path.realpath(parent), name)
        folder = os.stat(parent)
        shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if shared and status.st_uid not in (os.geteuid(), folder.st_uid):
            raise StorePermissionError(
                f"{path} is a symbolic link that user {status.st_uid} has put into a directory of "
                "everybody's; it is not followed. Remove it, or give the path that it points to"
            )
        return Path(os.path.realpath(path))


def refuse_unwritable(path: str, overwrite: bool, extra: int) -> None:
    """Refuse a target before any work.

    ``extra``: the name of the directory beside it is that many bytes longer than its own.
    """
    _refuse_impossible(path)
    _refuse_long(Path(path), 0)
    real = real_path(path)
    with typed("write to", path):
        status = refuse_other_kinds(real)
        _refuse_dangling(path, real, status)
        _refuse_folder(real.parent)
        _refuse_long(real, extra)
        if status is not None and overwrite:
            _refuse_irreplaceable(real, status)


def refuse_other_kinds(path: Path) -> os.stat_result | None:
    """The status of a file, or None; anything else at the path is refused."""
    status = _lstat(path)
    if status is None:
        return None
    for is_kind, advice in _KINDS:
        if is_kind(status.st_mode):
            raise StoreError(f"{path} is {advice}")
    return status


def take_over(old: os.stat_result, path: Path, new: int) -> None:
    """Give an open file mode, owner and attributes of an old one, as far as allowed."""
    mine = os.fstat(new)
    if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        # giving a file away may be forbidden, while giving it to another group is allowed
        for owner in (old.st_uid, -1):
            with contextlib.suppress(OSError):
                os.fchown(new, owner, old.st_gid)
                break
    if hasattr(os, "listxattr"):
        _take_over_attributes(path, new)
    with contextlib.suppress(OSError):
        # without the bits that run a file as its owner: writing would take them away too
        os.fchmod(new, stat.S_IMODE(old.st_mode) & 0o777)


def _take_over_attributes(path: Path, new: int) -> None:
    with contextlib.suppress(OSError):
        names = set(os.listxattr(path, follow_symlinks=False)) - set(_OF_CONTENT)
        for name in names:
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(path, name, follow_symlinks=False))
        if _ACL not in names and _ACL in os.listxattr(new):
            # the directory's default, which the old file does not have
            os.removexattr(new, _ACL)


def _refuse_impossible(path: str) -> None:
    """Refuse a name with a NUL or half of a surrogate pair: no system call takes it."""
    try:
        if b"\0" not in os.fsencode(path):
            return
    except UnicodeEncodeError:
        pass
    raise StoreError(
        f"{path!r} has characters that the name of a file cannot have; give another name"
    )


def _lstat(path: str | Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refuse_dangling(path: str, real: Path, status: os.stat_result | None) -> None:
    if status is None and os.path.islink(path):
        raise StoreError(
            f"{path} is a symbolic link to {real}, which does not exist; "
            "remove the link, or give the path of a file"
        )
    if status is not None and stat.S_ISLNK(status.st_mode):
        raise StoreError(f"{path} is a symbolic link that leads back to itself; remove it")


def _refuse_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreNotFoundError(f"the directory {folder} does not exist; create it first")
    if _is_fixed(folder):
        raise StorePermissionError(
            f"{folder} may not be changed (chattr +i or +a); write elsewhere, or allow it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorePermissionError(f"no permission to create files in {folder}")


def _refuse_long(path: Path, extra: int) -> None:
    """Refuse a name that the file system cannot hold with ``extra`` bytes more."""
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX") - extra
    except OSError:
        return
    size = len(os.fsencode(path.name))
    if size > longest:
        why = f", less {extra} for the directory of parts beside it" if extra else ""
        raise StoreError(
            f"the name {path.name} has {size} bytes; at most {longest} are possible in "
            f"{path.parent}{why}; give a shorter one"
        )


def _refuse_irreplaceable(path: Path, status: os.stat_result) -> None:
    """Refuse an existing file that could not be replaced in the end."""
    is_mounted = os.path.ismount(path)
    with contextlib.suppress(OSError):
        is_mounted = _mount_of(path) != _mount_of(path.parent)
    if is_mounted:
        raise StoreError(
            f"{path} is mounted by itself, as containers do it with single files, and no file can "
            "take its place. Mount its directory, or give another name"
        )
    folder, user = os.stat(path.parent), os.geteuid()
    if folder.st_mode & stat.S_ISVTX and user not in (0, status.st_uid, folder.st_uid):
        raise StorePermissionError(
            f"{path} belongs to user {status.st_uid}, and in {path.parent} (sticky) only its owner "
            "may replace it; give another name"
        )
    if _is_fixed(path):
        raise StorePermissionError(
            f"{path} may not be replaced (chattr +i or +a); give another name, or allow it"
        )


def _mount_of(path: Path) -> str:
    """The number that Linux gives the mount; an error where the system does not tell."""
    flags = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
    with closing(os.open(path, flags)) as descriptor:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("\n")
    found = [fact for fact in facts if fact.startswith("mnt_id:")]
    if not found:
        raise OSError(f"no mount of {path} is known")
    return found[0]


def _is_fixed(path: Path) -> bool:
    """Whether Linux says that a file is immutable or may only grow."""
    if sys.platform != "linux":
        return False
    import fcntl

    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    # a file that may not be read cannot be asked
    with contextlib.suppress(OSError), closing(os.open(path, flags)) as descriptor:
        answer = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        return bool(struct.unpack_from("i", answer)[0] & _FIXED)
    return False
