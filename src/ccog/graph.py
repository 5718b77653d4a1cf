"""The only module that builds dask tasks: the plan's blocks, rows, merges and the finish, wired by key.

Per block one task encodes and reduces (overviews: assembles and reduces, another encodes), and cheap ones split
its result, since the tile bytes go to the file and the pixels to the next level at different times. A row task
turns the tile bytes of a block row into upload parts; merges join rows; the finish writes the header. Gates
steer the order: a block row of full resolution starts only when what lies a few rows above is written, which
bounds memory to O(width).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
from dask.array.optimization import optimize as optimize_array
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.system import CPU_COUNT
from dask.task_spec import Alias, GraphNode, List, Task, TaskRef

from ccog.blocks import Encoded, assembly, block_job, encode_overview, overview_block, source_block
from ccog.cleanup import begin_write, wait_for_removal, watch
from ccog.encode import Codec
from ccog.errors import StoreNotFoundError
from ccog.header import CLASSIC_LIMIT, LevelCounts, Template, build_header, data_size
from ccog.parts import Part, PartPlan, Run, cut, emit, merge
from ccog.plan import CogPlan, Flow
from ccog.pyramid import Level
from ccog.statistics import BandStatistics, merged
from ccog.stores import Store, WholeStore, WriteResult
from ccog.template import Described, write_template

# rows joined by one merge task
_MERGE_ARITY = 8

# parts that a task uploads at a time
_UPLOADERS = 4

Counts = tuple[npt.NDArray[np.uint32], "npt.NDArray[np.uint32] | None"]

#: Level, tile byte counts and statistics of a row of blocks.
Row = tuple[int, Counts, "tuple[BandStatistics, ...] | None"]

#: A stretch of the file: its bytes or parts, (first, last) row in file order, and what is known of its rows.
Stretch = tuple[Run, tuple[int, int], list[Row]]


@dataclass(frozen=True)
class WriteJob:
    """All that tasks need besides pixels."""

    plan: CogPlan
    store: Store | WholeStore
    parts: PartPlan
    described: Described
    template: Template
    codecs: tuple[Codec, Codec]
    big: bool | None
    token: str
    env: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def key(self, kind: str, *index: int) -> tuple[str | int, ...]:
        """A task key that groups by kind in the dashboard."""
        return (f"ccog-{kind}-{self.token}", *index)


def new_token() -> str:
    """A write is never pure: each graph gets keys of its own."""
    return uuid.uuid4().hex


class CcogTasks(dict[Any, GraphNode]):
    """The tasks of one file, with the names of the layers whose chunks its leaves load."""

    def __init__(self, tasks: Mapping[Any, GraphNode], job: WriteJob, sources: tuple[str, ...]) -> None:
        super().__init__(tasks)
        self.job = job
        self.sources = sources

    @property
    def leaves(self) -> list[Any]:
        """Keys of the tasks that load chunks."""
        return [self.job.key("block-L0", *ij) for ij in _grid(self.job.plan.level(0).blocks)]


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
        return super().__dask_keys__()

    @staticmethod
    def __dask_optimize__(dsk: HighLevelGraph, keys: Any, **kwargs: Any) -> HighLevelGraph:
        return optimize(dsk, keys)


def build_graph(job: WriteJob, pixels: da.Array, mask: da.Array | None) -> CcogDelayed:
    """The Delayed that writes the file.

    ``pixels`` is (band, y, x) with one chunk of bands and the plan's work blocks as chunks, ``mask`` (y, x)
    with the same blocks.
    """
    builder = _Builder(job, pixels, mask)
    final = job.key("finish")[0]
    tasks = builder.build(final)
    dependencies = [pixels] if mask is None else [pixels, mask]
    sources = tuple(d.name for d in dependencies)
    layer = MaterializedLayer(CcogTasks(tasks, job, sources), annotations={"priority": _priority})
    graph = HighLevelGraph.from_collections(final, layer, dependencies=dependencies)
    return CcogDelayed(final, graph)


def _grid(blocks: tuple[int, int]) -> Iterable[tuple[int, int]]:
    return ((i, j) for i in range(blocks[0]) for j in range(blocks[1]))


def _priority(key: Any) -> int:
    """Earlier rows first, and of these the overviews that consume them."""
    if not isinstance(key, tuple) or len(key) < 2 or not isinstance(key[1], int):
        return 0
    name = str(key[0])
    level = int(name.split("-L")[1].split("-")[0]) if "-L" in name else 0
    return level - (key[1] << level)


class _Builder:
    """Collects the tasks of one file."""

    def __init__(self, job: WriteJob, pixels: da.Array, mask: da.Array | None) -> None:
        self.job = job
        self.plan = job.plan
        self.pixels = pixels
        self.mask = mask
        self.tasks: dict[Any, GraphNode] = {}
        self.rows = {row: n for n, row in enumerate(job.plan.rows_in_file_order())}

    def build(self, final: Any) -> dict[Any, GraphNode]:
        begin = self._add("begin", (), begin_write, self.job.store, final)
        gates = self._gate_keys()
        for k in range(self.plan.top + 1):
            for i, j in _grid(self.plan.level(k).blocks):
                block = TaskRef(self._node(k, i, j) if k else self._leaf(i, j, begin, gates))
                for n, flow in enumerate(self.plan.flows_from(k)):
                    self._add(f"pieces-L{k}", (i, j, flow.target, int(flow.pixels)), _pieces, block, n)
        stretches = [self._row(*row, begin) for row in self.rows]
        self._gates(gates)
        self._finish(final, self._merged(stretches, begin), begin)
        return self.tasks

    def _key(self, kind: str, *index: int) -> Any:
        return self.job.key(kind, *index)

    def _add(self, kind: str, index: tuple[int, ...], func: Callable[..., Any], *args: Any) -> Any:
        key = self._key(kind, *index)
        self.tasks[key] = Task(key, func, *args)
        return key

    def _add_gdal(self, kind: str, index: tuple[int, ...], func: Callable[..., Any], *args: Any) -> Any:
        """A task that runs GDAL, with the user's configuration options."""
        if self.job.env:
            return self._add(kind, index, _WithEnv(self.job.env), func, *args)
        return self._add(kind, index, func, *args)

    def _leaf(self, i: int, j: int, begin: Any, gates: dict[int, Any]) -> Any:
        work = block_job(self.plan, self.job.codecs[0], 0, i, j)
        mask = None if self.mask is None else TaskRef((self.mask.name, i, j))
        after = [TaskRef(gates[i])] if i in gates else [TaskRef(begin)]
        block = self._add_gdal(
            "block-L0", (i, j), source_block, work, TaskRef((self.pixels.name, 0, i, j)), mask, *after
        )
        self._add("bytes-L0", (i, j), _first, TaskRef(block))
        return block

    def _node(self, k: int, i: int, j: int) -> Any:
        work = block_job(self.plan, self.job.codecs[1], k, i, j)
        flows = [List(assembly(self.plan, f, i, j), self._children(f, i, j)) for f in self.plan.flows_to(k)]
        block = self._add_gdal(f"block-L{k}", (i, j), overview_block, work, List(*flows))
        pixels = self._add(f"pixels-L{k}", (i, j), _first, TaskRef(block))
        self._add_gdal(f"bytes-L{k}", (i, j), encode_overview, work, TaskRef(pixels))
        return block

    def _children(self, flow: Flow, i: int, j: int) -> List:
        name, end = f"pieces-L{flow.source}", (flow.target, int(flow.pixels))
        return List(*(TaskRef(self._key(name, *child, *end)) for child in self.plan.children(flow, i, j)))

    def _row(self, k: int, plane: int, i: int, begin: Any) -> Any:
        n = self.rows[k, plane, i]
        refs = [TaskRef(self._key(f"bytes-L{k}", i, j)) for j in range(self.plan.level(k).blocks[1])]
        put = (self.job.store, self.job.parts, n, k, plane)
        return self._add(f"upload-L{k}", (i, plane), upload_row, *put, TaskRef(begin), List(*refs))

    def _merged(self, stretches: list[Any], begin: Any) -> list[Any]:
        depth = 0
        while len(stretches) > _MERGE_ARITY:
            groups = [stretches[n : n + _MERGE_ARITY] for n in range(0, len(stretches), _MERGE_ARITY)]
            stretches = [
                self._add(f"merge-{depth}", (n,), merge_stretches, self.job.store, self.job.parts, TaskRef(begin),
                          List(*map(TaskRef, group)))
                for n, group in enumerate(groups)
            ]  # fmt: skip
            depth += 1
        return stretches

    def _finish(self, final: Any, stretches: list[Any], begin: Any) -> None:
        refs = List(*map(TaskRef, stretches))
        self.tasks[final] = Task(final, finish_write, self.job, TaskRef(begin), refs)

    def _gate_keys(self) -> dict[int, Any]:
        """The gate of each full-resolution block row that has to wait."""
        rows, columns = self.plan.level(0).blocks
        ahead = 1 + -(-(_parallelism() + 1) // columns)
        return {i: self._key("gate", i) for i in range(ahead, rows)}

    def _gates(self, gates: dict[int, Any]) -> None:
        """A gate opens when all that the rows before its window feed is written."""
        if not gates:
            return
        rows = self.plan.level(0).blocks[0]
        ahead = min(gates)
        ready: dict[int, list[Any]] = {}
        for k, plane, i in self.rows:
            ready.setdefault(self.plan.last_source_row(k, i), []).append(self._key(f"upload-L{k}", i, plane))
        for i in range(ahead, rows):
            before = [gates[i - 1]] if i - 1 in gates else []
            waits = [TaskRef(key) for key in before + ready.get(i - ahead, [])]
            self._add("gate", (i,), _gate, *waits)


def _parallelism() -> int:
    """Tasks that may run at once: the current client's threads, else those of the local scheduler."""
    with contextlib.suppress(ImportError, ValueError):
        from distributed import get_client

        return max(1, sum(int(n) for n in get_client().nthreads().values()))
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


@dataclass(frozen=True)
class _WithEnv:
    """Runs a function with GDAL configuration options, which may be secrets and stay out of the repr."""

    options: tuple[tuple[str, Any], ...] = field(repr=False)

    def __call__(self, func: Callable[..., Any], *args: Any) -> Any:
        with rasterio.Env(**dict(self.options)):
            return func(*args)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _pieces(block: tuple[Any, list[Any]], n: int) -> Any:
    return block[1][n]


def _gate(*after: object) -> None:
    """Orders tasks; carries nothing."""


def upload_row(
    store: Store, parts: PartPlan, n: int, k: int, plane: int, session: str, blocks: list[Encoded]
) -> Stretch:
    """Bring the tile bytes of a plane's block row into file order and upload what can be uploaded."""
    tiles = [found for found, _ in blocks]
    rows = zip(*(segments[plane] for segments, _, _ in tiles), strict=True)
    buffers = [segment for row in rows for segment in row]
    by_plane = len(tiles[0][0]) > 1
    image = _joined([counts[plane : plane + 1] if by_plane else counts for _, counts, _ in tiles])
    mask = _joined([mask for _, _, mask in tiles if mask is not None]) if plane == len(tiles[0][0]) - 1 else None
    counted = [found for _, found in blocks if found is not None] if plane == 0 else []
    where = parts.firsts[n], parts.caps[n], store.limits, parts.part_size
    with ThreadPoolExecutor(_UPLOADERS) as pool:
        run = emit(buffers, *where, _put(store, session), pool.map)
    return run, (n, n), [(k, (image, mask), merged(counted) if counted else None)]


def _joined(counts: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Byte counts (plane, tile) of blocks side by side, row-major; of no tile where there are none."""
    found = [c for c in counts if len(c)]
    if not found:
        return np.zeros((1, 0), np.uint32)
    return np.concatenate(found, axis=2).reshape(len(found[0]), -1)


def merge_stretches(store: Store, parts: PartPlan, session: str, stretches: list[Stretch]) -> Stretch:
    """Join neighbouring stretches of the file, uploading where two ends make a part."""
    run, (first, last), counts = stretches[0]
    for other, (start, stop), more in stretches[1:]:
        put = _put(store, session)
        joins = parts.firsts[start], parts.firsts[stop]
        run = merge(run, other, *joins, store.limits, parts.part_size, put)
        last, counts = stop, counts + more
    return run, (first, last), counts


def _put(store: Store, session: str) -> Callable[[int, list[Any]], Part]:
    return lambda number, buffers: store.put(session, number, buffers)


def finish_write(job: WriteJob, session: str, stretches: list[Stretch]) -> bytes | WriteResult:
    """Build the header from all tile sizes, upload what is left, and complete the file."""
    (head, parts, tail), _, rows = merge_stretches(job.store, job.parts, session, stretches)
    buffers = [_header(job, rows), *head]
    if isinstance(job.store, WholeStore):
        return job.store.write(list(buffers))
    put = partial(_put_last, job.store, session)
    if job.store.limits.equal_parts:
        pieces = cut(buffers, job.parts.part_size)
        with ThreadPoolExecutor(_UPLOADERS) as pool:
            return job.store.complete(session, list(pool.map(put, range(1, len(pieces) + 1), pieces)))
    parts = [put(1, buffers), *parts]
    if tail:
        parts.append(put(job.parts.last, tail))
    return job.store.complete(session, parts)


def _put_last(store: Store, session: str, number: int, buffers: list[bytes]) -> Part:
    """Upload what is left; where the worker that had completed the file died, there is nothing to upload to."""
    try:
        return store.put(session, number, list(buffers))
    except StoreNotFoundError:
        return store.part(number, list(buffers))


def _header(job: WriteJob, rows: list[Row]) -> bytes:
    found = tuple(_level_counts(job.plan, level, [c for k, c, _ in rows if k == level.index])
                  for level in job.plan.pyramid.levels)  # fmt: skip
    statistics = [s for _, _, s in rows if s is not None]
    template = job.template
    if statistics:
        template = _WithEnv(job.env)(write_template, job.described, merged(statistics))
    big = job.big
    if big is None:
        classic = build_header(template, found, big=False)
        big = len(classic) + data_size(found) >= CLASSIC_LIMIT
        if not big:
            return classic
    return build_header(template, found, big=big)


def _level_counts(plan: CogPlan, level: Level, rows: list[Counts]) -> LevelCounts:
    image = np.concatenate([found for found, _ in rows if found.size], axis=1)
    mask = np.concatenate([found[0] for _, found in rows if found is not None]) if plan.has_mask else None
    return LevelCounts(*level.size, image.reshape(-1), mask, plan.is_planar(level.index), len(image))


def optimize(dsk: HighLevelGraph, keys: Any) -> HighLevelGraph:
    """Optimise the user's array graph for the chunks we load, then fuse each load into its leaf."""
    files = {n: layer.mapping for n, layer in dsk.layers.items() if isinstance(_mapping(layer), CcogTasks)}
    upstream = _upstream(dsk, [source for tasks in files.values() for source in tasks.sources])
    chunks = [key for tasks in files.values() for key in _source_keys(tasks)]
    sub = HighLevelGraph({n: dsk.layers[n] for n in upstream}, {n: set(dsk.dependencies[n]) for n in upstream})
    low = dict(optimize_array(sub, chunks)) if chunks else {}
    _resolve_aliases(low, chunks)
    uses: dict[Any, int] = {}
    for node in [*low.values(), *(task for tasks in files.values() for task in tasks.values())]:
        for dependency in node.dependencies:
            uses[dependency] = uses.get(dependency, 0) + 1
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {}
    for name, tasks in files.items():
        fused = dict(tasks)
        for leaf in tasks.leaves:
            fused[leaf] = _fuse(fused[leaf], low, uses)
        layers[name] = MaterializedLayer(fused, annotations=dsk.layers[name].annotations)
        dependencies[name] = {"ccog-sources"}
    layers["ccog-sources"], dependencies["ccog-sources"] = MaterializedLayer(low), set()
    for name in dsk.layers.keys() - upstream - files.keys():
        layers[name] = dsk.layers[name]
        dependencies[name] = {"ccog-sources" if d in upstream else d for d in dsk.dependencies[name]}
    return HighLevelGraph(layers, dependencies)


def _mapping(layer: Any) -> Any:
    return getattr(layer, "mapping", None)


def _upstream(dsk: HighLevelGraph, names: list[str]) -> set[str]:
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            names.extend(dsk.dependencies[name])
    return found


def _source_keys(tasks: CcogTasks) -> list[Any]:
    return [d for leaf in tasks.leaves for d in tasks[leaf].dependencies if d[0] in tasks.sources]


def _resolve_aliases(low: dict[Any, GraphNode], keys: list[Any]) -> None:
    """Array fusion leaves a chunk as an alias of a renamed task: give the task the chunk's key back."""
    uses: dict[Any, int] = {}
    for node in low.values():
        for dependency in node.dependencies:
            uses[dependency] = uses.get(dependency, 0) + 1
    for key in keys:
        node = low.get(key)
        if isinstance(node, Alias) and uses.get(node.target) == 1 and node.target in low:
            low[key] = low.pop(node.target).substitute({}, key=key)


def _fuse(leaf: GraphNode, low: dict[Any, GraphNode], uses: dict[Any, int]) -> GraphNode:
    """The leaf with the loads that nothing else needs inside it."""
    own = [d for d in leaf.dependencies if d in low and uses.get(d) == 1 and isinstance(low[d], Task)]
    if not own:
        return leaf
    return Task.fuse(*(low.pop(d) for d in own), leaf, key=leaf.key)
