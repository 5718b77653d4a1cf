"""The command line, run as a person runs it."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import s3fs
from click.testing import CliRunner, Result
from rasterio.enums import ColorInterp, Compression
from rasterio.transform import from_origin

from ccog import demo
from ccog.cli import main
from ccog.input.opening import open_source
from ccog.input.source import chunk_shape

# a runner in the background may have had interruptions ignored
_RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ccog.cli import main; main()"
CCOG = [sys.executable, "-c", _RUN]


def ccog(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def failure(*args: object) -> str:
    """The one line that an error is."""
    result = ccog(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(autouse=True)
def _no_failed_client_stays() -> Iterator[None]:
    """A dask client that finds no scheduler is the default one until it is collected."""
    yield
    gc.collect()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tif"
    y, x = np.mgrid[0:300, 0:520]
    pixels = np.stack([y * 100 + x, y + x * 50]).astype("uint16")
    profile = dict(
        driver="GTiff", count=2, height=300, width=520, dtype="uint16", crs="EPSG:32632", nodata=7
    )
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 10, 10), **profile) as target:
        target.write(pixels)
        target.update_tags(AUTHOR="somebody", NOTE="a < b & c")
        target.update_tags(2, WAVELENGTH="865")
        target.descriptions = ("red", "nir")
        target.scales, target.offsets = (0.5, 2.0), (1.0, 0.0)
        target.units = ("m", "m")
    return path


def gdal_cog(source: Path, target: Path, **options: object) -> bytes:
    rasterio.shutil.copy(source, target, driver="COG", blocksize=128, **options)
    return target.read_bytes()


def test_create_is_what_gdal_writes(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    result = ccog(
        "create",
        small,
        out,
        "--co",
        "BLOCKSIZE=128",
        "--co",
        "compress=deflate",
        "--chunks",
        100,
    )
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout
    assert result.stdout.count("\n") == 1
    assert out.read_bytes() == gdal_cog(small, tmp_path / "gdal.tif", compress="deflate")


def test_chunks_and_workers_do_not_change_the_bytes(small: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.tif", tmp_path / "2.tif"
    assert ccog("create", small, first, "--co", "BLOCKSIZE=128").exit_code == 0
    assert (
        ccog(
            "create", small, second, "--co", "BLOCKSIZE=128", "--chunks", 77, "--workers", 1
        ).exit_code
        == 0
    )
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("word", ["DEFLATE", "deflate", "Deflate"])
def test_choices_are_read_in_any_case(word: str, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    result = ccog("create", small, out, "-p", word, "--layout", "GDAL", "--overlap", "LAST")
    assert result.exit_code == 0, result.output
    with rasterio.open(out) as found:
        assert found.compression == Compression.deflate


def test_colormap_is_kept(tmp_path: Path) -> None:
    source, out = tmp_path / "palette.tif", tmp_path / "out.tif"
    with rasterio.open(
        source, "w", driver="GTiff", count=1, height=200, width=200, dtype="uint8"
    ) as target:
        target.write(np.arange(40000, dtype="uint32").astype("uint8").reshape(1, 200, 200))
        target.write_colormap(1, {value: (value, 255 - value, 0, 255) for value in range(256)})
    result = ccog("create", source, out, "--co", "BLOCKSIZE=128")
    assert result.exit_code == 0, result.output
    with rasterio.open(out) as found:
        assert found.colorinterp[0] == ColorInterp.palette
    assert out.read_bytes() == gdal_cog(source, tmp_path / "gdal.tif")


def test_mask_is_kept(tmp_path: Path) -> None:
    source, out = tmp_path / "masked.tif", tmp_path / "out.tif"
    valid = np.ones((200, 300), bool)
    valid[50:90, 101:] = False
    profile = dict(driver="GTiff", count=1, height=200, width=300, dtype="uint8", crs="EPSG:32632")
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(source, "w", transform=from_origin(5e5, 5e6, 10, 10), **profile) as target,
    ):
        target.write(np.full((1, 200, 300), 9, "uint8"))
        target.write_mask(valid)
    result = ccog("create", source, out, "--co", "BLOCKSIZE=128", "--chunks", 64, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == gdal_cog(source, tmp_path / "gdal.tif")


def test_a_scheduler_that_does_not_answer_is_not_asked_again(tmp_path: Path) -> None:
    from distributed import default_client

    assert "nowhere" in failure("demo", tmp_path / "a.tif", "--scheduler", "nowhere")
    with pytest.raises(ValueError, match="No clients found"):
        default_client()


def test_existing_output_needs_overwrite(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_text("precious")
    assert "exists" in failure("create", small, out, "--quiet")
    assert out.read_text() == "precious"
    result = ccog("create", small, out, "--overwrite", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_input_can_be_replaced_by_itself(small: Path) -> None:
    before = open_source(str(small)).array.compute()
    assert ccog("create", small, small, "--overwrite").exit_code == 0
    assert np.array_equal(open_source(str(small)).array.compute(), before)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--co", "BLOKSIZE=128"), "BLOKSIZE"),
        (("--co", "BLOCKSIZE=100"), "100"),
        (("--co", "COMPRESS=ZIP"), "ZIP"),
        (("--co", "TILING_SCHEME=GoogleMapsCompatible"), "TILING_SCHEME"),
        (("--storage-option", "anon=true"), "anon"),
        (("--variable", "t"), "variable"),
        (("--scheduler", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options_leave_no_file(
    small: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    assert says in failure("create", small, tmp_path / "out.tif", "--quiet", *options)
    assert left(tmp_path) == ["small.tif"]


@pytest.mark.parametrize(
    "options",
    [
        ("--co", "BLOCKSIZE"),
        ("--co", "=128"),
        ("--storage-option", "key"),
        ("--chunks", "0"),
        ("--workers", "0"),
        ("--workers", "2", "--scheduler", "tcp://localhost:1"),
        ("--no-such-option",),
    ],
)
def test_wrong_usage_is_explained(small: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = ccog("create", small, tmp_path / "out.tif", *options)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_missing_input_and_output_folder(small: Path, tmp_path: Path) -> None:
    assert "absent.tif" in failure("create", tmp_path / "absent.tif", tmp_path / "out.tif")
    assert "absent.zarr" in failure("create", tmp_path / "absent.zarr", tmp_path / "out.tif")
    assert "does not exist" in failure("create", small, tmp_path / "absent" / "out.tif", "--quiet")


def test_truncated_input_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "cut.tif"
    noise = np.random.default_rng(0).integers(0, 255, (1, 600, 600), "uint8")
    profile = dict(
        driver="GTiff",
        count=1,
        height=600,
        width=600,
        dtype="uint8",
        tiled=True,
        compress="deflate",
    )
    with rasterio.open(source, "w", blockxsize=128, blockysize=128, **profile) as target:
        target.write(noise)
    source.write_bytes(source.read_bytes()[:-100_000])
    failure(
        "create", source, tmp_path / "out.tif", "--quiet", "--chunks", 128, "--co", "BLOCKSIZE=128"
    )
    assert left(tmp_path) == ["cut.tif"]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two files, the second of which covers half of the first."""
    paths = []
    for n, left in enumerate((0, 100)):
        paths.append(tmp_path / f"tile{n}.tif")
        profile = dict(count=1, height=150, width=200, dtype="uint8", crs="EPSG:32632")
        transform = from_origin(5e5 + 10 * left, 5e6, 10, 10)
        with rasterio.open(paths[n], "w", driver="GTiff", transform=transform, **profile) as target:
            target.write(np.full((1, 150, 200), n + 1, "uint8"))
    return paths


def test_several_inputs_make_one_file(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    for inputs in (pair, [tmp_path / "tile*.tif"]):
        assert ccog("create", *inputs, out, "--overwrite", "--quiet").exit_code == 0
        with rasterio.open(out) as found:
            assert found.shape == (150, 300)
            assert np.unique(found.read(1)[:, :100]) == 1
            assert np.unique(found.read(1)[:, 100:]) == 2
    assert ccog("create", *pair, out, "--overlap", "first", "--overwrite").exit_code == 0
    with rasterio.open(out) as found:
        assert np.unique(found.read(1)[:, 100:200]) == 1
    assert "300 x 150, 1 band of uint8" in ccog("plan", *pair, out).stdout


def test_several_inputs_that_do_not_fit_leave_no_file(
    small: Path, pair: list[Path], tmp_path: Path
) -> None:
    before = left(tmp_path)
    assert "number of bands is 2" in failure("create", pair[0], small, tmp_path / "out.tif")
    assert "--variable" in failure("create", *pair, tmp_path / "out.tif", "--variable", "t")
    assert left(tmp_path) == before


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_variable_of_zarr_or_netcdf_is_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("zarr" if suffix == ".zarr" else "h5netcdf")
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    path, out = tmp_path / f"data{suffix}", tmp_path / "out.tif"
    values = np.arange(300 * 400, dtype="int16").reshape(300, 400)
    coords = {"y": 5e6 - 10 * np.arange(300.0), "x": 4e5 + 10 * np.arange(400.0)}
    depth = xarray.DataArray(
        values, coords, ("y", "x"), attrs={"_FillValue": np.int16(-1), "units": "m"}
    )
    depth = depth.rio.write_crs("EPSG:32632")
    dataset = xarray.Dataset({"depth": depth, "other": depth + 1})
    dataset["depth"].encoding = (
        {"chunksizes": (100, 100)} if suffix == ".nc" else {"chunks": (100, 100)}
    )
    dataset.to_zarr(path) if suffix == ".zarr" else dataset.to_netcdf(path, engine="h5netcdf")

    assert "depth, other" in failure("create", path, out)
    assert "no variable deep" in failure("create", f"{path}:deep", out)
    for args in (
        [f"{path}:depth", out],
        [path, out, "--variable", "depth", "--chunks", 64, "--overwrite"],
    ):
        result = ccog("create", *args, "--co", "BLOCKSIZE=128")
        assert result.exit_code == 0, result.output
        with rasterio.open(out) as found:
            assert found.crs.to_epsg() == 32632
            assert found.transform == from_origin(4e5 - 5, 5e6 + 5, 10, 10)
            assert (found.nodata, found.units) == (-1, ("m",))
            assert np.array_equal(found.read(1), values)


def test_the_demo_writes_a_cog_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "demo.tif"
    result = ccog("demo", out, "--size", 1100)
    assert result.exit_code == 0, result.output
    assert "1100 x 1100" in result.stdout
    assert "3 levels" in result.stdout
    assert "Mpixel/s" in result.stdout
    with rasterio.open(out) as found:
        assert np.array_equal(found.read(1), demo.elevation(0, 1100, 0, 1100))
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.compression.name == "deflate"
    assert "exists" in failure("demo", out, "--size", 1100, "--quiet")


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_writes_to_a_server_of_its_own(
    end: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*CCOG, "demo", "a.tif", "--s3", "--keep", "--size", "1100"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(5)]
        shown = ccog(*said[4].split()[1:])
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    assert said[0] == "Starting an S3 server, which runs until Ctrl-C.\n"
    assert said[1].startswith("s3://test/a.tif: ")
    assert "3 levels" in said[2]
    assert shown.exit_code == 0, shown.output
    assert "1100 x 1100" in shown.output
    assert (process.returncode, out) == (0, ""), err
    assert re.search(r"encode (\d+)/\1,", err)
    assert left(tmp_path) == []
    # the server is gone; the first attempt says so
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    assert ccog(*said[4].split()[1:]).exit_code == 1


@pytest.mark.slow
def test_the_server_of_the_demo_ends_where_nobody_could_end_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CCOG, "demo", "a.tif", "--s3", "--size", "300"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s3://test/a.tif: ")
    assert "--keep keeps" in done.stdout
    assert "--keep is for the server" in ccog("demo", tmp_path / "b.tif", "--keep").stderr


def test_demo_terrain_has_no_seams() -> None:
    whole = demo.terrain(1500, 1500).compute()
    assert np.array_equal(demo.terrain(1500, 333).compute(), whole)
    assert int(np.abs(np.diff(whole.astype(int))).max()) < 12


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*CCOG, "demo", tmp_path / "demo.tif"], stdout=-1, stderr=-1, text=True
    ) as process:
        wait_for_part(tmp_path, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Aborted!" in err
    assert "Traceback" not in err
    assert left(tmp_path) == []


def wait_for_part(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not left(folder):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_cluster_writes_the_same_bytes(client: Any, small: Path, tmp_path: Path) -> None:
    local, remote = tmp_path / "local.tif", tmp_path / "remote.tif"
    assert ccog("create", small, local, "--co", "BLOCKSIZE=128").exit_code == 0
    args = ["create", str(small), str(remote), "--co", "BLOCKSIZE=128", "--chunks", "128"]
    args += ["--scheduler", client.scheduler.address]
    done = subprocess.run([*CCOG, *args], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1
    assert local.read_bytes() == remote.read_bytes()


@pytest.mark.parametrize(
    ("shape", "block", "pixel", "expected"),
    [
        ((50000, 50000), (512, 512), 2, (4096, 4096)),
        ((50000, 50000), (256, 256), 12, (2048, 2048)),
        ((50000, 50000), (1, 50000), 2, (512, 50000)),
        ((1093, 1310), (3, 1310), 2, (3072, 4096)),
    ],
)
def test_chunk_shape(
    shape: tuple[int, int], block: tuple[int, int], pixel: int, expected: tuple[int, int]
) -> None:
    assert chunk_shape(*shape, block, pixel) == expected
