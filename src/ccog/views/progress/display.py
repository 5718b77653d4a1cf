"""One progress display over all the work of the writes that are computed inside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

from ccog.runtime.events import listening
from ccog.runtime.task_names import PREFIX
from ccog.runtime.whereabouts import current_client
from ccog.views.progress.cluster import Cluster
from ccog.views.progress.tally import Tally

if TYPE_CHECKING:
    from ccog.views.progress.screens import Screen

_TICK_SECONDS = 0.25


@contextlib.contextmanager
def progress(client: Any = None) -> Iterator[None]:
    """Show how far the writes are that are computed inside the block, in a terminal, a notebook or a log.

    One bar for each stage: blocks of full resolution that are encoded, those of overviews, and rows of blocks that
    are uploaded, with the bytes that the store has taken. It is written to standard error, works on any scheduler
    of dask's, and shows several files together. Where standard error is no terminal, it is a line for each tenth of the
    work, but not more than one in ten seconds.

    Parameters
    ----------
    client
        The distributed client that computes, where it is not the default one.

    Examples
    --------
    >>> with ccog.progress():
    ...     ccog.write_ccog(arr, "a.tif").compute()
    """
    from ccog.views.progress.screens import open_screen  # rich takes a while to import

    tally = Tally()
    cluster = Cluster(client)
    screen = open_screen()
    last = None
    try:
        with listening(_Listener(tally, cluster)), _Tasks(tally), _ticking(tally, cluster, screen):
            yield
        cluster.conclude(tally)
        last = tally.snapshot()
    finally:
        screen.close(last)


class _Listener:
    """Hands on what writes tell, and finds the client that is to compute them."""

    def __init__(self, tally: Tally, cluster: Cluster) -> None:
        self.stored = tally.stored
        self._tally = tally
        self._cluster = cluster

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        if self._cluster.client is None:
            self._cluster.client = current_client()
        self._tally.expect(final, counts)


class _Tasks(Callback):  # type: ignore[misc]
    """Counts the tasks that dask's schedulers in this process have run."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(posttask=self._ran)
        self._tally = tally

    def _ran(self, key: Any, *_: Any) -> None:
        name = key[0] if isinstance(key, tuple) else key
        if isinstance(name, str) and name.startswith(PREFIX):
            self._tally.ran(name)


@contextlib.contextmanager
def _ticking(tally: Tally, cluster: Cluster, screen: Screen) -> Iterator[None]:
    """Show the tally again and again, from a thread of its own."""
    over, showing = threading.Event(), threading.Lock()

    def tick() -> None:
        while not over.wait(_TICK_SECONDS):
            cluster.ask(tally)
            with showing:
                if not over.is_set():
                    screen.show(tally.snapshot())

    thread = threading.Thread(target=tick, name="ccog-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with showing:
            over.set()
        # a thread that waits for an answer through the event loop that runs here would never get it
        if not cluster.is_here:
            thread.join()
