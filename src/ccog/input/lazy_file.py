"""Files as lazy arrays.

Each chunk is read by a task that opens the file by name, so that workers in other processes can
read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from dask.base import tokenize
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ccog.errors import StoreError
from ccog.geometry.intervals import Size
from ccog.input.gdal_options import Opener
from ccog.input.source import chunk_shape, file_stamp
from ccog.redaction import Address, in_words, redacted

# reads a window of an open dataset
_Read = Callable[[Any, Window], Any]

_MASK_TYPE = np.dtype("uint8")


@dataclass(frozen=True, kw_only=True)
class LazyFile:
    """A file, or the ``overview`` of it that has this number (from 0), in chunks of ``sides``."""

    path: str
    overview: int | None
    count: int
    shape: Size
    sides: Size
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls,
        dataset: Any,
        path: str,
        chunk: int | None,
        dtype: np.dtype[Any],
        *,
        overview: int | None = None,
    ) -> LazyFile:
        """The open dataset at ``path``; ``chunk`` is the side of the chunks in pixels."""
        (height, width), block = dataset.shape, dataset.block_shapes[0]
        sides = chunk_shape(height, width, block, dataset.count * dtype.itemsize)
        return cls(
            path=Address(path),
            overview=overview,
            count=dataset.count,
            shape=(height, width),
            sides=sides if chunk is None else (chunk, chunk),
            dtype=dtype,
        )

    @property
    def pixels(self) -> da.Array:
        """The pixels, (band, y, x)."""
        read = partial(_read_pixels, dtype=self.dtype.name)
        return self._lazy("read-raster", read, self.dtype, by_band=True)

    @property
    def mask(self) -> da.Array:
        """The mask of the first band, (y, x): from 255 for valid to 0 for not."""
        return self._lazy("read-mask", partial(_read_masks, band=1))

    @property
    def band_masks(self) -> da.Array:
        """The mask of each band, (band, y, x)."""
        return self._lazy("read-band-masks", _read_masks, by_band=True)

    @property
    def dataset_mask(self) -> da.Array:
        """The mask of all bands together, (y, x): a pixel is valid where one of them is."""
        return self._lazy("read-dataset-mask", _read_dataset_mask)

    def _lazy(
        self, name: str, read: _Read, dtype: np.dtype[Any] = _MASK_TYPE, *, by_band: bool = False
    ) -> da.Array:
        chunks = normalize_chunks(self.sides, self.shape)
        if by_band:
            chunks = ((self.count,), *chunks)
        # the token of an Address is that of its repr, which leaves out what signed URLs differ in
        token = tokenize(name, str(self.path), file_stamp(self.path), self)
        return da.map_blocks(
            _read_chunk,
            file=self,
            read=read,
            opener=Opener.current(),
            chunks=chunks,
            dtype=dtype,
            meta=np.empty((0,) * len(chunks), dtype),
            name=f"{name}-{token}",
        )

    def window(self, row: int, col: int) -> Window:
        """The pixels of a chunk, by its row and column of chunks."""
        y, x = row * self.sides[0], col * self.sides[1]
        height, width = min(self.sides[0], self.shape[0] - y), min(self.sides[1], self.shape[1] - x)
        return Window(x, y, width, height)

    def __str__(self) -> str:
        path = redacted(self.path)
        return path if self.overview is None else f"overview {self.overview + 1} of {path}"


def _read_chunk(*, file: LazyFile, read: _Read, opener: Opener, block_id: tuple[int, ...]) -> Any:
    try:
        return _read_window(file, read, opener, block_id)
    except RasterioError as error:
        reason = in_words(error, file.path)
    raise StoreError(f"cannot read {file}: {reason}")


def _read_window(file: LazyFile, read: _Read, opener: Opener, block_id: tuple[int, ...]) -> Any:
    # a frame of its own: the repr of a dataset has the URL
    level = {} if file.overview is None else {"overview_level": file.overview}
    with opener.open(file.path, **level) as dataset:
        return read(dataset, file.window(*block_id[-2:]))


def _read_pixels(dataset: Any, window: Window, dtype: str) -> Any:
    if len(set(dataset.dtypes)) == 1:
        return dataset.read(window=window, out_dtype=dtype)
    # rasterio reads bands of one type at once, and others one by one
    return np.stack([dataset.read(n, window=window, out_dtype=dtype) for n in dataset.indexes])


def _read_masks(dataset: Any, window: Window, band: int | None = None) -> Any:
    return dataset.read_masks(band, window=window)


def _read_dataset_mask(dataset: Any, window: Window) -> Any:
    return dataset.dataset_mask(window=window)
