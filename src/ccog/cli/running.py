"""A write or a plan of a command, on threads of this machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import dask
from dask.delayed import Delayed
from dask.system import CPU_COUNT

from ccog.api import plan, write_ccog
from ccog.cli.options import Request
from ccog.errors import StoreError, needs
from ccog.input.source import Source
from ccog.runtime.begin import wait_for_removal
from ccog.stores import WriteResult
from ccog.views.plan.report import CogPlan
from ccog.views.progress.live import progress
from ccog.wording import byte_text

_CONNECT_SECONDS = 15


class Written(NamedTuple):
    """A file, the bytes of its pixels and of itself, and the seconds that it took."""

    url: str
    raw: int
    size: int
    seconds: float

    def __str__(self) -> str:
        speed = self.raw / self.seconds / 1e6
        return (
            f"{self.url}: {byte_text(self.size)} in {self.seconds:.2f} s "
            f"({speed:.1f} MB/s of pixels)"
        )


def written(source: Source, request: Request) -> Written:
    """Write the file."""
    started = time.perf_counter()
    run = _on_threads if request.scheduler is None else _on_cluster
    result: WriteResult = run(source, request)
    seconds = time.perf_counter() - started
    return Written(result.url, source.array.nbytes, result.size, seconds)


def planned(source: Source, request: Request, sample: int) -> CogPlan:
    """The plan for the threads or the cluster that would write."""
    threads = dask.config.set(num_workers=request.workers or CPU_COUNT)
    with threads if request.scheduler is None else _connect(request.scheduler):
        return plan(source, request.output, sample=sample, **_arguments(request))


def _delayed(source: Source, request: Request) -> Delayed:
    return write_ccog(source, request.output, resume=request.resume, **_arguments(request))


def _arguments(request: Request) -> dict[str, Any]:
    """Arguments of write_ccog and plan, besides the source and the store."""
    return {
        "COG_creation_options": request.creation,
        "storage_options": request.storage or None,
        "rasterio_env_options": request.config,
        "layout": request.layout,
    }


def _on_threads(source: Source, request: Request) -> Any:
    workers = request.workers or CPU_COUNT
    # leaving the pool waits for tasks that still run
    with (
        ThreadPoolExecutor(workers) as pool,
        dask.config.set(num_workers=workers),
        _progress(request),
    ):
        return _delayed(source, request).compute(scheduler="threads", pool=pool)


def _on_cluster(source: Source, request: Request) -> Any:
    with _connect(str(request.scheduler)) as client, _progress(request, client):
        future = client.compute(_delayed(source, request))
        try:
            return future.result()
        except BaseException:
            # after cancel() the scheduler stumbles over a key that is released already
            future.release()
            wait_for_removal(str(future.key), client)
            raise


def _progress(request: Request, client: Any = None) -> AbstractContextManager[None]:
    return nullcontext() if request.quiet else progress(client)


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """The client that computes in the block."""
    try:
        from distributed import Client
    except ImportError as error:
        raise needs("--scheduler", "distributed") from error
    try:
        # not the default, which it would stay where it finds no scheduler
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise StoreError(f"no dask scheduler answers at {address}: {error}") from error
    with client, client.as_current():
        yield client
