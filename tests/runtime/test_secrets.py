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
from test_cleanup import failing, no_pixels

import ccog
from ccog.input.opening import open_source
from ccog.stores.retry import Patience
from conftest import gdal_cog, terrain
from faults import Fault, proxied
from kills import CHUNK, CREATION, pixels, until
from range_server import range_server_apart
from servers import AZURE_KEY, KEY, SECRET

TOKEN, ENV_SECRET = "verysecrettoken/123+4", "envuser:envsecret"
SECRETS = (KEY, SECRET, TOKEN, ENV_SECRET, "envsecret")

# every process of the cluster keeps all that anybody logs in it
_PRELOAD = """
import logging, os

handler = logging.FileHandler({folder!r} + f"/worker-{{os.getpid()}}.log")
handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
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
        kept = [
            self.client.get_worker_logs(),
            self.client.get_scheduler_logs(),
            self.client.get_events(),
        ]
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
    preload.write_text(_PRELOAD.format(folder=str(folder)))
    with (
        _logging_everything(folder / "scheduler-and-client.log"),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            preload=[str(preload)],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Seen(client, cluster, folder, [])


@contextlib.contextmanager
def _logging_everything(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
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
@pytest.mark.slow
def test_no_log_or_page_of_a_cluster_shows_credentials(
    seen: Seen, s3_options: dict[str, Any]
) -> None:
    with proxied(s3_options) as (proxy, options):

        def write(array: da.Array, name: str, options: dict[str, Any] = options) -> Any:
            delayed = ccog.write_ccog(
                array,
                f"s3://test/secrets/{name}.tif",
                COG_creation_options=CREATION,
                storage_options=options,
                rasterio_env_options={"GDAL_HTTP_USERPWD": ENV_SECRET},
            )
            seen.keep(delayed, delayed.dask, *delayed.dask.layers.values())
            seen.keep(*delayed.dask.to_dict().items())
            return seen.client.compute(delayed)

        seen.keep(write(slow(), "good").result(timeout=60))
        # this server knows no session tokens
        with pytest.raises(ccog.errors.StorePermissionError, match="InvalidAccessKeyId") as raised:
            write(slow(), "token", options | {"token": TOKEN}).result(timeout=60)
        seen.keep(raised.value)
        proxy.arm(Fault("403", "abort", times=1 << 30))
        future = write(failing(2048), "denied")
        with no_pixels() as raised:
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
    return da.map_blocks(
        pixels, chunks=((CHUNK,) * 2, (CHUNK,) * 4), dtype="uint16", meta=np.empty((0, 0), "uint16")
    )


def _removals(dask_scheduler: Any) -> int:
    return len(dask_scheduler.plugins["ccog"].uploads.removals)


@pytest.mark.tried(
    "A source behind a presigned URL, read by a cluster until the URL fails; logs, pages and errors searched",
    "right: the signature is nowhere",
)
def test_a_presigned_source_is_read_without_showing_its_signature(
    seen: Seen, tmp_path: Path
) -> None:
    signature = "5ignature0f4presignedUrl"
    for name in ("good", "gone"):
        pixels = gdal_cog(terrain((1, 1500, 1500)), {"compress": "deflate"})
        (tmp_path / f"{name}.tif").write_bytes(pixels)
    with range_server_apart(tmp_path) as server:
        query = f"X-Amz-Credential=x&X-Amz-Signature={signature}"
        futures = []
        for name in ("good", "gone"):
            opened = open_source(f"{server.url}/{name}.tif?{query}", 512)
            delayed = ccog.write_ccog(opened.array, str(tmp_path / f"out-{name}.tif"))
            seen.keep(opened, opened.array, delayed, delayed.dask, *delayed.dask.to_dict().items())
            if name == "gone":
                (tmp_path / "gone.tif").unlink()
            futures.append(seen.client.compute(delayed))
        seen.keep(futures[0].result(timeout=60))
        missing = f"{server.url}/missing.tif?{query}"
        for fail in (
            lambda: futures[1].result(timeout=60),
            lambda: open_source(missing),
            lambda: ccog.inspect(missing),
        ):
            with pytest.raises(ccog.errors.StoreError, match=r"\.tif\?\*\*\*") as raised:
                fail()
            seen.keep(raised.value)
        text = seen.all()
    assert "gone.tif?***" in text, "the logs hold what they are searched for"
    assert not shown(text, (signature,))


@pytest.mark.parametrize(
    ("url", "options", "secret"),
    [
        ("ftp://user:ftpsecret@127.0.0.1:1/a.tif", {}, "ftpsecret"),
        ("ftp://user:ftp@atsecret@127.0.0.1:1/a.tif", {}, "atsecret"),
        ("https://test/a.tif?X-Amz-Signature=abcdefgh", {}, "abcdefgh"),
        ("s3://key:s3secret@test/a.tif", {}, "s3secret"),
        ("az://test/a.tif?sv=1&sig=sassecret", {}, "sassecret"),
        ("az://test/a.tif", {"connection_string": "AccountName=a;AccountKey=notbase64"}, "notbase64"),
        ("gs://test/a.tif", {"token": "ya29.gcssecret"}, "gcssecret"),
        ("s3://test/a.tif", {"key": "s3key", "secret": "s3secret", "token": "s3token",
                             "endpoint_url": "http://user:s3secret@127.0.0.1:1"}, "s3secret"),
    ],
)  # fmt: skip
@pytest.mark.tried(
    "Targets that refuse or do not answer, with a password or signature in the URL or in storage_options",
    "refused: the message holds neither",
)
def test_a_refused_target_is_named_without_its_credentials(
    url: str, options: dict[str, Any], secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []

    def write() -> None:
        delayed = ccog.write_ccog(np.ones((300, 300), "uint8"), url, storage_options=options)
        texts.extend((repr(delayed), repr(delayed.dask.to_dict())))
        delayed.compute(scheduler="sync")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patience, "seconds", property(lambda self: 0.5))
        with pytest.raises(ccog.errors.CCOGError) as raised:
            write()
    texts += [*traceback.format_exception(raised.value), repr(raised.value)]
    texts.append(caplog.text)
    assert "a.tif" in str(raised.value)
    assert not shown("\n".join(texts), (secret,))


def test_azure_refuses_without_showing_the_key(azure_options: dict[str, Any]) -> None:
    key = base64.b64encode(b"a key that is not right").decode()
    wrong = azure_options["connection_string"].replace(AZURE_KEY, key)
    delayed = ccog.write_ccog(
        np.ones((300, 300), "uint8"),
        "az://test/a.tif",
        storage_options=azure_options | {"connection_string": wrong},
    )
    with pytest.raises(ccog.errors.StorePermissionError) as raised:
        delayed.compute(scheduler="sync")
    texts = [*traceback.format_exception(raised.value), repr(delayed.dask.to_dict())]
    assert not shown("\n".join(texts), (key,))


def test_a_result_names_its_url_without_the_password() -> None:
    store = ccog.stores.resolve_store("ftp://user:ftpsecret@host/a.tif", {"timeout": 1})
    assert repr(store) == "FsspecStore('ftp://user:***@host/a.tif')"
    assert store.url == "ftp://user:***@host/a.tif"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/key.tif", "s3://bucket/key.tif"),
        ("ftp://u:p@h/x.tif: refused", "ftp://u:***@h/x.tif: refused"),
        ("ftp://u:p:q@r@h:21/x", "ftp://u:***@h:21/x"),
        ("ftp://u@h/x", "ftp://u@h/x"),
        ("simplecache::sftp://u:p@h/x", "simplecache::sftp://u:***@h/x"),
        (
            "'/vsicurl/https://h/a.tif?X-Amz-Signature=1&b=2' failed",
            "'/vsicurl/https://h/a.tif?***' failed",
        ),
        ("/vsicurl?url=https%3A%2F%2Fh%3Fsig%3D1", "/vsicurl?***"),
        (
            "'X-Amz-Security-Token': b'abc/d', 'Host': 'h'",
            "'X-Amz-Security-Token': b'***', 'Host': 'h'",
        ),
        ("x-amz-security-token:abc\nx-amz-date:1", "x-amz-security-token:***\nx-amz-date:1"),
        ("is a.tif there? yes", "is a.tif there? yes"),
        (
            'cannot connect to "https://user:pw@host:9/bucket/key.tif?sig=secret&se=1" (again)',
            'cannot connect to "https://user:***@host:9/bucket/key.tif?***" (again)',
        ),
        (
            "abfs://container@account.dfs.core.windows.net/a.tif",
            "abfs://container@account.dfs.core.windows.net/a.tif",
        ),
    ],
)
def test_what_is_shown_of_a_url(text: str, expected: str) -> None:
    from ccog.redaction import redacted

    assert redacted(text) == expected
