"""The plugin on dask's scheduler that knows the writes in progress, and has those aborted that do not finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from distributed import SchedulerPlugin
from distributed.protocol.pickle import dumps, loads
from distributed.protocol.serialize import ToPickle

from ccog.runtime.task_names import token_of
from ccog.stores import Store

_LOGGER = logging.getLogger("ccog")

# seconds that tasks of a failed write may run on before the second clean-up
_DRAIN_SECONDS = 60.0
_CLOSE_SECONDS = 30.0
_POLL_SECONDS = 0.1

# workers asked to abort before the scheduler's own process tries
_TRIES = 3


class Sealed:
    """A pickled store, which holds credentials: its repr says nothing, whoever logs it.

    It travels as ``ToPickle``, which dask unpacks wherever it arrives; the store in it only where it is opened.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @classmethod
    def of(cls, store: Store) -> Sealed:
        """Seal a store, as dask would pickle it."""
        return cls(dumps(store))

    def open(self) -> Store:
        """The store."""
        store: Store = loads(self._data)
        return store

    def __repr__(self) -> str:
        return "<sealed store>"

    def __reduce__(self) -> tuple[type[Sealed], tuple[bytes]]:
        return Sealed, (self._data,)


@dataclass(frozen=True)
class _Write:
    """A write in progress: its session, and its store.

    One that ``stays`` can be resumed, and nothing of it is removed.
    """

    final: str
    session: str
    store: Sealed
    stays: bool


class UploadKeeper(SchedulerPlugin):  # type: ignore[misc]
    """Sessions by the key of the last task of their write."""

    name = "ccog-uploads"
    idempotent = True

    def start(self, scheduler: Any) -> None:
        """Offer the calls that tasks and clients make."""
        self._scheduler = scheduler
        self._announced: dict[str, float] = {}
        self._open: dict[str, _Write] = {}
        self._removals: dict[asyncio.Task[None], _Write] = {}
        scheduler.handlers["ccog_announce"] = self.announce
        scheduler.handlers["ccog_keep"] = self.keep
        scheduler.handlers["ccog_is_open"] = self.is_open
        scheduler.handlers["ccog_store"] = self.store

    def announce(self, final: str) -> tuple[str | None, float]:
        """The session of a write, or None and the seconds since somebody said they would begin it (0: nobody)."""
        if final in self._open:
            return self._open[final].session, 0.0
        now = time.monotonic()
        earlier = self._announced.setdefault(final, now)
        return None, now - earlier

    def keep(
        self, final: str, session: str, store: Sealed | ToPickle[Sealed], stays: bool
    ) -> str | None:
        """Keep a session, unless there is one; None where nobody wants the write any more."""
        self._announced.pop(final, None)
        task = self._scheduler.tasks.get(final)
        if task is None or task.state == "erred":
            return None
        # within one process nothing is unpacked
        sealed = store.data if isinstance(store, ToPickle) else store
        return self._open.setdefault(final, _Write(final, session, sealed, stays)).session

    def is_open(self, final: str) -> bool:
        """Whether the write goes on, or is being removed."""
        return final in self._open or any(write.final == final for write in self._removals.values())

    def store(self, final: str, session: str) -> ToPickle[Sealed] | None:
        """The store of a write that is being removed, for the worker that was asked to."""
        for write in self._removals.values():
            if (write.final, write.session) == (final, session):
                return ToPickle(write.store)
        return None

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Forget a write that is finished; remove one that cannot finish any more."""
        if finish not in ("memory", "erred", "forgotten") or not isinstance(key, str):
            return
        self._announced.pop(key, None)
        write = self._open.pop(key, None)
        if write is not None and finish != "memory" and not write.stays:
            self._remove(write)

    async def before_close(self) -> None:
        """Remove what is unfinished while there are workers to do it."""
        for final in [final for final, write in self._open.items() if not write.stays]:
            self._remove(self._open.pop(final))
        if self._removals:
            await asyncio.wait(self._removals, timeout=_CLOSE_SECONDS)

    def _remove(self, write: _Write) -> None:
        task = asyncio.get_running_loop().create_task(self._removal(write))
        self._removals[task] = write
        task.add_done_callback(lambda done: self._removals.pop(done, None))

    async def _removal(self, write: _Write) -> None:
        """Abort, wait for the tasks that still run, and abort what they may have put meanwhile."""
        await self._abort(write)
        deadline = time.monotonic() + _DRAIN_SECONDS
        token = token_of(write.final)
        if not self._runs(token):
            return
        while self._runs(token) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        await self._abort(write)

    def _runs(self, token: str) -> bool:
        return any(
            token in str(task.key)
            for worker in self._scheduler.workers.values()
            for task in worker.processing
        )

    async def _abort(self, write: _Write) -> None:
        """Abort on a worker, which can reach the store, or else here.

        Dask logs the arguments of what workers are asked to run: the store is not among them, workers fetch it.
        """
        message = {
            "function": pickle.dumps(_abort_there),
            "args": pickle.dumps((write.final, write.session)),
        }
        for address in list(self._scheduler.workers)[:_TRIES]:
            with contextlib.suppress(Exception):
                answer = await self._scheduler.rpc(address).run(**message, wait=True)
                if answer["status"] == "OK":
                    return
        await _logged(_abort(write.store, write.session))


async def _abort_there(final: str, session: str, dask_worker: Any) -> None:
    """Abort from a worker; runs there."""
    sealed = await dask_worker.scheduler.ccog_store(final=final, session=session)
    if sealed is not None:
        await _abort(sealed.data if isinstance(sealed, ToPickle) else sealed, session)


async def _abort(store: Sealed, session: str) -> None:
    await asyncio.to_thread(store.open().abort, session)


async def _logged(removal: Awaitable[None]) -> None:
    try:
        await removal
    except Exception as error:
        _LOGGER.warning(
            "parts of an unfinished write may remain: %s; remove them with `ccog uploads`", error
        )
