"""Records of a write that can be resumed: what stretches of the file gave, and the pixels handed on at one overview.

The record of a stretch, a row of blocks or a merge, is what its upload returned. Of the blocks of one overview
level, the checkpoint, the pixels are kept that they hand to the level above, so that no overview above it needs what
lies below it again. Records are NumPy's own format, read without pickle: who can write to the bucket must not be able
to run code here.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.blocks import Piece, Pieces
from ccog.errors import StoreNotFoundError
from ccog.planning import CogGeometry
from ccog.statistics import BandStatistics
from ccog.stores import Store
from ccog.tasks import Stretch

Array = npt.NDArray[Any]

# rows of blocks a checkpoint has at least, so that what is lost between two of them is a small share of the raster
_CHECKPOINT_ROWS = 40

# zlib's fastest that still shrinks constant areas: these pixels are read once, if at all
_FAST = (1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)

# of a record, what is no array
_ABOUT = "about"


def unit_name(n: int) -> str:
    """Record of the ``n``-th row of the file."""
    return f"row-{n:07d}"


def merge_name(depth: int, n: int) -> str:
    """Record of the ``n``-th merge of a depth."""
    return f"merge-{depth}-{n:06d}"


def pieces_name(i: int, j: int) -> str:
    """Record of what block (i, j) of the checkpoint hands on."""
    return f"pieces-{i:05d}-{j:05d}"


def checkpoint_level(plan: CogGeometry) -> int:
    """The level whose handed-on pixels are kept: at most a sixteenth of the raster's.

    The higher the level, the fewer pixels are kept, and the more rows of full resolution are read again.
    """
    fitting = [k for k in range(1, plan.top) if plan.level(k).blocks[0] >= _CHECKPOINT_ROWS]
    return max(fitting, default=1)


def keep_stretch(name: str, store: Store, session: str, make: Callable[..., Stretch], *args: Any) -> Stretch:
    """Upload a stretch of the file with ``make(*args)`` and keep what it returns."""
    found = make(*args)
    _keep(store, session, name, dump_stretch(found))
    return found


def load_stretch(store: Store, session: str, name: str) -> Stretch:
    """What the upload of a stretch returned in an earlier run."""
    return parse_stretch(store.load(session, name))


def keep_pieces(name: str, store: Store, session: str, make: Callable[..., Any], *args: Any) -> Any:
    """Make an overview block with ``make(*args)`` and keep what it hands on."""
    found = make(*args)
    _keep(store, session, name, dump_pieces(found[1]))
    return found


def _keep(store: Store, session: str, name: str, data: bytes) -> None:
    """Save a record; where the write is over there is no place for it, and no need.

    So it is where a worker died after completing the file, and its tasks run again. In a write that was aborted,
    completing fails.
    """
    with contextlib.suppress(StoreNotFoundError):
        store.save(session, name, data)


def load_pieces(store: Store, session: str, name: str, n: int) -> Pieces:
    """What a block handed on through its ``n``-th flow in an earlier run."""
    return parse_pieces(store.load(session, name))[n]


def load_block(store: Store, session: str, name: str) -> tuple[None, list[Pieces]]:
    """A block of which only what it handed on is wanted."""
    return None, parse_pieces(store.load(session, name))


def dump_stretch(stretch: Stretch) -> bytes:
    """The record of a stretch."""
    (head, parts, tail), joins, rows = stretch
    arrays = {"head": _as_array(head), "tail": _as_array(tail)}
    about: list[Any] = []
    for n, (k, (image, mask), statistics) in enumerate(rows):
        arrays[f"image-{n}"] = image
        if mask is not None:
            arrays[f"mask-{n}"] = mask
        about.append((k, None if statistics is None else [asdict(band) for band in statistics]))
    return _dumped({"parts": parts, "joins": joins, "rows": about}, arrays)


def parse_stretch(data: bytes) -> Stretch:
    """What ``dump_stretch`` was given."""
    about, arrays = _parsed(data)
    head, tail = ([arrays[name].tobytes()] if arrays[name].size else [] for name in ("head", "tail"))
    parts = [(int(number), int(size), str(tag)) for number, size, tag in about["parts"]]
    rows = [
        (k, (arrays[f"image-{n}"], arrays.get(f"mask-{n}")), None if bands is None else tuple(map(_band, bands)))
        for n, (k, bands) in enumerate(about["rows"])
    ]
    first, last = about["joins"]
    return (head, parts, tail), (first, last), rows


def _band(values: dict[str, Any]) -> BandStatistics:
    sums = values["sums"]
    return BandStatistics(**(values | {"sums": None if sums is None else tuple(sums)}))


def dump_pieces(flows: list[Pieces]) -> bytes:
    """The record of what a block hands on, compressed."""
    arrays: dict[str, Array] = {}
    number = itertools.count()
    about = [[[_piece_about(piece, next(number), arrays) for piece in pieces] for pieces in flow] for flow in flows]
    compressor = zlib.compressobj(*_FAST)
    return compressor.compress(_dumped(about, arrays)) + compressor.flush()


def parse_pieces(data: bytes) -> list[Pieces]:
    """What ``dump_pieces`` was given."""
    about, arrays = _parsed(zlib.decompress(data))
    flows = [[[_piece(found, arrays) for found in pieces] for pieces in flow] for flow in about]
    return [(done, strips) for done, strips in flows]


def _piece_about(piece: Piece, n: int, arrays: dict[str, Array]) -> Any:
    rows, cols, pixels, mask = piece
    if pixels is not None:
        arrays[f"pixels-{n}"] = pixels
    if mask is not None:
        arrays[f"mask-{n}"] = mask
    return n, rows, cols


def _piece(about: Any, arrays: dict[str, Array]) -> Piece:
    n, (top, bottom), (left, right) = about
    return (top, bottom), (left, right), arrays.get(f"pixels-{n}"), arrays.get(f"mask-{n}")


def _as_array(buffers: list[bytes]) -> Array:
    return np.frombuffer(b"".join(buffers), np.uint8)


def _dumped(about: Any, arrays: dict[str, Array]) -> bytes:
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **{_ABOUT: text}, **arrays)  # type: ignore[arg-type]  # arrays by name, no flag
    return file.getvalue()


def _parsed(data: bytes) -> tuple[Any, dict[str, Array]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        arrays = dict(found)
    return json.loads(arrays.pop(_ABOUT).tobytes()), arrays
