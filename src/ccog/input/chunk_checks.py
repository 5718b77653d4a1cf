"""What each chunk of the user's arrays goes through first: it is checked, and made plain.

Dask trusts a function to return what ``dtype=``, ``chunks=`` and ``meta=`` say, and so would every
step after it: larger chunks would be cropped, and other types read as what they are not. No step of
ours comes before this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import ChunkError

Array = npt.NDArray[Any]


class Place(NamedTuple):
    """Where a chunk lies, axis by axis: its number, its first pixel, the one behind its last."""

    number: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]


@dataclass(frozen=True)
class Declared:
    """What an array says of its chunks besides their shapes.

    ``what`` names the array in messages; ``axes`` are the numbers of its axes of bands (if any), rows
    and columns.
    """

    what: str
    axes: tuple[int, ...]
    dtype: np.dtype[Any]

    def check(self, chunk: Any, place: Place) -> Array:
        """The chunk in the memory that GDAL can read, masked or not, if it is what was declared.

        Raises
        ------
        ChunkError
            It is not a NumPy array, or has another shape or dtype.
        """
        if hasattr(chunk, "__cuda_array_interface__") and hasattr(chunk, "get"):
            chunk = chunk.get()
        shape = tuple(b - a for a, b in zip(place.start, place.stop, strict=True))
        if not isinstance(chunk, np.ndarray) or chunk.shape != shape or chunk.dtype != self.dtype:
            raise self._refusal(chunk, place, shape)
        return chunk if isinstance(chunk, np.ma.MaskedArray) else np.asarray(chunk)

    def _refusal(self, chunk: Any, place: Place, shape: tuple[int, ...]) -> ChunkError:
        declared = f"{self.dtype} of shape {shape}"
        if not isinstance(chunk, np.ndarray):
            remedy = "return a numpy.ndarray from what computes the chunk"
            return self.error(place, declared, type_name(chunk), remedy)
        came = f"{chunk.dtype} of shape {chunk.shape}"
        if chunk.shape != shape:
            remedy = "return that shape, or declare what comes with chunks= in map_blocks"
            return self.error(place, declared, came, remedy)
        # arr.astype(...) alone would do nothing: dask takes the chunks to be of that type
        cast = f"arr.map_blocks(lambda chunk: chunk.astype('{self.dtype}'), dtype='{self.dtype}')"
        declare = f"declare what comes with dtype='{chunk.dtype}' in map_blocks"
        remedy = f"{declare}, or cast every chunk: {cast}"
        return self.error(place, declared, came, remedy)

    def error(self, place: Place, declared: str, came: str, remedy: str) -> ChunkError:
        """What is said of a chunk that is not what was declared."""
        names = ("band", "row", "column")[-len(self.axes) :]
        order = ", ".join(name for _, name in sorted(zip(self.axes, names, strict=True)))
        pixels = ", ".join(f"{a}:{b}" for a, b in zip(place.start, place.stop, strict=True))
        return ChunkError(
            f"chunk {place.number} of {self.what}, pixels [{pixels}] ({order}), is not what "
            f"{self.what} declares: {declared} was declared, {came} came; {remedy}"
        )


@dataclass(frozen=True)
class PixelIntake:
    """Chunks of pixels as (band, y, x), in native byte order, booleans as ``dtype`` uint8.

    Masked pixels become ``nodata``. Without one, chunks of an array ``with_masks`` are masked arrays,
    and others that come masked are refused: a mask that nobody expects would be lost.
    """

    declared: Declared
    dtype: np.dtype[Any]
    nodata: Any
    with_masks: bool

    def __call__(self, chunk: Any, place: Place) -> Array:
        """Check a chunk and convert it; without a copy where that is possible."""
        pixels = self.declared.check(chunk, place)
        if pixels.dtype != self.dtype:
            pixels = pixels.astype(self.dtype)
        if isinstance(pixels, np.ma.MaskedArray):
            pixels = self._unmasked(pixels, place)
        if self.with_masks:
            pixels = np.ma.asarray(pixels)
        pixels = pixels.transpose(self.declared.axes)
        return pixels if pixels.ndim == 3 else pixels[np.newaxis]

    def _unmasked(self, pixels: np.ma.MaskedArray[Any, Any], place: Place) -> Array:
        if self.nodata is not None:
            filled: Array = pixels.filled(self.nodata)
            return filled
        if not self.with_masks:
            raise self.declared.error(
                place,
                "an array without masked pixels",
                "a numpy.ma.MaskedArray",
                "give nodata=, say that chunks are masked with arr.map_blocks(numpy.ma.asarray), or "
                "fill them with dask.array.ma.filled(arr, value)",
            )
        return pixels


@dataclass(frozen=True)
class MaskIntake:
    """Chunks of the mask as booleans, True being valid: neither zero, nor NaN, nor masked."""

    declared: Declared

    def __call__(self, chunk: Any, place: Place) -> Array:
        """Check a chunk and convert it."""
        mask = self.declared.check(chunk, place)
        values = np.ma.getdata(mask)
        valid: Array = values != 0
        if values.dtype.kind == "f":
            valid &= ~np.isnan(values)
        if isinstance(mask, np.ma.MaskedArray):
            valid &= ~np.ma.getmaskarray(mask)
        return valid


def type_name(value: Any) -> str:
    """The name of a value's type, with its module."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
