"""Thresholds by which the geometry is chosen: one value, which tests and benchmarks replace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Thresholds. None of them changes a byte of a file in the layout of GDAL."""

    #: Pixels. Where the chunks of the array are not whole tiles, blocks get at least this side:
    #: smaller ones cost more scheduling than work.
    least_block_side: int = 1024
    #: Pixels. Such blocks get at most this side: larger ones hold the interpreter lock for longer.
    most_block_side: int = 4096
    #: Bytes of pixels. A block has at most so many: each thread of a worker holds one and more.
    most_block_bytes: int = 256 << 20

    #: Bytes of pixels. A raster of at most so many may be held whole, which saves a task a block.
    held_raster_bytes: int = 512 << 20

    #: Blocks of full resolution that an array in one chunk is cut into, unless they were tiny: its
    #: chunk would keep one thread busy.
    enough_blocks: int = 16

    #: Uncompressed bytes that are uploaded together in ``layout="chunk"`` where blocks are small:
    #: few tasks, and few of the part numbers that a store has.
    group_bytes: int = 64 << 20
    #: Most blocks that are uploaded together, a power of two.
    group_blocks: int = 16

    #: Blocks of full resolution. Up to this number ``group_bytes`` limits what is uploaded together
    #: in ``layout="chunk"``, too; a scheduler takes about 2 ms for a task.
    few_blocks: int = 4_096
    #: Blocks of full resolution. Beyond this number several chunks make up a block: the graph of
    #: more would take minutes to schedule.
    many_blocks: int = 20_000

    #: Bytes of pixels. Smaller chunks side by side make up a block, where that leaves
    #: ``enough_wide_blocks``: to begin and end a task takes as long as to encode 0.2 MB.
    wide_block_bytes: int = 2 << 20
    #: Blocks that are left where chunks side by side make up one: several rows of them, and enough
    #: for the threads of a machine.
    enough_wide_blocks: int = 64

    #: Bytes of pixels. Next to blocks of fewer, tasks cost more, and the next two numbers hold.
    tiny_block_bytes: int = 1 << 20
    #: ``few_blocks`` where blocks are tiny.
    few_tiny_blocks: int = 1_024
    #: ``many_blocks`` where blocks are tiny.
    many_tiny_blocks: int = 4_096


_current = Settings()


def settings() -> Settings:
    """The settings that hold now."""
    return _current


@contextlib.contextmanager
def use_settings(**changes: Any) -> Iterator[Settings]:
    """Replace settings of this process by name, until the end of the block.

    This is for tests and benchmarks. Settings are looked at while a write is prepared, which keeps
    those that held then.
    """
    global _current
    before = _current
    _current = replace(before, **changes)
    try:
        yield _current
    finally:
        _current = before
