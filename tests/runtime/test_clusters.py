"""Where tasks run, and who asks: pool threads of workers that die, asynchronous clients, schedulers inside of tasks."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph
from test_cleanup import failing, no_pixels

import ccog
from ccog import errors
from ccog.graph.computing import WriteLayer
from ccog.stores.local import LocalStore
from ccog.stores.s3 import S3Store
from conftest import stored, terrain
from kills import CREATION, until

# rows of two blocks with 12 MiB of noise: two parts of S3, put by threads of a pool
SHAPE, CHUNKS = (2048, 6144), (1024, 3072)


def noise() -> da.Array:
    """The same at each computation, from seeds of its own."""

    def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        rng = np.random.default_rng(top * 10_007 + left)
        return rng.integers(0, 60000, (bottom - top, right - left), "uint16")

    chunks = tuple((chunk,) * (side // chunk) for side, chunk in zip(SHAPE, CHUNKS, strict=True))
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


class Dying:
    """A store whose first worker to complete a file dies before anybody hears of it."""

    def complete(self, *args: Any) -> ccog.WriteResult:
        result: ccog.WriteResult = super().complete(*args)  # type: ignore[misc]
        if not Path(self.flag).exists():  # type: ignore[attr-defined]
            Path(self.flag).touch()  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@dataclass(frozen=True)
class DyingS3(Dying, S3Store):
    flag: str = ""


@dataclass(frozen=True)
class DyingLocal(Dying, LocalStore):
    flag: str = ""


@pytest.mark.tried(
    "A worker killed when it had completed the file, rows of more than 10 MiB, on S3 and on a file system",
    "right: the file is complete, and no error is raised",
)
@pytest.mark.parametrize(
    "kind",
    ["local", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("s3", "local, resumable"))],
)
def test_a_worker_that_dies_after_completing_makes_no_error_of_a_right_file(
    kind: str, tmp_path: Path, s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    flag, path = str(tmp_path / "flag"), str(tmp_path / "late.tif")
    url, options, dying = path, None, DyingLocal(path, flag=flag)
    if kind == "s3":
        url, options = "s3://test/late/rows.tif", s3_options
        dying = DyingS3("test", "late/rows.tif", s3_options, flag=flag)
    expected = ccog.write_ccog(noise(), COG_creation_options=CREATION).compute(scheduler="threads")
    monkeypatch.setattr(ccog.prepare, "resolve_store", lambda *_, **__: dying)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        delayed = ccog.write_ccog(
            noise(), url, COG_creation_options=CREATION, resume="resumable" in kind
        )
        assert client.compute(delayed).result(timeout=120).size == len(expected)
    assert Path(flag).exists()
    assert stored(url, options) == expected
    assert not ccog.list_incomplete(url, options)


@pytest.mark.tried(
    "somebody else aborts an upload while a cluster puts its parts",
    "refused at once: the parts that follow are not computed",
)
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_an_upload_that_somebody_else_ends_is_noticed_at_once(
    client: Any, kind: str, tmp_path: Path, s3_options: dict[str, Any]
) -> None:
    # rows of 11 MiB, of which each puts a part
    rows, aborts_at = 32, 4
    url, options = str(tmp_path / "out" / "a.tif"), None
    if kind == "s3":
        url, options = f"s3://test/{tmp_path.name}/a.tif", s3_options
    (tmp_path / "out").mkdir()
    log = tmp_path / "rows"
    log.mkdir()

    def block(block_id: tuple[int, int]) -> np.ndarray:
        if block_id[0] == aborts_at:
            assert until(lambda: ccog.abort_incomplete(url, options))
            (log / "aborted").touch()
        elif (log / "aborted").exists():
            (log / str(block_id[0])).touch()
        return np.random.default_rng(block_id[0]).integers(0, 60000, (512, 11264), "uint16")

    chunks = ((512,) * rows, (11264,))
    array = da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))
    creation = {"compress": "none", "overviews": "none"}
    delayed = ccog.write_ccog(array, url, COG_creation_options=creation, storage_options=options)
    with pytest.raises(errors.StoreNotFoundError, match=r"is over|are gone"):
        client.compute(delayed).result(timeout=120)
    # those that were on their way are computed
    assert (log / "aborted").exists()
    assert len(list(log.iterdir())) <= rows // 2
    assert until(lambda: not ccog.list_incomplete(url, options))


def test_a_task_of_a_cluster_writes_a_file_on_a_scheduler_of_its_own(
    client: Any, tmp_path: Path
) -> None:
    def write(path: str, scheduler: str) -> int:
        array = da.ones((1200, 1200), chunks=512, dtype="uint8")
        return int(ccog.write_ccog(array, path).compute(scheduler=scheduler).size)

    for scheduler in ("sync", "threads"):
        path = tmp_path / f"{scheduler}.tif"
        size = client.submit(write, str(path), scheduler).result(timeout=60)
        assert path.stat().st_size == size
    assert not [entry for entry in tmp_path.iterdir() if entry.suffix != ".tif"]


@pytest.mark.tried(
    "An asynchronous dask Client: plan, build, compute, gather, a failing write, progress",
    "right: as with any other client",
)
@pytest.mark.parametrize("processes", [False, True])
def test_an_asynchronous_client_builds_computes_and_fails_as_others_do(
    processes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distributed import Client, LocalCluster

    array = da.from_array(terrain((1, 1200, 1400)), chunks=512)
    expected = ccog.write_ccog(array).compute(scheduler="sync")

    async def write() -> None:
        settings = {"n_workers": 1, "threads_per_worker": 3, "processes": processes}
        async with (
            LocalCluster(**settings, dashboard_address=None, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            assert ccog.graph.scheduling.parallelism() == 3
            assert "tasks" in repr(ccog.plan(array, tmp_path / "a.tif"))
            with ccog.progress():
                found = await client.compute(ccog.write_ccog(array, tmp_path / "a.tif"))
            assert found.size == len(expected)
            delayed = [ccog.write_ccog(array, tmp_path / f"{n}.tif") for n in range(2)]
            results = await client.gather(client.compute(delayed))
            assert [result.size for result in results] == [len(expected)] * 2
            with ccog.progress(), no_pixels():
                await client.compute(ccog.write_ccog(failing(), tmp_path / "b.tif"))
            for _ in range(100):
                await asyncio.sleep(0.1)
                if not list(tmp_path.glob(".*")):
                    break
            # dask cannot compute in an event loop without await, and says so at once
            loop = asyncio.get_running_loop()
            started = loop.time()
            with pytest.raises(RuntimeError, match=r"asynchronous Client|event loop"):
                ccog.write_ccog(array, tmp_path / "c.tif").compute()
            assert loop.time() - started < 5

    with warnings.catch_warnings(), dask.config.set({"distributed.admin.log-length": 10}):
        warnings.filterwarnings("error", message="coroutine .* was never awaited")
        asyncio.run(write())
    assert (tmp_path / "a.tif").read_bytes() == expected
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "0.tif", "1.tif"}
    assert "upload" in capsys.readouterr().err


def test_an_event_loop_that_runs_beside_a_usual_client_as_in_notebooks(
    client: Any, tmp_path: Path
) -> None:
    array = da.from_array(terrain((1, 1200, 1400)), chunks=512)

    async def cell() -> None:
        with client.as_current():
            assert ccog.write_ccog(array, tmp_path / "a.tif").compute().size
            with no_pixels(), ccog.progress():
                ccog.write_ccog(failing(), tmp_path / "b.tif").compute()

    asyncio.run(cell())
    assert until(lambda: {path.name for path in tmp_path.iterdir()} == {"a.tif"})


class FreezingStore(LocalStore):
    """A store whose first worker is stopped while it begins an upload."""

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        marker = Path(f"{self.path}.frozen")
        with contextlib.suppress(FileExistsError), marker.open("x") as file:
            file.write(str(os.getpid()))
            file.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().begin(write, unanswered)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals")
@pytest.mark.tried(
    "a worker is stopped (SIGSTOP) while it creates an upload, and goes on when the write is done",
    "right: another worker writes the file, and nothing is left",
)
def test_a_worker_that_was_frozen_as_it_began_leaves_nothing(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    path = tmp_path / "a.tif"
    array = da.ones((1024, 1024), chunks=512, dtype="uint8")
    write = ccog.write_ccog(array, str(path))
    tasks = write.dask.layers[write.key].mapping
    frozen = tasks._with(job=replace(tasks.job, store=FreezingStore(str(path))))
    layers = {**write.dask.layers, write.key: WriteLayer(frozen)}
    write = type(write)(write.key, HighLevelGraph(layers, write.dask.dependencies))
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "8s"}),
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        plain_worker(client),
        plain_worker(client),
    ):
        client.wait_for_workers(2, timeout=60)
        client.run(importlib.import_module, __name__)
        future = client.compute(write)
        assert future.result(timeout=100).size == path.stat().st_size
        os.kill(int(Path(f"{path}.frozen").read_text()), signal.SIGCONT)
        assert not until(lambda: bool(ccog.list_incomplete(str(path))), 1) or until(
            lambda: not ccog.list_incomplete(str(path))
        )


@contextlib.contextmanager
def plain_worker(client: Any) -> Iterator[None]:
    """A worker that nobody restarts."""
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*worker, "--no-nanny", "--nthreads=1", "--no-dashboard"], env=env
    ) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("named", ["ccog_mine", "ccog_encode_0-" + "0" * 32])
@pytest.mark.parametrize("inside", ["a task with a name like ours", "a source of another write"])
@pytest.mark.tried(
    "a write on the scheduler ``sync`` inside of a task on a cluster whose name is like one of ours",
    "right: both are written",
)
def test_a_write_inside_of_a_task_is_its_own(
    named: str, inside: str, client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "nested.tif"

    def nested(block: Any = None) -> Any:
        pixels = np.full((600, 600), 7, "uint8")
        ccog.write_ccog(pixels, str(path)).compute(scheduler="sync")
        return np.ones((300, 300), "uint8") if block is not None else path.stat().st_size

    if inside == "a source of another write":
        array = da.ones((300, 300), dtype="uint8", chunks=300).map_blocks(
            nested, dtype="uint8", meta=np.empty((0, 0), "uint8"), name=named
        )
        outer = ccog.write_ccog(array, str(tmp_path / "outer.tif"))
        assert client.compute(outer).result().size == (tmp_path / "outer.tif").stat().st_size
    else:
        assert client.compute(dask.delayed(nested)(dask_key_name=named)).result()
    assert stored(str(path)) == ccog.write_ccog(np.full((600, 600), 7, "uint8")).compute()
    assert not ccog.list_incomplete(str(path))
