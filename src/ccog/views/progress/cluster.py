"""Asking the scheduler of a cluster how far writes are."""

from __future__ import annotations

import contextlib
import pickle
from typing import Any

from ccog.runtime.whereabouts import is_own_loop
from ccog.views.progress.tally import Tally

_ANSWER_SECONDS = 10


class Cluster:
    """The scheduler behind a distributed client; one that does not answer leaves the counts as they are."""

    def __init__(self, client: Any = None) -> None:
        self.client = client
        self._asked = False
        self._known: set[str] = set()

    def ask(self, tally: Tally) -> None:
        """Bring the tally up to date; called from a thread that is not the client's own."""
        writes = tally.writes
        if self.client is None or not writes:
            return
        with contextlib.suppress(Exception):
            self._offer()
            found = self._call(
                "ccog_progress", writes={final: list(counts) for final, counts in writes.items()}
            )
            self._known.update(found["known"])
            tally.counted(found["done"], found["sizes"])
            tally.complete(found["complete"])

    def conclude(self, tally: Tally) -> None:
        """The same once a computation has succeeded: writes the scheduler never showed us were quick, and are over."""
        if self.client is None:
            return
        if self.is_here:
            # nobody can be asked from here, but the client knows its own futures
            tally.complete(final for final in tally.writes if self._is_over(final))
            return
        self.ask(tally)
        tally.complete(tally.writes.keys() - self._known)

    @property
    def is_here(self) -> bool:
        """Whether this thread runs the client's event loop, and so must not wait for anybody who asks through it."""
        return is_own_loop(self.client)

    def _is_over(self, final: str) -> bool:
        """Whether the client waits for the write no more: it is finished, or its future was let go of."""
        state = self.client.futures.get(final)
        return state is None or state.status == "finished"

    def _offer(self) -> None:
        """Put the plugin on the scheduler, once."""
        if self._asked:
            return
        from ccog.views.progress.counter import TaskCounter

        plugin = pickle.dumps(TaskCounter())
        self._call(
            "register_scheduler_plugin", plugin=plugin, name=TaskCounter.name, idempotent=True
        )
        self._asked = True

    def _call(self, operation: str, **message: Any) -> Any:
        from distributed.utils import sync

        return sync(
            self.client.loop,
            getattr(self.client.scheduler, operation),
            **message,
            callback_timeout=_ANSWER_SECONDS,
        )
