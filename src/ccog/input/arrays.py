"""NumPy and dask arrays, masked or not, as dask arrays whose every chunk is checked.

Masked arrays are ``numpy.ma``, and dask arrays of it, which their ``_meta`` tells. Nothing is read
here: files behind arrays of xarray and memory maps are read chunk by chunk, when it is computed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.layers import ArrayBlockwiseDep
from dask.task_spec import Task

from ccog.errors import ArgumentTypeError, DtypeError, RasterError
from ccog.geometry.blocks import cut_array
from ccog.geometry.intervals import Size
from ccog.input.chunk_checks import ChunkPosition, Declared, MaskIntake, PixelIntake, type_name
from ccog.input.encoding import Encoding
from ccog.input.memory_maps import MappedChunk, map_below
from ccog.input.source import chunk_shape
from ccog.input.xarray_edges import is_read_lazily

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How arrays that come in one piece are cut into chunks.

    Chunks of arrays in memory are ``copies`` where they are to be written: what the user changes
    before the write is computed stays out of it.
    """

    blocksize: int
    by_chunk: bool
    copies: bool

    def __call__(self, shape: Size, pixel_bytes: int) -> Size:
        """The chunk (height, width) of an array of this (height, width) and bytes a pixel."""
        return cut_array(shape, pixel_bytes, blocksize=self.blocksize, by_chunk=self.by_chunk)


# letters for the axes (band, y, x), as dask.array.blockwise takes them
_AXES = "bij"


class UserArray(NamedTuple):
    """An array as the user has it; a DataArray where xarray would read it from a file.

    ``axes`` are the numbers of its axes of bands (if any), rows and columns; ``name`` names it in
    messages; ``encoding`` says how pixels differ from its values, if they do.
    """

    array: Any
    axes: tuple[int, ...]
    name: str
    encoding: Encoding | None = None

    @classmethod
    def in_usual_order(cls, arr: Any, name: str) -> UserArray:
        """An array that is (y, x) or (band, y, x); its shape is checked later."""
        return cls(arr, tuple(range(getattr(arr, "ndim", 0))), name)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its pixels."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype if self.encoding is None else self.encoding.dtype

    @property
    def is_masked(self) -> bool:
        """Whether its chunks are masked arrays; of dask arrays only."""
        return isinstance(self.array._meta, np.ma.MaskedArray)

    def as_dask(self, cut: Cut, count: int = 1) -> UserArray:
        """The same as a dask array; ``count`` arrays are the bands of one raster."""
        arr = self.array
        if isinstance(arr, da.Array):
            return self
        if is_read_lazily(arr):
            sides = _cut_sides(arr, self.axes, _cut_of_file(arr, self.axes) or cut, count)
            lengths = dict(zip(arr.dims, sides, strict=True))
            # a name of its own, since xarray would make one of all that the backend holds
            chunked = arr.variable.chunk(lengths, name=f"read-{uuid.uuid4().hex}")
            return self._replace(array=chunked.data)
        if isinstance(arr, np.ndarray):
            sides = _cut_sides(arr, self.axes, cut, count)
            return self._replace(array=_in_chunks(arr, sides, copies=cut.copies))
        raise ArgumentTypeError(
            f"{self.name} is {type_name(arr)}; "
            "pass an xarray.DataArray, a dask.array.Array or a numpy.ndarray"
        )


def _cut_of_file(arr: Any, axes: tuple[int, ...]) -> Callable[[Size, int], Size] | None:
    """How a DataArray of a file is cut, none of whose blocks is read often; None if unknown."""
    stored = arr.encoding.get("preferred_chunks")
    if not stored:
        return None
    rows, cols = (int(stored.get(arr.dims[axis], 1)) for axis in axes[-2:])
    return lambda shape, pixel_bytes: chunk_shape(*shape, (rows, cols), pixel_bytes)


def _cut_sides(
    arr: Any, axes: tuple[int, ...], cut: Callable[[Size, int], Size], count: int
) -> tuple[int, ...]:
    """Sides of the chunks of an array, which a later check may refuse."""
    sides = list(arr.shape)
    if len(axes) not in (2, 3) or 0 in sides:
        return tuple(sides)
    y, x = axes[-2:]
    pixels = arr.shape[y] * arr.shape[x]
    sides[y], sides[x] = cut((arr.shape[y], arr.shape[x]), count * arr.nbytes // pixels)
    return tuple(map(min, sides, arr.shape))


def _in_chunks(arr: Array, sides: tuple[int, ...], *, copies: bool) -> da.Array:
    """Chunks of an array in memory, or of a memory map, which are read when they are computed.

    ``dask.array.from_array`` would copy the array, and cut it in tasks.
    """
    name = f"numpy-{uuid.uuid4().hex}"
    is_masked = isinstance(arr, np.ma.MaskedArray)
    whole = None if is_masked else map_below(arr)
    arr = arr if is_masked else np.asarray(arr)
    chunks = normalize_chunks(sides, arr.shape)
    keys = product([name], *(range(len(sizes)) for sizes in chunks))
    views = (arr[area] for area in slices_from_chunks(chunks))
    of_keys: dict[Any, Any] = dict(zip(keys, views, strict=True))
    if whole is not None:
        of_keys = {key: Task(key, MappedChunk(view, whole)) for key, view in of_keys.items()}
    elif copies:
        of_keys = {key: view.copy() for key, view in of_keys.items()}
    return array_of_tasks(of_keys, name, chunks, meta=arr[tuple(slice(0) for _ in arr.shape)])


def array_of_tasks(tasks: dict[Any, Any], name: str, chunks: Any, meta: Any) -> da.Array:
    """The array whose chunks the tasks give; also where dask plans arrays as queries."""
    if da.Array is da.core.Array:
        return da.Array(tasks, name, chunks, meta=meta)
    # checked with dask 2026.8
    from dask.array._array_expr._collection import from_graph

    nothing = meta[(slice(0, 0),) * meta.ndim]
    return from_graph(tasks, nothing, chunks, list(tasks), name)


def checked_pixels(
    source: UserArray, dtype: np.dtype[Any], nodata: Any, *, with_masks: bool
) -> da.Array:
    """The (band, y, x) pixels of a dask array, every chunk checked; see :class:`PixelIntake`."""
    array, axes = source.array, source.axes
    intake = PixelIntake(
        declared=Declared(source.name, axes, array.dtype),
        dtype=dtype,
        nodata=None if nodata is None else np.array(nodata).astype(dtype)[()],
        with_masks=with_masks,
        encoding=source.encoding,
    )
    letters = sorted(zip(axes, _AXES[-len(axes) :], strict=True))
    meta = np.empty((0, 0, 0), dtype)
    meta = np.ma.asarray(meta) if with_masks else meta
    return _checked(intake, array, "".join(letter for _, letter in letters), _AXES, meta)


def checked_mask(mask: Any, shape: tuple[int, int], cut: Cut) -> da.Array:
    """The mask of a raster of ``shape`` (y, x) as booleans, True valid; every chunk is checked."""
    source = UserArray.in_usual_order(mask, "the mask").as_dask(cut)
    array: da.Array = source.array
    sides = array.shape[1:] if array.ndim == 3 and array.shape[0] == 1 else array.shape
    if sides != shape:
        raise RasterError(
            f"the mask has shape {array.shape}, the raster {shape} (y, x); they must be equal"
        )
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"the mask has dtype {array.dtype}; pass booleans or integers, non-zero meaning valid"
        )
    letters = _AXES[-array.ndim :]
    intake = MaskIntake(Declared(source.name, source.axes, array.dtype))
    valid = _checked(intake, array, letters, letters, np.empty((0,) * array.ndim, bool))
    return valid[0] if valid.ndim == 3 else valid


def _checked(
    intake: Callable[..., Any], array: da.Array, axes: str, out_axes: str, meta: Any
) -> da.Array:
    """Each chunk as ``intake`` makes it; dask fuses this with the array's last steps.

    ``axes`` and ``out_axes`` have a letter for each axis.
    """
    return da.blockwise(
        intake,
        out_axes,
        array,
        axes,
        _ChunkPositions(array.chunks),
        axes,
        dtype=meta.dtype,
        meta=meta,
        new_axes={"b": 1} if len(axes) < len(out_axes) else {},
        token="check_chunks",
        align_arrays=False,
    )


class _ChunkPositions(ArrayBlockwiseDep):  # type: ignore[misc]
    """Positions of the chunks of an array, made chunk by chunk as dask asks."""

    def __init__(self, chunks: tuple[tuple[int, ...], ...]) -> None:
        super().__init__(chunks)
        self._edges = [list(accumulate(map(int, sizes), initial=0)) for sizes in chunks]

    def __getitem__(self, index: tuple[int, ...]) -> ChunkPosition:
        axes = list(zip(self._edges, index, strict=True))
        start = tuple(edges[n] for edges, n in axes)
        stop = tuple(edges[n + 1] for edges, n in axes)
        return ChunkPosition(index, start, stop)

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self.chunks
