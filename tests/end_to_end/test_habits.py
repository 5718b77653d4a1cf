"""The ways in that people know from other packages: xarray accessors, rio, compute=True, types."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from click.testing import CliRunner
from rasterio.rio.main import main_group

import ccog
from conftest import terrain

SMALL: dict[str, Any] = {"blocksize": 128, "compress": "deflate"}


def raster(name: str = "a", dtype: str = "uint16", seed: int = 0) -> xr.DataArray:
    data = da.from_array(terrain((1, 300, 400), dtype, seed)[0], chunks=128)
    coords = {"y": 6e6 - 5 - 10 * np.arange(300), "x": 5e5 + 5 + 10 * np.arange(400)}
    return xr.DataArray(data, dims=("y", "x"), coords=coords, name=name).rio.write_crs(32755)


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_accessor_writes_what_write_ccog_writes(tmp_path: Path) -> None:
    arr = raster()
    expected = ccog.write_ccog(arr, COG_creation_options=SMALL).compute()
    assert arr.ccog.write(**SMALL) == expected
    result = arr.ccog.write(tmp_path / "a.tif", BLOCKSIZE=128, Compress="deflate")
    assert isinstance(result, ccog.WriteResult)
    assert (tmp_path / "a.tif").read_bytes() == expected


def test_the_accessor_hands_everything_on() -> None:
    arr = raster()
    mask = da.from_array(terrain((1, 300, 400))[0] > 20000, chunks=100)
    env = {"GDAL_TIFF_INTERNAL_MASK": "YES"}
    delayed = arr.ccog.write(
        mask=mask, rasterio_env_options=env, compute=False, nodata=3, units="m", **SMALL
    )
    expected = ccog.write_ccog(
        arr, mask=mask, COG_creation_options=SMALL | {"nodata": 3, "units": "m"}
    ).compute()
    assert delayed.compute() == expected
    with pytest.raises(ccog.OptionError, match="NONSENSE"):
        arr.ccog.write(nonsense=1)


@pytest.mark.parametrize(
    "write",
    [lambda arr: ccog.write_ccog(arr), lambda arr: arr.ccog.write(compute=False)],
    ids=["write_ccog", "accessor"],
)
def test_a_warning_names_the_line_of_the_user(write: Any) -> None:
    # chunks that are cut and joined again
    arr = xr.DataArray(da.zeros((9000, 9000), chunks=3000, dtype="uint8"), dims=("y", "x"))
    with pytest.warns(ccog.CCOGWarning, match="do not match the tiles") as warned:
        write(arr)
    assert [warning.filename for warning in warned] == [__file__]


def test_the_accessor_on_s3(s3_options: dict[str, Any]) -> None:
    result = raster().ccog.write("s3://test/accessor.tif", storage_options=s3_options, **SMALL)
    assert result.url == "s3://test/accessor.tif"
    assert ccog.inspect("s3://test/accessor.tif", s3_options).size == result.size


def test_the_accessor_plans_what_it_would_write(tmp_path: Path) -> None:
    arr, mask = raster(), da.ones((300, 400), chunks=100)
    given: dict[str, Any] = {
        "mask": mask,
        "storage_options": None,
        "rasterio_env_options": {"GDAL_NUM_THREADS": "1"},
    }
    plan = arr.ccog.plan(tmp_path / "a.tif", **given, BLOCKSIZE=128, Compress="deflate")
    assert plan == ccog.plan(arr, tmp_path / "a.tif", COG_creation_options=SMALL, **given)
    assert plan.has_mask
    assert not list(tmp_path.iterdir())
    assert xr.Dataset({"red": arr, "nir": arr}).ccog.plan().shape == (2, 300, 400)
    found = arr.ccog.plan(layout="chunk", sample=2, **SMALL)
    assert (found.layout, found.sample) == ("chunk", 2)


@pytest.mark.parametrize(
    "imports",
    ["import ccog, xarray", "import xarray, ccog", "import ccog; ccog.write_ccog; import xarray"],
)
def test_accessors_are_there_in_any_order_of_imports(imports: str) -> None:
    names = "xarray.DataArray([1]).ccog.write.__name__, xarray.Dataset().ccog.write.__name__"
    assert python(f"{imports}; print({names})") == "write write"


def test_ccog_imports_no_heavy_package_of_its_own() -> None:
    # dask.array imports xarray where it is installed
    heavy = "{'xarray', 'rioxarray', 'pandas', 'distributed', 's3fs', 'PIL', 'rio_cogeo', 'aiohttp', 'matplotlib', 'rich'}"
    code = f"import dask.array, sys; before = set(sys.modules); import ccog; print({heavy} & set(sys.modules) - before)"
    assert python(code) == "set()"


@pytest.mark.parametrize(
    "setting",
    ["{}", "{'scheduler': 'threads'}", "{'scheduler': 'Sync'}"],
    ids=["nothing said", "threads", "sync"],
)
def test_a_write_without_a_cluster_does_not_import_distributed(setting: str) -> None:
    # which takes as long as writing ten megapixels, and dask does it to learn of a client
    write = "ccog.write_ccog(numpy.ones((9, 9)))"
    code = f"""
import ccog, dask, numpy, sys
{write}.compute(**{setting})
with dask.config.set(**{setting}):
    {write}.compute()
print("distributed" in sys.modules)
"""
    assert python(code) == "False"


def test_ccog_works_without_xarray() -> None:
    write = "print(len(ccog.write_ccog(numpy.ones((9, 9))).compute()))"
    assert (
        int(python(f"import sys; sys.modules['xarray'] = None; import ccog, numpy; {write}")) > 100
    )


def test_a_dataset_becomes_bands() -> None:
    ds = xr.Dataset({"red": raster(), "nir": raster(seed=1)})
    data = ds.ccog.write(nodata=0, **SMALL)
    with rasterio.MemoryFile(data).open() as dataset:
        assert dataset.descriptions == ("red", "nir")
        assert dataset.crs == 32755
        assert dataset.transform == rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)
        assert dataset.nodata == 0
        assert np.array_equal(dataset.read(), [ds.red, ds.nir])


def test_a_dataset_keeps_nodata_and_a_grid_mapping_of_another_name() -> None:
    arrays = {name: raster(name).rio.write_nodata(7) for name in ("a", "b")}
    plain = xr.Dataset({name: arr.drop_vars("spatial_ref") for name, arr in arrays.items()})
    ds = plain.rio.write_crs(32632, grid_mapping_name="utm")
    ds["utm_name"] = "a scalar is no band"
    with rasterio.MemoryFile(ds.ccog.write(descriptions=("x", None), **SMALL)).open() as dataset:
        assert (dataset.nodata, dataset.crs, dataset.descriptions) == (7, 32632, ("x", None))


def test_datasets_that_are_not_one_raster_are_refused() -> None:
    with pytest.raises(ccog.DtypeError, match="a: uint16, b: float32"):
        xr.Dataset({"a": raster(), "b": raster(dtype="float32")}).ccog.write()
    with pytest.raises(ccog.RasterError, match=r"nodata values.*a: 1, b: 2"):
        xr.Dataset(
            {"a": raster().rio.write_nodata(1), "b": raster().rio.write_nodata(2)}
        ).ccog.write()
    with pytest.raises(ccog.RasterError, match="dimensions"):
        xr.Dataset({"a": raster(), "b": raster().expand_dims(time=2)}).ccog.write()
    with pytest.raises(ccog.RasterError, match="one raster at a time"):
        xr.Dataset({"a": raster().expand_dims(time=2)}).ccog.write()
    with pytest.raises(ccog.RasterError, match="no variable"):
        xr.Dataset({"a": 5}).ccog.write()


def test_nan_nodata_of_several_variables() -> None:
    ds = xr.Dataset({name: raster(name, "float32").rio.write_nodata(np.nan) for name in "ab"})
    with rasterio.MemoryFile(ds.ccog.write(**SMALL)).open() as dataset:
        assert np.isnan(dataset.nodata)


def test_compute_true_writes_at_once(tmp_path: Path) -> None:
    data = ccog.write_ccog(raster(), COG_creation_options=SMALL, compute=True)
    assert data == ccog.write_ccog(raster(), COG_creation_options=SMALL).compute()
    result = ccog.write_ccog(raster(), tmp_path / "a.tif", compute=True)
    assert isinstance(result, ccog.WriteResult)


def test_many_files_share_the_reads_of_their_source(tmp_path: Path) -> None:
    reads = []

    def load(block: np.ndarray) -> np.ndarray:
        reads.append(block.shape)
        return block

    source = da.from_array(terrain((1, 512, 512))[0], chunks=256).map_blocks(
        load, dtype="uint16", meta=np.empty((0, 0))
    )
    files = {"a": source, "b": source // 2, "c": source[:256]}
    writes = [
        ccog.write_ccog(arr, tmp_path / f"{name}.tif", COG_creation_options=SMALL)
        for name, arr in files.items()
    ]
    reads.clear()
    dask.compute(writes)
    assert len(reads) == 4
    for name, arr in files.items():
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            assert np.array_equal(dataset.read(1), arr.compute())


def test_rio_has_the_commands_of_ccog(tmp_path: Path) -> None:
    raster().ccog.write(tmp_path / "a.tif", **SMALL)
    rio = [sys.executable, "-c", "from rasterio.rio.main import main_group; main_group()", "ccog"]
    create = [
        *rio,
        "create",
        tmp_path / "a.tif",
        tmp_path / "b.tif",
        "--co",
        "blocksize=128",
        "--quiet",
    ]
    subprocess.run(create, check=True)
    done = CliRunner().invoke(main_group, ["ccog", "validate", str(tmp_path / "b.tif")])
    assert done.exit_code == 0
    assert "b.tif: valid" in done.output


def test_types_are_announced() -> None:
    assert resources.files("ccog").joinpath("py.typed").is_file()
