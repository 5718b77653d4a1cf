"""All uses of private parts of rasterio, and of tricks that its documentation does not promise.

Checked with rasterio 1.4.4 (GDAL 3.10.3) and 1.5.2 (GDAL 3.12.2). Each use says what it relies on,
and what breaks without it.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._env import del_gdal_config
from rasterio._err import CPLE_BaseError
from rasterio._io import MemoryDataset
from rasterio._path import _UnparsedPath
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.env import get_gdal_config, getenv, hasenv
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from ccog.gdal_configuration import NEUTRAL

__all__ = [
    "GDAL_FAILURES",
    "SILENT_TRANSFORM",
    "Deflater",
    "ExactWindow",
    "Frame",
    "MemoryDataset",
    "gdal_env",
    "has_libdeflate",
]

#: Any but the identity, of which rasterio would warn.
SILENT_TRANSFORM = rasterio.Affine(1, 0, 1, 0, -1, 1)

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


@contextmanager
def gdal_env(**options: Any) -> Iterator[None]:
    """GDAL's options, and those that are neutral; does nothing if that is so already.

    To enter takes 0.3 ms, for which many small datasets should not pay one by one.

    The outermost ``rasterio.Env`` of a thread sets for good what it finds in the environment of the
    process. It relies on ``rasterio._env.del_gdal_config`` to unset that; without it options would
    outlive the variables of the environment.
    """
    if not options and hasenv() and NEUTRAL.items() <= getenv().items():
        yield
        return
    others = {key: value for key, value in options.items() if key.upper() not in NEUTRAL}
    of_process = () if hasenv() else tuple(os.environ.keys() & {*others, *NEUTRAL})
    try:
        with rasterio.Env(**others, **NEUTRAL):
            yield
    finally:
        for name in of_process:
            if get_gdal_config(name, normalize=False) == os.environ.get(name):
                del_gdal_config(name)


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
        band, line, item = pixels.strides
        pointer = pixels.ctypes.data - self.row * line - self.col * item
        height, width = self.shape
        name = (
            f"MEM:::DATAPOINTER=0x{pointer:x},PIXELS={width},LINES={height},"
            f"BANDS={len(pixels)},DATATYPE={typename_fwd[dtype_rev[pixels.dtype.name]]},"
            f"PIXELOFFSET={item},LINEOFFSET={line},BANDOFFSET={band},"
            "GEOTRANSFORM=1/1/0/1/0/-1"
        )
        with gdal_env(), DatasetWriter(_UnparsedPath(name), "r+") as dataset:
            yield dataset


# ---- libdeflate, as rasterio's wheels bring it for GDAL ----


@functools.cache
def _libdeflate() -> Any:
    """The libdeflate that libtiff has loaded into this process; None where it is not to be found.

    It relies on wheels that keep it beside rasterio (``rasterio.libs`` on Linux, ``.dylibs`` on
    macOS), and on environments that keep it with Python's own libraries (conda). No other copy is
    loaded, since another version may give other bytes. It also relies on no other library having
    functions of these names (``LD_DEBUG=bindings`` shows it). Without it tiles go through the GTiff
    driver, which takes longer.
    """
    package = os.path.dirname(rasterio.__file__)
    folders = [f"{package}.libs", os.path.join(package, ".dylibs"), os.path.join(sys.prefix, "lib")]
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "libdeflate*.*"))):
            try:
                return _declared(ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD))
            except (OSError, AttributeError):
                continue
    return None


def _declared(library: Any) -> Any:
    """The library with the types of the functions that are called."""
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.libdeflate_alloc_compressor.argtypes = [ctypes.c_int]
    library.libdeflate_alloc_compressor.restype = pointer
    library.libdeflate_free_compressor.argtypes = [pointer]
    library.libdeflate_free_compressor.restype = None
    library.libdeflate_zlib_compress_bound.argtypes = [pointer, size]
    library.libdeflate_zlib_compress_bound.restype = size
    library.libdeflate_zlib_compress.argtypes = [pointer, pointer, size, pointer, size]
    library.libdeflate_zlib_compress.restype = size
    return library


def has_libdeflate() -> bool:
    """Whether GDAL's libdeflate can be called here."""
    return _libdeflate() is not None


class Deflater:
    """A compressor of libdeflate at one of its levels, for one thread, as a context manager."""

    def __init__(self, level: int) -> None:
        self._library = _libdeflate()
        self._handle = self._library.libdeflate_alloc_compressor(level)
        if not self._handle:
            raise MemoryError(f"libdeflate gives no compressor of level {level}")

    def __enter__(self) -> Deflater:
        return self

    def __exit__(self, *error: object) -> None:
        self._library.libdeflate_free_compressor(self._handle)

    def bound(self, size: int) -> int:
        """How many bytes the stream of an array of ``size`` bytes has at most."""
        return int(self._library.libdeflate_zlib_compress_bound(self._handle, size))

    def compress(self, values: npt.NDArray[Any], out: npt.NDArray[np.uint8]) -> int:
        """Write the zlib stream of a contiguous array, without the interpreter lock.

        Returned is its size. ``out`` has room for ``bound`` bytes.
        """
        size = self._library.libdeflate_zlib_compress(
            self._handle, values.ctypes.data, values.nbytes, out.ctypes.data, out.nbytes
        )
        if not size:
            raise ValueError(f"libdeflate could not compress {values.nbytes} bytes")
        return int(size)
