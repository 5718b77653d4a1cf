"""Everything that ccog uses of distributed and that its documentation does not promise.

Checked with distributed 2025.1 and 2026.8. Each use, and the consequence if it goes:

- ``scheduler.handlers``: a plugin adds calls of its own there. Without it: no task or
  client can ask the plugin, writes on clusters cannot begin. ``run_on_scheduler`` would
  be a way, but needs permission to run any function.
- ``worker.scheduler`` and ``client.scheduler``: connections on which these calls are
  made, from a thread, by ``distributed.utils.sync`` on ``worker.loop`` and
  ``client.loop``. Without them: as above.
- The call ``register_scheduler_plugin``: as ``Client.register_plugin`` makes it; a
  worker has no method for it.
- ``scheduler.rpc(address).run``: runs a function on a worker. Without it: the scheduler
  aborts uploads itself, which it does anyway if no worker answers.
- ``ToPickle``: what travels in it is pickled, whoever sends it. Without it: calls
  cannot carry stores.
- ``worker.processing``, ``scheduler.tasks``, ``scheduler.task_groups``: tasks that run,
  their states, and counts of them by name. Without them: late parts are not waited for
  when a write is aborted; no progress is shown.
- ``client.futures``: states of the keys that a client waits for. Without it: progress
  on an asynchronous client does not show that a write is complete.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

#: Workers that are asked to run a function before the scheduler gives up.
_WORKERS_TRIED = 3

# states of tasks whose result is, or was, in memory: none stays released before it runs
_DONE = ("memory", "released", "forgotten")


class Peer(Protocol):
    """A worker or a client: its connection to the scheduler, and its event loop."""

    loop: Any
    scheduler: Any


def ask_scheduler(peer: Peer, operation: str, seconds: float | None = None, **message: Any) -> Any:
    """Call the scheduler from a thread that is not the peer's loop.

    Dask logs the message at DEBUG, so that credentials in it must be sealed.
    """
    from distributed.utils import sync

    call = getattr(peer.scheduler, operation)
    return sync(peer.loop, call, **message, callback_timeout=seconds)


def offer_plugin(peer: Peer, plugin: Any, seconds: float | None = None) -> None:
    """Have the scheduler run a plugin, if it does not yet."""
    message = {"plugin": pickle.dumps(plugin), "name": plugin.name, "idempotent": True}
    ask_scheduler(peer, "register_scheduler_plugin", seconds, **message)


def add_calls(scheduler: Any, calls: Mapping[str, Callable[..., Any]]) -> None:
    """Offer calls to workers and clients; for plugins of the scheduler."""
    scheduler.handlers.update(calls)


def travelling(value: Any) -> Any:
    """A value to send in a call, or to answer with."""
    from distributed.protocol.serialize import ToPickle

    return ToPickle(value)


def arrived(value: Any) -> Any:
    """The value as it was sent; within one process nothing has unpacked it."""
    from distributed.protocol.serialize import ToPickle

    return value.data if isinstance(value, ToPickle) else value


class Sealed:
    """A pickled value, such as a store: its repr says nothing, whoever logs it.

    It is sent as ``travelling``, which dask unpacks wherever it arrives; the value only
    where ``open`` is called.
    """

    __slots__ = ("_data",)

    def __init__(self, value: Any) -> None:
        from distributed.protocol.pickle import dumps

        self._data: bytes = dumps(value)

    def open(self) -> Any:
        """The value."""
        from distributed.protocol.pickle import loads

        return loads(self._data)

    def __repr__(self) -> str:
        return "<sealed>"


async def runs_on_some_worker(scheduler: Any, function: Callable[..., Any], *args: Any) -> bool:
    """Whether one of a few workers has run a function without an error."""
    message = {"function": pickle.dumps(function), "args": pickle.dumps(args)}
    for address in list(scheduler.workers)[:_WORKERS_TRIED]:
        try:
            answer = await scheduler.rpc(address).run(**message, wait=True)
        except Exception:
            continue
        if answer["status"] == "OK":
            return True
    return False


def has_task(scheduler: Any, key: str) -> bool:
    """Whether the scheduler knows a task."""
    return key in scheduler.tasks


def may_finish(scheduler: Any, key: str) -> bool:
    """Whether a task is known, and neither done nor failed."""
    task = scheduler.tasks.get(key)
    return task is not None and task.state not in ("memory", "erred")


def is_processing(scheduler: Any, token: str) -> bool:
    """Whether a worker runs a task whose key contains the token."""
    for worker in scheduler.workers.values():
        if any(token in str(task.key) for task in worker.processing):
            return True
    return False


def tasks_done(scheduler: Any, names: Iterable[str]) -> dict[str, int]:
    """Numbers of tasks that are done, by the names that the scheduler knows."""
    groups = scheduler.task_groups
    counts = {}
    for name in names:
        if name in groups:
            counts[name] = sum(groups[name].states[state] for state in _DONE)
    return counts


def is_over(client: Any, key: str) -> bool:
    """Whether the client waits for a result no more: it is there, or was let go of."""
    state = client.futures.get(key)
    return state is None or state.status == "finished"
