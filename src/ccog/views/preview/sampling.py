"""How well the pixels of a raster compress, from some of its blocks."""

from __future__ import annotations

from collections.abc import Iterator

import dask.array as da
import numpy as np

from ccog.gdal.encode import encode_block
from ccog.geometry.cog import CogGeometry
from ccog.tasks.uploads import WriteJob

# steps along columns that never line up with those along rows
_GOLDEN = 0.6180339887498949


def sampled_ratio(job: WriteJob, pixels: da.Array, sample: int) -> float:
    """Compressed bytes of ``sample`` work blocks of ``pixels`` (band, y, x), divided by what they have as they are."""
    compressed = raw = 0
    for i, j in _spread(job.plan, sample):
        level = job.plan.level(0)
        rows, cols = level.rows(i), level.cols(j)
        block = np.ma.getdata(pixels[:, rows.start : rows.stop, cols.start : cols.stop].compute())
        _, counts, _ = encode_block(block, None, job.codecs[0])
        compressed += int(counts.sum())
        raw += block.size * job.plan.itemsize
    return compressed / raw


def _spread(plan: CogGeometry, sample: int) -> Iterator[tuple[int, int]]:
    """Blocks in different rows and columns; all where ``sample`` is their number."""
    rows, cols = plan.level(0).blocks
    if sample == rows * cols:
        yield from ((i, j) for i in range(rows) for j in range(cols))
        return
    for n in range(sample):
        yield int((n + 0.5) / sample * rows), int((n + 0.5) * _GOLDEN % 1 * cols)
