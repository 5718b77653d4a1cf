"""Errors of the operating system as errors of ccog: action, path, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError

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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason += f" ({_free(path)}); make room, and write again"
        elif error.errno == errno.EFBIG:
            reason += _TOO_LARGE
        raise kind_of(error)(f"cannot {doing} {path}: {reason}") from error


def kind_of(error: Exception) -> type[StoreError]:
    """The StoreError that resembles an error."""
    if getattr(error, "errno", None) == errno.EROFS:
        return StorePermissionError
    return next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), StoreError)


def _free(path: str | Path) -> str:
    """The free space of the file system of a path, which need not exist."""
    folder = os.path.dirname(path)
    with contextlib.suppress(OSError):
        return f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
    return "its free space is not known"
