"""One maker for each kind of task; ``MAKERS`` says which.

Per block one task encodes and reduces. Small tasks may part its partial overviews from its tiles,
since tiles go to the file and partial overviews to the next level at different times. An upload
task turns the tiles of an upload group into parts; merges join segments of the file; the finish
writes the header. The throttle, or anchors, decide when blocks of full resolution begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dask.task_spec import GraphNode, List, Task, TaskRef

from ccog.geometry.file_order import UploadGroup
from ccog.geometry.intervals import Area
from ccog.geometry.level_reductions import LevelReduction
from ccog.geometry.source_grid import SourceGrid
from ccog.graph.context import MERGE_ARITY, GraphContext
from ccog.runtime.begin import begin_write
from ccog.runtime.manifest import Resumption
from ccog.runtime.runs import Run
from ccog.tasks.blocks import (
    assembly,
    block_job,
    encode_and_reduce,
    encode_overview,
    only_reduce,
    only_reduce_overview,
    pick_overview,
)
from ccog.tasks.checkpoints import (
    keep_overviews,
    keep_segment,
    load_block,
    load_overview,
    load_segment,
    merge_record,
    overviews_record,
)
from ccog.tasks.chunks import load_and_work
from ccog.tasks.finish import finish_write
from ccog.tasks.uploads import GroupUpload, SegmentMerge, merge_segments, throttle, upload_group

#: Makes a task from the context, its key, the level or depth of its kind if any, and its index.
Maker = Callable[..., GraphNode]


def make_begin(context: GraphContext, key: Any) -> Task:
    """The task that begins the upload, or resumes an earlier one."""
    job, checkpoint = context.job, context.checkpoint
    upload_id = None if checkpoint is None else checkpoint.upload_id
    resumption = None
    if job.manifest is not None:
        resumption = Resumption(job.manifest, upload_id, context.looked)
    run = Run.here(context.run or job.token)
    return Task(key, begin_write, job.store, final_key(context), run, resumption)


def final_key(context: GraphContext) -> str:
    """Key of the task that completes the file: a name without an index."""
    return str(context.key("finish")[0])


def make_block(context: GraphContext, key: Any, k: int, i: int, j: int) -> Task:
    """The task that encodes and reduces a block of a level, which is read or an overview."""
    if k >= len(context.sources):
        return _overview_block(context, key, k, i, j)
    job, source = context.job, context.sources[k]
    block = block_job(job.geometry, job.codec(k), k, i, j)
    work = only_reduce if context.is_uploaded(k, i, j) else encode_and_reduce
    pixels = _chunks(source.pixels, block.area)
    mask = None if source.mask is None else _chunks(source.mask, block.area)
    after = _start_of(context, k, job.geometry.groups.of_block(k, i, j))
    return context.with_gdal(key, load_and_work, work, block, pixels, mask, after)


def _chunks(grid: SourceGrid, area: Area) -> List:
    """The chunks of an area by band, row and column of chunks."""
    bands = []
    for band in grid.keys(area.rows, area.cols):
        rows = [List(*map(TaskRef, row)) for row in band]
        bands.append(List(*rows))
    return List(*bands)


def _start_of(context: GraphContext, k: int, n: int) -> TaskRef:
    """The task that blocks of the ``n``-th upload group of a level that is read wait for.

    Those of given overviews wait with the last of full resolution that show the same place.
    """
    if k:
        n = context.job.geometry.groups.last_needed(k, n)
    if context.throttle.anchored:
        return context.ref("anchor", n // context.throttle.anchored)
    return context.ref("throttle", n) if n >= context.throttle.ahead else context.begin


def _overview_block(context: GraphContext, key: Any, k: int, i: int, j: int) -> Task:
    job, uploaded = context.job, context.is_uploaded(k, i, j)
    name, is_kept = overviews_record(i, j), k == context.kept_level
    if is_kept and uploaded and context.is_recorded(name):
        return Task(key, load_block, context.record(name))
    flows = job.geometry.reductions.to_level(k)
    assemblies = [assembly(job.geometry, flow, i, j, pick=_pick(context, flow)) for flow in flows]
    work = only_reduce_overview if uploaded else encode_overview
    block = block_job(job.geometry, job.codec(k), k, i, j)
    contributions = List(*(_contributions(context, flow, i, j) for flow in flows))
    args = work, block, tuple(assemblies), contributions
    if not is_kept:
        return context.with_gdal(key, *args)
    return context.with_gdal(key, keep_overviews, name, job.store, context.begin, *args)


def _pick(context: GraphContext, flow: LevelReduction) -> int | None:
    """Which partial overview of a block belongs to a flow; None where it comes by itself."""
    return None if context.has_halo_tasks(flow.source) else _number(context, flow)


def _number(context: GraphContext, flow: LevelReduction) -> int:
    return context.job.geometry.reductions.from_level(flow.source).index(flow)


def _contributions(context: GraphContext, flow: LevelReduction, i: int, j: int) -> List:
    """The blocks, or the partial overviews, that block (i, j) of a flow's target is made of."""
    blocks = context.job.geometry.reductions.source_blocks(flow, i, j)
    if not context.has_halo_tasks(flow.source):
        return List(*(context.ref(f"block-L{flow.source}", *block) for block in blocks))
    n = _number(context, flow)
    return List(*(context.ref(f"halos-L{flow.source}", *block, n) for block in blocks))


def make_halos(context: GraphContext, key: Any, k: int, i: int, j: int, n: int) -> Task:
    """The task that parts a block's contribution to a reduction from its tiles."""
    name = overviews_record(i, j)
    if k == context.kept_level and context.is_recorded(name):
        return Task(key, load_overview, context.record(name), n)
    return Task(key, pick_overview, context.ref(f"block-L{k}", i, j), n)


def make_upload(context: GraphContext, key: Any, k: int, n: int, plane: int) -> Task:
    """The task that uploads an upload group, and joins it to those before it."""
    job, geometry = context.job, context.job.geometry
    name = context.group_record(UploadGroup(k, plane, n))
    if context.is_recorded(name):
        return Task(key, load_segment, context.record(name))
    upload = GroupUpload(
        store=job.store,
        numbers=job.parts.numbers(geometry.groups.all.index(k, plane, n)),
        level=k,
        plane=None if geometry.by_chunk else plane,
        resuming=context.resuming,
    )
    blocks = List(*(context.ref(f"block-L{k}", i, j) for i, j in geometry.groups.blocks(k, n)))
    before = [context.ref(f"upload-L{k}", other, plane) for other in geometry.groups.joined_at(n)]
    args = upload, context.begin, blocks, List(*before)
    return _segment_task(context, key, name, upload_group, *args)


def make_merge(context: GraphContext, key: Any, depth: int, n: int) -> Task:
    """The task that joins neighbouring segments of the file."""
    name = merge_record(depth, n)
    if context.is_recorded(name):
        return Task(key, load_segment, context.record(name))
    job = context.job
    how = SegmentMerge(store=job.store, part_size=job.parts.part_size, resuming=context.resuming)
    merged = slice(n * MERGE_ARITY, (n + 1) * MERGE_ARITY)
    args = how, context.begin, List(*_segments(context, depth, merged))
    return _segment_task(context, key, name, merge_segments, *args)


def _segment_task(
    context: GraphContext, key: Any, name: str, func: Callable[..., Any], *args: Any
) -> Task:
    """A task that uploads, and keeps a record of it if the write can be resumed."""
    if context.job.manifest is None:
        return Task(key, func, *args)
    return Task(key, keep_segment, name, context.job.store, context.begin, func, *args)


def _segments(context: GraphContext, depth: int, which: slice) -> list[TaskRef]:
    """The segments that merges of a depth join: upload groups, or merges of the depth before."""
    if depth:
        numbers = range(context.merge_counts[depth - 1])[which]
        return [context.ref(f"merge-{depth - 1}", n) for n in numbers]
    groups = context.job.geometry.groups.for_merges
    chosen = [groups[n] for n in range(len(groups))[which]]
    return [context.ref(f"upload-L{k}", n, plane) for k, plane, n in chosen]


def make_throttle(context: GraphContext, key: Any, n: int) -> Task:
    """The task that lets the ``n``-th upload group of full resolution begin.

    It waits until all that the group ``ahead`` before it completes is uploaded, in this run or an
    earlier one.
    """
    first = context.throttle.ahead
    before = [context.ref("throttle", n - 1)] if n > first else []
    complete = context.groups_by_need.get(n - first, [])
    missing = [group for group in complete if not context.is_recorded(context.group_record(group))]
    uploads = [context.ref(f"upload-L{k}", number, plane) for k, plane, number in missing]
    return Task(key, throttle, *before, *uploads)


def make_anchor(context: GraphContext, key: Any, n: int) -> Task:
    """The task that brings neighbouring blocks to the worker that ran it."""
    return Task(key, throttle, context.begin)


def make_finish(context: GraphContext, key: Any) -> Task:
    """The task that completes the file."""
    segments = _segments(context, len(context.merge_counts), slice(None))
    return Task(key, finish_write, context.job, context.begin, List(*segments), context.resuming)


MAKERS: Mapping[str, Maker] = {
    "begin": make_begin,
    "block": make_block,
    "halos": make_halos,
    "upload": make_upload,
    "merge": make_merge,
    "throttle": make_throttle,
    "anchor": make_anchor,
    "finish": make_finish,
}
