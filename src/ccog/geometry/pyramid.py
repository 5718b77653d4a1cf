"""The levels of a raster: their sizes, tiles and blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ccog.geometry.axis_reduction import Kernel
from ccog.geometry.intervals import Area, Interval, Size, ceil_div


def halve(n: int) -> int:
    """Length of the next overview: floor of half, at least 1 (GDALCOGCreator::Create)."""
    return max(1, n // 2)


def level_sizes(
    height: int,
    width: int,
    blocksize: int,
    count: int | None = None,
    ratios: Iterable[float] | None = None,
) -> tuple[Size, ...]:
    """Sizes of full resolution and all overviews, largest first (GDALCOGCreator::Create).

    Without ``count`` it goes on until both sides fit ``blocksize``; with it there are ``count``
    overviews, fewer where 1 x 1 is reached. Sides are halved and rounded down; on a tiling scheme
    they are divided by its ``ratios`` and rounded half up.
    """
    sizes = [(height, width)]
    of_scheme = None if ratios is None else iter(ratios)
    most = blocksize if count is None else 1
    while max(sizes[-1]) > most and len(sizes) - 1 != count:
        h, w = sizes[-1]
        if of_scheme is None:
            sizes.append((halve(h), halve(w)))
        else:
            ratio = next(of_scheme)
            sizes.append((max(1, int(h / ratio + 0.5)), max(1, int(w / ratio + 0.5))))
    return tuple(sizes)


def overview_blocksize(blocksize: int) -> int:
    """Tile side of overviews: that of full resolution if GDAL takes it, else 128.

    It takes powers of two from 64 to 4096 (GTIFFGetOverviewBlockSize).
    """
    is_power_of_two = blocksize & (blocksize - 1) == 0
    return blocksize if is_power_of_two and 64 <= blocksize <= 4096 else 128


@dataclass(frozen=True, kw_only=True)
class Level:
    """One resolution of the raster; ``index`` is 0 for full resolution. Sizes are in pixels."""

    index: int
    height: int
    width: int
    #: Side of the tiles.
    blocksize: int
    #: (height, width) of the blocks: whole tiles.
    block: Size
    #: Chunks down and across a block. In ``layout="chunk"`` the tiles of a chunk lie together.
    chunks_a_side: int = 1

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    @property
    def tiles(self) -> Size:
        """Tiles down and across, the partial ones included."""
        return ceil_div(self.height, self.blocksize), ceil_div(self.width, self.blocksize)

    @property
    def chunk(self) -> Size:
        """(height, width) of a chunk."""
        return self.block[0] // self.chunks_a_side, self.block[1] // self.chunks_a_side

    @property
    def blocks(self) -> Size:
        """Blocks down and across."""
        return ceil_div(self.height, self.block[0]), ceil_div(self.width, self.block[1])

    def rows(self, i: int) -> Interval:
        """Pixel rows of block row ``i``."""
        return Interval(i * self.block[0], min(self.height, (i + 1) * self.block[0]))

    def cols(self, j: int) -> Interval:
        """Pixel columns of block column ``j``."""
        return Interval(j * self.block[1], min(self.width, (j + 1) * self.block[1]))

    def area(self, i: int, j: int) -> Area:
        """Pixels of block (i, j)."""
        return Area(self.rows(i), self.cols(j))

    def block_range(self, axis: int, pixels: Interval) -> range:
        """Indices of the blocks that hold any of ``pixels`` along ``axis`` (0 is y)."""
        if not len(pixels):
            return range(0)
        side = self.block[axis]
        return range(pixels.start // side, ceil_div(pixels.stop, side))

    def tile_rows(self, i: int) -> range:
        """Tile rows of block row ``i``."""
        rows = self.rows(i)
        return range(rows.start // self.blocksize, ceil_div(rows.stop, self.blocksize))


@dataclass(frozen=True)
class Pyramid:
    """All levels, full resolution first, and the resampling kernel between them.

    Overviews may be ``given``: then each is read like full resolution, and none is computed.
    """

    levels: tuple[Level, ...]
    kernel: Kernel
    given: bool = False

    @classmethod
    def build(
        cls,
        sizes: tuple[Size, ...],
        blocksize: int,
        block: Size,
        kernel: Kernel,
        *,
        chunks_a_side: int = 1,
        given: bool = False,
        least_low_pixels: int | None = None,
    ) -> Pyramid:
        """Levels of these sizes; blocks of full resolution have ``block`` pixels (whole tiles).

        All blocks have ``chunks_a_side`` chunks down and across. Those of overviews are low where
        that leaves them ``least_low_pixels``; with None they are as high as those above.
        """
        tile = overview_blocksize(blocksize)
        levels = []
        for k, (h, w) in enumerate(sizes):
            shape = _overview_block(block, tile, chunks_a_side) if k else block
            if least_low_pixels is not None:
                shape = _low_block(shape, k, w, tile, least_low_pixels)
            level = Level(
                index=k,
                height=h,
                width=w,
                blocksize=tile if k else blocksize,
                block=shape,
                chunks_a_side=chunks_a_side,
            )
            levels.append(level)
        return cls(tuple(levels), kernel, given)


def _overview_block(block: Size, tile: int, chunks_a_side: int) -> Size:
    """About ``block``, made of chunks of whole tiles."""
    height, width = (max(tile, side // chunks_a_side // tile * tile) for side in block)
    return height * chunks_a_side, width * chunks_a_side


def _low_block(block: Size, halvings: int, level_width: int, tile: int, least: int) -> Size:
    """A block of as many pixels that is lower and wider, each time half as high.

    One row of blocks then makes one row of each overview, and none waits in memory for the next.
    A block wider than the level has fewer pixels, but not fewer than ``least``.
    """
    height, width = block
    for _ in range(halvings):
        low = max(tile, height // 2 // tile * tile)
        if low == height or low * min(level_width, 2 * width) < min(least, height * width):
            break
        height, width = low, height * width // low // tile * tile
    return height, width
