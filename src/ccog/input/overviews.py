"""The overviews of files that rasterio opens, as lazy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import rasterio
from dask.array.core import normalize_chunks
from dask.base import tokenize
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ccog.errors import StoreError
from ccog.geometry.intervals import Size
from ccog.input.gdal_options import Opener
from ccog.input.given_overviews import GivenOverviews
from ccog.input.source import chunk_shape, file_stamp
from ccog.redaction import Address, in_words, redacted


def overviews_of(
    dataset: Any, path: str, chunk: int | None, dtype: np.dtype[Any]
) -> GivenOverviews | None:
    """The overviews of the dataset at ``path``, as pixels of a type; None where there are none.

    ``chunk`` is the side of the chunks in pixels.
    """
    counts = {len(dataset.overviews(band)) for band in dataset.indexes}
    # GDAL copies none that some bands lack
    if len(counts) > 1 or counts == {0}:
        return None
    levels = [_Level.of(path, number, chunk, dtype) for number in range(*counts)]
    return GivenOverviews(
        arrays=tuple(level.pixels for level in levels),
        masks=tuple(level.mask for level in levels),
        made_by=_made_by(path),
    )


def _made_by(path: str) -> str:
    with rasterio.open(path, overview_level=0) as dataset:
        return str(dataset.tags(1).get("RESAMPLING", ""))


@dataclass(frozen=True, kw_only=True)
class _Level:
    """An overview of a file; ``shape`` is (band, y, x), and so are the sides of its chunks."""

    path: str
    number: int
    shape: tuple[int, ...]
    sides: tuple[int, ...]
    dtype: np.dtype[Any]
    has_mask: bool

    @classmethod
    def of(cls, path: str, number: int, chunk: int | None, dtype: np.dtype[Any]) -> _Level:
        with rasterio.open(path, overview_level=number) as dataset:
            count, flags = dataset.count, dataset.mask_flag_enums[0]
            (height, width), block = dataset.shape, dataset.block_shapes[0]
            sides = chunk_shape(height, width, block, count * dtype.itemsize)
            return cls(
                path=path,
                number=number,
                shape=(count, height, width),
                sides=(count, *(sides if chunk is None else (chunk, chunk))),
                dtype=dtype,
                has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
            )

    @property
    def pixels(self) -> da.Array:
        """Dask array (band, y, x)."""
        return self._lazy(_read_pixels, self.shape, self.sides, self.dtype)

    @property
    def mask(self) -> da.Array | None:
        """Dask array (y, x), 255 valid and 0 not; None where there is no mask."""
        if not self.has_mask:
            return None
        return self._lazy(_read_mask, self.shape[1:], self.sides[1:], np.dtype("uint8"))

    def _lazy(
        self, read: _Read, shape: tuple[int, ...], sides: tuple[int, ...], dtype: np.dtype[Any]
    ) -> da.Array:
        token = tokenize(read.__name__, self, file_stamp(self.path))
        return da.map_blocks(
            _read,
            read=read,
            path=Address(self.path),
            opener=Opener.current(),
            number=self.number,
            sides=sides[-2:],
            kind=dtype.name,
            chunks=normalize_chunks(sides, shape),
            dtype=dtype,
            meta=np.empty((0,) * len(shape), dtype),
            name=f"read-overview-{token}",
        )


# of an open dataset, a window of pixels or of a mask
_Read = Callable[[Any, Window], Any]


def _read_pixels(dataset: Any, window: Window) -> Any:
    return dataset.read(window=window)


def _read_mask(dataset: Any, window: Window) -> Any:
    return dataset.read_masks(1, window=window)


def _read(
    *,
    read: _Read,
    path: str,
    opener: Opener,
    number: int,
    sides: Size,
    kind: str,
    block_id: tuple[int, ...],
) -> Any:
    """A chunk; rasterio crops its window at the edges of the overview."""
    row, col = (n * side for n, side in zip(block_id[-2:], sides, strict=True))
    try:
        with opener.open(path, overview_level=number) as dataset:
            chunk = read(dataset, Window(col, row, sides[1], sides[0]))
            return chunk.astype(kind, copy=False)
    except RasterioError as error:
        reason = in_words(error)
    raise StoreError(f"cannot read overview {number + 1} of {redacted(path)}: {reason}")
