"""GDAL configuration options of a write: what is allowed, and how they are set wherever GDAL runs.

Their values may be secrets (``GDAL_HTTP_USERPWD``), and stay out of every repr, message and record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import ArgumentTypeError, OptionError
from ccog.gdal.rasterio_edges import memory_env

# rasterio hands credentials to GDAL itself, and refuses these (rasterio.env.Env, "Notes")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def environment_options(env: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options as a dictionary.

    Raises
    ------
    ArgumentTypeError
        They are not a mapping with text as keys.
    OptionError
        Credentials are among them that rasterio does not take as options.
    """
    if env is not None and not isinstance(env, Mapping):
        raise ArgumentTypeError(
            "rasterio_env_options is a mapping such as dict(GDAL_NUM_THREADS=2), "
            f"not {type(env).__name__}"
        )
    options = dict(env or {})
    for key in options:
        if not isinstance(key, str):
            raise ArgumentTypeError(
                f"a key of rasterio_env_options is {key!r}; keys are names of GDAL's options"
            )
    refused = [key for key in _CREDENTIALS if key in options]
    if refused:
        raise OptionError(
            f"rasterio_env_options holds {' and '.join(refused)}, "
            "which rasterio does not take as options of GDAL. "
            "For the target give storage_options=dict(key=..., secret=...). "
            "For sources that GDAL reads give "
            "rasterio_env_options=dict(session=rasterio.session.AWSSession(...)), "
            "or set the variables of these names in the environment of the workers"
        )
    return options


@dataclass(frozen=True)
class WithEnv:
    """Runs a function in one environment of GDAL, whose options stay out of the repr."""

    options: tuple[tuple[str, Any], ...] = field(repr=False)

    def __call__(self, func: Callable[..., Any], *args: Any) -> Any:
        """``func(*args)`` under the options."""
        with memory_env(**dict(self.options)):
            return func(*args)
