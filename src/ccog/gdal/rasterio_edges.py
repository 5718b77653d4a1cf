"""All uses of private parts of rasterio, and of tricks that its documentation does not promise.

Checked with rasterio 1.4.4 (GDAL 3.10.3) and 1.5.2 (GDAL 3.12.2). Each use says what it relies on,
and what breaks without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio._io import MemoryDataset
from rasterio._path import _UnparsedPath
from rasterio.env import getenv, hasenv
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

__all__ = [
    "GDAL_FAILURES",
    "SILENT_TRANSFORM",
    "ExactWindow",
    "Frame",
    "MemoryDataset",
    "memory_env",
]

#: Any but the identity, of which rasterio would warn.
SILENT_TRANSFORM = rasterio.Affine(1, 0, 1, 0, -1, 1)

_MAY_OPEN = "GDAL_MEM_ENABLE_OPEN"

#: Exceptions in which rasterio hands on an error of GDAL.
#:
#: ``rasterio._err.CPLE_BaseError`` is the base of GDAL's own errors, which rasterio lets through in
#: some places (``rasterio.shutil.copy``, closing a dataset). Without it users would see such errors
#: instead of an ``OptionError`` or ``EncodeError``.
GDAL_FAILURES = (RasterioError, CPLE_BaseError, SystemError, TypeError, ValueError)

# ``rasterio._io.MemoryDataset`` shows a (band, y, x) array as a dataset, which
# ``rasterio.shutil.copy`` takes. Without it the pixels would have to be written to a GTiff in
# memory first, which costs a copy.


class ExactWindow(Window):  # type: ignore[misc]
    """A window whose floats reach GDAL as they are.

    It relies on ``DatasetReader.read`` doing nothing but ``window.crop`` to the window before its
    floats are handed to GDAL. The usual ``crop`` rounds the length again, and overviews of odd
    sizes would then differ from GDAL's in their last bits.
    """

    def crop(self, height: int, width: int) -> ExactWindow:
        """The window itself."""
        return self


def memory_env(**options: Any) -> AbstractContextManager[Any]:
    """GDAL's options, and that it may open a pointer to memory; does nothing if that is so already.

    To enter takes 0.2 ms, for which many small datasets should not pay one by one.
    """
    if not options and hasenv() and getenv().get(_MAY_OPEN):
        return nullcontext()
    env: AbstractContextManager[Any] = rasterio.Env(**options, **{_MAY_OPEN: True})
    return env


@dataclass(frozen=True)
class Frame:
    """A dataset that is larger than the array in it: (height, width), and where the array begins.

    It relies on GDAL's MEM driver opening a pointer to memory (``MEM:::DATAPOINTER``), which needs
    ``GDAL_MEM_ENABLE_OPEN`` from GDAL 3.10 on, and on the driver touching only the pixels that are
    read. The pointer is shifted to where the frame would begin, so the rest of the frame needs no
    memory. Without it every piece of a level would be read from a dataset of its own size, in which
    GDAL's kernels round positions differently.

    ``DatasetWriter`` is what ``rasterio.open`` gives for "r+", which enters an environment of its
    own, too.
    """

    shape: tuple[int, int]
    row: int
    col: int

    @contextmanager
    def open(self, pixels: npt.NDArray[Any]) -> Iterator[Any]:
        """A dataset with the pixels (band, y, x) in it, whose lines must be contiguous."""
        path = _UnparsedPath(self._name(pixels))
        with memory_env(), DatasetWriter(path, "r+") as dataset:
            yield dataset

    def _name(self, pixels: npt.NDArray[Any]) -> str:
        band, line, item = pixels.strides
        pointer = pixels.ctypes.data - self.row * line - self.col * item
        height, width = self.shape
        return (
            f"MEM:::DATAPOINTER=0x{pointer:x},PIXELS={width},LINES={height},"
            f"BANDS={len(pixels)},DATATYPE={_GDAL_TYPES[pixels.dtype.name]},"
            f"PIXELOFFSET={item},LINEOFFSET={line},BANDOFFSET={band},"
            "GEOTRANSFORM=1/1/0/1/0/-1"
        )


_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
