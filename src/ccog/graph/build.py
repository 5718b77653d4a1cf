"""The only module that builds dask tasks: the plan's blocks, rows, merges and the finish, wired by key.

Tasks are made when they are asked for, so that a graph of a million blocks is a plan and two names until it is
computed. Per block one task encodes and reduces. In small graphs the encoding of overviews is a task apart, and
cheap tasks split results, since tile bytes go to the file and pixels to the next level at different times; in large
ones (``WriteJob.apart`` unset) one task per block does all, and only what halos need is split. An upload task turns
the tile bytes of a unit, a block row or with ``layout="chunk"`` a run of blocks, into upload parts; merges join units;
the finish writes the header. Gates steer the order: a unit of full resolution starts only when what lies a few units
before it is written, which bounds memory to some units: O(width) where they are rows.
"""

from __future__ import annotations

import itertools
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import dask
import dask.array as da
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import GraphNode, List, Task, TaskRef

from ccog.errors import CCOGWarning
from ccog.gdal.environment import WithEnv
from ccog.geometry.cog import Flow, Unit
from ccog.geometry.parts import Numbers
from ccog.geometry.pyramid import ceil_div
from ccog.geometry.source_grid import SourceGrid, join_chunks, split_mask
from ccog.graph.annotations import with_ours
from ccog.graph.fusion import optimize
from ccog.graph.scheduling import Window, curve_priority, row_priority, work_window
from ccog.runtime.begin import begin_write, wait_for_removal, watch
from ccog.runtime.events import expect
from ccog.runtime.manifest import Kept, Resumption, find_kept
from ccog.runtime.task_names import kind_of
from ccog.tasks.blocks import (
    assembly,
    block_job,
    encode_overview,
    encoded_overview_block,
    overview_block,
    reduced_block,
    source_block,
)
from ccog.tasks.checkpoints import (
    LOADS,
    Seal,
    UnreadableError,
    checkpoint_level,
    keep_pieces,
    keep_stretch,
    load_block,
    load_pieces,
    load_stretch,
    look_at_pieces,
    look_at_stretch,
    merge_name,
    pieces_name,
    unit_name,
)
from ccog.tasks.uploads import WriteJob, finish_write, gate, merge_stretches, upload_unit

# records that are looked at at a time, and those of which a warning gives names
_LOOKERS = 8
_MOST_NAMED = 5

# units joined by one merge task
_MERGE_ARITY = 8


def new_token() -> str:
    """A write is never pure: each graph gets keys of its own."""
    return uuid.uuid4().hex


class CcogTasks(Mapping[Any, GraphNode]):
    """The tasks of one file, made on demand.

    Keys are (name, index...), the last one a plain string. ``window`` says which blocks of full resolution wait for
    what is written. ``kept`` is what an earlier run has left of a write that can be resumed: units and pieces of which
    there are records are loaded, and what only they needed is not computed again. ``seals`` are of the records that
    will be loaded, by name.
    """

    def __init__(
        self, job: WriteJob, pixels: SourceGrid, mask: SourceGrid | None, window: Window
    ) -> None:
        self.job = job
        self.pixels = pixels
        self.mask = mask
        self.window = window
        self.kept: Kept | None = None
        self.seals: dict[str, Seal] = {}

    def look_for_kept(self) -> None:
        """Find what can be continued now, and look at the records that will be loaded; warns of unreadable ones.

        What an unreadable record stands for is done again, for which others may be needed that were not.
        """
        if self.job.manifest is None:
            return
        self.seals = {}
        self.kept = find_kept(self.job.store, self.job.manifest)
        unreadable: dict[str, str] = {}
        while self.kept is not None and (wanted := self._loaded() - self.seals.keys()):
            with ThreadPoolExecutor(_LOOKERS) as pool:
                found = dict(
                    zip(
                        wanted,
                        pool.map(partial(self._look_at, self.kept.session), wanted),
                        strict=True,
                    )
                )
            self.seals |= {name: seal for name, seal in found.items() if isinstance(seal, Seal)}
            worse = {
                name: str(error)
                for name, error in found.items()
                if isinstance(error, UnreadableError)
            }
            unreadable |= worse
            self.kept = replace(self.kept, names=self.kept.names - worse.keys())
        if unreadable:
            self._warn_of(unreadable)

    def _loaded(self) -> set[str]:
        """Names of the records that tasks will load."""
        tasks = [
            task for task in self.needed().values() if isinstance(task, Task) and task.func in LOADS
        ]
        return {task.args[2] for task in tasks}

    def _look_at(self, session: str, name: str) -> Seal | UnreadableError:
        kind, *index = name.split("-")
        numbers = [int(n) for n in index]
        try:
            if kind == "pieces":
                return look_at_pieces(self.job, session, name, (numbers[0], numbers[1]))
            uploaded = self.job.plan.units[numbers[0]]
            units = self._units_of_merge(*numbers) if kind == "merge" else self._joined(uploaded)
            return look_at_stretch(self.job, session, name, units)
        except UnreadableError as error:
            return error

    def _units_of_merge(self, depth: int, n: int) -> list[Unit]:
        """The units that a merge joins, in file order."""
        span, stretches = _MERGE_ARITY ** (depth + 1), self.job.plan.stretches
        merged = range(len(stretches))[n * span : (n + 1) * span]
        return [*itertools.chain.from_iterable(self._joined(stretches[at]) for at in merged)]

    def _joined(self, unit: Unit) -> list[Unit]:
        """A unit behind those that it is joined to where it is uploaded, and theirs."""
        others = self.job.plan.joined_at(unit.number)
        before = [self._joined(unit._replace(number=other)) for other in others]
        return [*itertools.chain.from_iterable(before), unit]

    def _warn_of(self, unreadable: dict[str, str]) -> None:
        named = [f"{name} ({reason})" for name, reason in sorted(unreadable.items())[:_MOST_NAMED]]
        more = f" and {len(unreadable) - len(named)} more" if len(unreadable) > len(named) else ""
        warnings.warn(
            f"records of the unfinished write to {self.job.store.url} cannot be read, and their work is done again: "
            f"{', '.join(named)}{more}",
            CCOGWarning,
            stacklevel=2,
        )

    def needed(self) -> dict[Any, GraphNode]:
        """The tasks that the last one needs: all, unless an earlier run is continued."""
        if self.kept is None:
            return dict(self)
        found: dict[Any, GraphNode] = {}
        wanted: list[Any] = [self.final]
        while wanted:
            key = wanted.pop()
            if key not in found and key in self:
                found[key] = self[key]
                wanted.extend(found[key].dependencies)
        return found

    @property
    def final(self) -> str:
        """Key of the task that completes the file."""
        return str(self.job.key("finish")[0])

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the layers whose chunks the leaves load."""
        return (self.pixels.name,) if self.mask is None else (self.pixels.name, self.mask.name)

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks will run of each name."""
        if self.kept:
            return Counter(key if isinstance(key, str) else key[0] for key in self.needed())
        return {name: len(indices) for name, indices in self._indices.items()} | {self.final: 1}

    @property
    def leaves(self) -> Iterator[Any]:
        """Keys of the tasks that load chunks."""
        return (self._key("block-L0", *ij) for ij in self._grid(0))

    def __getitem__(self, key: Any) -> GraphNode:
        if key == self.final:
            return self._finish()
        name, index = (str(key[0]), key[1:]) if isinstance(key, tuple) and key else ("", ())
        if index not in self._indices.get(name, ()):
            raise KeyError(key)
        kind, _, level = kind_of(name).partition("-L")
        make: Callable[..., GraphNode] = getattr(self, f"_{kind.partition('-')[0]}")
        return make(key, *([int(level)] if level else []), *index)

    def __iter__(self) -> Iterator[Any]:
        for name, indices in self._indices.items():
            for index in indices:
                yield (name, *index)
        yield self.final

    def __len__(self) -> int:
        return 1 + sum(map(len, self._indices.values()))

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("job", "pixels", "mask", "window", "kept", "seals")
        }

    @cached_property
    def _indices(self) -> dict[str, _Indices]:
        """The indices of each kind of task by the first element of its keys."""
        plan, apart = self.job.plan, self.job.apart
        found = {"begin": _Indices((1,), drop=True)}
        for k in range(plan.top + 1):
            blocks = _Indices(plan.level(k).blocks)
            found[f"block-L{k}"] = blocks
            if apart or self._has_halos(k):
                found[f"pieces-L{k}"] = _Indices((*plan.level(k).blocks, len(plan.flows_from(k))))
            if apart:
                found[f"bytes-L{k}"] = blocks
                if k:
                    found[f"pixels-L{k}"] = blocks
            found[f"upload-L{k}"] = _Indices((plan.unit_count(k), plan.planes(k)))
        units, ahead = plan.unit_count(0), self.window.ahead
        found["gate"] = _Indices((max(0, units - ahead),), start=ahead)
        if self.window.placed:
            found["place"] = _Indices((ceil_div(units, self.window.placed),))
        found |= {
            f"merge-{depth}": _Indices((count,)) for depth, count in enumerate(self._merge_counts)
        }
        return {str(self._key(kind)[0]): indices for kind, indices in found.items()}

    @cached_property
    def _units_by_need(self) -> dict[int, list[Unit]]:
        """Units by the last one of full resolution that they need."""
        found: dict[int, list[Unit]] = {}
        for unit in self.job.plan.units:
            found.setdefault(self.job.plan.last_unit(unit.level, unit.number), []).append(unit)
        return found

    @cached_property
    def _merge_counts(self) -> list[int]:
        counts, left = [], len(self.job.plan.stretches)
        while left > _MERGE_ARITY:
            left = ceil_div(left, _MERGE_ARITY)
            counts.append(left)
        return counts

    def _has_halos(self, k: int) -> bool:
        """Whether neighbours need strips of full resolution, which then are split from its tile bytes."""
        return k == 0 and self.job.plan.pyramid.kernel.radius > 0

    def _grid(self, k: int) -> Iterator[tuple[int, int]]:
        rows, cols = self.job.plan.level(k).blocks
        return ((i, j) for i in range(rows) for j in range(cols))

    def _key(self, kind: str, *index: int) -> Any:
        return self.job.key(kind, *index)

    def _ref(self, kind: str, *index: int) -> TaskRef:
        return TaskRef(self._key(kind, *index))

    def _with_gdal(self, key: Any, func: Callable[..., Any], *args: Any) -> Task:
        """A task that runs GDAL, with the user's configuration options."""
        return (
            Task(key, WithEnv(self.job.env), func, *args)
            if self.job.env
            else Task(key, func, *args)
        )

    def _begin(self, key: Any) -> Task:
        manifest, session = self.job.manifest, None if self.kept is None else self.kept.session
        resumption = None if manifest is None else Resumption(manifest, session)
        return Task(key, begin_write, self.job.store, self.final, resumption)

    def _block(self, key: Any, k: int, i: int, j: int) -> Task:
        if k:
            return self._overview_block(key, k, i, j)
        work = block_job(self.job.plan, self.job.codecs[0], 0, i, j)
        mask = None if self.mask is None else _chunks(self.mask, work.area)
        after = self._before(self.job.plan.unit_of(0, i, j))
        make: Callable[..., Any] = reduced_block if self._is_written(0, i, j) else source_block
        return self._with_gdal(
            key, _source_block, make, work, _chunks(self.pixels, work.area), mask, after
        )

    def _before(self, n: int) -> TaskRef:
        """What the blocks of unit ``n`` of full resolution wait for."""
        if self.window.placed:
            return self._ref("place", n // self.window.placed)
        return self._ref("gate", n) if n >= self.window.ahead else self._ref("begin")

    def _place(self, key: Any, n: int) -> Task:
        return Task(key, gate, self._ref("begin"))

    def _overview_block(self, key: Any, k: int, i: int, j: int) -> Task:
        name, written = pieces_name(i, j), self._is_written(k, i, j)
        if k == self._checkpoint and written and not self.job.apart and self._is_kept(name):
            return self._load(key, load_block, name)
        make = overview_block if self.job.apart or written else encoded_overview_block
        work = block_job(self.job.plan, self.job.codecs[1], k, i, j)
        args = make, work, List(*(self._flow(f, i, j) for f in self.job.plan.flows_to(k)))
        if k != self._checkpoint:
            return self._with_gdal(key, *args)
        return self._with_gdal(key, keep_pieces, name, self.job.store, self._ref("begin"), *args)

    @cached_property
    def _checkpoint(self) -> int | None:
        """The level whose pieces are recorded."""
        return None if self.job.manifest is None else checkpoint_level(self.job.plan)

    def _is_kept(self, name: str) -> bool:
        return self.kept is not None and name in self.kept.names

    def _is_written(self, k: int, i: int, j: int) -> bool:
        """Whether a block need not be encoded, since an earlier run has uploaded it."""
        if self.kept is None:
            return False
        n, planes = self.job.plan.unit_of(k, i, j), self.job.plan.planes(k)
        return all(self._is_kept(self._unit_name(k, p, n)) for p in range(planes))

    def _unit_name(self, k: int, plane: int, n: int) -> str:
        return unit_name(self.job.plan.units.index(k, plane, n))

    def _kept_stretch(self, key: Any, name: str, make: Callable[..., Any], *args: Any) -> Task:
        """A task that uploads, and keeps what it returns if the write can be resumed."""
        if self.job.manifest is None:
            return Task(key, make, *args)
        return Task(key, keep_stretch, name, self.job.store, self._ref("begin"), make, *args)

    def _load(self, key: Any, load: Callable[..., Any], name: str, *args: Any) -> Task:
        session = None if self.kept is None else self.kept.session
        return Task(key, load, self.job.store, session, name, self.seals.get(name), *args)

    def _flow(self, flow: Flow, i: int, j: int) -> List:
        children, plan = self.job.plan.children(flow, i, j), self.job.plan
        n = plan.flows_from(flow.source).index(flow)
        if self.job.apart or self._has_halos(flow.source):
            refs, pick = (
                [self._ref(f"pieces-L{flow.source}", *child, n) for child in children],
                None,
            )
        else:
            refs, pick = [self._ref(f"block-L{flow.source}", *child) for child in children], n
        return List(assembly(plan, flow, i, j), List(*refs), pick)

    def _pieces(self, key: Any, k: int, i: int, j: int, n: int) -> Task:
        if k == self._checkpoint and self._is_kept(pieces_name(i, j)):
            return self._load(key, load_pieces, pieces_name(i, j), n)
        return Task(key, _nth_pieces, self._ref(f"block-L{k}", i, j), n)

    def _pixels(self, key: Any, k: int, i: int, j: int) -> Task:
        return Task(key, _first, self._ref(f"block-L{k}", i, j))

    def _bytes(self, key: Any, k: int, i: int, j: int) -> Task:
        if k == 0:
            return Task(key, _first, self._ref("block-L0", i, j))
        work = block_job(self.job.plan, self.job.codecs[1], k, i, j)
        return self._with_gdal(key, encode_overview, work, self._ref(f"pixels-L{k}", i, j))

    def _upload(self, key: Any, k: int, n: int, plane: int) -> Task:
        name = self._unit_name(k, plane, n)
        if self._is_kept(name):
            return self._load(key, load_stretch, name)
        kind = "bytes" if self.job.apart else "block"
        blocks = List(
            *(self._ref(f"{kind}-L{k}", i, j) for i, j in self.job.plan.unit_blocks(k, n))
        )
        numbers = self.job.parts.numbers(self.job.plan.units.index(k, plane, n))
        where = k, None if self.job.plan.by_chunk else plane
        args = (self.job.store, numbers, where, self._ref("begin"), blocks, self.kept is not None)
        before = [self._ref(f"upload-L{k}", other, plane) for other in self.job.plan.joined_at(n)]
        if before:
            return self._kept_stretch(
                key, name, _upload_and_join, not self.job.apart, List(*before), *args
            )
        return self._kept_stretch(
            key, name, upload_unit if self.job.apart else _upload_whole, *args
        )

    def _gate(self, key: Any, n: int) -> Task:
        """Opens when all that the units before its window feed is written, in this run or an earlier one."""
        before = [self._ref("gate", n - 1)] if n > self.window.ahead else []
        ready = self._units_by_need.get(n - self.window.ahead, [])
        waits = [unit for unit in ready if not self._is_kept(self._unit_name(*unit))]
        return Task(
            key, gate, *before, *(self._ref(f"upload-L{k}", n, plane) for k, plane, n in waits)
        )

    def _merge(self, key: Any, n: int) -> Task:
        depth = int(kind_of(key[0]).split("-")[1])
        if self._is_kept(merge_name(depth, n)):
            return self._load(key, load_stretch, merge_name(depth, n))
        parts = self._stretches(depth, n * _MERGE_ARITY, (n + 1) * _MERGE_ARITY)
        args = (
            self.job.store,
            self.job.parts.part_size,
            self._ref("begin"),
            List(*parts),
            self.kept is not None,
        )
        return self._kept_stretch(key, merge_name(depth, n), merge_stretches, *args)

    def _stretches(self, depth: int, start: int = 0, stop: int | None = None) -> list[TaskRef]:
        """What merges of a depth join, from ``start`` to ``stop``: units, or the merges before."""
        stretches = self.job.plan.stretches
        count = self._merge_counts[depth - 1] if depth else len(stretches)
        wanted = range(count)[start:stop]
        if depth:
            return [self._ref(f"merge-{depth - 1}", n) for n in wanted]
        return [
            self._ref(f"upload-L{k}", n, plane)
            for k, plane, n in map(stretches.__getitem__, wanted)
        ]

    def _finish(self) -> Task:
        stretches = List(*self._stretches(len(self._merge_counts)))
        return Task(
            self.final, finish_write, self.job, self._ref("begin"), stretches, self.kept is not None
        )


class _Indices:
    """The index tuples of one kind of task: a grid, without a list of its members; ``drop`` for a single task."""

    def __init__(self, shape: tuple[int, ...], *, start: int = 0, drop: bool = False) -> None:
        self._ranges = (range(start, start + shape[0]), *map(range, shape[1:]))
        self._drop = drop

    def __contains__(self, index: tuple[Any, ...]) -> bool:
        if self._drop:
            return not index
        return len(index) == len(self._ranges) and all(
            n in r for n, r in zip(index, self._ranges, strict=True)
        )

    def __len__(self) -> int:
        count = 1
        for side in self._ranges:
            count *= len(side)
        return count

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter([()]) if self._drop else itertools.product(*self._ranges)


class CcogDelayed(Delayed):  # type: ignore[misc]
    """A Delayed that fuses source loads into the tasks that encode them, and whose failures are cleaned up."""

    __slots__ = ()

    def compute(self, **kwargs: Any) -> Any:
        """Write the file; whatever goes wrong, the target stays as it was and no part remains."""
        try:
            return super().compute(**kwargs)
        except BaseException:
            wait_for_removal(self.key)
            raise

    def __dask_keys__(self) -> Any:
        """The key of the result; whoever asks for it is about to compute."""
        watch()
        mapping = getattr(self.dask.layers.get(self.key), "mapping", None)
        if isinstance(mapping, CcogTasks):
            mapping.look_for_kept()
            expect(self.key, lambda: mapping.counts)
        return super().__dask_keys__()

    @staticmethod
    def __dask_optimize__(dsk: HighLevelGraph, keys: Any, **kwargs: Any) -> HighLevelGraph:
        return optimize(dsk, lambda mapping: isinstance(mapping, CcogTasks))


def build_graph(job: WriteJob, pixels: da.Array, mask: da.Array | None) -> CcogDelayed:
    """The Delayed that writes the file.

    ``pixels`` is (band, y, x), ``mask`` (y, x); the plan's work blocks begin where their chunks do.
    """
    grids = [SourceGrid(array.name, array.chunks) for array in (pixels, mask) if array is not None]
    tasks = CcogTasks(job, grids[0], None if mask is None else grids[1], work_window(job))
    priority = curve_priority if job.plan.by_chunk else row_priority
    layer = MaterializedLayer(tasks, annotations=with_ours(dask.get_annotations(), priority))
    dependencies = [pixels] if mask is None else [pixels, mask]
    return CcogDelayed(
        tasks.final, HighLevelGraph.from_collections(tasks.final, layer, dependencies=dependencies)
    )


def _chunks(grid: SourceGrid, area: Any) -> List:
    nested = grid.keys(area.rows, area.cols)
    return List(*(List(*(List(*map(TaskRef, row)) for row in rows)) for rows in nested))


def _source_block(
    make: Callable[..., Any], work: Any, pixels: Any, mask: Any, after: object
) -> Any:
    """Join the chunks of a block, and encode and reduce it with ``make``; ``after`` only orders tasks."""
    valid = None if mask is None else join_chunks(mask)
    return make(work, *split_mask(join_chunks(pixels), valid, work.area.rows, work.area.cols))


def _upload_whole(
    store: Any,
    numbers: Numbers,
    where: tuple[int, int | None],
    session: str,
    blocks: list[Any],
    continues: bool,
) -> Any:
    """Upload blocks that come with what they hand on."""
    return upload_unit(store, numbers, where, session, [found for found, _ in blocks], continues)


def _upload_and_join(
    whole: bool,
    before: list[Any],
    store: Any,
    numbers: Numbers,
    where: tuple[int, int | None],
    session: str,
    blocks: list[Any],
    continues: bool,
) -> Any:
    """Upload blocks, and join them to the stretches of the file before them."""
    upload = _upload_whole if whole else upload_unit
    found = upload(store, numbers, where, session, blocks, continues)
    return merge_stretches(store, numbers.part_size, session, [*before, found], continues)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _nth_pieces(block: tuple[Any, list[Any]], n: int) -> Any:
    return block[1][n]
