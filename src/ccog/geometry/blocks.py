"""How large blocks are, and how many of them are uploaded together."""

from __future__ import annotations

from ccog.geometry.intervals import Size, ceil_div
from ccog.geometry.settings import settings

#: Sizes of the chunks of an array along band, y and x.
Chunks = tuple[tuple[int, ...], ...]


def choose_block(
    chunks: Chunks, blocksize: int, pixel_bytes: int, *, by_chunk: bool = False
) -> Size:
    """Block (height, width) for an array: the chunk of :func:`choose_chunk`, or several of them.

    Of very many chunks 2 x 2, 4 x 4 and so on make up a block, as far as memory allows. Small ones
    are joined side by side: higher blocks would take more memory. Not so where tiles lie
    ``by_chunk``, whose blocks are squares of chunks.
    """
    height, width = choose_chunk(chunks, blocksize, pixel_bytes)
    shape = sum(chunks[1]), sum(chunks[2])
    limits = settings()
    # more tasks would cost a scheduler more than they do themselves
    while (
        not _are_few(
            shape, (height, width), pixel_bytes, limits.many_blocks, limits.many_tiny_blocks
        )
        and 4 * height * width * pixel_bytes <= limits.most_block_bytes
    ):
        height, width = 2 * height, 2 * width
    while (
        not by_chunk
        and 2 * height * width * pixel_bytes <= limits.wide_block_bytes
        and _block_count(shape, (height, 2 * width)) >= limits.enough_wide_blocks
    ):
        width *= 2
    return height, width


def choose_chunk(chunks: Chunks, blocksize: int, pixel_bytes: int) -> Size:
    """Chunk (height, width) of whole tiles: that of the array where it is made of whole tiles."""
    block = _block_side(chunks[1], blocksize), _block_side(chunks[2], blocksize)
    limit = settings().most_block_bytes
    while block[0] * block[1] * pixel_bytes > limit and max(block) > blocksize:
        block = _halved(block, blocksize)
    return block


def cut_array(shape: Size, pixel_bytes: int, *, blocksize: int, by_chunk: bool) -> Size:
    """Block (height, width) of an array in one chunk: enough of them for the threads of a machine.

    None of them is tiny, and their number does not depend on the machine. Where tiles lie
    ``by_chunk`` they are as large as can be.
    """
    block = choose_chunk(((1,), (shape[0],), (shape[1],)), blocksize, pixel_bytes)
    limits = settings()
    while (
        not by_chunk
        and max(block) > blocksize
        and _block_count(shape, block) < limits.enough_blocks
    ):
        half = _halved(block, blocksize)
        if _is_tiny((min(half[0], shape[0]), min(half[1], shape[1])), pixel_bytes):
            break
        block = half
    return block


def choose_group(shape: Size, block: Size, pixel_bytes: int) -> int:
    """Blocks of full resolution in an upload group of ``layout="chunk"``: a power of two."""
    limits = settings()
    if not _are_few(shape, block, pixel_bytes, limits.few_blocks, limits.few_tiny_blocks):
        return limits.group_blocks
    fitting = limits.group_bytes // (block[0] * block[1] * pixel_bytes)
    wanted = min(limits.group_blocks, fitting)
    return 1 << max(0, wanted.bit_length() - 1)


def fits_memory(shape: Size, pixel_bytes: int) -> bool:
    """Whether all that comes of a raster may wait in memory at a time."""
    return shape[0] * shape[1] * pixel_bytes <= settings().held_raster_bytes


def _are_few(shape: Size, block: Size, pixel_bytes: int, most: int, most_tiny: int) -> bool:
    """Whether a raster has at most so many blocks."""
    most = min(most, most_tiny) if _is_tiny(block, pixel_bytes) else most
    return _block_count(shape, block) <= most


def _is_tiny(block: Size, pixel_bytes: int) -> bool:
    return block[0] * block[1] * pixel_bytes < settings().tiny_block_bytes


def _block_count(shape: Size, block: Size) -> int:
    return ceil_div(shape[0], block[0]) * ceil_div(shape[1], block[1])


def _block_side(sizes: tuple[int, ...], blocksize: int) -> int:
    """Side of a chunk of whole tiles along an axis of chunks of these sizes."""
    largest = max(sizes)
    is_regular = len(set(sizes[:-1])) <= 1 and sizes[-1] <= largest
    if len(sizes) > 1 and is_regular and largest % blocksize == 0:
        return largest
    limits = settings()
    side = min(max(largest, limits.least_block_side), limits.most_block_side)
    return max(1, round(side / blocksize)) * blocksize


def _halved(block: Size, blocksize: int) -> Size:
    """The block with its longer side halved, in whole tiles."""
    height, width = block
    half = max(blocksize, max(block) // 2 // blocksize * blocksize)
    return (height, half) if width > height else (half, width)
