"""Asking the scheduler of a cluster about the progress of writes."""

from __future__ import annotations

import contextlib
from typing import Any

from ccog.runtime.distributed_edges import ask_scheduler, is_over, offer_plugin
from ccog.runtime.whereabouts import is_own_loop
from ccog.views.progress.state import ProgressState

_ANSWER_SECONDS = 10


class ProgressClient:
    """Asks through a distributed client.

    If the scheduler does not answer, the state stays as it is.
    """

    def __init__(self, client: Any = None) -> None:
        self.client = client
        self._offered = False
        self._known: set[str] = set()

    @property
    def is_here(self) -> bool:
        """Whether this thread runs the client's event loop, and so must not wait for answers."""
        return is_own_loop(self.client)

    def ask(self, state: ProgressState) -> None:
        """Bring the state up to date; called from a thread that is not the client's own."""
        writes = {final: list(counts) for final, counts in state.writes.items()}
        if self.client is None or not writes:
            return
        with contextlib.suppress(Exception):
            self._offer_plugin()
            answer = ask_scheduler(self.client, "ccog_progress", _ANSWER_SECONDS, writes=writes)
            self._known.update(answer["known"])
            state.counted(answer["done"], answer["sizes"])
            state.complete(answer["complete"])

    def conclude(self, state: ProgressState) -> None:
        """The same after a computation that succeeded.

        Writes too quick to be seen are complete then.
        """
        if self.client is None:
            return
        if self.is_here:
            # nobody can be asked from here, but the client knows its own futures
            state.complete(final for final in state.writes if is_over(self.client, final))
            return
        self.ask(state)
        state.complete(state.writes.keys() - self._known)

    def _offer_plugin(self) -> None:
        if self._offered:
            return
        from ccog.runtime.scheduler_plugin import CcogPlugin

        offer_plugin(self.client, CcogPlugin(), _ANSWER_SECONDS)
        self._offered = True
