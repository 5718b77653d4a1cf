"""All that the tasks of one file are made from, and the questions that their makers ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from dask.task_spec import Task, TaskRef

from ccog.geometry.file_order import UploadGroup
from ccog.geometry.intervals import ceil_div
from ccog.geometry.source_grid import LevelSource
from ccog.graph.scheduling import Throttle
from ccog.tasks.checkpoints import Seal, SealedRecord, checkpoint_level, group_record
from ccog.tasks.job import WriteJob

#: Segments that are joined by one merge task.
MERGE_ARITY = 8


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The checkpoint that a write is resumed from: its upload, and records that can be used.

    Those that tasks will load were looked at, and have ``seals``.
    """

    upload_id: str
    names: frozenset[str]
    seals: dict[str, Seal]


@dataclass(frozen=True, kw_only=True)
class GraphContext:
    """The job of a write, the arrays it loads, and how its tasks are scheduled.

    There are ``sources`` of full resolution, and of each overview where they are given.

    A write may be resumed from a ``checkpoint``, if there was one when somebody ``looked``. The
    tasks of a scheduler in this process are of a ``run``, which has a name.
    """

    job: WriteJob
    sources: tuple[LevelSource, ...]
    throttle: Throttle
    checkpoint: Checkpoint | None = None
    looked: bool = False
    run: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The fields: all that follows from them grows with the raster."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def key(self, kind: str, *index: int) -> Any:
        """The key of a task."""
        return self.job.key(kind, *index)

    def ref(self, kind: str, *index: int) -> TaskRef:
        """What a task of that kind and index gives."""
        return TaskRef(self.key(kind, *index))

    @property
    def begin(self) -> TaskRef:
        """The id of the upload, which the first task gives."""
        return self.ref("begin")

    @property
    def resuming(self) -> bool:
        """Whether an earlier run is resumed."""
        return self.checkpoint is not None

    def with_gdal(self, key: Any, func: Callable[..., Any], *args: Any) -> Task:
        """A task that runs GDAL, with the user's configuration options."""
        return Task(key, self.job.with_env, func, *args)

    def has_halo_tasks(self, k: int) -> bool:
        """Whether partial overviews are parted from the tiles of their block by tasks of their own.

        Tiles go when their row is uploaded, partial overviews when the rows around are there too.
        So it is at full resolution where neighbours need halos, unless the raster is small: 30 to
        40 % of the memory is saved (measured with 6 x 6 and 12 x 4 blocks). Elsewhere nothing is.
        """
        return k == 0 and self.job.geometry.parts_halos

    # ---- work that an earlier run has done ----

    @cached_property
    def kept_level(self) -> int | None:
        """The level whose partial overviews are recorded; None where nothing is."""
        return None if self.job.manifest is None else checkpoint_level(self.job.geometry)

    def is_recorded(self, name: str) -> bool:
        """Whether an earlier run has left a record of that name that can be used."""
        return self.checkpoint is not None and name in self.checkpoint.names

    def is_uploaded(self, k: int, i: int, j: int) -> bool:
        """Whether an earlier run has uploaded the tiles of a block."""
        if self.checkpoint is None:
            return False
        geometry = self.job.geometry
        n, planes = geometry.groups.of_block(k, i, j), geometry.file_order.planes(k)
        records = [self.group_record(UploadGroup(k, plane, n)) for plane in range(planes)]
        return all(map(self.is_recorded, records))

    def group_record(self, group: UploadGroup) -> str:
        """Name of the record of an upload group."""
        return group_record(self.job.geometry.groups.all.index(*group))

    def record(self, name: str) -> SealedRecord:
        """The record of that name, for a task that loads it."""
        if self.checkpoint is None:
            raise ValueError(f"there is no checkpoint to load {name} from")
        return SealedRecord(
            store=self.job.store,
            upload_id=self.checkpoint.upload_id,
            name=name,
            seal=self.checkpoint.seals.get(name),
        )

    # ---- joins and waits ----

    @cached_property
    def merge_counts(self) -> list[int]:
        """How many merges there are of each depth; the finish joins those of the last one."""
        counts, left = [], len(self.job.geometry.groups.for_merges)
        while left > MERGE_ARITY:
            left = ceil_div(left, MERGE_ARITY)
            counts.append(left)
        return counts

    @cached_property
    def groups_by_need(self) -> dict[int, list[UploadGroup]]:
        """Upload groups by the last one of full resolution that they need."""
        groups: dict[int, list[UploadGroup]] = {}
        for group in self.job.geometry.groups.all:
            last = self.job.geometry.groups.last_needed(group.level, group.number)
            groups.setdefault(last, []).append(group)
        return groups
