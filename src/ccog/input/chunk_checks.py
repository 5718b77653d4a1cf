"""The first step of each chunk of the user's arrays: it is checked, and made plain.

Dask trusts a function to return what ``dtype=``, ``chunks=`` and ``meta=`` declare, and so would
every later step: larger chunks would be cropped, and pixels of another type misread. No step of
ours comes before this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import ChunkError
from ccog.input.encoding import REMEDY, Encoding

Array = npt.NDArray[Any]


class ChunkPosition(NamedTuple):
    """Along each axis of a chunk: its number, its first pixel, and the one behind its last."""

    number: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True)
class Declared:
    """What an array declares of its chunks besides their shapes.

    ``name`` names the array in messages; ``axes`` are the numbers of its axes of bands (if any),
    rows and columns.
    """

    name: str
    axes: tuple[int, ...]
    dtype: np.dtype[Any]

    def check(self, chunk: Any, position: ChunkPosition) -> Array:
        """The chunk, masked or not, in memory that GDAL can read."""
        if hasattr(chunk, "__cuda_array_interface__") and hasattr(chunk, "get"):
            chunk = chunk.get()
        is_array = isinstance(chunk, np.ndarray)
        if not is_array or chunk.shape != position.shape or chunk.dtype != self.dtype:
            raise self._refusal(chunk, position)
        return chunk if isinstance(chunk, np.ma.MaskedArray) else np.asarray(chunk)

    def _refusal(self, chunk: Any, position: ChunkPosition) -> ChunkError:
        declared = f"{self.dtype} of shape {position.shape}"
        if not isinstance(chunk, np.ndarray):
            remedy = "return a numpy.ndarray from what computes the chunk"
            return self.error(position, declared, type_name(chunk), remedy)
        if chunk.shape != position.shape:
            remedy = "return that shape, or declare what comes with chunks= in map_blocks"
        else:
            # arr.astype(...) alone would do nothing: dask takes the chunks to be of that type
            name = f"'{self.dtype}'"
            cast = f"arr.map_blocks(lambda chunk: chunk.astype({name}), dtype={name})"
            declare = f"declare what comes with dtype='{chunk.dtype}' in map_blocks"
            remedy = f"{declare}, or cast every chunk: {cast}"
        return self.error(position, declared, f"{chunk.dtype} of shape {chunk.shape}", remedy)

    def error(self, position: ChunkPosition, declared: str, came: str, remedy: str) -> ChunkError:
        """The error of a chunk that differs from what was declared."""
        return ChunkError(
            f"{self.describe(position)}, is not what {self.name} declares: "
            f"{declared} was declared, {came} came; {remedy}"
        )

    def describe(self, position: ChunkPosition) -> str:
        """Names a chunk, and its pixels."""
        names = ("band", "row", "column")[-len(self.axes) :]
        order = ", ".join(name for _, name in sorted(zip(self.axes, names, strict=True)))
        ranges = zip(position.start, position.stop, strict=True)
        pixels = ", ".join(f"{start}:{stop}" for start, stop in ranges)
        return f"chunk {position.number} of {self.name}, pixels [{pixels}] ({order})"


@dataclass(frozen=True, kw_only=True)
class PixelIntake:
    """Chunks of pixels as (band, y, x), in native byte order, booleans as ``dtype`` uint8.

    Decoded values become the pixels that their ``encoding`` says, which ``dtype`` is then of.

    Masked pixels become ``nodata``. Without one, chunks of an array ``with_masks`` are masked
    arrays. Masked chunks of any other array are refused: their mask would be lost.
    """

    declared: Declared
    dtype: np.dtype[Any]
    nodata: Any
    with_masks: bool
    encoding: Encoding | None = None

    def __call__(self, chunk: Any, position: ChunkPosition) -> Array:
        """Check a chunk and convert it; without a copy where that is possible."""
        pixels = self.declared.check(chunk, position).transpose(self.declared.axes)
        pixels = pixels if pixels.ndim == 3 else pixels[np.newaxis]
        if self.encoding is not None:
            pixels = self._encoded(pixels, self.encoding, position)
        elif pixels.dtype != self.dtype:
            pixels = pixels.astype(self.dtype)
        if isinstance(pixels, np.ma.MaskedArray):
            pixels = self._filled(pixels, position)
        return np.ma.asarray(pixels) if self.with_masks else pixels

    def _encoded(self, values: Array, encoding: Encoding, position: ChunkPosition) -> Array:
        axes = self.declared.axes
        first_band = position.start[axes[0]] if len(axes) == 3 else 0
        try:
            return encoding.pixels(values, self.nodata, first_band)
        except ValueError as error:
            raise ChunkError(
                f"{self.declared.describe(position)}, cannot be stored as the encoding says: "
                f"{error}; {REMEDY}"
            ) from None

    def _filled(self, pixels: np.ma.MaskedArray[Any, Any], position: ChunkPosition) -> Array:
        if self.nodata is not None:
            filled: Array = pixels.filled(self.nodata)
            return filled
        if not self.with_masks:
            raise self.declared.error(
                position,
                "an array without masked pixels",
                "a numpy.ma.MaskedArray",
                "give nodata=, say that chunks are masked with "
                "arr.map_blocks(numpy.ma.asarray), "
                "or fill them with dask.array.ma.filled(arr, value)",
            )
        return pixels


@dataclass(frozen=True)
class MaskIntake:
    """Chunks of the mask as booleans. True is valid: neither zero, nor NaN, nor masked."""

    declared: Declared

    def __call__(self, chunk: Any, position: ChunkPosition) -> Array:
        """Check a chunk and convert it."""
        mask = self.declared.check(chunk, position)
        values = np.ma.getdata(mask)
        valid: Array = values if values.dtype == bool else values != 0
        if values.dtype.kind == "f":
            valid &= ~np.isnan(values)
        if isinstance(mask, np.ma.MaskedArray):
            valid = valid & ~np.ma.getmaskarray(mask)
        return valid


def type_name(value: Any) -> str:
    """The name of a value's type, with its module."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
