"""The exception tree: each error is a :class:`CCOGError` and the builtin that it resembles."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

_CONTEXT: Any = BaseException.__context__


class CCOGError(Exception):
    """Base of all errors raised on purpose by ccog."""

    # an error of another library that no traceback shows would still be pickled with ours, with
    # all that it holds: requests, keys
    @property
    def __context__(self) -> BaseException | None:
        return None if self.__suppress_context__ else _CONTEXT.__get__(self)

    @__context__.setter
    def __context__(self, error: BaseException | None) -> None:
        _CONTEXT.__set__(self, error)


class OptionError(CCOGError, ValueError):
    """A creation option is unknown, has a bad value, or does not fit the raster."""


class ReprojectionError(OptionError):
    """An option that would reproject or resample the raster was given."""


class RasterError(CCOGError, ValueError):
    """The array, or its mask, has a shape, chunking or metadata that cannot be written."""


class DtypeError(CCOGError, TypeError):
    """The array has a dtype that GeoTIFF, or the chosen compression, cannot hold."""


class ChunkError(CCOGError, ValueError):
    """A chunk is not what its array declares, or cannot be stored so; nothing is written."""


class ArgumentTypeError(CCOGError, TypeError):
    """An argument is of the wrong type."""


class EncodeError(CCOGError, RuntimeError):
    """GDAL failed to compress a block, or is not that of the client; nothing is written."""


class StoreError(CCOGError, OSError):
    """The target cannot be written."""


class StoreExistsError(StoreError, FileExistsError):
    """The target exists and overwriting it was not asked for."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """The directory or bucket of the target does not exist."""


class StorePermissionError(StoreError, PermissionError):
    """The store refused access to the target."""


class ResumeError(CCOGError, ValueError):
    """Another write is unfinished at the target, or the target cannot keep unfinished writes."""


class MissingDependencyError(CCOGError, ImportError):
    """An optional package is needed; the message names the pip command."""


def needs(what: str, *packages: str) -> MissingDependencyError:
    """The error of missing packages.

    It names the packages, not extras of ccog: those can be installed wherever ccog came from.
    """
    return MissingDependencyError(
        f"{what} needs {' and '.join(packages)}: pip install {' '.join(packages)}"
    )


def raise_together(problems: Sequence[OptionError]) -> None:
    """Raise what is wrong with options, all at once; nothing where there is none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        is_warping = any(isinstance(problem, ReprojectionError) for problem in problems)
        kind = ReprojectionError if is_warping else OptionError
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise kind(f"{len(problems)} options cannot be used:{lines}")


class CCOGWarning(UserWarning):
    """Something costs more than it needs to, or behaves differently than a user may expect."""


def warn_user(message: str) -> None:
    """Give a :class:`CCOGWarning` at the user's line: that of the first caller outside of ccog."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ccog":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CCOGWarning, stacklevel=level)
