"""GDAL configuration options of a write: what is allowed, and how they are set wherever GDAL runs.

Their values may be secrets (``GDAL_HTTP_USERPWD``), and stay out of every repr, message and record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rasterio.env import get_gdal_config

from ccog.errors import ArgumentTypeError, EncodeError, OptionError
from ccog.gdal.rasterio_edges import gdal_env
from ccog.gdal_configuration import HONOURED, honoured_here, refuse_options
from ccog.redaction import Hidden
from ccog.versions import Libraries

# rasterio hands credentials to GDAL itself, and refuses these (rasterio.env.Env, "Notes")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

# rasterio takes it in bytes. GDAL takes numbers below 100,000 for MB (GDALGetCacheMax64)
_CACHE = "GDAL_CACHEMAX"
_LEAST_BYTES = 100_000


def environment_options(env: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options as a dictionary, as rasterio takes them.

    Raises
    ------
    ArgumentTypeError
        They are not a mapping with text as keys.
    OptionError
        Credentials are among them that rasterio does not take as options, or a size of GDAL's
        cache that is not a positive number.
    """
    if env is not None and not isinstance(env, Mapping):
        raise ArgumentTypeError(
            "rasterio_env_options is a mapping such as dict(GDAL_NUM_THREADS=2), "
            f"not {type(env).__name__}"
        )
    options = Hidden(env or {})
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
    sizes = {key: _cache_bytes(value) for key, value in options.items() if key.upper() == _CACHE}
    return options | sizes


def _cache_bytes(value: Any) -> int:
    """The size of GDAL's cache in bytes: numbers below 100,000 are MB, as in GDAL.

    rasterio would take 64 for 64 bytes. Threads then write each other's tiles out of a cache that
    is always full, and GDAL crashes or waits for ever.
    """
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    if not (is_number and str(value).isdecimal() and int(value)):
        raise OptionError(f"{_CACHE}={value!r} is not a positive number of MB, such as 512")
    size = int(value)
    return size << 20 if size < _LEAST_BYTES else size


def options_of_tasks(env: Mapping[str, Any]) -> dict[str, Any]:
    """The user's options, and those that decide what the file holds, as they are set here.

    Raises
    ------
    OptionError
        An option is set that ccog does not take.
    """
    refuse_options()
    found = honoured_here()
    decisive = {name: value for name, value in found.items() if value != HONOURED[name]}
    others = {key: value for key, value in env.items() if key.upper() not in HONOURED}
    return others | decisive


@dataclass(frozen=True)
class WithEnv:
    """Runs a function in one environment of GDAL, whose options stay out of the repr.

    ``libraries`` are those of the client: another GDAL gives other bytes.
    """

    options: tuple[tuple[str, Any], ...] = field(repr=False)
    libraries: Libraries

    def __call__(self, func: Callable[..., Any], *args: Any) -> Any:
        """``func(*args)`` under the options.

        Raises
        ------
        EncodeError
            This process has another GDAL than the client.
        OptionError
            GDAL's cache is tiny, or an option is set here that ccog does not take.
        """
        here = Libraries.here()
        if here != self.libraries:
            raise EncodeError(
                f"this worker has {here}, the client {self.libraries}: their tiles are not the "
                "same, byte for byte. Install the same versions for the client and for all workers"
            )
        with gdal_env(**{**HONOURED, **dict(self.options)}):
            refuse_options()
            _refuse_tiny_cache()
            return func(*args)


def _refuse_tiny_cache() -> None:
    size = get_gdal_config(_CACHE)
    if size < _LEAST_BYTES:
        raise OptionError(
            f"GDAL's cache is limited to {size} bytes, and with so few its threads crash: "
            f"rasterio.Env takes {_CACHE} in bytes. Give MB << 20 there (512 << 20 for 512 MB), "
            "or leave it out"
        )
