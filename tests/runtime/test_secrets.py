"""No credential is shown: not in logs of any level, not on the dashboard, not in errors, warnings or reprs."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import pickle
import re
import signal
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner
from test_cleanup import failing, no_pixels

import ccog
from ccog.cli import main
from ccog.geometry.parts import Part
from ccog.input.opening import open_source
from ccog.stores.retry import Patience
from conftest import TESTS, gdal_cog, terrain
from faults import Fault, proxied
from kills import CHUNK, CREATION, pixels, until
from range_server import range_server_apart
from servers import AZURE_KEY, KEY, SECRET

TOKEN, ENV_SECRET = "verysecrettoken/123+4", "envuser:envsecret"
SECRETS = (KEY, SECRET, TOKEN, ENV_SECRET, "envsecret")

# what users are told to do about the loggers of other libraries
QUIET = re.search(
    r"```python\n(import logging\n.*?)```", (TESTS.parent / "docs/uploads.md").read_text(), re.S
)[1]  # type: ignore[index]

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
{quiet}
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
    preload.write_text(_PRELOAD.format(folder=str(folder), quiet=QUIET))
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


def _named_in(code: str) -> list[str]:
    return re.findall(r'"(\w+)"', code)


@contextlib.contextmanager
def _logging_everything(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    names = ["distributed", *(n for n in root.manager.loggerDict if n.startswith("distributed."))]
    loggers = [logging.getLogger(name) for name in (*names, *_named_in(QUIET))]
    before = [(logger, logger.level, logger.propagate) for logger in [root, *loggers]]
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    exec(QUIET)
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
    "All that ccog and dask log at any level, other libraries as the docs say, and the pages of the dashboard, searched for the credentials of writes that "
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


def _after_a_journey(error: BaseException) -> list[str]:
    """What is sent of an error to another process, and what it shows there."""
    import distributed.core  # noqa: F401  # which has causes and notes of errors sent, too

    travelling = pickle.dumps(error)
    try:
        arrived = pickle.loads(travelling)
    except AttributeError:
        # as distributed does of GDAL's errors, which nobody can unpickle
        arrived = Exception(repr(error))
    return [
        repr(travelling),
        *traceback.format_exception(arrived),
        *map(repr, _links(arrived)),
        *locals_of(arrived),
    ]


def _links(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all behind it, also what no traceback shows."""
    while error is not None:
        yield error
        if error.__cause__ is not None and error.__context__ is not error.__cause__:
            yield from _links(error.__context__)
        error = error.__cause__ or error.__context__


def locals_of(error: BaseException) -> list[str]:
    """What tracebacks with local variables show of ours and other libraries' frames."""
    return [
        f"{frame.f_code.co_filename}:{number} {name} = {_as_sentry_has_it(value)}"
        for link in _links(error)
        for frame, number in traceback.walk_tb(link.__traceback__)
        if Path(frame.f_code.co_filename) != Path(__file__)
        for name, value in frame.f_locals.items()
    ]


def _as_sentry_has_it(value: Any, depth: int = 0) -> str:
    """Sentry goes through mappings and sequences, unless a type says how it is shown."""
    shown = getattr(type(value), "__sentry_repr__", None)
    if shown is not None or depth > 5:
        return str(shown(value)) if shown else "..."
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (f"{key}: {_as_sentry_has_it(each, depth + 1)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(_as_sentry_has_it(each, depth + 1) for each in value)}]"
    try:
        return repr(value)
    except Exception as error:
        return f"<{error}>"


@pytest.mark.parametrize(
    ("url", "options", "secret"),
    [
        ("ftp://user:ftpsecret@127.0.0.1:1/a.tif", {}, "ftpsecret"),
        ("ftp://user:ftp@atsecret@127.0.0.1:1/a.tif", {}, "atsecret"),
        ("https://test/a.tif?X-Amz-Signature=abcdefgh", {}, "abcdefgh"),
        ("s3://key:s3secret@test/a.tif", {}, "s3secret"),
        ("ftp://user:pa'ftpsecret@127.0.0.1:1/a.tif", {}, "ftpsecret"),
        ("ftp://user:(ftp'secret)!$&*+,;=:@127.0.0.1:1/a.tif", {}, "ftp'secret"),
        ("ftp://user:pa%27ftpsecret@127.0.0.1:1/a.tif", {}, "ftpsecret"),
        ("http://h/o'brien/a.tif?X-Amz-Signature=abcdefgh", {}, "abcdefgh"),
        ("s3://key:pa's/secret@test/a.tif", {}, "s/secret"),
        ("simplecache::ftp://user:pa'ftpsecret@127.0.0.1:1/a.tif", {}, "ftpsecret"),
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
    caplog.set_level(logging.DEBUG, "ccog")
    texts: list[str] = []

    def write() -> None:
        delayed = ccog.write_ccog(np.ones((300, 300), "uint8"), url, storage_options=options)
        texts.extend((repr(delayed), repr(delayed.dask.to_dict())))
        delayed.compute(scheduler="sync")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patience, "seconds", property(lambda self: 0.5))
        with pytest.raises(ccog.errors.CCOGError) as raised:
            write()
    texts += [
        *traceback.format_exception(raised.value),
        repr(raised.value),
        *locals_of(raised.value),
    ]
    texts += [caplog.text, *_after_a_journey(raised.value)]
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


# calls of a store, each of which is refused or not answered
_CALLS: dict[str, Callable[[Any], Any]] = {
    "check": lambda store: store.check(),
    "begin": lambda store: store.begin("0" * 32),
    "put": lambda store: store.put("upload", 1, [b"1"]),
    "stored_parts": lambda store: store.stored_parts("upload", 1, 1),
    "complete": lambda store: store.complete("upload", [Part(1, 1, "0" * 32)], "0" * 32),
    "abort": lambda store: store.abort("upload"),
    "incomplete": lambda store: store.incomplete(),
    "save_checkpoint": lambda store: store.save_checkpoint("upload", "name", b"1"),
    "load_checkpoint": lambda store: store.load_checkpoint("upload", "name"),
    "checkpoint_names": lambda store: store.checkpoint_names("upload"),
    "remove_checkpoints": lambda store: store.remove_checkpoints("upload"),
    "write": lambda store: store.write([b"1"]),
}

_HIDDEN_SECRET = "sEcret/of'options"
_NOWHERE = "http://127.0.0.1:1"
_KEYS = {"key": "k3ysEcret", "secret": _HIDDEN_SECRET, "token": _HIDDEN_SECRET}
_ACCOUNT = {"account_name": "a", "account_key": base64.b64encode(b"sEcret").decode()}


@pytest.mark.tried(
    "Every call of every store is refused, and the traceback is shown with the local variables of all frames",
    "right: no key, token or password is in it",
)
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://test/a.tif", _KEYS),
        ("s3://test/a.tif", _KEYS | {"endpoint_url": _NOWHERE}),
        ("s3://test/a.tif", _KEYS | {"config_kwargs": {"proxies": {"http": f"http://u:{_HIDDEN_SECRET}@127.0.0.1:1"}}}),
        ("s3://test/a.tif", _KEYS | {"config_kwargs": {"unknown": 1}}),
        ("gs://test/a.tif", _KEYS | {"endpoint_url": _NOWHERE}),
        ("gs://test/a.tif", {"token": _HIDDEN_SECRET}),
        ("az://test/a.tif", _ACCOUNT | {"connection_string": f"BlobEndpoint={_NOWHERE};SharedAccessSignature={_HIDDEN_SECRET}"}),
        ("ftp://user:sEcret'of@127.0.0.1:1/a.tif", {"password": _HIDDEN_SECRET}),
        # whose package is not installed
        ("smb://user:sEcret'of@127.0.0.1:1/share/a.tif", {"password": _HIDDEN_SECRET}),
    ],
    ids=["s3", "s3-silent", "s3-proxy", "s3-config", "gs-hmac", "gs", "az", "ftp", "smb"],
)  # fmt: skip
def test_no_frame_of_a_store_shows_what_is_secret(
    url: str, options: dict[str, Any], s3_options: dict[str, Any]
) -> None:
    if "endpoint_url" not in options and url.startswith("s3:"):
        options = options | {"endpoint_url": s3_options["endpoint_url"]}
    store = ccog.stores.resolve_store(url, options, overwrite=False)
    refused = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patience, "seconds", property(lambda self: 0.0))
        for name, call in _CALLS.items():
            try:
                call(store)
            except Exception as error:
                _assert_nothing_shown(error)
                refused.append(name)
    assert "check" in refused


def _assert_nothing_shown(error: Exception) -> None:
    texts = [*locals_of(error), *traceback.format_exception(error), repr(error)]
    with contextlib.suppress(ImportError):
        from rich.console import Console
        from rich.traceback import Traceback

        console = Console(file=io.StringIO(), width=400)
        # without the frames of this test
        behind = error.__traceback__
        while behind and behind.tb_frame.f_code.co_filename == __file__:
            behind = behind.tb_next
        console.print(Traceback.from_exception(type(error), error, behind, show_locals=True))
        texts.append(console.file.getvalue())  # type: ignore[attr-defined]
    found = [text[:400] for text in texts if "sEcret" in text]
    assert not found


@pytest.mark.tried(
    "A task fails on a worker, and the traceback is shown there and in the client with the local variables of all frames",
    "right: no key, token or password is in it",
)
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://test/a.tif", {**_KEYS, "endpoint_url": _NOWHERE}),
        ("ftp://user:sEcret'of@127.0.0.1:1/a.tif", {"timeout": 1}),
    ],
)
def test_no_frame_of_a_task_shows_what_is_secret(
    url: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed.worker
    from distributed import Client, LocalCluster

    seen_there: list[BaseException] = []
    message = distributed.worker.error_message

    def kept(error: BaseException, *args: Any) -> Any:
        seen_there.append(error)
        return message(error, *args)

    monkeypatch.setattr(distributed.worker, "error_message", kept)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 0.0))
    monkeypatch.setattr(ccog.stores.generic.FsspecStore, "check", lambda self: None)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        future = client.compute(_written_to(url, options))
        with pytest.raises(ccog.errors.StoreError) as raised:
            future.result(timeout=60)
    assert seen_there
    for error in (raised.value, *seen_there):
        assert isinstance(error, Exception)
        _assert_nothing_shown(error)


def _written_to(url: str, options: dict[str, Any]) -> Any:
    return ccog.write_ccog(
        np.ones((300, 300), "uint8"),
        url,
        storage_options=options,
        rasterio_env_options={"GDAL_HTTP_USERPWD": "user:sEcret"},
    )


@pytest.mark.tried(
    "A source whose presigned URL has apostrophes: plan, page of a notebook, graph, result, inspect, validate, "
    "commands, and the errors when it is gone",
    "right: the signature is nowhere",
)
def test_a_source_with_apostrophes_is_named_without_its_signature(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "o'brien's"
    folder.mkdir()
    (folder / "f.tif").write_bytes(gdal_cog(terrain((1, 300, 300)), {"compress": "deflate"}))
    query = "X-Amz-Credential='me'&X-Amz-Signature=sEcret'(1)"
    texts = []
    with range_server_apart(tmp_path) as server:
        url, gone = (f"{server.url}/o'brien's/{name}.tif?{query}" for name in ("f", "gone"))
        plan = ccog.plan(url, str(tmp_path / "a.tif"))
        delayed = ccog.write_ccog(url, str(tmp_path / "a.tif"))
        texts += [str(plan), repr(plan), plan._repr_html_(), repr(delayed), delayed._repr_html_()]
        texts += [repr(delayed.dask.to_dict()), repr(delayed.dask.layers), repr(delayed.compute())]
        for look in (ccog.inspect(url), ccog.validate(url)):
            texts += [str(look), repr(look), look._repr_html_()]
        for fail in (ccog.plan, ccog.write_ccog, ccog.inspect, ccog.validate, open_source):
            with pytest.raises(ccog.errors.CCOGError) as raised:
                fail(gone)
            _assert_nothing_shown(raised.value)
            texts += [str(raised.value), *_after_a_journey(raised.value)]
        commands = [
            ["create", each, str(tmp_path / "b.tif"), "--overwrite"] for each in (url, gone)
        ]
        commands += [[name, each] for each in (url, gone) for name in ("inspect", "validate")]
        for command in commands:
            texts.append(CliRunner().invoke(main, command).output)
    assert "o'brien's/f.tif?***" in "".join(texts), "the texts hold what they are searched for"
    assert "o'brien's/gone.tif?***" in texts[-1]
    assert not [text[:300] for text in texts if "sEcret" in text]


@pytest.mark.tried(
    "A write by web identity with everything logged at DEBUG, but what users are told to quieten",
    "right: no key, session token or identity token is logged",
)
@pytest.mark.parametrize("quiet", [True, False])
def test_web_identity_is_logged_by_botocore_unless_it_is_told_not_to(
    quiet: bool, moto_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = "1dentityT0ken.of.this.worker"
    (tmp_path / "token").write_text(identity)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/writer")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_options["endpoint_url"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # of its own, so that fsspec keeps no file system of another test
    options = {
        "endpoint_url": moto_options["endpoint_url"],
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"user_agent_extra": f"quiet-{quiet}"},
    }
    log = tmp_path / "all.log"
    with _logging_everything(log):
        if not quiet:
            for name in _named_in(QUIET):
                logging.getLogger(name).setLevel(logging.NOTSET)
        delayed = ccog.write_ccog(
            np.ones((300, 300), "uint8"), "s3://test/web-identity.tif", storage_options=options
        )
        assert delayed.compute(scheduler="sync").size
    logged = log.read_text()
    assert (identity in logged) != quiet
    assert ("SecretAccessKey" in logged) != quiet
    assert ("x-amz-security-token" in logged.lower()) != quiet
