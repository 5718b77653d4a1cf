"""How well the pixels of a raster compress, from some of its blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import dask.array as da
import numpy as np

from ccog.gdal.encode import encode_block
from ccog.geometry.intervals import Size
from ccog.tasks.job import WriteJob

# steps along columns that never line up with those along rows
_GOLDEN = 0.6180339887498949


def sampled_ratio(job: WriteJob, pixels: da.Array, sample: int) -> float:
    """Compressed bytes of ``sample`` blocks of ``pixels`` (band, y, x) per byte of pixels."""
    level = job.geometry.level(0)
    compressed = raw = 0
    for i, j in _spread(level.blocks, sample):
        rows, cols = level.rows(i), level.cols(j)
        block = np.ma.getdata(pixels[:, rows.start : rows.stop, cols.start : cols.stop].compute())
        _, counts, _ = encode_block(block, None, job.codecs[0])
        compressed += int(counts.sum())
        raw += block.size * job.geometry.raster.itemsize
    return compressed / raw


def _spread(blocks: Size, sample: int) -> Iterable[tuple[int, int]]:
    """Blocks in different rows and columns; all where ``sample`` is their number."""
    rows, cols = blocks
    if sample == rows * cols:
        return itertools.product(range(rows), range(cols))
    steps = [(n + 0.5) for n in range(sample)]
    return [(int(step / sample * rows), int(step * _GOLDEN % 1 * cols)) for step in steps]
