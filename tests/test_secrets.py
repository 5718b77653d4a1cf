"""No credential is shown: not in logs of any level, not on the dashboard, not in errors, warnings or reprs."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import signal
import time
import traceback
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dask.array as da
import numpy as np
import pytest

import ccog
from faults import Fault, proxied
from kills import CHUNK, CREATION, pixels
from servers import KEY, SECRET
from test_cleanup import failing, until

TOKEN, ENV_SECRET = "verysecrettoken/123+4", "envuser:envsecret"
SECRETS = (SECRET, TOKEN, ENV_SECRET, "envsecret")

# botocore logs what it sends, the session token among it, at DEBUG: a wire log that a user asks for by name
WIRE_LOGS = ("botocore", "aiobotocore")

# every process of the cluster keeps all that anybody logs in it
_PRELOAD = """
import logging, os

handler = logging.FileHandler({folder!r} + f"/worker-{{os.getpid()}}.log")
handler.addFilter(lambda record: not record.name.startswith({wire!r}))
logging.captureWarnings(True)
logging.getLogger().setLevel(logging.DEBUG)
logging.getLogger().addHandler(handler)
for name in ["distributed", *logging.root.manager.loggerDict]:
    logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger(name).propagate = True
"""


@dataclass
class Seen:
    """A cluster all of whose texts are kept: logs of every level, pages, errors, reprs."""

    client: Any
    cluster: Any
    folder: Path
    texts: list[str]

    def keep(self, *values: object) -> None:
        """Keep what a person would see of these."""
        for value in values:
            self.texts.append(repr(value))
            self.texts.append(str(value))
            if isinstance(value, BaseException):
                self.texts.extend(traceback.format_exception(value))

    def all(self) -> str:
        """Everything by now."""
        time.sleep(0.2)
        logs = [path.read_text() for path in self.folder.glob("*.log")]
        kept = [self.client.get_worker_logs(), self.client.get_scheduler_logs(), self.client.get_events()]
        return "\n".join([*logs, *map(repr, kept), *self._pages(), *self.texts])

    def _pages(self) -> Iterator[str]:
        scheduler = self.cluster.scheduler
        base = f"http://127.0.0.1:{scheduler.http_server.port}"
        names = ["main/workers", "main/logs", "main/exceptions"]
        names += [f"{kind}/{quote(address, safe='')}" for kind in ("worker", "logs", "call-stacks")
                  for address in scheduler.workers]  # fmt: skip
        names += [f"task/{quote(str(key), safe='')}" for key in scheduler.tasks]
        for name in names:
            with urllib.request.urlopen(f"{base}/info/{name}.html") as page:
                yield page.read().decode()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    from distributed import Client, LocalCluster

    folder = tmp_path_factory.mktemp("logs")
    preload = folder / "preload.py"
    preload.write_text(_PRELOAD.format(folder=str(folder), wire=WIRE_LOGS))
    with (
        _logging_everything(folder / "scheduler-and-client.log"),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", preload=[str(preload)]
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Seen(client, cluster, folder, [])


@contextlib.contextmanager
def _logging_everything(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.addFilter(lambda record: not record.name.startswith(WIRE_LOGS))
    root = logging.getLogger()
    names = ["distributed", *(n for n in root.manager.loggerDict if n.startswith("distributed."))]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, logger.propagate) for logger in [root, *loggers]]
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


def forms(secret: str) -> set[str]:
    """A secret as it is, as base64 and as part of a URL."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, encoded.rstrip("="), quote(secret, safe="")}


def shown(text: str, secrets: tuple[str, ...]) -> list[str]:
    """The secrets that occur, each with what is around it."""
    found = []
    for form in sorted(form for secret in secrets for form in forms(secret)):
        at = text.find(form)
        if at >= 0:
            found.append(f"{form}: ...{text[max(0, at - 300) : at + 100]}")
    return found


@pytest.mark.tried(
    "All that is logged at any level, and the pages of the dashboard, searched for the credentials of writes that "
    "succeed, fail with an abort that is denied, are cancelled, and lose a worker",
    "right: none is there",
)
def test_no_log_or_page_of_a_cluster_shows_credentials(seen: Seen, s3_options: dict[str, Any]) -> None:
    with proxied(s3_options) as (proxy, options):

        def write(array: da.Array, name: str, options: dict[str, Any] = options) -> Any:
            delayed = ccog.write_ccog(
                array,
                f"s3://test/secrets/{name}.tif",
                COG_creation_options=CREATION,
                storage_options=options,
                rasterio_env_options={"GDAL_HTTP_USERPWD": ENV_SECRET},
            )
            seen.keep(delayed, delayed.dask, *delayed.dask.layers.values(), *delayed.dask.to_dict().items())
            return seen.client.compute(delayed)

        seen.keep(write(slow(), "good").result(timeout=60))
        # this server knows no session tokens
        with pytest.raises(ccog.errors.StorePermissionError, match="InvalidAccessKeyId") as raised:
            write(slow(), "token", options | {"token": TOKEN}).result(timeout=60)
        seen.keep(raised.value)
        proxy.arm(Fault("403", "abort", times=1 << 30))
        future = write(failing(2048), "denied")
        with pytest.raises(RuntimeError, match="no pixels here") as raised:
            future.result(timeout=60)
        seen.keep(raised.value)
        assert until(lambda: proxy.hits >= 3), "the workers and the scheduler have tried to abort"
        proxy.arm(proxy.fault)
        future = write(slow(), "cancelled")
        assert until(lambda: proxy.calls["create"] > 0)
        future.cancel()
        assert until(lambda: not seen.client.run_on_scheduler(_removals))
        proxy.arm(None)  # which counts from zero again
        future = write(slow(), "killed")
        assert until(lambda: proxy.calls["create"] > 0)
        os.kill(next(iter(seen.cluster.workers.values())).pid, signal.SIGKILL)
        seen.keep(future.result(timeout=60), future)
        text = seen.all()
    for url in ("s3://test/secrets/denied.tif", "AccessDenied", "ccog_keep", "ccog_announce"):
        assert url in text, "the logs hold what they are searched for"
    assert not shown(text, SECRETS)
    ccog.abort_incomplete("s3://test/secrets", s3_options)


def slow() -> da.Array:
    """Eight blocks of noise, made slowly enough to be interrupted."""
    return da.map_blocks(pixels, chunks=((CHUNK,) * 2, (CHUNK,) * 4), dtype="uint16", meta=np.empty((0, 0), "uint16"))


def _removals(dask_scheduler: Any) -> int:
    return len(dask_scheduler.plugins["ccog-uploads"]._removals)
