"""Where code runs: in a task of a distributed worker, beside a distributed client, or neither.

This is the one place that asks; distributed is optional, and what it does not document
stands in ``distributed_edges``. Checked with distributed 2025.1 and 2026.8.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ccog.errors import CCOGWarning, warn_user
from ccog.runtime.task_names import PREFIX, token_of


class ClusterTask(NamedTuple):
    """A task of a write on a distributed worker, and the token of that write."""

    worker: Any
    token: str


def current_task(token: str) -> ClusterTask | None:
    """The task of the write of that token that a distributed worker runs in this thread, or None.

    None also if a task of another write, or of somebody else's, computes this one on a scheduler
    in its own process. Only the thread that runs the task is told: ask there, and hand the answer
    to threads of a pool.
    """
    if not has_distributed():
        return None
    try:
        from distributed import get_worker

        worker = get_worker()
        key = worker.get_current_task()
    except (ImportError, ValueError, AttributeError, KeyError):
        return None
    name = str(key[0] if isinstance(key, tuple) else key)
    is_of_it = name.startswith(PREFIX) and token_of(name) == token
    return ClusterTask(worker, token) if is_of_it else None


def current_client() -> Any:
    """The distributed client that would compute here and now, or None."""
    if not has_distributed():
        return None
    try:
        from distributed import get_client

        return get_client()
    except (ImportError, ValueError):
        return None


def warn_users(message: str, token: str) -> None:
    """Give a :class:`CCOGWarning` from a task of a write: on a cluster to all of its clients."""
    if current_task(token) is None:
        warn_user(message)
        return
    from distributed import warn

    warn(message, CCOGWarning)


def has_distributed() -> bool:
    """Whether anything here has imported distributed: who has a worker or a client has.

    The import itself takes 0.2 s, as long as writing ten megapixels.
    """
    return "distributed" in sys.modules


def is_own_loop(client: Any) -> bool:
    """Whether this thread runs the client's event loop, where waiting never ends."""
    return bool(client is not None and client.asynchronous)


def thread_count(client: Any) -> int:
    """Threads of a client's cluster; on the client's own loop, as last heard."""
    if not is_own_loop(client):
        return sum(int(count) for count in client.nthreads().values())
    info = client.scheduler_info()
    # newer versions remember totals only, older ones only the workers
    workers = info.get("workers", {}).values()
    return int(info.get("total_threads") or sum(int(worker["nthreads"]) for worker in workers))
