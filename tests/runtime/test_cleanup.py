"""Nothing is left: failures, interruptions, killed workers and killed clients, on every scheduler."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import s3fs
from click.testing import CliRunner

import ccog
from ccog import errors
from ccog.cli import main
from ccog.graph.build import new_token
from ccog.runtime.begin import begin_write
from ccog.runtime.runs import Run, computation
from ccog.stores.local import LocalStore
from ccog.stores.s3 import S3Store
from conftest import TESTS, stored, terrain
from kills import CREATION, settle, source, until, write_and_kill

OPTIONS = {"blocksize": 256, "compress": "none"}


def no_pixels() -> Any:
    """The error of ``failing``, which must show."""
    return pytest.raises(RuntimeError, match="no pixels here")


def failing(height: int = 4096) -> da.Array:
    """Six blocks wide; the last block row fails when parts of the others are uploaded."""

    def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        if bottom == height:
            raise RuntimeError("no pixels here")
        return np.ones((bottom - top, right - left), "uint16") * top

    chunks = ((512,) * (height // 512), (4096,) * 3)
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


@pytest.fixture(params=["local", "s3"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """A target and its storage_options; whatever a test does, nothing may be left there."""
    if request.param == "local":
        yield tmp_path / "a.tif", None
        return
    options = request.getfixturevalue("s3_options")
    yield f"s3://test/cleanup/{tmp_path.name}.tif", options
    assert not ccog.list_incomplete("s3://test/cleanup", options)


def delayed(array: da.Array, target: tuple[Any, dict[str, Any] | None]) -> Any:
    return ccog.write_ccog(
        array, target[0], COG_creation_options=OPTIONS, storage_options=target[1]
    )


def left(target: tuple[Any, dict[str, Any] | None]) -> list[ccog.IncompleteUpload]:
    return ccog.list_incomplete(*target)


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
@pytest.mark.parametrize("optimize_graph", [True, False])
@pytest.mark.tried(
    "a chunk fails ({id}: optimize_graph, scheduler)", "its error is raised, and nothing is left"
)
def test_a_write_that_fails_on_a_local_scheduler_leaves_nothing(
    target: Any, scheduler: str, optimize_graph: bool
) -> None:
    how = {"scheduler": scheduler, "optimize_graph": optimize_graph}
    with no_pixels():
        dask.compute(delayed(failing(), target), **how)
    assert not left(target)
    with no_pixels():
        delayed(failing(), target).compute(**how)
    assert not left(target)


@pytest.mark.slow
@pytest.mark.tried(
    "a chunk fails with processes as the scheduler, to {id}",
    "its error is raised, and nothing is left",
)
def test_a_write_that_began_in_another_process_leaves_nothing(target: Any) -> None:
    with no_pixels():
        delayed(failing(), target).compute(scheduler="processes", num_workers=2)
    assert not left(target)


@pytest.mark.tried(
    "one of two writes that are computed together fails", "nothing of the failing one is left"
)
def test_of_two_writes_the_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    good = delayed(da.ones((600, 600), dtype="uint8", chunks=256), (tmp_path / "good.tif", None))
    bad = delayed(failing(), (tmp_path / "bad.tif", None))
    with no_pixels():
        dask.compute(good, bad, scheduler="threads", num_workers=1)
    assert {path.name for path in tmp_path.iterdir()} <= {"good.tif"}


@pytest.mark.tried("a pickled Delayed fails in another program", "nothing is left")
def test_a_pickled_delayed_cleans_up_too(tmp_path: Path) -> None:
    import cloudpickle

    script = "import sys, pickle, dask; dask.compute(pickle.load(open(sys.argv[1], 'rb')), scheduler='sync')"
    (tmp_path / "delayed").write_bytes(
        cloudpickle.dumps(delayed(failing(), (tmp_path / "a.tif", None)))
    )
    command = [sys.executable, "-c", script, tmp_path / "delayed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "no pixels here" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["delayed"]


@pytest.mark.slow
@pytest.mark.tried(
    "a chunk fails on a cluster, by compute, futures and dask.compute, to {id}",
    "its error is raised, and nothing is left",
    group="clusters",
)
def test_a_write_that_fails_on_a_cluster_leaves_nothing(client: Any, target: Any) -> None:
    with no_pixels():
        delayed(failing(), target).compute(scheduler=client)
    future = client.compute(delayed(failing(), target))
    with no_pixels():
        future.result()
    assert until(lambda: not left(target))
    with client.as_current(), no_pixels():
        delayed(failing(), target).compute()
    assert not left(target), "compute waits until the scheduler has cleaned up"
    with client.as_current(), no_pixels():
        dask.compute(delayed(failing(), target))
    assert until(lambda: not left(target))


@pytest.mark.parametrize("how", ["cancel", "release"])
@pytest.mark.tried(
    "the future of a write is dropped or cancelled while it runs ({id})",
    "nothing is left",
    group="clusters",
)
def test_cancelled_and_dropped_futures_leave_nothing(client: Any, target: Any, how: str) -> None:
    future = client.compute(delayed(source(), target))
    assert until(lambda: bool(left(target)))
    future.cancel() if how == "cancel" else future.release()
    assert until(lambda: not left(target))
    assert until(lambda: not any(client.processing().values()))
    assert not left(target)


@pytest.mark.tried(
    "a Delayed is computed twice on a cluster, fails in between, and again",
    "right, and nothing is left",
    group="clusters",
)
def test_a_delayed_is_computed_twice_on_a_cluster(client: Any, s3_options: dict[str, Any]) -> None:
    array = da.from_array(terrain((1, 600, 700)), chunks=256)
    twice = delayed(array, ("s3://test/cleanup/twice.tif", s3_options))
    results = [client.compute(twice).result() for _ in range(2)]
    assert results[0] == results[1]
    with no_pixels():
        client.compute(delayed(failing(), ("s3://test/cleanup/twice.tif", s3_options))).result()
    assert client.compute(twice).result() == results[0]
    assert until(lambda: not ccog.list_incomplete("s3://test/cleanup", s3_options))


@pytest.mark.slow
@pytest.mark.tried(
    "one of three workers is killed at random, three times, while they write to S3",
    "right: the file is the same, and nothing is left",
    group="clusters",
)
def test_killed_workers_do_not_harm_the_file(s3_options: dict[str, Any]) -> None:
    from distributed import Client, LocalCluster

    expected = ccog.write_ccog(source(), COG_creation_options=CREATION).compute(scheduler="threads")
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        chance = random.Random(0)
        for n in range(3):
            url = f"s3://test/killed/{n}.tif"
            write_and_kill(cluster, client, url, s3_options, 3, chance)
            assert stored(url, s3_options) == expected
            assert not ccog.list_incomplete("s3://test/killed", s3_options)
            settle(client, 3)


@pytest.mark.tried(
    "the client of a cluster is killed while a write runs", "nothing is left", group="clusters"
)
def test_a_killed_client_of_a_cluster_leaves_nothing(client: Any, tmp_path: Path) -> None:
    script = f"""
        import sys; sys.path.insert(0, {str(TESTS)!r})
        import ccog, distributed, kills
        client = distributed.Client({client.scheduler.address!r})
        ccog.write_ccog(kills.source(), {str(tmp_path / "a.tif")!r}).compute()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)]) as process:
        assert until(lambda: any(tmp_path.iterdir()))
        process.send_signal(signal.SIGKILL)
    assert until(lambda: not any(tmp_path.iterdir()), 60)


@pytest.mark.tried(
    "what a killed process has left, on {id}",
    "`ccog uploads list` shows it, and `ccog uploads abort` removes it",
)
def test_what_a_killed_process_left_is_listed_and_removed(target: Any) -> None:
    store = ccog.stores.resolve_store(*target)
    session = store.begin(new_token())
    store.put(session, 2, [b"x"])
    (found,) = left(target)
    assert (found.url, found.upload_id) == (str(target[0]), session)
    assert not ccog.abort_incomplete(*target, older_than=ccog.stores.incomplete.timedelta(hours=1))
    given = [f"--storage-option={key}={value}" for key, value in (target[1] or {}).items()]
    folder = str(target[0]).rsplit("/", 1)[0]
    listed = CliRunner().invoke(main, ["uploads", "list", folder, *given])
    assert (listed.exit_code, listed.output.count("\n")) == (0, 1)
    assert f"{target[0]} {session}" in listed.output
    abort = ["uploads", "abort", folder, *given]
    asked = CliRunner().invoke(main, abort, input="n\n")
    assert (asked.exit_code, len(left(target))) == (1, 1)
    assert "Remove 1 upload?" in asked.output
    aborted = CliRunner().invoke(main, [*abort, "--yes"])
    assert aborted.output == f"removed {listed.output}"
    assert not left(target)
    with pytest.raises(errors.StoreNotFoundError):
        store.put(session, 3, [b"y"])


@pytest.mark.tried(
    "`ccog uploads abort` where another program uploads too",
    "the other upload stays, unless --all is given",
)
def test_uploads_of_others_stay_unless_all_are_wanted(s3_options: dict[str, Any]) -> None:
    url = "s3://test/shared/a.tif"
    store = ccog.stores.resolve_store(url, s3_options)
    mine = store.begin(new_token())
    s3 = s3fs.S3FileSystem(**s3_options, skip_instance_cache=True)
    theirs = s3.call_s3("create_multipart_upload", Bucket="test", Key="shared/b.tif")["UploadId"]
    s3.call_s3("upload_part", Bucket="test", Key="shared/b.tif", UploadId=theirs, PartNumber=1, Body=b"x" * 99)  # fmt: skip
    given = ["s3://test/shared/", *(f"--storage-option={k}={v}" for k, v in s3_options.items())]
    removed = CliRunner().invoke(main, ["uploads", "abort", "--yes", *given])
    assert mine in removed.stdout
    assert theirs not in removed.stdout
    assert "1 upload not begun by ccog left" in removed.stderr
    listed = CliRunner().invoke(main, ["uploads", "list", *given])
    assert f"{theirs} (not known to be ccog's)" in listed.stdout
    assert theirs in CliRunner().invoke(main, ["uploads", "abort", "-y", "--all", *given]).stdout
    assert not ccog.list_incomplete("s3://test/shared/", s3_options)


@pytest.mark.parametrize("command", ["list", "abort"])
@pytest.mark.tried(
    "`ccog uploads {command}` of a file, bucket or prefix that is not there", "refused, by name"
)
def test_uploads_to_what_does_not_exist_are_an_error(
    command: str, s3_options: dict[str, Any], tmp_path: Path
) -> None:
    given = [f"--storage-option={key}={value}" for key, value in s3_options.items()]
    places = (
        [str(tmp_path / "absent.tif")],
        ["s3://test/absent/", *given],
        ["s3://absent", *given],
    )
    for place in places:
        done = CliRunner().invoke(main, ["uploads", command, *place])
        assert (done.exit_code, done.stdout) == (1, "")
        assert "does not exist" in done.stderr
    (tmp_path / "there.tif").touch()
    done = CliRunner().invoke(main, ["uploads", command, str(tmp_path / "there.tif")])
    nothing = {"list": "", "abort": "nothing to remove\n"}[command]
    assert (done.exit_code, done.output) == (0, nothing)


def begins(store: LocalStore, name: str) -> Any:
    """The task that begins a run of a write."""
    return begin_write(store, f"ccog_finish-{name}", Run.here(name))


@pytest.mark.tried("an interruption while a write begins", "nothing is left")
def test_an_interruption_while_a_write_begins_leaves_nothing(tmp_path: Path) -> None:
    """The computation ends while the task that begins the write still runs in its thread."""
    interrupted, begun = threading.Event(), threading.Event()

    class SlowStore(LocalStore):
        def begin(self, write: str, unanswered: float = 0.0) -> str:
            found = super().begin(write, unanswered)
            begun.set()
            assert interrupted.wait(30)
            return found

    def interrupt(pool: ThreadPoolExecutor, store: LocalStore) -> None:
        with computation("ccog_finish-slow") as run:
            beginning.append(pool.submit(begins, store, run.name))
            assert begun.wait(30)
            threading.Timer(0.2, interrupted.set).start()
            raise KeyboardInterrupt

    beginning: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            interrupt(pool, SlowStore(str(tmp_path / "a.tif")))
        assert not any(tmp_path.iterdir())
        with pytest.raises(errors.StoreError, match="given up"):
            beginning[0].result()


@pytest.mark.tried(
    "an interruption when a write has just begun, before dask hears of it",
    "right: nothing is left",
)
def test_an_upload_that_nobody_holds_any_more_is_removed(tmp_path: Path) -> None:
    begun = begins(LocalStore(str(tmp_path / "a.tif")), "heard")
    copy = pickle.loads(pickle.dumps(begun))
    assert any(tmp_path.iterdir())
    del begun
    assert any(tmp_path.iterdir())
    del copy
    assert not any(tmp_path.iterdir())


def test_a_copy_in_another_process_removes_nothing(tmp_path: Path) -> None:
    begun = begins(LocalStore(str(tmp_path / "a.tif")), "copied")
    script = "import sys, pickle; copy = pickle.load(sys.stdin.buffer); del copy"
    subprocess.run([sys.executable, "-c", script], input=pickle.dumps(begun), check=True)
    assert any(tmp_path.iterdir())
    del begun


def test_an_upload_is_removed_at_the_latest_when_the_process_ends(tmp_path: Path) -> None:
    script = f"""
        import ccog, threading
        from ccog.runtime.runs import Run, begin_run
        from ccog.stores.local import LocalStore
        kept = begin_run(Run.here("0" * 32), LocalStore({str(tmp_path / "a.tif")!r}), "0" * 32)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.tried("a write that could not begin is computed again", "right")
def test_a_write_that_could_not_begin_can_be_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writing = ccog.write_ccog(np.ones((300, 300), "uint8"), folder / "a.tif")
    folder.rmdir()
    for _ in range(2):
        with pytest.raises(errors.StoreNotFoundError):
            writing.compute()
    folder.mkdir()
    assert writing.compute().size


def test_secrets_stay_out_of_sight(s3_options: dict[str, Any]) -> None:
    store = S3Store("test", "a.tif", s3_options | {"token": "verysecrettoken"})
    env = {"GS_SECRET_ACCESS_KEY": "envsecret"}
    found = ccog.write_ccog(
        np.ones((300, 300), "uint8"),
        "s3://test/a.tif",
        storage_options=store.options,
        rasterio_env_options=env,
    )
    seen = [repr(store), repr(found), *(f"{key!r} {task!r}" for key, task in found.dask.items())]
    assert not any(
        secret in text for text in seen for secret in ("testsecret", "verysecret", "envsecret")
    )
    assert pickle.loads(pickle.dumps(store)) == store


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("cluster", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.tried(
    "Ctrl-C while `ccog demo` uploads to S3 (on a cluster: {cluster})",
    "nothing is left, exit code 130",
)
def test_an_interrupted_command_leaves_no_upload(
    request: pytest.FixtureRequest, s3_options: dict[str, Any], cluster: bool
) -> None:
    options = [f"--storage-option={key}={value}" for key, value in s3_options.items()]
    if cluster:
        options += ["--scheduler", request.getfixturevalue("client").scheduler.address]
    url = f"s3://test/interrupted/{cluster}.tif"
    # a runner in the background may have had interruptions ignored
    run = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ccog.cli import main; main()"
    command = [sys.executable, "-c", run, "demo", url, "--co=COMPRESS=NONE", *options]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert until(lambda: bool(ccog.list_incomplete(url, s3_options)))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not ccog.list_incomplete(url, s3_options)
