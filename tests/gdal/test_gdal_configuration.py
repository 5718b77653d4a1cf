"""Configuration options of GDAL, set anywhere: the file is right, or the option is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.env import get_gdal_config

import ccog
import configurations
from ccog import errors
from ccog.cli import main
from ccog.gdal.environment import WithEnv
from ccog.gdal_configuration import HONOURED, NEUTRAL, REFUSED
from ccog.versions import Libraries
from configurations import Setting, outcome
from conftest import GEO, gdal_cog, terrain

SETTINGS = list(configurations.settings())
OPTIONS = {"compress": "deflate", "blocksize": 128, **GEO}


@pytest.fixture(autouse=True, scope="module")
def _plain_files() -> None:
    configurations.prepare()


def test_no_option_is_on_two_lists() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(names) == len(set(names)) > 90


@pytest.mark.tried(
    "Every configuration option of GDAL's GTiff and COG drivers that decides what a file holds, "
    "in rasterio_env_options, rasterio.Env and the environment",
    "as GDAL, or as without the option, or refused by name",
)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_option_of_gdal_is_honoured_neutral_or_refused(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = setting.kind
    assert outcome(setting, {setting.name.lower(): setting.value}) == expected
    with rasterio.Env(**{setting.name: setting.value}):
        assert outcome(setting) == expected
    monkeypatch.setenv(setting.name, setting.value)
    assert outcome(setting) == expected


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@pytest.fixture
def on_worker(client: Any) -> Any:
    """Sets options in the environment of one worker, until the test is over."""
    worker, names = next(iter(client.scheduler_info()["workers"])), []

    def set_there(name: str, value: str) -> None:
        names.append(name)
        client.run(_set, name, value, workers=[worker])

    yield set_there
    for name in names:
        client.run(_set, name, None, workers=[worker])


def _pixels() -> np.ndarray:
    return terrain((3, 600, 700), "uint8")


def _written(client: Any, **options: Any) -> bytes:
    array = da.from_array(_pixels(), chunks=(3, 128, 128))
    delayed = ccog.write_ccog(array, **(OPTIONS | options))
    written: bytes = client.compute(delayed).result()
    return written


@pytest.mark.tried(
    "Configuration options of GDAL in the environment of one worker only",
    "the file is the same; an option that is refused is named",
)
@pytest.mark.parametrize("options", [{}, {"statistics": "yes"}, {"compress": "jpeg"}])
def test_the_environment_of_one_worker_changes_no_byte(
    client: Any, on_worker: Any, options: dict[str, Any]
) -> None:
    for setting in SETTINGS:
        if setting.name in {*HONOURED, *NEUTRAL}:
            on_worker(setting.name, setting.value)
    expected = gdal_cog(_pixels(), {"blocksize": 128, "compress": "deflate"} | options)
    assert _written(client, **options) == expected
    on_worker("COMPRESS_OVERVIEW", "LZW")
    with pytest.raises(errors.OptionError, match=r"COMPRESS_OVERVIEW=LZW is set.*all workers"):
        _written(client, **options)


@pytest.mark.tried(
    "Configuration options of GDAL that change what files read as, on one worker only",
    "the source is read as the client reads it",
)
def test_the_environment_of_one_worker_changes_nothing_that_is_read(
    client: Any, on_worker: Any, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.tif", tmp_path / "target.tif"
    source.write_bytes(gdal_cog(_pixels(), {"compress": "jpeg", "blocksize": 128}))
    with rasterio.open(source) as opened:
        expected = opened.read()
    for name, value in (("CONVERT_YCBCR_TO_RGB", "NO"), ("GTIFF_FORCE_RGBA", "YES")):
        on_worker(name, value)
    writing = {"compress": "deflate", "blocksize": 128}
    client.compute(ccog.write_ccog(str(source), str(target), **writing)).result()
    with rasterio.open(target) as written:
        np.testing.assert_array_equal(written.read(), expected)


def test_the_command_line_refuses_options_of_overviews(tmp_path: Path) -> None:
    source = tmp_path / "source.tif"
    source.write_bytes(gdal_cog(_pixels()))
    words = ["create", str(source), str(tmp_path / "target.tif"), "-p", "zstd"]
    result = CliRunner().invoke(main, [*words, "--config", "COMPRESS_OVERVIEW=DEFLATE"])
    assert result.exit_code
    assert "give overview_compress=" in result.output
    assert not (tmp_path / "target.tif").exists()


def test_workers_use_the_value_that_the_client_finds(client: Any) -> None:
    with rasterio.Env(GDAL_TIFF_DEFLATE_SUBCODEC="ZLIB"):
        expected = gdal_cog(_pixels(), {"blocksize": 128, "compress": "deflate"})
        array = da.from_array(_pixels(), chunks=(3, 128, 128))
        delayed = ccog.write_ccog(array, **OPTIONS)
    assert client.compute(delayed).result() == expected


def test_options_end_with_the_variables_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = "GTIFF_ALPHA", "TIFF_USE_OVR"
    for name in names:
        monkeypatch.setenv(name, "YES")
    ccog.write_ccog(np.ones((9, 9), "uint8")).compute(scheduler="sync")
    monkeypatch.undo()
    assert [get_gdal_config(name) for name in names] == [None, None]


def test_values_that_change_nothing_are_taken() -> None:
    usual = {"GDAL_OVR_PROPAGATE_NODATA": False, "GDAL_TIFF_ENDIANNESS": "little"}
    assert ccog.write_ccog(np.ones((9, 9), "uint8"), rasterio_env_options=usual).compute()


@pytest.mark.tried(
    "An option of GDAL that ccog does not know changes tiles, or the header",
    "the write fails: the tags of tiles and header differ",
)
@pytest.mark.parametrize(
    ("name", "value", "options", "message"),
    [
        ("COMPRESS_OVERVIEW", "LZW", {}, r"would differ in compression \(5 and 8\)"),
        ("COMPRESS_OVERVIEW", "LZW", {"compress": "none"}, r"compression \(5 and 1\)"),
        ("JPEG_QUALITY_OVERVIEW", "95", {"compress": "jpeg"}, "would differ in jpeg_tables"),
        ("GDAL_TIFF_OVR_BLOCKSIZE", "256", {}, r"its tiles have sides of \(128, 256\) pixels"),
        ("GDAL_TIFF_ENDIANNESS", "BIG", {}, "GDAL writes big-endian TIFFs here"),
    ],
)
def test_an_unknown_option_makes_no_wrong_file(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, options: dict[str, Any], message: str
) -> None:
    others = {key: refusal for key, refusal in REFUSED.items() if key != name}
    monkeypatch.setattr(ccog.gdal_configuration, "REFUSED", others)
    call = {**OPTIONS, **options}
    failure = pytest.raises((errors.OptionError, errors.EncodeError), match=message)
    with rasterio.Env(**{name: value}), failure:
        ccog.write_ccog(_pixels(), **call).compute(scheduler="sync")


@pytest.mark.tried("A worker has another GDAL than the client", "refused: both versions are named")
def test_a_worker_with_another_gdal_is_refused(client: Any) -> None:
    worker = next(iter(client.scheduler_info()["workers"]))
    array = da.from_array(_pixels(), chunks=(3, 128, 128))
    for name, shown in (("__gdal_version__", "GDAL 3.0.0"), ("__version__", "rasterio 3.0.0")):
        real = getattr(rasterio, name)
        client.run(setattr, rasterio, name, "3.0.0", workers=[worker])
        try:
            here = (
                f"the client rasterio {rasterio.__version__} with GDAL {rasterio.__gdal_version__}"
            )
            with pytest.raises(errors.EncodeError, match=f"(?s){shown}.*{here}"):
                client.compute(ccog.write_ccog(array, **OPTIONS)).result()
        finally:
            client.run(setattr, rasterio, name, real, workers=[worker])


def test_the_same_gdal_is_taken() -> None:
    assert WithEnv((), Libraries.here())(int, "7") == 7
