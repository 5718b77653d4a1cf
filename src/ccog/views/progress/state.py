"""The state of the writes whose progress is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ccog.runtime.task_names import STAGES, stage_of


@dataclass(frozen=True)
class Stage:
    """Tasks of one stage, of all writes together."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Snapshot:
    """All stages that have tasks, and the bytes that are stored."""

    stages: tuple[Stage, ...]
    size: int

    @property
    def done(self) -> int:
        """Tasks of all stages that are done."""
        return sum(stage.done for stage in self.stages)

    @property
    def total(self) -> int:
        """Tasks of all stages."""
        return sum(stage.total for stage in self.stages)


@dataclass(kw_only=True, eq=False)
class ProgressState:
    """Counts of tasks by name, from schedulers in this process and on a cluster."""

    #: Numbers of tasks by name, of writes by the key of their last task.
    writes: dict[str, Mapping[str, int]] = field(default_factory=dict)
    done_here: Counter[str] = field(default_factory=Counter)
    done_on_cluster: dict[str, int] = field(default_factory=dict)
    #: Keys of the last tasks of complete writes.
    complete: set[str] = field(default_factory=set)
    #: Bytes of parts by upload and number: of one part it may be told twice.
    parts_here: dict[tuple[str, int], int] = field(default_factory=dict)
    sizes_on_cluster: dict[str, int] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        """The state now."""
        done: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        # copies, since tasks in other threads begin writes and store parts meanwhile
        for final, counts in list(self.writes.items()):
            for name, total in counts.items():
                stage = stage_of(name)
                if stage is not None:
                    totals[stage] += total
                    ran = max(self.done_here[name], self.done_on_cluster.get(name, 0))
                    done[stage] += total if final in self.complete else min(total, ran)
        seen = [name for name in STAGES if totals[name]]
        stages = tuple(Stage(name, done[name], totals[name]) for name in seen)
        size_here = sum(list(self.parts_here.values()))
        return Snapshot(stages, size_here + sum(self.sizes_on_cluster.values()))
