"""Runs of writes: whatever computes them, one or many at a time, each ends by itself and leaves nothing."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
from dask.local import get_sync

import ccog
from conftest import stored
from kills import until

OPTIONS = {"blocksize": 256, "compress": "none", "overview_resampling": "average"}
SIDE, CHUNK = 4096, 2048


class FailingError(RuntimeError):
    """The error of a source, which must arrive."""


def chunk(block_info: Any, seed: int = 0, failing: bool = False) -> np.ndarray:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    if failing and bottom == SIDE and right == SIDE:
        raise FailingError("no pixels here")
    return np.full((bottom - top, right - left), seed + top % 251 + left % 7, "uint16")


def source(seed: int = 0, failing: bool = False) -> da.Array:
    """Two chunks wide; of a failing one the last chunk fails, when parts of others are uploaded."""
    chunks = ((CHUNK,) * 2,) * 2
    kwargs = {"seed": seed, "failing": failing, "name": f"source-{seed}-{failing}"}
    return da.map_blocks(chunk, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"), **kwargs)  # fmt: skip


class Place:
    """Where a test writes: a folder or a prefix of S3."""

    def __init__(self, root: str, options: dict[str, Any] | None) -> None:
        self.root, self.options = root, options

    def write(self, name: str, array: da.Array, **kwargs: Any) -> Any:
        return ccog.write_ccog(
            array, f"{self.root}/{name}.tif", storage_options=self.options, **OPTIONS, **kwargs
        )

    def read(self, name: str) -> bytes:
        return stored(f"{self.root}/{name}.tif", self.options)

    def left(self) -> list[ccog.IncompleteUpload]:
        return ccog.list_incomplete(f"{self.root}/", self.options)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, or a prefix of S3, as ``at`` says."""
    if request.param == "local":
        return Place(str(tmp_path), None)
    root = f"s3://test/runs/{tmp_path.name}"
    return Place(root, request.getfixturevalue("s3_options"))


ON_S3 = pytest.mark.parametrize("place", ["s3"], indirect=True)


def plain_function(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """A scheduler that is a function of the user's."""
    return get_sync(dsk, keys)


Computes = Callable[[Any], Any]

HERE: dict[str, Computes] = {
    "threads": lambda write: write.compute(scheduler="threads", num_workers=2),
    "sync": lambda write: write.compute(scheduler="sync"),
    "function": lambda write: write.compute(scheduler=plain_function),
    "dask.compute, threads": lambda write: dask.compute(write, scheduler="threads")[0],
    "dask.compute, sync": lambda write: dask.compute(write, scheduler="sync")[0],
    "dask.compute, function": lambda write: dask.compute(write, scheduler=plain_function)[0],
    "persist": lambda write: write.persist(scheduler="threads").compute(scheduler="threads"),
    "executor": lambda write: in_an_executor(write),
}


def in_an_executor(write: Any) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return write.compute(scheduler=pool)


def where(names: str, local: list[Any], s3: list[Any]) -> pytest.MarkDecorator:
    """Cases on each store: every value meets both or one of them, every pair of the others once.

    Stores differ in how long an upload takes to begin and to go, and in who waits meanwhile; what
    a scheduler tells of its end is the same for both.
    """
    pairs = [("local", case) for case in local] + [("s3", case) for case in s3]
    cases = [(store, *(case if isinstance(case, tuple) else (case,))) for store, case in pairs]
    return pytest.mark.parametrize(f"place, {names}", cases, indirect=["place"])


def fails(compute: Computes, write: Any) -> None:
    with pytest.raises(FailingError, match="no pixels here"):
        compute(write)


@pytest.mark.tried(
    "writes that fail and writes that succeed side by side in threads, beside other computations",
    "right: nothing is left of those that fail, the source's error arrives, the others are whole",
)
@where(
    "how",
    local=["threads", "sync", "function", "dask.compute, function", "persist"],
    s3=["threads", "dask.compute, threads", "dask.compute, sync", "executor"],
)
def test_writes_side_by_side_leave_nothing_and_harm_no_other(how: str, place: Place) -> None:
    def one(n: int) -> None:
        if n % 3 == 2:
            dask.compute(da.ones(10, chunks=1).sum(), scheduler="threads")
        elif n % 3:
            HERE[how](place.write(f"{n}", source(seed=n)))
        else:
            fails(HERE[how], place.write(f"{n}", source(seed=n, failing=True)))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(9)))
    assert not place.left()
    expected = {n: ccog.write_ccog(source(seed=n), **OPTIONS).compute() for n in (1, 7)}
    assert {n: place.read(f"{n}") for n in expected} == expected


@pytest.mark.slow
@ON_S3
def test_writes_side_by_side_in_processes_leave_nothing(place: Place) -> None:
    """Where ``compute`` fails on processes, see ``test_cleanup``."""
    how = {"scheduler": "processes", "num_workers": 2}
    with ThreadPoolExecutor(1) as pool:
        bad = place.write("bad", source(failing=True))
        failed = pool.submit(fails, lambda write: dask.compute(write, **how), bad)
        place.write("3", source(seed=3)).compute(**how)
        failed.result()
    assert not place.left()
    assert place.read("3") == ccog.write_ccog(source(seed=3), **OPTIONS).compute()


@pytest.mark.slow
@ON_S3
def test_writes_side_by_side_on_a_cluster_leave_nothing(place: Place, client: Any) -> None:
    def one(n: int) -> None:
        if n % 2:
            place.write(f"{n}", source(seed=n)).compute(scheduler=client)
        else:
            fails(
                lambda write: write.compute(scheduler=client),
                place.write(f"{n}", source(seed=n, failing=True)),
            )

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one, range(6)))
    assert until(lambda: not place.left())
    assert place.read("3") == ccog.write_ccog(source(seed=3), **OPTIONS).compute()


@pytest.mark.tried(
    "one Delayed computed by several threads at once, where some of the runs fail",
    "right: each run is a write of its own; those that fail leave nothing, the others are whole",
)
@where(
    "how, optimized",
    local=[
        ("threads", False),
        ("sync", True),
        ("dask.compute, threads", True),
        ("dask.compute, sync", False),
    ],
    s3=[
        ("threads", True),
        ("sync", False),
        ("dask.compute, threads", False),
        ("dask.compute, sync", True),
    ],
)
def test_runs_of_one_delayed_are_writes_of_their_own(
    how: str, optimized: bool, place: Place
) -> None:
    """The first run to come to the last chunk fails while the others wait."""
    together, turn, seen = threading.Barrier(3), threading.Lock(), []

    def last_fails_once(block: np.ndarray, block_info: Any) -> np.ndarray:
        if block_info[None]["chunk-location"] == (1, 1):
            together.wait(60)
            with turn:
                seen.append(1)
                if len(seen) == 1:
                    raise FailingError("no pixels here")
        return block

    array = source().map_blocks(
        last_fails_once, dtype="uint16", meta=np.empty((0, 0), "uint16"), name="fails-once"
    )
    write = place.write("one", array)
    if optimized:
        (write,) = dask.optimize(write)

    def one(_: int) -> bool:
        try:
            HERE[how](write)
        except FailingError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(one, range(3)))
    gc.collect()
    assert sorted(ends) == [False, True, True]
    assert not place.left()
    assert place.read("one") == ccog.write_ccog(source(), **OPTIONS).compute()


@pytest.mark.tried(
    "an upload task, or something computed beside the write, fails on a scheduler in this process",
    "right: nothing is left",
)
@where("scheduler", local=["threads", "sync"], s3=["threads", plain_function])
def test_what_fails_beside_a_write_leaves_nothing_of_it(scheduler: Any, place: Place) -> None:
    started = threading.Event()

    def beside() -> None:
        started.wait(30)
        raise FailingError("no pixels here")

    def noted(block: np.ndarray) -> np.ndarray:
        started.set()
        return block

    array = source().map_blocks(noted, dtype="uint16", meta=np.empty((0, 0), "uint16"))
    others = [dask.delayed(beside)() for _ in range(1 if scheduler == "threads" else 0)]
    others.append(source(failing=True).max())
    with pytest.raises(FailingError):
        dask.compute(place.write("a", array), *others, scheduler=scheduler, num_workers=3)
    gc.collect()
    assert not place.left()


def without_callbacks(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """A scheduler that tells nobody how it ends, as dask's do not while another thread computes."""
    return dask.core.get(dict(dsk.__dask_graph__()), keys)


@pytest.mark.tried(
    "a write fails on a scheduler without dask's callbacks, and somebody keeps the error",
    "right: nothing is left",
)
def test_an_error_that_somebody_keeps_keeps_no_upload(tmp_path: Path) -> None:
    place = Place(str(tmp_path), None)
    with pytest.raises(FailingError) as kept:
        dask.compute(place.write("a", source(failing=True)), scheduler=without_callbacks)
    assert not place.left()
    assert kept.traceback, "its frames hold what the tasks gave"


@where(
    "how, count",
    local=[
        ("threads", 1),
        ("dask.compute, function", 1),
        ("sync", 4),
        ("dask.compute, threads", 4),
        ("persist", 4),
    ],
    s3=[
        ("dask.compute, sync", 1),
        ("executor", 1),
        ("threads", 4),
        ("function", 4),
    ],
)
@pytest.mark.tried(
    "writes with resume=True that fail, and are computed again, one or several at once in threads",
    "right: each is continued where it stopped, and nothing is left",
)
def test_unfinished_writes_are_continued_side_by_side(how: str, count: int, place: Place) -> None:
    made: list[int] = []

    def row(block_info: Any, seed: int, broken: bool) -> np.ndarray:
        n = block_info[None]["chunk-location"][0]
        if broken and n == 7:
            raise FailingError("no pixels here")
        made.append(n)
        return np.full((512, 512), seed + n, "uint16")

    def write(seed: int, broken: bool) -> Any:
        chunks, meta = ((512,) * 8, (512,)), np.empty((0, 0), "uint16")
        array = da.map_blocks(
            row, chunks=chunks, dtype="uint16", meta=meta, name=f"row-{seed}", seed=seed, broken=broken
        )  # fmt: skip
        return place.write(f"{seed}", array, resume=True)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda seed: fails(HERE["sync"], write(seed, True)), range(count)))
        assert len(place.left()) == count
        again = [write(seed, False) for seed in range(count)]
        made.clear()
        list(pool.map(HERE[how], again))
    assert not place.left()
    assert 7 in made
    assert 0 not in made, "the first row was uploaded before"
    assert rasterio_rows(place.read("0")) == list(range(8))


def rasterio_rows(file: bytes) -> list[int]:
    """The value of each row of chunks."""
    with rasterio.MemoryFile(file) as memory, memory.open() as dataset:
        return [int(value) for value in dataset.read(1)[::512, 0]]


def in_another_process(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """A scheduler that hands the whole graph to another process, which never tells what began."""
    tasks = cloudpickle.dumps((dict(dsk.__dask_graph__()), keys))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run_pickled, tasks).result()


def run_pickled(tasks: bytes) -> Any:
    return get_sync(*cloudpickle.loads(tasks))


@pytest.mark.slow
@ON_S3
@pytest.mark.tried(
    "a failing write on a scheduler that is a function and runs tasks in other processes (as Ray does)",
    "right: after ``.compute()`` nothing is left",
)
def test_a_scheduler_out_of_reach_leaves_nothing(place: Place) -> None:
    fails(lambda write: write.compute(scheduler=in_another_process), place.write("a", source(failing=True)))  # fmt: skip
    assert not place.left()
    place.write("a", source(1)).compute(scheduler=in_another_process)
    assert place.read("a") == ccog.write_ccog(source(1), **OPTIONS).compute()


@pytest.mark.slow
@ON_S3
def test_a_write_that_fails_on_ray_leaves_nothing(place: Place) -> None:
    ray = pytest.importorskip("ray")
    on_ray = pytest.importorskip("ray.util.dask").ray_dask_get
    path = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env=path)
    try:
        fails(lambda write: write.compute(scheduler=on_ray), place.write("a", source(failing=True)))
        assert not place.left()
        place.write("a", source(1)).compute(scheduler=on_ray)
        assert place.read("a") == ccog.write_ccog(source(1), **OPTIONS).compute()
    finally:
        ray.shutdown()
