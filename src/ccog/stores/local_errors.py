"""Errors of the operating system as errors of ccog: action, path, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TOO_LARGE = (
    "; neither the file system nor the limit of this process (ulimit -f) allows so large a file"
)
_KINDS: tuple[tuple[type[OSError], type[StoreError]], ...] = (
    (FileNotFoundError, StoreNotFoundError),
    (PermissionError, StorePermissionError),
    (FileExistsError, StoreExistsError),
)


@contextlib.contextmanager
def typed(doing: str, path: str | Path) -> Iterator[None]:
    """Raise each OSError as the StoreError that resembles it: "cannot {doing} {path}"."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind_of(error)(f"cannot {doing} {path}: {reason}{_advice(error, path)}") from error


def kind_of(error: Exception) -> type[StoreError]:
    """The StoreError that resembles an error."""
    if getattr(error, "errno", None) == errno.EROFS:
        return StorePermissionError
    return next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), StoreError)


def _advice(error: OSError, path: str | Path) -> str:
    if error.errno in _FULL:
        return f" ({_free(path)}); make room, and write again"
    return _TOO_LARGE if error.errno == errno.EFBIG else ""


def _free(path: str | Path) -> str:
    """The free space of the file system of a path, which need not exist."""
    folder = os.path.dirname(path)
    with contextlib.suppress(OSError):
        return f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
    return "its free space is not known"
