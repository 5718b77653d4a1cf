"""Nothing is read, and no array copied, before it is asked for."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

import ccog
from ccog.input.memory_maps import MappedChunk, map_below
from ccog.runtime.manifest import _name
from conftest import GEO, gdal_cog, terrain

PIXELS = terrain((2, 1100, 1300))


class Counting(BackendArray):
    """Pixels of a file, as a backend of xarray reads them; notes the shape of each read."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.reads: list[tuple[int, ...]] = []

    def __deepcopy__(self, memo: Any) -> Counting:
        return self

    def __getitem__(self, key: Any) -> Any:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)

    def _read(self, key: Any) -> np.ndarray:
        self.reads.append(self.pixels[key].shape)
        return self.pixels[key]


def unread(backend: Counting, *, cached: bool, **encoding: Any) -> xr.DataArray:
    data: Any = indexing.LazilyIndexedArray(backend)
    if cached:
        data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(data))
    arr = xr.DataArray(data, dims=("band", "y", "x"))
    arr.encoding = encoding
    return arr.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])


@pytest.mark.tried(
    "an unchunked lazy array of a backend of xarray, planned and written",
    "right: `plan` and `write_ccog` read nothing, computing reads block by block",
)
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        lambda arr: arr,
        lambda arr: arr[:, 37:-5, ::-1],
        lambda arr: arr.transpose("x", "y", "band"),
        lambda arr: arr[1],
        lambda arr: arr.isel(band=0).to_dataset(name="a"),
        lambda arr: arr.to_dataset("band").rename({0: "a", 1: "b"}),
    ],
    ids=["whole", "slice", "turned", "one band", "variable", "variables"],
)
def test_files_behind_xarray_are_read_block_by_block(changed: Any, cached: bool) -> None:
    backend = Counting(PIXELS)
    arr = changed(unread(backend, cached=cached))
    ccog.plan(arr)
    delayed = ccog.write_ccog(arr, blocksize=128)
    assert not backend.reads
    found = delayed.compute(scheduler="sync")
    assert max(map(np.prod, backend.reads)) < PIXELS.size / 4
    assert sum(map(np.prod, backend.reads)) <= PIXELS.size
    assert found == ccog.write_ccog(arr.compute(), blocksize=128).compute()


def test_blocks_follow_the_strips_of_the_file() -> None:
    """A read of part of a strip would decode all of it, each time."""
    backend = Counting(terrain((1, 300, 9000)))
    arr = unread(backend, cached=False, preferred_chunks={"band": 1, "y": 1, "x": 9000})
    ccog.write_ccog(arr).compute()
    assert {shape[-1] for shape in backend.reads} == {9000}


def test_a_mask_in_a_file_is_read_block_by_block() -> None:
    backend = Counting((PIXELS > 9000)[:1])
    mask = unread(backend, cached=False)
    delayed = ccog.write_ccog(PIXELS, mask=mask, blocksize=128, **GEO)
    assert not backend.reads
    assert delayed.compute() == gdal_cog(PIXELS, {"blocksize": 128}, PIXELS[0] > 9000)
    assert len(backend.reads) > 1


def test_a_resumable_write_of_a_file_reads_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(gdal_cog(PIXELS))
    arr = rioxarray.open_rasterio(tmp_path / "a.tif")
    ccog.write_ccog(arr, tmp_path / "b.tif", resume=True).compute()
    assert not arr.variable._in_memory
    assert (tmp_path / "b.tif").read_bytes() == gdal_cog(PIXELS)


def test_another_part_of_the_file_is_another_write(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(gdal_cog(terrain((1, 4096, 128))))
    arr, target = rioxarray.open_rasterio(tmp_path / "a.tif"), tmp_path / "b.tif"
    broken = da.ones((2048, 128), chunks=128).map_blocks(_fail_late, meta=np.empty((0, 0)))
    given: dict[str, Any] = {"blocksize": 128, "resume": True}
    with pytest.raises(RuntimeError, match="not now"):
        ccog.write_ccog(arr[:, :2048], target, mask=broken, **given).compute(scheduler="sync")
    with pytest.raises(ccog.ResumeError, match="the array"):
        ccog.write_ccog(arr[:, 2048:], target, mask=broken, **given)
    ccog.abort_incomplete(target)


def _fail_late(block: Any, block_id: Any) -> Any:
    if block_id[0] == 15:
        raise RuntimeError("not now")
    return block


def test_quantities_of_dask_arrays_stay_lazy() -> None:
    pint = pytest.importorskip("pint")
    computed: list[int] = []

    def count(block: Any) -> Any:
        computed.append(block.size)
        return block

    lazy = da.from_array(PIXELS, chunks=(2, 512, 512)).map_blocks(count, meta=PIXELS[:0, :0, :0])
    quantity = pint.UnitRegistry().Quantity(lazy, "metre")
    arr = xr.DataArray(quantity, dims=("band", "y", "x"))
    ccog.plan(arr, **GEO)
    delayed = ccog.write_ccog(arr, **GEO)
    assert not computed
    assert delayed.compute() == gdal_cog(PIXELS)
    assert len(computed) == 9


class Wrapped:
    """An array of another library around one of dask, as xarray takes it."""

    def __init__(self, array: da.Array) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __array_function__(self, *args: Any) -> Any:
        return NotImplemented

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._array, dtype)

    def __getitem__(self, key: Any) -> Wrapped:
        return Wrapped(self._array[key])

    def __dask_graph__(self) -> Any:
        return self._array.__dask_graph__()

    def __dask_keys__(self) -> Any:
        return self._array.__dask_keys__()

    def __dask_postcompute__(self) -> Any:
        return self._array.__dask_postcompute__()

    def __dask_postpersist__(self) -> Any:
        return self._array.__dask_postpersist__()

    __dask_scheduler__ = staticmethod(da.Array.__dask_scheduler__)
    __dask_optimize__ = staticmethod(da.Array.__dask_optimize__)


def test_other_arrays_around_dask_stay_lazy() -> None:
    computed: list[int] = []
    lazy = da.from_array(PIXELS, chunks=(2, 512, 512))
    lazy = lazy.map_blocks(lambda b: computed.append(1) or b, meta=PIXELS[:0, :0, :0])
    arr = xr.DataArray(Wrapped(lazy), dims=("band", "y", "x"))
    delayed = ccog.write_ccog(arr, **GEO)
    assert not computed
    assert delayed.compute() == gdal_cog(PIXELS)


def mapped(folder: Path, mode: Any = "r") -> np.memmap:
    """A memory map of the pixels, behind a header."""
    path = folder / "a.bin"
    path.write_bytes(b"header" + PIXELS.tobytes())
    return np.memmap(path, PIXELS.dtype, mode, 6, PIXELS.shape)


VIEWS: dict[str, Any] = {
    "whole": lambda arr: arr,
    "slice": lambda arr: arr[:, 100:1000, ::2],
    "flipped": lambda arr: arr[::-1, ::-1, ::-3],
    "turned": lambda arr: arr.transpose(0, 2, 1),
    "plain": lambda arr: np.asarray(arr)[1],
    "of xarray": lambda arr: xr.DataArray(arr, dims=("band", "y", "x")),
}


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_maps_are_read_chunk_by_chunk(tmp_path: Path, view: Any, mode: Any) -> None:
    arr = view(mapped(tmp_path, mode))
    expected = np.array(arr)
    expected = expected if expected.ndim == 3 else expected[np.newaxis]
    delayed = ccog.write_ccog(arr, **GEO)
    assert delayed.compute() == gdal_cog(expected)


@pytest.mark.parametrize("view", list(VIEWS.values())[:-1], ids=list(VIEWS)[:-1])
def test_chunks_of_memory_maps_travel_as_places_in_their_file(tmp_path: Path, view: Any) -> None:
    arr = view(mapped(tmp_path))
    area = np.asarray(arr)[..., 5:600, 7:40]
    sent = pickle.dumps(MappedChunk(area, map_below(arr)))
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)(), area)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(ccog.StoreError, match=r"cannot read the memory map .*a\.bin"):
        pickle.loads(sent)()
    assert np.array_equal(pickle.loads(pickle.dumps(MappedChunk(area, map_below(arr))))(), area)


@pytest.mark.parametrize("kind", [np.asarray, lambda arr: xr.DataArray(arr, dims=("y", "x"))])
def test_a_resumable_write_names_a_map_by_its_place_in_the_file(tmp_path: Path, kind: Any) -> None:
    arr = mapped(tmp_path)
    names = [_name(kind(part)) for part in (arr[0], arr[1], arr[0, ::2])]
    assert len(set(names)) == 3
    assert _name(kind(np.memmap(arr.filename, arr.dtype, "r", 6, arr.shape)[0])) == names[0]
    os.utime(tmp_path / "a.bin", (1, 1))
    assert _name(kind(arr[0])) != names[0]


def test_arrays_that_cannot_become_numpy_s_are_refused_in_words() -> None:
    class Sparse(Wrapped):
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("not automatically")

        __dask_graph__ = None

    arr = xr.DataArray(Sparse(da.ones((8, 9))), dims=("y", "x"))
    with pytest.raises(ccog.ArgumentTypeError, match=r"Sparse, which .*todense"):
        ccog.plan(arr)


def test_changes_of_a_private_map_travel_with_it(tmp_path: Path) -> None:
    arr = mapped(tmp_path, "c")
    arr[:] = 7
    sent = pickle.dumps(MappedChunk(arr[:, :9], map_below(arr)))
    assert (pickle.loads(sent)() == 7).all()


def test_results_of_memory_maps_are_arrays_in_memory(tmp_path: Path) -> None:
    arr = mapped(tmp_path)
    assert map_below(arr + 1) is map_below(arr.copy()) is map_below(PIXELS) is None


def test_workers_map_the_file(tmp_path: Path, client: Any) -> None:
    delayed = ccog.write_ccog(mapped(tmp_path), **GEO)
    assert client.compute(delayed).result() == gdal_cog(PIXELS)


@pytest.mark.tried(
    "an array in memory that is changed between `write_ccog` and `compute`",
    "right: what is changed afterwards does not reach the file",
)
@pytest.mark.parametrize("kind", [np.asarray, lambda a: xr.DataArray(a, dims=("band", "y", "x"))])
def test_arrays_in_memory_may_change_before_the_write_is_computed(kind: Any) -> None:
    pixels = PIXELS.copy()
    delayed = ccog.write_ccog(kind(pixels), mask=None, **GEO)
    pixels[:] = 0
    assert delayed.compute() == gdal_cog(PIXELS)


MEMORY = """
import resource, sys
import numpy as np, xarray as xr
import ccog

kind, call, path = sys.argv[1:]
ccog.plan(np.ones((600, 600), "uint8"))
if kind == "memory":
    arr = np.ones((16000, 16000), "uint8")
else:
    arr = np.memmap(path, "uint8", "r", shape=(16000, 16000))
arr = xr.DataArray(arr, dims=("y", "x")) if kind == "xarray" else arr
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
getattr(ccog, call)(arr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("kind", "call"),
    [("memory", "plan"), ("map", "plan"), ("map", "write_ccog"), ("xarray", "write_ccog")],
)
def test_a_plan_copies_no_array_and_a_write_no_map(tmp_path: Path, kind: str, call: str) -> None:
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.truncate(16000 * 16000)
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, kind, call, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert int(done.stdout) < 50
