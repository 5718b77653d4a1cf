"""The plugin on dask's scheduler: it keeps uploads, and counts their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from distributed import SchedulerPlugin

from ccog.runtime.distributed_edges import add_calls, has_task, tasks_done
from ccog.runtime.events import TOPIC
from ccog.runtime.open_uploads import OpenUploads
from ccog.runtime.task_names import task_name

# states of the last task of a write after which nothing of it runs any more
_ENDED = ("memory", "erred", "forgotten")

_FINISH = task_name("finish", "")

# complete writes that are remembered
_REMEMBERED = 1000


class Progress(TypedDict):
    """Writes by their last tasks, tasks done by name, and bytes stored by write."""

    known: list[str]
    complete: list[str]
    done: dict[str, int]
    sizes: dict[str, int]


class ProgressCounts:
    """Bytes stored by write; tasks are counted by the scheduler, in groups by name."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._complete: dict[str, int] = {}
        self._parts: dict[str, dict[int, int]] = {}

    def stored(self, token: str, number: int, size: int) -> None:
        """A worker has stored a part; of a write that is over, nothing is kept."""
        final = _FINISH + token
        if has_task(self._scheduler, final):
            self._parts.setdefault(final, {})[number] = size

    def ended(self, final: str, in_memory: bool) -> None:
        """The last task of a write has ended: remember whether it is complete."""
        if not final.startswith(_FINISH):
            return
        if in_memory:
            self._complete[final] = self._size(final)
            while len(self._complete) > _REMEMBERED:
                self._complete.pop(next(iter(self._complete)))
        self._parts.pop(final, None)

    def progress(self, writes: dict[str, list[str]]) -> Progress:
        """The progress of writes; ``writes``: names of tasks by the key of the last."""
        done: dict[str, int] = {}
        for names in writes.values():
            done |= tasks_done(self._scheduler, names)
        return Progress(
            known=[final for final in writes if has_task(self._scheduler, final)],
            complete=[final for final in writes if final in self._complete],
            done=done,
            sizes={final: self._size(final) for final in writes},
        )

    def _size(self, final: str) -> int:
        return self._complete.get(final, 0) or sum(self._parts.get(final, {}).values())


class CcogPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Offers the calls that tasks and clients make, and hears how writes end."""

    name = "ccog"
    idempotent = True

    def start(self, scheduler: Any) -> None:
        """Begin to listen."""
        self.uploads = OpenUploads(scheduler)
        self.counts = ProgressCounts(scheduler)
        calls: dict[str, Callable[..., Any]] = {
            "ccog_announce": self.uploads.announce,
            "ccog_keep": self.uploads.keep,
            "ccog_is_open": self.uploads.is_open,
            "ccog_may_be_complete": self.uploads.may_be_complete,
            "ccog_store": self.uploads.store,
            "ccog_progress": self.counts.progress,
        }
        add_calls(scheduler, calls)

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear of a part that a worker has stored."""
        if topic == TOPIC:
            self.counts.stored(msg["token"], msg["number"], msg["size"])

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Hear how the last task of a write begins and ends; only these have text as keys."""
        if finish == "processing" and isinstance(key, str) and key.startswith(_FINISH):
            self.uploads.finishes(key)
        if finish in _ENDED and isinstance(key, str):
            self.uploads.ended(key, finish == "memory")
            self.counts.ended(key, finish == "memory")

    async def before_close(self) -> None:
        """Abort what is unfinished while there are workers to do it."""
        await self.uploads.close()
