"""The plugin on dask's scheduler.

It keeps the uploads of writes in progress, and counts their progress.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import SchedulerPlugin

from ccog.runtime.distributed_edges import add_calls
from ccog.runtime.events import TOPIC
from ccog.runtime.open_uploads import OpenUploads
from ccog.runtime.progress_counts import ProgressCounts

# states of the last task of a write after which nothing of it runs any more
_ENDED = ("memory", "erred", "forgotten")


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
            "ccog_store": self.uploads.store,
            "ccog_progress": self.counts.progress,
        }
        add_calls(scheduler, calls)

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear of a part that a worker has stored."""
        if topic == TOPIC:
            self.counts.stored(msg["token"], msg["number"], msg["size"])

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Hear how the last task of a write ends; only these have text as keys."""
        if finish in _ENDED and isinstance(key, str):
            self.uploads.ended(key, finish == "memory")
            self.counts.ended(key, finish == "memory")

    async def before_close(self) -> None:
        """Abort what is unfinished while there are workers to do it."""
        await self.uploads.close()
