"""The graph: made on demand, few tasks, each source chunk loaded once, the same bytes however tasks are cut."""

from __future__ import annotations

import contextlib
import functools
import pickle
import threading
import timeit
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from dask.sizeof import sizeof

import ccog
from ccog.gdal.encode import EncodedTiles
from ccog.geometry.parts import Joins, Segment
from ccog.graph.fusion import optimize
from ccog.graph.tasks import CcogTasks
from ccog.stores.local import LocalStore
from ccog.tasks.blocks import BlockResult, EncodedBlock, PartialOverview, PixelPatch
from ccog.tasks.uploads import TileSizes, UploadedGroup, UploadedSegment
from conftest import GEO, gdal_cog, terrain

# few blocks, many, and so many that blocks are of several chunks
FORMS = {"small": (4096, 20000), "large": (0, 20000), "fused": (0, 3)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, change_settings: Any) -> str:
    few, many = FORMS[request.param]
    change_settings(few_blocks=few, many_blocks=many)
    return str(request.param)


def mapping_of(delayed: Any) -> CcogTasks:
    found = delayed.dask.layers[delayed.key].mapping
    assert isinstance(found, CcogTasks)
    return found


def lazy(side: int, chunk: int = 1024) -> da.Array:
    """An array of ``side`` x ``side`` chunks that must never be computed."""
    return da.zeros((side * chunk, side * chunk), chunks=chunk, dtype="uint8").map_blocks(
        never, dtype="uint8"
    )


def never(block: Any) -> Any:
    assert not block.size, "a chunk was computed"
    return block


PIXELS = terrain((2, 1301, 1151))
MASK = np.random.default_rng(0).random((1301, 1151)) > 0.2


@functools.cache
def gdal_file(method: str, masked: bool) -> tuple[dict[str, Any], bytes]:
    """Creation options, and the file that GDAL writes with them."""
    options = {"blocksize": 128, "compress": "deflate", "overview_resampling": method}
    options |= {} if masked else {"statistics": "yes"}
    return options, gdal_cog(PIXELS, options, MASK if masked else None)


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("method", ["average", "cubic"])
@pytest.mark.parametrize("chunks", [(1, 128, 128), (2, 256, 384), (1, 211, 307)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_every_form_gives_the_same_bytes(form: str, method: str, chunks: Any, masked: bool) -> None:
    options, expected = gdal_file(method, masked)
    lazy_mask = da.from_array(MASK, chunks=300) if masked else None
    array = da.from_array(PIXELS, chunks=chunks)
    delayed = ccog.write_ccog(array, mask=lazy_mask, COG_creation_options=GEO | options)
    assert delayed.compute(scheduler="threads", num_workers=3) == expected


@pytest.mark.parametrize("method", ["average", "cubic"])
def test_keys_and_tasks_agree(form: str, method: str) -> None:
    options = {"overview_resampling": method, "blocksize": 128}
    tasks = mapping_of(ccog.write_ccog(lazy(9, 256), COG_creation_options=options))
    keys = list(tasks)
    assert len(keys) == len(tasks) == len(set(keys))
    for key in keys:
        assert tasks[key].key == key
        for dependency in tasks[key].dependencies:
            assert dependency in tasks or dependency[0] in tasks.sources
    needed = {d for key in keys for d in tasks[key].dependencies}
    assert set(keys) - needed == {tasks.final}
    for wrong in ("x", ("x", 0), (keys[0][0], 10**6), (), 5):
        assert wrong not in tasks


def test_building_does_not_grow_with_the_number_of_chunks() -> None:
    sizes = {}
    for side in (64, 640):
        tasks = mapping_of(ccog.write_ccog(lazy(side), COG_creation_options={"bigtiff": "yes"}))
        sizes[side] = len(pickle.dumps(tasks))
        assert pickle.loads(pickle.dumps(tasks))[tasks.final].key == tasks.final
    assert sizes[640] < 3 * sizes[64]


@pytest.mark.parametrize("method", ["average", "cubic"])
def test_tasks_of_a_small_graph(method: str) -> None:
    tasks = mapping_of(
        ccog.write_ccog(lazy(32), COG_creation_options={"overview_resampling": method})
    )
    assert len(tasks) / 32**2 < 2.5


@pytest.mark.parametrize(("method", "most"), [("average", 1.5), ("cubic", 2.5)])
def test_a_large_graph_has_few_tasks_a_chunk(
    method: str, most: float, change_settings: Any
) -> None:
    options = {"overview_resampling": method, "bigtiff": "yes"}
    fused = mapping_of(ccog.write_ccog(lazy(160), COG_creation_options=options))
    assert len(fused) / 160**2 <= 0.5 * (1 if method == "average" else 2)
    change_settings(many_blocks=1 << 40)
    whole = mapping_of(ccog.write_ccog(lazy(160), COG_creation_options=options))
    assert len(whole) / 160**2 <= most


@pytest.mark.parametrize("method", ["average", "lanczos"])
@pytest.mark.parametrize("files", [1, 2])
def test_each_chunk_is_loaded_once(form: str, method: str, files: int) -> None:
    loads: Counter[Any] = Counter()
    lock = threading.Lock()

    def load(block_id: Any) -> np.ndarray:
        with lock:
            loads[block_id] += 1
        return np.full((256, 256), sum(block_id), "uint16")

    array = da.map_blocks(
        load, chunks=((256,) * 5, (256,) * 4), dtype="uint16", meta=np.empty((0, 0), "uint16")
    )
    options = {"blocksize": 128, "overview_resampling": method, "statistics": "yes"}
    writes = [
        ccog.write_ccog(
            array,
            mask=array > 0,
            COG_creation_options=options | {"level": n + 1, "compress": "deflate"},
        )
        for n in range(files)
    ]
    dask.compute(*writes, scheduler="threads", num_workers=2)
    assert set(loads.values()) == {1}
    assert len(loads) == 20


def test_loads_are_fused_into_leaves() -> None:
    pixels = da.map_blocks(
        lambda: np.ones((256, 256), "uint8"), chunks=((256,) * 6, (256,) * 6), dtype="uint8"
    )
    delayed = ccog.write_ccog((pixels + 1) * 2, COG_creation_options={"blocksize": 128})
    found = optimize(delayed.dask)
    assert not dict(found.layers["ccog-sources"])
    assert len(found.layers[delayed.key]) == len(mapping_of(delayed))


def resumable(path: Path) -> Any:
    pixels = da.from_array(terrain((1, 512, 512)), chunks=(1, 128, 128), name="resumable")
    options = {"blocksize": 128, "overview_resampling": "average"}
    return ccog.write_ccog(pixels, str(path), COG_creation_options=options, resume=True)


def visualize(delayed: Any, *, optimize_graph: bool) -> None:
    # the graph is made before graphviz, which may be missing, is asked for
    with contextlib.suppress(ImportError, RuntimeError):
        delayed.visualize(filename=None, optimize_graph=optimize_graph)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "dask.optimize": dask.optimize,
    "visualize": lambda delayed: visualize(delayed, optimize_graph=False),
    "visualize, optimised": lambda delayed: visualize(delayed, optimize_graph=True),
    "graph": lambda delayed: delayed.dask.to_dict(),
    "keys": lambda delayed: delayed.__dask_keys__(),
    "tokenize": tokenize,
    "repr": lambda delayed: (repr(delayed), repr(delayed.dask), delayed.dask._repr_html_()),
    "another Delayed": lambda delayed: dask.delayed(str)(delayed),
}


@pytest.mark.parametrize("how", LOOKS)
def test_a_look_at_the_graph_asks_no_store(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed = resumable(tmp_path / "a.tif")
    calls = ["begin", "check", "incomplete", "stored_parts", "remove_stale_checkpoints"]
    for name in [*calls, "checkpoint_names", "load_checkpoint", "save_checkpoint"]:
        monkeypatch.setattr(
            LocalStore, name, lambda *_, name=name, **__: pytest.fail(f"asked: {name}")
        )
    LOOKS[how](delayed)
    with pytest.raises(pytest.fail.Exception, match="asked: incomplete"):
        delayed.compute(scheduler="sync")


COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "compute": lambda delayed, _: delayed.compute(scheduler="threads"),
    "dask.compute": lambda delayed, _: dask.compute(delayed, scheduler="sync"),
    "beside another": lambda delayed, _: dask.compute(da.ones(3).sum(), delayed, scheduler="sync"),
    "processes": lambda delayed, _: delayed.compute(scheduler="processes", num_workers=2),
    "persist": lambda delayed, _: delayed.persist(scheduler="threads"),
    "dask.persist": lambda delayed, _: dask.persist(delayed, scheduler="threads"),
    "not optimised": lambda delayed, _: delayed.compute(scheduler="sync", optimize_graph=False),
    "looked at": lambda delayed, _: (dask.optimize(delayed), delayed.compute(scheduler="sync")),
    "in a Delayed": lambda delayed, client: dask.delayed(str)(delayed).compute(scheduler=client),
    "Client.compute": lambda delayed, client: client.compute(delayed).result(),
    "Client.persist": lambda delayed, client: client.persist(delayed).compute(scheduler=client),
    "on a client": lambda delayed, client: dask.compute(delayed, scheduler=client),
}


@pytest.mark.parametrize("how", COMPUTE)
def test_however_it_is_computed_an_unfinished_write_is_resumed(
    how: str, tmp_path: Path, client: Any
) -> None:
    delayed = resumable(tmp_path / "a.tif")
    job = mapping_of(delayed).job
    assert job.manifest is not None
    unfinished = job.store.begin(job.token)
    job.store.save_checkpoint(unfinished, "manifest.json", job.manifest.encode())
    COMPUTE[how](delayed, client)
    assert (tmp_path / "a.tif").exists()
    assert not ccog.list_incomplete(str(tmp_path / "a.tif")), "the unfinished one was not used"


def test_values_between_workers_cost_no_more_than_plain_tuples() -> None:
    pixels, sizes = np.zeros((1, 512, 512), "uint16"), np.zeros((1, 4, 4), "uint32")
    tiles = EncodedTiles([[bytes(1 << 20)]], sizes, None)
    patch = PixelPatch((0, 512), (0, 512), pixels, None)
    block = BlockResult(EncodedBlock([tiles], None), [PartialOverview([patch], [])])
    segment = Segment([bytes(1 << 20)], [(2, 1 << 24, "tag")], [])
    group = UploadedGroup(0, TileSizes(sizes[0], None), None)
    uploaded = UploadedSegment(segment, Joins(2, 2), [group])
    for value in (block, uploaded):
        assert sizeof(value) == pytest.approx(sizeof(unnamed(value)), abs=500)
        assert sizeof(value) > 1 << 20
        named, plain = seconds_to_pickle(value), seconds_to_pickle(unnamed(value))
        assert named < 3 * plain + 1e-4


def seconds_to_pickle(value: Any) -> float:
    """The best of some tries; bytes and arrays are handed over as they are, as dask does."""

    def dump() -> None:
        pickle.dumps(value, protocol=5, buffer_callback=lambda _: None)

    return min(timeit.repeat(dump, number=20, repeat=10)) / 20


def unnamed(value: Any) -> Any:
    """The same in plain tuples."""
    if isinstance(value, (tuple, list)):
        plain = [unnamed(item) for item in value]
        return plain if isinstance(value, list) else tuple(plain)
    return value
