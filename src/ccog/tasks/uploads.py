"""What tasks run besides blocks: units of tiles into upload parts, parts into stretches of the file, the finish."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError, StoreNotFoundError, StorePermissionError
from ccog.gdal.encode import Codec, Segment, Tiles
from ccog.gdal.environment import WithEnv
from ccog.gdal.statistics import BandStatistics, merged
from ccog.gdal.template import Described, write_template
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import Buffer, Numbers, Part, PartPlan, Run, cut, emit, merge, total
from ccog.geometry.pyramid import Level
from ccog.geometry.tile_order import tile_places
from ccog.runtime.events import Tell, teller
from ccog.runtime.task_names import task_name
from ccog.runtime.whereabouts import current_task
from ccog.stores import Store, WholeStore, WriteResult
from ccog.tasks.blocks import Encoded
from ccog.tiff.header import CLASSIC_LIMIT, LevelCounts, Template, build_header, data_size

# parts that a task uploads at a time
_UPLOADERS = 4

Counts = tuple[npt.NDArray[np.uint32], "npt.NDArray[np.uint32] | None"]

#: Level, tile byte counts and statistics of blocks that were uploaded together.
Row = tuple[int, Counts, "tuple[BandStatistics, ...] | None"]

#: A stretch of the file: its bytes or parts, numbers of parts that join it to what precedes it and its last row to
#: what precedes that, and what is known of its rows.
Stretch = tuple[Run, tuple[int, int], list[Row]]


@dataclass(frozen=True)
class WriteJob:
    """All that tasks need besides pixels; ``apart`` asks for small tasks, which large graphs cannot afford.

    A write with a ``manifest`` keeps records by which it can be resumed.
    """

    plan: CogGeometry
    store: Store | WholeStore
    parts: PartPlan
    described: Described
    template: Template
    codecs: tuple[Codec, Codec]
    big: bool | None
    apart: bool
    token: str
    env: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    manifest: str | None = None

    def key(self, kind: str, *index: int) -> tuple[str | int, ...]:
        """A task key that groups by kind in the dashboard."""
        return (task_name(kind, self.token), *index)


def gate(*after: object) -> None:
    """Orders tasks; carries nothing."""


def upload_unit(
    store: Store,
    numbers: Numbers,
    where: tuple[int, int | None],
    session: str,
    blocks: list[Encoded],
    continues: bool = False,
) -> Stretch:
    """Bring the tile bytes of some blocks into file order and upload what can be uploaded.

    ``where`` are the level and the plane of a row of blocks, or None for all planes of blocks that lie chunk by chunk;
    ``continues`` says that an earlier run may have put them.
    """
    k, plane = where
    tiles = [chunk for found, _ in blocks for chunk in found]
    buffers, counts = _chunk_by_chunk(tiles) if plane is None else _row_by_row(tiles, plane)
    counted = [found for _, found in blocks if found is not None] if not plane else []
    first, cap, part_size = numbers
    with ThreadPoolExecutor(_UPLOADERS) as pool:
        put = _Put.of(store, session, continues)
        run = emit(buffers, first, cap, store.limits, part_size, put, partial(put.each, pool))
    return run, (first, first), [(k, counts, merged(counted) if counted else None)]


def _row_by_row(tiles: list[Tiles], plane: int) -> tuple[list[Buffer], Counts]:
    """Bytes of a plane of blocks side by side, tile row after tile row, and tile byte counts, row-major."""
    rows = zip(*(segments[plane] for segments, _, _ in tiles), strict=True)
    buffers = [_buffer(segment) for row in rows for segment in row]
    by_plane = len(tiles[0][0]) > 1
    image = _joined([counts[plane : plane + 1] if by_plane else counts for _, counts, _ in tiles])
    mask = (
        _joined([mask for _, _, mask in tiles if mask is not None])
        if plane == len(tiles[0][0]) - 1
        else None
    )
    return buffers, (image, mask)


def _chunk_by_chunk(tiles: list[Tiles]) -> tuple[list[Buffer], Counts]:
    """Bytes of chunks, in each plane after plane, and tile byte counts in that order."""
    buffers = [
        _buffer(segment) for segments, _, _ in tiles for plane in segments for segment in plane
    ]
    image = np.concatenate([counts.reshape(len(counts), -1) for _, counts, _ in tiles], axis=1)
    masks = [mask.reshape(1, -1) for _, _, mask in tiles if mask is not None]
    return buffers, (image, np.concatenate(masks, axis=1) if masks else None)


def _buffer(segment: Segment) -> Buffer:
    return segment if isinstance(segment, bytes) else segment.data


def _joined(counts: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Byte counts (plane, tile) of blocks side by side, row-major; of no tile where there are none."""
    found = [c for c in counts if len(c)]
    if not found:
        return np.zeros((1, 0), np.uint32)
    return np.concatenate(found, axis=2).reshape(len(found[0]), -1)


def merge_stretches(
    store: Store, part_size: int, session: str, stretches: list[Stretch], continues: bool = False
) -> Stretch:
    """Join neighbouring stretches of the file, uploading where two ends make a part."""
    put = _Put.of(store, session, continues)
    run, (first, last), counts = stretches[0]
    for other, joins, more in stretches[1:]:
        run = merge(run, other, *joins, store.limits, part_size, put)
        last, counts = joins[1], counts + more
    return run, (first, last), counts


@dataclass(frozen=True)
class _Put:
    """Puts parts; where a task may have run before, only those that the store does not hold.

    One call then says what is there of all the parts of a row: tasks run again when a worker dies, and when an
    earlier run is continued. Elsewhere it would be a call for nothing.
    """

    store: Store
    session: str
    continues: bool
    reruns: bool
    tell: Tell

    @classmethod
    def of(cls, store: Store, session: str, continues: bool) -> _Put:
        """For the current task, which tells those who watch of each part; called in the thread that runs it.

        ``reruns``: the task may run again when a worker dies. Threads of a pool are not told what they work for.
        """
        return cls(store, session, continues, current_task() is not None, teller(session))

    def __call__(self, number: int, buffers: list[Any]) -> Part:
        return self._new(self._stored(number, 1), number, buffers)

    def each(
        self, pool: ThreadPoolExecutor, put: object, numbers: Iterable[int], bodies: Iterable[Any]
    ) -> list[Part]:
        """Several at a time; ``put`` is this very one."""
        numbers = list(numbers)
        stored = self._stored(numbers[0], len(numbers))
        return list(pool.map(partial(self._new, stored), numbers, bodies))

    def _stored(self, first: int, count: int) -> dict[int, Part]:
        if not (self.continues or self.reruns):
            return {}
        # who may not ask puts them all
        with contextlib.suppress(StoreNotFoundError, StorePermissionError):
            return self.store.stored(self.session, first, count)
        return {}

    def _new(self, stored: dict[int, Part], number: int, buffers: list[Any]) -> Part:
        part = self._found(stored, number, buffers) or self._put(number, buffers)
        self.tell(part)
        return part

    def _put(self, number: int, buffers: list[Any]) -> Part:
        """Put a part; where the worker that had completed the file died, there is nothing to put it to.

        Completing again then compares the file with these parts, and fails where the upload was aborted instead.
        """
        try:
            return self.store.put(self.session, number, buffers)
        except StoreNotFoundError:
            if not self.reruns:
                raise
            return self.store.part(number, buffers)

    def _found(self, stored: dict[int, Part], number: int, buffers: list[Any]) -> Part | None:
        found = stored.get(number)
        # the tag takes time to compute, and needs no look where the size differs
        if (
            found is not None
            and found[1] == total(buffers)
            and found == self.store.part(number, buffers)
        ):
            return found
        return None


def finish_write(
    job: WriteJob, session: str, stretches: list[Stretch], continues: bool = False
) -> bytes | WriteResult:
    """Build the header from all tile sizes, upload what is left, complete the file, and forget how to resume it."""
    found = _complete(job, session, stretches, continues)
    if job.manifest is not None:
        job.store.forget(session)
    return found


def _complete(
    job: WriteJob, session: str, stretches: list[Stretch], continues: bool
) -> bytes | WriteResult:
    (head, parts, tail), _, rows = merge_stretches(
        job.store, job.parts.part_size, session, stretches, continues
    )
    buffers: list[Buffer] = [_header(job, rows), *head]
    if isinstance(job.store, WholeStore):
        return job.store.write(buffers)
    put, write = _Put.of(job.store, session, continues), None if continues else job.token
    if job.store.limits.equal_parts:
        pieces = cut(buffers, job.parts.part_size)
        with ThreadPoolExecutor(_UPLOADERS) as pool:
            return job.store.complete(
                session, list(pool.map(put, range(1, len(pieces) + 1), pieces)), write
            )
    parts = [put(1, buffers), *parts]
    if tail:
        parts.append(put(job.parts.last, [*tail]))
    return job.store.complete(session, parts, write)


def _header(job: WriteJob, rows: list[Row]) -> bytes:
    found = tuple(_level_counts(job.plan, level, [c for k, c, _ in rows if k == level.index])
                  for level in job.plan.pyramid.levels)  # fmt: skip
    statistics = [s for _, _, s in rows if s is not None]
    template = job.template
    if statistics:
        template = WithEnv(job.env)(write_template, job.described, merged(statistics))
    if job.big:
        return build_header(template, found, big=True)
    classic = build_header(template, found, big=False)
    size = len(classic) + data_size(template, found)
    if size < CLASSIC_LIMIT:
        return classic
    if job.big is None:
        return build_header(template, found, big=True)
    raise RasterError(
        f"the file has {size} bytes, a classic TIFF at most {CLASSIC_LIMIT - 1}; leave BIGTIFF=NO out"
    )


def _level_counts(plan: CogGeometry, level: Level, rows: list[Counts]) -> LevelCounts:
    image = np.concatenate([found for found, _ in rows if found.size], axis=1)
    mask = (
        np.concatenate([found[0] for _, found in rows if found is not None])
        if plan.has_mask
        else None
    )
    planar = plan.is_planar(level.index)
    if not plan.by_chunk:
        return LevelCounts(*level.size, image.reshape(-1), mask, planar, len(image))
    (at,), planes = tile_places(level), len(image)
    image, mask = image[:, at].reshape(-1), None if mask is None else mask[at]
    places = tile_places(level, planes, mask=plan.has_mask, by_tile=plan.tile_planes > 1)
    return LevelCounts(*level.size, image, mask, planar, planes, places)
