"""Asking the scheduler of a cluster about the progress of writes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ccog.runtime.distributed_edges import ask_scheduler, is_over, offer_plugin
from ccog.runtime.whereabouts import current_client, is_own_loop
from ccog.views.progress.state import ProgressState

_ANSWER_SECONDS = 10


class ProgressClient:
    """Brings a state up to date: listens here, and asks a cluster through its client.

    If the scheduler does not answer, the state stays as it is.
    """

    def __init__(self, state: ProgressState, client: Any = None) -> None:
        self.stored = state.stored
        self._state = state
        self._client = client
        self._offered = False
        self._known: set[str] = set()

    @property
    def is_here(self) -> bool:
        """Whether this thread runs the client's event loop, and so must not wait for answers."""
        return is_own_loop(self._client)

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write is about to be computed, by the current client where none was named."""
        if self._client is None:
            self._client = current_client()
        self._state.expect(final, counts)

    def ask(self) -> None:
        """Ask the scheduler; called from a thread that is not the client's own."""
        writes = {final: list(counts) for final, counts in self._state.writes.items()}
        if self._client is None or not writes:
            return
        with contextlib.suppress(Exception):
            self._offer_plugin()
            answer = ask_scheduler(self._client, "ccog_progress", _ANSWER_SECONDS, writes=writes)
            self._known.update(answer["known"])
            self._state.counted(answer["done"], answer["sizes"])
            self._state.complete(answer["complete"])

    def conclude(self) -> None:
        """Ask after a computation that succeeded: writes too quick to be seen are complete."""
        if self._client is None:
            return
        writes = self._state.writes
        if self.is_here:
            # nobody can be asked from here, but the client knows its own futures
            self._state.complete(final for final in writes if is_over(self._client, final))
            return
        self.ask()
        self._state.complete(writes.keys() - self._known)

    def _offer_plugin(self) -> None:
        from ccog.runtime.scheduler_plugin import CcogPlugin

        if not self._offered:
            offer_plugin(self._client, CcogPlugin(), _ANSWER_SECONDS)
            self._offered = True
