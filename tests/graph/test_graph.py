"""The graph: made on demand, few tasks, each source chunk loaded once, the same bytes however tasks are cut."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import ccog
from ccog.geometry import cog as planning
from ccog.graph.build import CcogTasks
from ccog.graph.fusion import optimize
from conftest import GEO, gdal_cog, terrain

# few blocks (cheap small tasks), one task a block, blocks of several chunks
FORMS = {"apart": (4096, 20000), "whole": (0, 20000), "fused": (0, 3)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    few, many = FORMS[request.param]
    monkeypatch.setattr(planning, "_FEW_BLOCKS", few)
    monkeypatch.setattr(planning, "_MANY_BLOCKS", many)
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


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("method", ["average", "cubic"])
@pytest.mark.parametrize("chunks", [(1, 128, 128), (2, 256, 384), (1, 211, 307)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_every_form_gives_the_same_bytes(form: str, method: str, chunks: Any, masked: bool) -> None:
    pixels = terrain((2, 1301, 1151))
    mask = np.random.default_rng(0).random((1301, 1151)) > 0.2 if masked else None
    options = {"blocksize": 128, "compress": "deflate", "overview_resampling": method}
    options |= {} if masked else {"statistics": "yes"}
    lazy_mask = None if mask is None else da.from_array(mask, chunks=300)
    array = da.from_array(pixels, chunks=chunks)
    delayed = ccog.write_ccog(array, mask=lazy_mask, COG_creation_options=GEO | options)
    assert delayed.compute(scheduler="threads", num_workers=3) == gdal_cog(pixels, options, mask)


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


@pytest.mark.parametrize(("method", "most"), [("average", 1.5), ("cubic", 2.5)])
def test_a_large_graph_has_few_tasks_a_chunk(
    method: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"overview_resampling": method, "bigtiff": "yes"}
    fused = mapping_of(ccog.write_ccog(lazy(160), COG_creation_options=options))
    assert len(fused) / 160**2 <= 0.5 * (1 if method == "average" else 2)
    monkeypatch.setattr(planning, "_MANY_BLOCKS", 1 << 40)
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
    found = optimize(delayed.dask, lambda mapping: isinstance(mapping, CcogTasks))
    assert not dict(found.layers["ccog-sources"])
    assert len(found.layers[delayed.key]) == len(mapping_of(delayed))
