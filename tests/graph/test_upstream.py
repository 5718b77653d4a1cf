"""Arrays as users make them: annotated, persisted, filtered, of many tasks; what makes them runs once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import ccog
from conftest import GEO, terrain

SIDE, CHUNK = 1024, 128
OPTIONS = GEO | {"blocksize": 128, "compress": "deflate", "overview_resampling": "cubic"}
THREADS = {"scheduler": "threads", "num_workers": 2}


class Counted:
    """Pixels that count how often each chunk is made."""

    def __init__(self, seed: int = 0) -> None:
        self.pixels = terrain((1, SIDE, SIDE + 77), seed=seed)[0]
        self.made: Counter[tuple[int, int]] = Counter()

    def read(self, block_info: Any) -> np.ndarray:
        place = block_info[None]["array-location"]
        self.made[place[0][0], place[1][0]] += 1
        return self.pixels[tuple(slice(*side) for side in place)]

    def array(self) -> da.Array:
        chunks = da.core.normalize_chunks(CHUNK, self.pixels.shape)
        return da.map_blocks(
            self.read, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16")
        )

    def assert_made_once(self) -> None:
        assert set(self.made.values()) == {1}
        assert len(self.made) == SIDE // CHUNK * (SIDE // CHUNK + 1)


def written(array: Any, **kwargs: Any) -> bytes:
    return bytes(ccog.write_ccog(array, COG_creation_options=OPTIONS, **kwargs).compute(**THREADS))


def box(block: np.ndarray) -> np.ndarray:
    """A filter that needs two pixels around."""
    out = block.astype("uint32")
    return ((out + np.roll(out, 2, 0) + np.roll(out, 2, 1)) // 3).astype("uint16")


def test_chunks_under_a_filter_of_neighbourhoods_are_made_once() -> None:
    source = Counted()
    filtered = source.array().map_overlap(box, depth=2, boundary="reflect", dtype="uint16")
    found = written(filtered)
    source.assert_made_once()
    assert found == written(filtered.compute(scheduler="sync"))


def test_chunks_of_overlapping_layers_are_made_once() -> None:
    sources = [Counted(seed) for seed in range(3)]
    layers = da.stack(
        [da.where(source.array() > 1000 * n, source.array(), 0) for n, source in enumerate(sources)]
    )
    mosaic = layers.max(axis=0)
    found = written(mosaic)
    for source in sources:
        source.assert_made_once()
    assert found == written(mosaic.compute(scheduler="sync"))


def test_zarr_is_read_once(tmp_path: Path) -> None:
    pixels = terrain((1, SIDE, SIDE), seed=1)[0]
    xr.Dataset({"a": (("y", "x"), pixels)}).chunk(256).to_zarr(tmp_path / "a.zarr")
    made: Counter[Any] = Counter()

    def note(block: np.ndarray, block_id: Any) -> np.ndarray:
        made[block_id] += 1
        return block

    opened = xr.open_zarr(tmp_path / "a.zarr")["a"].data.map_blocks(
        note, dtype="uint16", meta=np.empty((0, 0), "uint16")
    )
    assert written(opened) == written(pixels)
    assert set(made.values()) == {1}


@pytest.mark.slow
def test_an_array_of_a_hundred_thousand_tasks_is_written() -> None:
    array = da.ones((3200, 3200), chunks=64, dtype="uint16")
    for n in range(40):
        array = array.map_blocks(np.add, n, dtype="uint16", name=f"step-{n}")
    assert len(dict(array.dask)) >= 100_000
    assert written(array) == written(np.full((3200, 3200), 1 + sum(range(40)), "uint16"))


def test_persisted_arrays_are_written(client: Any) -> None:
    source = terrain((1, SIDE, SIDE))[0]
    persisted = client.persist(da.from_array(source, chunks=256))
    delayed = ccog.write_ccog(persisted, COG_creation_options=OPTIONS)
    assert client.compute(delayed).result() == written(source)


@pytest.mark.parametrize("planning", [True, False])
def test_query_planning_of_dask_does_not_matter(planning: bool) -> None:
    with dask.config.set({"array.query-planning": planning}):
        source = Counted()
        assert written(source.array() + 1) == written(source.pixels + np.uint16(1))
        source.assert_made_once()


def annotations_of(delayed: Any, name: str) -> dict[Any, Any]:
    """What dask will note of each task."""
    optimized = delayed.__dask_optimize__(delayed.dask, delayed.__dask_keys__())
    found: dict[Any, Any] = {}
    for layer in optimized.layers.values():
        value = (layer.annotations or {}).get(name)
        found |= {key: value(key) if callable(value) else value for key in layer}
    return found


def test_annotations_of_the_array_survive() -> None:
    with dask.annotate(retries=7, resources={"GPU": 1}):
        source = da.ones((512, 512), chunks=128, dtype="uint16").map_blocks(
            np.add, 1, dtype="uint16"
        )
    delayed = ccog.write_ccog(source * 2, COG_creation_options=OPTIONS)
    for name, value in (("retries", 7), ("resources", {"GPU": 1})):
        found = annotations_of(delayed, name)
        assert sum(noted == value for noted in found.values()) == 16
        assert all(noted in (None, value) for noted in found.values())
    priorities = annotations_of(delayed, "priority")
    assert len({priorities[key] for key in priorities if "encode_0" in str(key[0])}) == 4


def test_annotations_of_the_write_hold() -> None:
    with dask.annotate(retries=3, priority=2):
        delayed = ccog.write_ccog(
            da.ones((512, 512), chunks=128, dtype="uint16"), COG_creation_options=OPTIONS
        )
    assert set(annotations_of(delayed, "retries").values()) == {3}
    priorities = [
        value for value in annotations_of(delayed, "priority").values() if value is not None
    ]
    assert min(priorities) > 10**9


def test_a_source_that_fails_once_is_retried(client: Any, tmp_path: Path) -> None:
    flag = tmp_path / "failed"

    def flaky(block: np.ndarray, block_id: Any) -> np.ndarray:
        if block_id == (1, 1) and not flag.exists():
            flag.touch()
            raise OSError("not now")
        return block

    with dask.annotate(retries=2):
        array = da.ones((512, 512), chunks=128, dtype="uint16").map_blocks(
            flaky, dtype="uint16", meta=np.empty((0, 0))
        )
    delayed = ccog.write_ccog(array, COG_creation_options=OPTIONS)
    assert client.compute(delayed).result() == written(np.ones((512, 512), "uint16"))
    assert flag.exists()


class Tracked(Counted):
    """Pixels that also count how many of the chunks are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.most = 0
        self._lock = threading.Lock()

    def read(self, block_info: Any) -> np.ndarray:
        pixels = super().read(block_info).copy()
        with self._lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(pixels, self._gone)
        return pixels

    def _gone(self) -> None:
        with self._lock:
            self.alive -= 1


def write_of(array: Any, **kwargs: Any) -> Any:
    return ccog.write_ccog(array, COG_creation_options=OPTIONS | kwargs)


TOGETHER: dict[str, Callable[[da.Array], list[Any]]] = {
    "a write and its mean": lambda a: [write_of(a), a.mean()],
    "a write between reductions": lambda a: [write_of(a), a.mean(), write_of(a), a.max()],
    "two writes": lambda a: [write_of(a), write_of(a)],
    "two writes and two reductions": lambda a: [write_of(a), a.max(), write_of(a), a.std()],
    "other tiles": lambda a: [write_of(a), write_of(a, blocksize=256)],
    "upside down": lambda a: [write_of(a), write_of(a[::-1])],
    "two orders": lambda a: [
        write_of(a),
        ccog.write_ccog(a, COG_creation_options=OPTIONS, layout="chunk"),
    ],
    "a write of what is made of it": lambda a: [write_of(a), write_of(a + 1), (a + 1).max()],
    "a slice": lambda a: [write_of(a[: SIDE // 2]), write_of(a), a[:7].sum()],
    "other chunks": lambda a: [write_of(a.rechunk(256)), write_of(a), a.std()],
    "another array": lambda a: [write_of(a), da.ones(5).sum()],
    "the array itself": lambda a: [write_of(a), a],
    "xarray": lambda a: [write_of(a), xr.DataArray(a).mean()],
}


@pytest.mark.parametrize("how", TOGETHER)
def test_what_several_results_need_is_made_once(how: str) -> None:
    source = Counted()
    found = dask.compute(*TOGETHER[how](source.array()), **THREADS)
    source.assert_made_once()
    alone = [result.compute(**THREADS) for result in TOGETHER[how](source.array())]
    for together, expected in zip(found, alone, strict=True):
        assert type(together) is type(expected)
        np.testing.assert_array_equal(together, expected)


def test_results_come_in_their_order_whatever_is_computed_with_a_write() -> None:
    a = Counted().array()
    for results in (
        [write_of(a), dask.delayed(str)(1), a.max()],
        [a.max(), write_of(a), dask.delayed(str)(1)],
        [write_of(a), a.max(), write_of(a + 1)],
    ):
        found = dask.compute(*results, **THREADS)
        assert [type(one) for one in found] == [type(one.compute(**THREADS)) for one in results]


@pytest.mark.parametrize(
    "how", ["a write and its mean", "two writes and two reductions", "two writes"]
)
def test_what_several_results_need_is_not_all_in_memory(how: str) -> None:
    source = Tracked()
    dask.compute(*TOGETHER[how](source.array()), **THREADS)
    source.assert_made_once()
    assert source.most <= len(source.made) / 2


CONFIGURATIONS: list[dict[str, Any]] = [
    {"optimization.fuse.active": False},
    {"optimization.fuse.active": True},
    {"optimization.fuse.delayed": True},
    {"optimization.tune.active": False},
    {"array.chunk-size": "64kiB"},
    {"array.slicing.split-large-chunks": True},
    {"array.rechunk.method": "tasks"},
    {"admin.traceback.shorten": []},
    {"tokenize.ensure-deterministic": True},
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
def test_settings_of_dask_change_no_byte(configuration: dict[str, Any]) -> None:
    pixels = terrain((1, 700, 900))[0]
    expected = written(pixels)
    with dask.config.set(configuration):
        arrays = [pixels, da.from_array(pixels, chunks=256), da.from_array(pixels) + np.uint16(0)]
        assert [written(array) for array in arrays] == [expected] * 3
        writes = [write_of(array) for array in arrays]
        *found, total = dask.compute(*writes, arrays[1].sum(), **THREADS)
        assert found == [expected] * 3
        assert total == pixels.sum()
        with dask.annotate(retries=2):
            annotated = da.from_array(pixels, chunks=256) + np.uint16(0)
        assert written(annotated) == expected


def test_arrays_that_dask_plans_as_queries_are_written() -> None:
    """Which kind of array dask has is decided when it is imported."""
    script = """
        import dask.array as da, numpy as np, ccog
        pixels = np.arange(700 * 900, dtype="uint16").reshape(700, 900)
        lazy = da.from_array(pixels, chunks=256) + np.uint16(0)
        expected = ccog.write_ccog(pixels).compute()
        assert ccog.write_ccog(lazy).compute() == expected
        assert ccog.write_ccog(lazy.rechunk(200)).compute() == expected
        assert ccog.write_ccog(lazy, mask=lazy >= 0).compute()
    """
    env = os.environ | {"DASK_ARRAY__QUERY_PLANNING": "True"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=env, check=True)
