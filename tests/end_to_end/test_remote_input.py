"""INPUT on other machines: what leads there also reaches the tasks that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import s3fs
import xarray as xr
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from test_cli import ccog as command
from test_cli import failure

import ccog
from ccog.input.opening import open_source
from range_server import range_server_apart

WORD = "a-secret-word"
#: For GDAL, which sends the word with each request.
CONFIG = {"GDAL_HTTP_HEADERS": f"X-Word: {WORD}", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two files side by side, with overviews, a mask and more bytes than GDAL reads to open them."""
    paths = []
    for n in range(2):
        path = tmp_path / f"{n}.tif"
        pixels = np.random.default_rng(n).integers(1, 255, (1, 700, 800), "uint8")
        place = from_origin(5e5 + 8000 * n, 5e6, 10, 10)
        profile = dict(
            driver="GTiff", count=1, height=700, width=800, dtype="uint8", crs="EPSG:32632"
        )
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", transform=place, **profile) as target,
        ):
            target.write(pixels)
            target.write_mask(pixels[0] > 20)
        with rasterio.open(path, "r+") as target:
            target.build_overviews([2], Resampling.average)
        paths.append(path)
    return paths


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("on", ["threads", "cluster"])
def test_tasks_read_input_with_options_of_gdal(
    inputs: int, on: str, request: pytest.FixtureRequest, pair: list[Path], tmp_path: Path
) -> None:
    chosen = pair[:inputs]
    local, remote = tmp_path / "local.tif", tmp_path / "remote.tif"
    args = ["--chunks", 256, "--blocksize", 128, "-q"]
    assert command("create", *chosen, local, *args).exit_code == 0
    if on == "cluster":
        args += ["--scheduler", request.getfixturevalue("client").scheduler.address]
    with range_server_apart(tmp_path, WORD) as server:
        urls = [f"{server.url}/{path.name}" for path in chosen]
        config = [f"--config={key}={value}" for key, value in CONFIG.items()]
        done = command("create", *urls, remote, *args, *config)
    assert done.exit_code == 0, done.output
    assert remote.read_bytes() == local.read_bytes()


def test_input_that_may_not_be_read_is_an_error(pair: list[Path], tmp_path: Path) -> None:
    with range_server_apart(tmp_path, WORD) as server:
        assert "403" in failure("create", f"{server.url}/{pair[0].name}", tmp_path / "out.tif")


def test_rasterio_env_options_reach_the_tasks_and_stay_secret(
    pair: list[Path], tmp_path: Path
) -> None:
    with range_server_apart(tmp_path, WORD) as server:
        writer = ccog.write_ccog(f"{server.url}/0.tif", rasterio_env_options=CONFIG)
        assert WORD not in repr(dict(writer.__dask_graph__()))
        assert writer.compute() == ccog.write_ccog(pair[0]).compute()


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_variable_on_s3_is_read_with_storage_options(
    suffix: str, s3_options: dict[str, Any], tmp_path: Path
) -> None:
    local, url = tmp_path / f"a{suffix}", f"s3://test/variables/a{suffix}"
    coords = {"y": 5e6 - 10 * np.arange(300.0), "x": 4e5 + 10 * np.arange(400.0)}
    values = np.arange(300 * 400, dtype="int16").reshape(300, 400)
    depth = xr.DataArray(values, coords, ("y", "x")).rio.write_crs("EPSG:32632")
    dataset = xr.Dataset({"depth": depth})
    dataset.to_zarr(local) if suffix == ".zarr" else dataset.to_netcdf(local, engine="h5netcdf")
    s3fs.S3FileSystem(**s3_options).put(str(local), url, recursive=True)
    given = [f"--storage-option={key}={value}" for key, value in s3_options.items()]
    for output in ("s3://test/variables/out.tif", tmp_path / "out.tif"):
        done = command("create", f"{url}:depth", output, "-q", "--overwrite", *given)
        assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "out.tif") as written:
        assert np.array_equal(written.read(1), values)
    source = open_source(f"{url}:depth", storage=s3_options)
    assert s3_options["secret"] not in repr(dict(source.array.__dask_graph__()))
    assert "cannot open s3://test/variables/a" in failure(
        "create", f"{url}:depth", tmp_path / "b.tif"
    )


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ccog.input.variables.find_spec", lambda _: None)
    assert "pip install zarr" in failure("create", "a.zarr:depth", tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("scheme", "server"),
    [("az", "azure_options"), ("abfs", "azure_options"), ("gs", "gcs_options")],
)
def test_files_of_other_stores_are_read_with_storage_options(
    scheme: str, server: str, request: pytest.FixtureRequest, pair: list[Path], tmp_path: Path
) -> None:
    options = request.getfixturevalue(server)
    given = [f"--storage-option={key}={value}" for key, value in options.items()]
    url, out, local = (
        f"{scheme}://test/input/{scheme} a.tif",
        tmp_path / "out.tif",
        tmp_path / "local.tif",
    )
    assert command("create", pair[0], url, "-q", *given).exit_code == 0
    assert command("create", pair[0], local, "-q").exit_code == 0
    done = command("create", url, out, "-q", *given)
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == local.read_bytes()


@pytest.mark.parametrize(
    ("url", "option", "says"),
    [
        ("s3://bucket/a.tif", "profile=me", "give key, secret, token, anon, endpoint_url, or GDAL"),
        ("az://bucket/a.tif", "key=me", "give account_name, account_key"),
        ("https://host/a.tif", "anon=true", "give GDAL's own options: --config KEY=VALUE"),
    ],
)
def test_storage_options_that_gdal_does_not_know_are_refused(
    url: str, option: str, says: str, tmp_path: Path
) -> None:
    assert says in failure("create", url, tmp_path / "a.tif", "--storage-option", option)
