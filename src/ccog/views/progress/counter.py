"""The plugin on dask's scheduler that counts the tasks of writes for those who watch them."""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

from ccog.runtime.events import TOPIC
from ccog.runtime.task_names import task_name

_FINISH = task_name("finish", "")

# complete writes that are remembered
_REMEMBERED = 1000


class TaskCounter(SchedulerPlugin):  # type: ignore[misc]
    """Answers how far writes are, from counts that the scheduler keeps by group of tasks."""

    name = "ccog-progress"
    idempotent = True

    def start(self, scheduler: Any) -> None:
        """Offer the call that clients make."""
        self._scheduler = scheduler
        self._complete: dict[str, int] = {}
        self._parts: dict[str, dict[int, int]] = {}
        scheduler.handlers["ccog_progress"] = self.progress

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear of a part that a worker has stored."""
        if topic == TOPIC:
            self._parts.setdefault(_FINISH + msg["token"], {})[msg["number"]] = msg["size"]

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Remember which writes are complete, and forget the parts of those that are over."""
        if not isinstance(key, str) or not key.startswith(_FINISH):
            return
        if finish == "memory":
            self._complete[key] = self._size(key)
            while len(self._complete) > _REMEMBERED:
                self._complete.pop(next(iter(self._complete)))
        if finish in ("memory", "erred", "forgotten"):
            self._parts.pop(key, None)

    def progress(self, writes: dict[str, list[str]]) -> dict[str, Any]:
        """How far writes are, given the names of their tasks by the key of the last one.

        ``known`` and ``complete`` are writes, ``done`` are tasks by name, ``sizes`` are bytes stored by write.
        """
        groups = self._scheduler.task_groups
        names = (name for names in writes.values() for name in names if name in groups)
        return {
            "known": [final for final in writes if final in self._scheduler.tasks],
            "complete": [final for final in writes if final in self._complete],
            "done": {name: _done(groups[name].states) for name in names},
            "sizes": {final: self._size(final) for final in writes},
        }

    def _size(self, final: str) -> int:
        return self._complete.get(final, 0) or sum(self._parts.get(final, {}).values())


def _done(states: dict[str, int]) -> int:
    """Tasks of a group whose result is, or was, in memory: none stays released before it runs."""
    return states["memory"] + states["released"] + states["forgotten"]
