"""The chunks of a block as its pixels and its mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.geometry.source_grid import Nested
from ccog.tasks.blocks import BlockJob, BlockPixels, BlockResult

Array = npt.NDArray[Any]

# columns that are copied at a time
_COLUMNS = 64


def load_and_work(
    work: Callable[..., BlockResult],
    block: BlockJob,
    pixels: Nested,
    mask: Nested | None,
    after: object,
) -> BlockResult:
    """Join the chunks of a block, and do its work; ``after`` only orders tasks."""
    valid = None if mask is None else _join_chunks(mask)
    loaded = _split_mask(_join_chunks(pixels), valid, block)
    in_rows = None if loaded.mask is None else _in_rows(loaded.mask)
    return work(block, _in_rows(loaded.pixels), in_rows)


def _join_chunks(nested: Nested) -> Array:
    """The chunks of a block as one array, masked where they are; of one chunk the chunk itself."""
    bands = []
    for rows in nested:
        joined = [_joined(row, -1) for row in rows]
        bands.append(_joined(joined, -2))
    return _joined(bands, 0)


def _joined(arrays: list[Array], axis: int) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    # np.concatenate forgets masks
    join = np.ma.concatenate if isinstance(arrays[0], np.ma.MaskedArray) else np.concatenate
    joined: Array = join(arrays, axis=axis)
    return joined


def _in_rows(values: Array) -> Array:
    """The values with those of a row side by side in memory, as all that follows wants them.

    Memory that repeats is left: it may be much smaller. Columns are copied some at a time, since
    NumPy would fetch each line of the processor's cache once for every value in it.
    """
    if values.strides[-1] == values.itemsize or 0 in values.strides[-2:]:
        return values
    out = np.empty(values.shape, values.dtype)
    for left in range(0, values.shape[-1], _COLUMNS):
        columns = (..., slice(left, left + _COLUMNS))
        out[columns] = values[columns]
    return out


def _split_mask(pixels: Array, mask: Array | None, block: BlockJob) -> BlockPixels:
    """The (band, y, x) pixels below their masks, and what these and ``mask`` call valid as bytes.

    Raises
    ------
    RasterError
        A pixel is masked in some of the bands only: the file has one mask for all.
    """
    if not isinstance(pixels, np.ma.MaskedArray):
        return BlockPixels(pixels, _as_bytes(mask))
    masked = np.ma.getmaskarray(pixels)
    if (masked != masked[0]).any():
        rows, cols = block.area.rows, block.area.cols
        raise RasterError(
            f"the bands are masked differently in rows {rows.start}:{rows.stop}, columns "
            f"{cols.start}:{cols.stop}: the internal mask is one for all bands; give nodata= to "
            "mark the masked pixels of each band"
        )
    valid = ~masked[0]
    return BlockPixels(np.ma.getdata(pixels), _as_bytes(valid if mask is None else valid & mask))


def _as_bytes(mask: Array | None) -> Array | None:
    """A mask of booleans as bytes, of which 255 is valid; masks of files have bytes already."""
    if mask is None or mask.dtype != bool:
        return mask
    return np.multiply(mask.view(np.uint8), np.uint8(255))
