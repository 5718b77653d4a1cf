"""NumPy, dask or xarray input, normalised: band-first dask pixels, mask and georeferencing.

Masked pixels (numpy.ma, and dask arrays of it, which their ``_meta`` tells) become nodata. Where there
is no nodata value the pixels stay masked arrays, up to the tasks that write the internal mask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockwiseDep
from rasterio.dtypes import check_dtype

from ccog.errors import ArgumentTypeError, DtypeError, OptionError, RasterError
from ccog.geometry.options import CreationOptions
from ccog.geometry.tiling_scheme import check_grid
from ccog.input.chunk_checks import Declared, MaskIntake, PixelIntake, Place, type_name
from ccog.input.from_xarray import Source, is_xarray, mask_of, sources_and_metadata
from ccog.input.metadata import Metadata, with_options

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
           "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Raster:
    """(band, y, x) pixels, (y, x) mask (True valid) or None, and metadata.

    An alpha band may be the mask (``mask_is_alpha``). Pixels may be masked arrays (``is_masked``): then
    they bring a mask of their own, and valid is what both call valid.
    """

    pixels: da.Array
    mask: da.Array | None
    metadata: Metadata
    mask_is_alpha: bool = False
    is_masked: bool = False

    @property
    def has_mask(self) -> bool:
        """Whether the file has an internal mask."""
        return self.is_masked or self.mask is not None

    @property
    def stored_type(self) -> str:
        """Name of the pixels' type in the file, as rasterio has it."""
        return self.metadata.stored_type or str(self.pixels.dtype.name)

    @property
    def count(self) -> int:
        """Bands."""
        return int(self.pixels.shape[0])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[2])

    def suited_to(self, options: CreationOptions) -> Raster:
        """The raster as a file with these options can store it.

        Raises
        ------
        OptionError, ReprojectionError, RasterError
            No such file can store it.
        """
        if options.tiling_scheme is not None:
            self._check_on_scheme(options.blocksize)
        options.check_dtype(self.pixels.dtype.name)
        # JPEG has no alpha: one beside grey or RGB becomes the mask (GDALCOGCreator::Create)
        is_jpeg = options.effective_compress == "JPEG" and options.interleave in (None, "PIXEL")
        if is_jpeg and self.metadata.has_alpha and self.count in (2, 4):
            return self._with_alpha_as_mask()
        return self

    def _check_on_scheme(self, blocksize: int) -> None:
        crs, transform = self.metadata.crs, self.metadata.transform
        epsg = None if crs is None else crs.to_epsg()
        coefficients = None if transform is None else tuple(transform)[:6]
        check_grid(epsg, coefficients, self.height, self.width, blocksize)

    def _with_alpha_as_mask(self) -> Raster:
        if self.is_masked:
            raise RasterError(
                "the masked array has an alpha band, and JPEG keeps one mask: give nodata=, or fill "
                "the array (dask.array.ma.filled) and let its alpha band say what is transparent"
            )
        return Raster(
            pixels=self.pixels[:-1],
            mask=self.pixels[-1],
            metadata=self.metadata.without_last_band(),
            mask_is_alpha=True,
        )


def read_raster(arr: Any, mask: Any, options: Mapping[str, Any]) -> Raster:
    """Normalise the user's array, mask and metadata options (upper-case keys of METADATA_OPTIONS).

    Raises
    ------
    RasterError, DtypeError, ArgumentTypeError, OptionError
        Whatever cannot be written, saying what was found, what is allowed and what to do.
    """
    sources, metadata = [Source(arr, (0, 1, 2)[: getattr(arr, "ndim", 0)], "the array")], Metadata()
    if is_xarray(arr):
        nodata_given = options.get("NODATA") is not None
        sources, metadata = sources_and_metadata(arr, nodata_given=nodata_given)
    sources = [source._replace(array=_as_dask(source.array, source.what)) for source in sources]
    first = sources[0].array
    shape = _shape(sources)
    dtype = np.dtype(np.uint8) if first.dtype == bool else first.dtype.newbyteorder("=")
    _check_dtype(dtype)
    metadata = with_options(metadata, options, shape[0])
    if metadata.stored_type is not None and dtype != np.complex64:
        raise DtypeError(
            f"dtype={metadata.stored_type} is stored from complex64, not {dtype}; cast the array"
        )
    _check_nodata(metadata.nodata, dtype)
    is_masked = any(_is_masked(source.array) for source in sources)
    if is_masked:
        _check_fill(metadata.nodata, dtype)
    with_masks = is_masked and metadata.nodata is None
    bands = [_pixels(source, dtype, metadata.nodata, with_masks=with_masks) for source in sources]
    pixels = bands[0] if len(bands) == 1 else da.concatenate(bands)
    return Raster(
        pixels=pixels,
        mask=_read_mask(mask, shape[1:]),
        metadata=metadata,
        is_masked=with_masks,
    )


def _as_dask(arr: Any, what: str) -> da.Array:
    if isinstance(arr, da.Array):
        return arr
    if isinstance(arr, np.ndarray):
        arr = arr if isinstance(arr, np.ma.MaskedArray) else np.asarray(arr)
        return da.from_array(arr, chunks=_numpy_chunks(arr.shape), name=False)
    raise ArgumentTypeError(
        f"{what} is {type_name(arr)}; pass an xarray.DataArray, a dask.array.Array or a numpy.ndarray"
    )


def _is_masked(arr: da.Array) -> bool:
    return isinstance(arr._meta, np.ma.MaskedArray)


def _numpy_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(n, 4096) if k >= len(shape) - 2 else n for k, n in enumerate(shape))


class _Places(ArrayBlockwiseDep):  # type: ignore[misc]
    """Where the chunks of an array lie, made chunk by chunk as dask asks."""

    def __init__(self, chunks: tuple[tuple[int, ...], ...]) -> None:
        super().__init__(chunks)
        self._edges = [list(itertools.accumulate(map(int, sizes), initial=0)) for sizes in chunks]

    def __getitem__(self, index: tuple[int, ...]) -> Place:
        start = tuple(edges[n] for edges, n in zip(self._edges, index, strict=True))
        stop = tuple(edges[n + 1] for edges, n in zip(self._edges, index, strict=True))
        return Place(index, start, stop)

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self.chunks


def _pixels(source: Source, dtype: np.dtype[Any], nodata: Any, *, with_masks: bool) -> da.Array:
    """The (band, y, x) pixels of a user's array, every chunk checked."""
    declared = Declared(source.what, source.axes, source.array.dtype)
    fill = None if nodata is None else np.array(nodata).astype(dtype)[()]
    take = PixelIntake(declared, dtype, fill, with_masks)
    letters = sorted(zip(source.axes, "bij"[-len(source.axes) :], strict=True))
    meta = np.empty((0, 0, 0), dtype)
    meta = np.ma.asarray(meta) if with_masks else meta
    return _taken(take, source.array, "".join(letter for _, letter in letters), "bij", meta)


def _taken(take: Callable[..., Any], array: da.Array, axes: str, out: str, meta: Any) -> da.Array:
    """What ``take`` makes of each chunk and its place; dask fuses it with the array's last steps.

    ``axes`` and ``out`` have a letter for each axis, as ``dask.array.blockwise`` takes them.
    """
    new = {"b": 1} if len(axes) < len(out) else {}
    places = _Places(array.chunks)
    arguments = (array, axes, places, axes)
    options = {"new_axes": new, "token": "check_chunks", "align_arrays": False}
    return da.blockwise(take, out, *arguments, dtype=meta.dtype, meta=meta, **options)


def _shape(sources: list[Source]) -> tuple[int, int, int]:
    """(band, y, x) of the arrays whose bands follow each other, if there can be such a file."""
    array, axes = sources[0].array, sources[0].axes
    if array.ndim not in (2, 3):
        raise RasterError(
            f"the array has {array.ndim} dimensions, shape {array.shape}; "
            "write (y, x) or (band, y, x), one raster at a time"
        )
    sides = tuple(array.shape[axis] for axis in axes)
    count = sides[0] if len(sides) == 3 and len(sources) == 1 else len(sources)
    shape = (count, *sides[-2:])
    _check_shape(shape)
    return shape


def _check_shape(shape: tuple[int, int, int]) -> None:
    if any(math.isnan(n) for n in shape):
        raise RasterError(
            f"the array has unknown chunk sizes, shape {shape}; call arr.compute_chunk_sizes() first"
        )
    if 0 in shape:
        raise RasterError(
            f"the array is empty, shape {shape} (band, y, x); every side must be at least 1"
        )
    if max(shape[1:]) > 2**31 - 1:
        raise RasterError(
            f"the array is too large, shape {shape}: GDAL takes at most 2147483647 pixels a side"
        )
    if shape[0] > 65535:
        raise RasterError(
            f"the array has {shape[0]} bands; TIFF takes at most 65535 (is it band last?)"
        )


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.name in _DTYPES and check_dtype(dtype.name):
        return
    advice = {
        "f": "float32 or float64",
        "c": "complex64 or complex128",
        "M": "int64",
        "m": "int64",
    }.get(dtype.kind, "float64")
    raise DtypeError(
        f"GeoTIFF cannot hold {dtype}; cast the array first, e.g. arr.astype({advice.split(' ')[0]!r})"
    )


def _check_nodata(nodata: float | int | None, dtype: np.dtype[Any]) -> None:
    if nodata is None or dtype.kind == "c":
        return
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if not math.isfinite(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            raise OptionError(
                f"nodata={nodata} is no {dtype}; use a whole number from {info.min} to {info.max}"
            )
    elif (
        math.isfinite(nodata)
        and dtype == np.float32
        and abs(nodata) > float(np.finfo(np.float32).max) * (1 + 1e-7)
    ):
        raise OptionError(f"nodata={nodata} is out of the range of {dtype}")


def _check_fill(nodata: float | int | None, dtype: np.dtype[Any]) -> None:
    """GDAL takes nodata for float32 to be rounded to its type, and that for half floats not."""
    if nodata is None or dtype != np.float16:
        return
    with np.errstate(over="ignore"):
        nearest = float(np.float16(nodata))
    if math.isfinite(nodata) and nearest != nodata:
        raise OptionError(
            f"nodata={nodata} is not a {dtype}, so masked pixels would be {nearest} and valid; "
            "give a number that is, or nan"
        )


def _read_mask(mask: Any, shape: tuple[int, int]) -> da.Array | None:
    if mask is None:
        return None
    if is_xarray(mask):
        mask = mask_of(mask)
    found = _as_dask(mask, "the mask")
    sides = found.shape[1:] if found.ndim == 3 and found.shape[0] == 1 else found.shape
    if sides != shape:
        raise RasterError(
            f"the mask has shape {found.shape}, the raster {shape} (y, x); they must be equal"
        )
    if found.dtype.kind not in "biuf":
        raise DtypeError(
            f"the mask has dtype {found.dtype}; pass booleans or integers, non-zero meaning valid"
        )
    axes = "bij"[-found.ndim :]
    take = MaskIntake(Declared("the mask", tuple(range(found.ndim)), found.dtype))
    valid = _taken(take, found, axes, axes, np.empty((0,) * found.ndim, bool))
    return valid[0] if valid.ndim == 3 else valid
