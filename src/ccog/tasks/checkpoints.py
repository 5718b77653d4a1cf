"""Records of a write that can be resumed: what stretches of the file gave, and the pixels handed on at one overview.

The record of a stretch, a row of blocks or a merge, is what its upload returned. Of the blocks of one overview
level, the checkpoint, the pixels are kept that they hand to the level above, so that no overview above it needs what
lies below it again.

A record is JSON and the bytes of arrays behind a digest. Who can write to the bucket must not be able to run code
here, fill the memory, or make a wrong file: before a write continues, each record that it needs is read once within a
limit, and compared with what the geometry says of it. Tasks load exactly what was looked at, or fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.errors import ResumeError, StoreNotFoundError, StorePermissionError
from ccog.gdal.resample import Area
from ccog.gdal.statistics import BandStatistics
from ccog.geometry.cog import CogGeometry, Unit
from ccog.geometry.parts import Numbers
from ccog.stores import Store
from ccog.tasks.blocks import Handover, Piece, Pieces, block_job
from ccog.tasks.uploads import Row, Stretch, WriteJob

Array = npt.NDArray[Any]

# rows of blocks a checkpoint has at least, so that what is lost between two of them is a small share of the raster
_CHECKPOINT_ROWS = 40

# zlib's fastest that still shrinks constant areas: these pixels are read once, if at all
_FAST = (1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)

# bytes before what a record says: a mark and a digest
_MARK = b"ccog"
_HEAD = len(_MARK) + hashlib.sha256().digest_size

# more than the JSON of a record takes: for all, each array, each band's statistics, each part
_TEXT, _ARRAY_TEXT, _BAND_TEXT, _PART_TEXT = 4096, 256, 1024, 512

# stretches that are joined keep a few loose ends each, by the number of joins that a stretch can come from
_LOOSE_ENDS = 16


class Seal(NamedTuple):
    """What a record was when it was looked at: its length in bytes and its digest."""

    size: int
    digest: bytes


class UnreadableError(Exception):
    """A record is damaged, or gone, or not what the geometry says."""


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


def keep_stretch(
    name: str, store: Store, session: str, make: Callable[..., Stretch], *args: Any
) -> Stretch:
    """Upload a stretch of the file with ``make(*args)`` and keep what it returns."""
    found = make(*args)
    _keep(store, session, name, dump_stretch(found))
    return found


def load_stretch(store: Store, session: str, name: str, seal: Seal) -> Stretch:
    """What the upload of a stretch returned in an earlier run."""
    return parse_stretch(_sealed(store, session, name, seal))


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


def load_pieces(store: Store, session: str, name: str, seal: Seal, n: int) -> Pieces:
    """What a block handed on through its ``n``-th flow in an earlier run."""
    return parse_pieces(_sealed(store, session, name, seal))[n]


def load_block(store: Store, session: str, name: str, seal: Seal) -> tuple[None, list[Pieces]]:
    """A block of which only what it handed on is wanted."""
    return None, parse_pieces(_sealed(store, session, name, seal))


#: What tasks call to load a record: the arguments after these are the store, the session, the name and the seal.
LOADS = (load_stretch, load_pieces, load_block)


def _sealed(store: Store, session: str, name: str, seal: Seal) -> bytes:
    """The record, if it is still the one that was looked at."""
    again = f"record {name} of the unfinished write to {store.url} has changed since the write was continued"
    try:
        data = store.load(session, name, seal.size + 1)
    except StoreNotFoundError as error:
        raise ResumeError(
            f"{again}: it is gone ({error}); call again to do its work again"
        ) from error
    if len(data) != seal.size or hashlib.sha256(data).digest() != seal.digest:
        raise ResumeError(f"{again}; call again to do its work again")
    return data


def look_at_stretch(job: WriteJob, session: str, name: str, units: list[Unit]) -> Seal:
    """Read the record of a stretch of those units, and compare it with the geometry.

    Raises
    ------
    UnreadableError
        It is gone, longer than it can be, damaged, or of something else.
    """
    data = _read(job, session, name, _longest_stretch(job, units))
    _check(lambda: _check_stretch(parse_stretch(data), job, units))
    return Seal(len(data), hashlib.sha256(data).digest())


def look_at_pieces(job: WriteJob, session: str, name: str, block: tuple[int, int]) -> Seal:
    """The same for the record of what a block of the checkpoint hands on."""
    handovers = block_job(job.plan, job.codecs[1], checkpoint_level(job.plan), *block).handovers
    limit = _longest_pieces(job.plan, handovers)
    # what does not shrink grows a little
    data = _read(job, session, name, limit + limit // 512 + _TEXT)
    _check(lambda: _check_pieces(parse_pieces(data, limit), job.plan, handovers))
    return Seal(len(data), hashlib.sha256(data).digest())


def _read(job: WriteJob, session: str, name: str, limit: int) -> bytes:
    try:
        data: bytes = job.store.load(session, name, limit + 1)
    except (StoreNotFoundError, StorePermissionError) as error:
        raise UnreadableError(str(error)) from error
    if len(data) > limit:
        raise UnreadableError(f"it is longer than {limit} bytes")
    return data


def _check(look: Callable[[], None]) -> None:
    try:
        look()
    except UnreadableError:
        raise
    except Exception as error:  # bytes that are anything raise anything
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise UnreadableError("it does not fit the geometry of the file")


def _longest_stretch(job: WriteJob, units: list[Unit]) -> int:
    """Bytes that the record of a stretch has at most: what is not yet in a part, counts of tiles, parts, statistics."""
    limits, plan = job.store.limits, job.plan
    raw = 2 * sum(plan.unit_bytes(k) for k, _, _ in units)
    loose = (
        min(raw, _LOOSE_ENDS * (2 * limits.min_part + job.parts.part_size))
        if limits.min_part
        else 0
    )
    rows = [_row(job, unit) for unit in units]
    counts = sum(4 * (row.planes * row.tiles + (row.mask or 0)) for row in rows)
    text = _TEXT + len(units) * (2 * _ARRAY_TEXT + plan.count * _BAND_TEXT)
    parts = sum(1 + _numbers(job, unit).cap for unit in units)
    return loose + counts + text + _PART_TEXT * parts


def _numbers(job: WriteJob, unit: Unit) -> Numbers:
    """The part numbers that a unit owns."""
    return job.parts.numbers(job.plan.units.index(*unit))


class _RowShape(NamedTuple):
    """Of a unit: arrays (planes, tiles) of byte counts, those of its mask or None, and whether it has statistics."""

    planes: int
    tiles: int
    mask: int | None
    counted: bool


def _row(job: WriteJob, unit: Unit) -> _RowShape:
    plan, (k, plane, n) = job.plan, unit
    level = plan.level(k)
    tiles = sum(
        _tiles(level.rows(i), level.cols(j), level.blocksize) for i, j in plan.unit_blocks(k, n)
    )
    counted = k == 0 and plane == 0 and plan.options.statistics == "YES"
    apart = job.codecs[min(k, 1)].planes(plan.count)
    if plan.by_chunk:
        return _RowShape(apart, tiles, tiles if plan.has_mask else None, counted)
    planes = plan.planes(k)
    mask = (tiles if plan.has_mask else 0) if plane == planes - 1 else None
    if planes == 1:
        return _RowShape(apart, tiles, mask, counted)
    return _RowShape(1, tiles if plane < plan.count else 0, mask, counted)


def _tiles(rows: Any, cols: Any, side: int) -> int:
    return -(-len(rows) // side) * -(-len(cols) // side)


def _check_stretch(stretch: Stretch, job: WriteJob, units: list[Unit]) -> None:
    """Compare a stretch with the geometry: rows, parts, and that these hold just the bytes of the tiles."""
    (head, parts, tail), joins, rows = stretch
    _require(len(rows) == len(units))
    for unit, row in zip(units, rows, strict=True):
        _check_row(job, unit, row)
    _require(joins == (_numbers(job, units[0]).first, _numbers(job, units[-1]).first))
    numbers = [number for number, _, _ in parts]
    _require(
        numbers == sorted(set(numbers)), all(1 < number <= job.parts.last for number in numbers)
    )
    _require(all(size >= 0 for _, size, _ in parts))
    held = sum(map(len, [*head, *tail])) + sum(size for _, size, _ in parts)
    counts = [c for _, (image, mask), _ in rows for c in (image, mask) if c is not None]
    frame = sum(job.template.framing)
    _require(
        held == sum(int(c.sum(dtype=np.int64)) + frame * int(np.count_nonzero(c)) for c in counts)
    )


def _check_row(job: WriteJob, unit: Unit, row: Row) -> None:
    k, (image, mask), bands = row
    shape = _row(job, unit)
    _require(k == unit[0], image.dtype == np.uint32, image.shape == (shape.planes, shape.tiles))
    _require((mask is None) == (shape.mask is None), (bands is not None) == shape.counted)
    _require(mask is None or (mask.dtype == np.uint32 and mask.shape == (1, shape.mask)))
    _require(bands is None or len(bands) == job.plan.count)


def _longest_pieces(plan: CogGeometry, handovers: tuple[Handover, ...]) -> int:
    """Bytes of the record of a block's pieces before it is compressed."""
    pixel = plan.count * np.dtype(plan.array_type).itemsize + 1
    areas = [area for handover in handovers for area in (handover.done, *handover.strips)]
    return _TEXT + sum(2 * _ARRAY_TEXT + math.prod(area.shape) * pixel for area in areas)


def _check_pieces(flows: list[Pieces], plan: CogGeometry, handovers: tuple[Handover, ...]) -> None:
    """Compare what a block hands on with the geometry: places, types and sizes of its pixels."""
    _require(len(flows) == len(handovers))
    for (done, strips), handover in zip(flows, handovers, strict=True):
        alone = [handover.done] if len(handover.done.rows) and len(handover.done.cols) else []
        for pieces, areas in ((done, alone), (strips, handover.strips)):
            _require(len(pieces) == len(areas))
            for piece, area in zip(pieces, areas, strict=True):
                _check_piece(piece, area, plan, handover)


def _check_piece(piece: Piece, area: Area, plan: CogGeometry, handover: Handover) -> None:
    rows, cols, pixels, mask = piece
    _require(rows == (area.rows.start, area.rows.stop), cols == (area.cols.start, area.cols.stop))
    if pixels is None:
        # zeros, which only blocks without a mask hand on so
        return _require(mask is None, not handover.mask)
    count = plan.count if handover.pixels else 0
    _require(pixels.shape == (count, *area.shape), pixels.dtype == plan.array_type)
    _require((mask is not None) == handover.mask)
    return _require(mask is None or (mask.shape == area.shape and mask.dtype == np.uint8))


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
    return _closed(_packed({"parts": parts, "joins": joins, "rows": about}, arrays))


def parse_stretch(data: bytes) -> Stretch:
    """What ``dump_stretch`` was given."""
    about, arrays = _unpacked(_opened(data))
    head, tail = (
        [arrays[name].tobytes()] if arrays[name].size else [] for name in ("head", "tail")
    )
    parts = [(_integer(number), _integer(size), str(tag)) for number, size, tag in about["parts"]]
    rows = [
        (
            k,
            (arrays[f"image-{n}"], arrays.get(f"mask-{n}")),
            None if bands is None else tuple(map(_band, bands)),
        )
        for n, (k, bands) in enumerate(about["rows"])
    ]
    first, last = about["joins"]
    return (head, parts, tail), (first, last), rows


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _band(values: dict[str, Any]) -> BandStatistics:
    sums = values.pop("sums")
    if not all(type(value) in (int, float) for value in [*values.values(), *(sums or ())]):
        raise TypeError("a statistic is not a number")
    return BandStatistics(**values, sums=None if sums is None else (sums[0], sums[1]))


def dump_pieces(flows: list[Pieces]) -> bytes:
    """The record of what a block hands on, compressed."""
    arrays: dict[str, Array] = {}
    number = itertools.count()
    about = [
        [[_piece_about(piece, next(number), arrays) for piece in pieces] for pieces in flow]
        for flow in flows
    ]
    compressor = zlib.compressobj(*_FAST)
    return _closed(compressor.compress(_packed(about, arrays)) + compressor.flush())


def parse_pieces(data: bytes, limit: int = 0) -> list[Pieces]:
    """What ``dump_pieces`` was given; 0 or the bytes that it has at most uncompressed."""
    decompressor = zlib.decompressobj()
    plain = decompressor.decompress(_opened(data), limit)
    if not decompressor.eof:
        raise ValueError(f"it is cut off, or longer than {limit} bytes")
    about, arrays = _unpacked(plain)
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


def _closed(body: bytes) -> bytes:
    """A record: what it says behind its digest, so that a byte that changes is noticed."""
    return _MARK + hashlib.sha256(body).digest() + body


def _opened(data: bytes) -> memoryview:
    """What a record says, if that is what was written."""
    view = memoryview(data)
    if (
        view[: len(_MARK)] != _MARK
        or hashlib.sha256(view[_HEAD:]).digest() != view[len(_MARK) : _HEAD]
    ):
        raise ValueError("its bytes are not those that were written")
    return view[_HEAD:]


def _packed(about: Any, arrays: dict[str, Array]) -> bytes:
    """Length of the JSON, JSON, and the bytes of the arrays, one after the other."""
    listed = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    text = json.dumps({"about": about, "arrays": listed}).encode()
    return b"".join(
        [struct.pack("<Q", len(text)), text, *(array.tobytes() for array in arrays.values())]
    )


def _unpacked(data: bytes | memoryview) -> tuple[Any, dict[str, Array]]:
    """What ``_packed`` was given; the arrays are views, so that none can claim more than there is."""
    start = 8 + struct.unpack_from("<Q", data)[0]
    found = json.loads(bytes(data[8:start]))
    arrays: dict[str, Array] = {}
    for name, kind, shape in found["arrays"]:
        array = (
            np.frombuffer(data, kind, math.prod(map(_size, shape)), start)
            if 0 not in shape
            else np.empty(0, kind)
        )
        arrays[name] = array.reshape(shape)
        start += array.nbytes
    if start != len(data):
        raise ValueError("its arrays are not as long as it says")
    return found["about"], arrays


def _size(value: Any) -> int:
    if _integer(value) < 0:
        raise ValueError(f"{value} is not the side of an array")
    return int(value)
