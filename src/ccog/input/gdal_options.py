"""How files are opened, here and in tasks: with the user's options of GDAL, and quiet logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import rasterio

from ccog.gdal_configuration import reading_here

_CURRENT: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("_CURRENT", default=())


@contextmanager
def gdal_options(options: Mapping[str, Any]) -> Iterator[None]:
    """Set the options in the block, and in tasks that read what is opened there."""
    with rasterio.Env(**options):
        token = _CURRENT.set(tuple(sorted((reading_here() | dict(options)).items())))
        try:
            yield
        finally:
            _CURRENT.reset(token)


@dataclass(frozen=True)
class Opener:
    """Opens files with the options, which may be secrets and stay out of the repr."""

    options: tuple[tuple[str, Any], ...] = field(repr=False)

    @classmethod
    def current(cls) -> Opener:
        """One with the options of the block that is running."""
        return cls(_CURRENT.get())

    @contextmanager
    def open(self, path: str, **kwargs: Any) -> Iterator[Any]:
        """The dataset at a path, wherever a task runs."""
        with rasterio.Env(**dict(self.options)), rasterio.open(path, **kwargs) as dataset:
            yield dataset
