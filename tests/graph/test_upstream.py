"""Arrays as users make them: annotated, persisted, filtered, of many tasks; what makes them runs once."""

from __future__ import annotations

from collections import Counter
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
