"""Uploads in progress on a cluster, kept on its scheduler, which outlives workers."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from ccog.runtime.distributed_edges import (
    Sealed,
    arrived,
    is_processing,
    may_finish,
    runs_on_some_worker,
    travelling,
)
from ccog.runtime.task_names import token_of

_LOGGER = logging.getLogger("ccog")

# seconds that tasks of a failed write may run on before the second clean-up
_DRAIN_SECONDS = 60.0
_CLOSE_SECONDS = 30.0
_POLL_SECONDS = 0.1


class Announcement(NamedTuple):
    """The upload of a write; None if it has not begun.

    ``unanswered``: seconds since another task said that it would begin it; 0 if none did.
    """

    upload_id: str | None
    unanswered: float


@dataclass(frozen=True, kw_only=True)
class _Upload:
    """An upload in progress, by the key of the last task of its write.

    One that ``stays`` can be resumed, and nothing of it is removed.
    """

    final: str
    upload_id: str
    store: Sealed
    stays: bool


class OpenUploads:
    """Uploads by the last task of their write; what cannot finish is aborted."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._announced: dict[str, float] = {}
        self._open: dict[str, _Upload] = {}
        self._finishing: set[str] = set()
        self.removals: dict[asyncio.Task[None], _Upload] = {}

    def announce(self, final: str) -> Announcement:
        """Tell a task that will begin a write whether another has, or has tried to."""
        if final in self._open:
            return Announcement(self._open[final].upload_id, 0.0)
        now = time.monotonic()
        earlier = self._announced.setdefault(final, now)
        return Announcement(None, now - earlier)

    def keep(self, final: str, upload_id: str, store: Any, stays: bool) -> str | None:
        """Keep an upload, unless there is one already, and return the one that counts.

        None: nobody wants the write any more.
        """
        self._announced.pop(final, None)
        if not may_finish(self._scheduler, final):
            return None
        upload = _Upload(final=final, upload_id=upload_id, store=arrived(store), stays=stays)
        return self._open.setdefault(final, upload).upload_id

    def finishes(self, final: str) -> None:
        """The last task of a write is given to a worker, which may complete the file."""
        self._finishing.add(final)

    def may_be_complete(self, final: str) -> bool:
        """Whether the file may be complete: its last task has once been with a worker."""
        return final in self._finishing

    def is_open(self, final: str) -> bool:
        """Whether the write goes on, or is being removed."""
        ending = {upload.final for upload in self.removals.values()}
        return final in self._open or final in ending

    def store(self, final: str, upload_id: str) -> Any:
        """The sealed store of an upload that is being removed, for a worker; or None."""
        for upload in self.removals.values():
            if (upload.final, upload.upload_id) == (final, upload_id):
                return travelling(upload.store)
        return None

    def ended(self, final: str, in_memory: bool) -> None:
        """The last task of a write has ended: abort the upload unless that succeeded."""
        self._announced.pop(final, None)
        if not in_memory:
            # a result that is lost is computed again, with a file that is complete
            self._finishing.discard(final)
        upload = self._open.pop(final, None)
        if upload is not None and not in_memory and not upload.stays:
            self._start_removal(upload)

    async def close(self) -> None:
        """Abort all uploads while there are workers to do it."""
        for final in [final for final, upload in self._open.items() if not upload.stays]:
            self._start_removal(self._open.pop(final))
        if self.removals:
            await asyncio.wait(self.removals, timeout=_CLOSE_SECONDS)

    def _start_removal(self, upload: _Upload) -> None:
        task = asyncio.get_running_loop().create_task(self._remove(upload))
        self.removals[task] = upload
        task.add_done_callback(lambda done: self.removals.pop(done, None))

    async def _remove(self, upload: _Upload) -> None:
        """Abort, wait for tasks that still run and may put parts, and abort again."""
        await self._abort(upload)
        deadline = time.monotonic() + _DRAIN_SECONDS
        token = token_of(upload.final)
        if not is_processing(self._scheduler, token):
            return
        while is_processing(self._scheduler, token) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        await self._abort(upload)

    async def _abort(self, upload: _Upload) -> None:
        """Abort on a worker, which can reach the store, or else here.

        Dask logs the arguments of functions on workers, so the worker fetches the store.
        """
        final, upload_id = upload.final, upload.upload_id
        if await runs_on_some_worker(self._scheduler, _abort_there, final, upload_id):
            return
        try:
            await _abort(upload.store, upload_id)
        except Exception as error:
            _LOGGER.warning(
                "parts of an unfinished write may remain: %s; remove them with `ccog uploads`",
                error,
            )


async def _abort_there(final: str, upload_id: str, dask_worker: Any) -> None:
    """Abort from a worker; runs there."""
    sealed = await dask_worker.scheduler.ccog_store(final=final, upload_id=upload_id)
    if sealed is not None:
        await _abort(arrived(sealed), upload_id)


async def _abort(store: Sealed, upload_id: str) -> None:
    await asyncio.to_thread(store.open().abort, upload_id)
