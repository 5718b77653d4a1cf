"""Signals and closed pipes: batch systems, Kubernetes, closed terminals and `head` leave nothing behind, and no lie."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from test_cli import CCOG, left

import ccog
from conftest import gdal_cog, terrain

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Processes inherit it where SIGHUP is ignored, as under nohup: it is not, for these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# as rasterio starts it
RIO = [sys.executable, "-c", "from rasterio.rio.main import main_group; main_group()", "ccog"]


def until(done: Callable[[], Any], process: subprocess.Popen[Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def heed_the_end_of_a_terminal() -> None:
    """In a child of tests that may themselves run under nohup, which is handed down."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send the signal, and once more, as impatient supervisors do; what the process has said on stderr."""
    process.send_signal(number)
    time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    return err


@pytest.mark.tried(
    "SIGTERM and SIGHUP, twice, while `ccog demo` writes to a file",
    "right: nothing is left, exit 128 + n",
)
@pytest.mark.parametrize(
    ("command", "number"),
    [
        (CCOG, signal.SIGTERM),
        (CCOG, signal.SIGHUP),
        pytest.param(RIO, signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGHUP", "rio ccog"],
)
def test_a_signal_leaves_nothing_of_a_file(
    command: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    args = [*command, "demo", str(tmp_path / "a.tif"), "--quiet"]
    with subprocess.Popen(
        args, stderr=subprocess.PIPE, text=True, preexec_fn=heed_the_end_of_a_terminal
    ) as process:
        until(lambda: left(tmp_path), process)
        err = end(process, number)
    assert process.returncode == 128 + number, err
    assert err == f"Aborted by {number.name}!\n"
    assert left(tmp_path) == []


@pytest.mark.tried("SIGTERM while `ccog demo` uploads to S3", "right: no upload is left")
@pytest.mark.parametrize("cluster", [False, True], ids=["threads", "cluster"])
def test_a_signal_leaves_nothing_on_s3(
    request: pytest.FixtureRequest, s3_options: dict[str, Any], tmp_path: Path, cluster: bool
) -> None:
    url = f"s3://test/signals/{tmp_path.name}.tif"
    args = [
        *CCOG,
        "demo",
        url,
        "--quiet",
        *(f"--storage-option={key}={value}" for key, value in s3_options.items()),
    ]
    if cluster:
        args += ["--scheduler", request.getfixturevalue("client").scheduler.address]
    with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: ccog.list_incomplete(url, s3_options), process)
        err = end(process, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert not ccog.list_incomplete(url, s3_options)


def test_what_can_be_resumed_stays(tmp_path: Path) -> None:
    args = [*CCOG, "demo", str(tmp_path / "a.tif"), "--quiet", "--resume"]
    with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: list(tmp_path.glob(".*.parts/manifest.json")), process)
        end(process, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert [upload.resumable for upload in ccog.list_incomplete(tmp_path / "a.tif")] == [True]


@pytest.mark.tried("SIGHUP under nohup", "right: ignored, the file is written")
def test_nohup_is_respected(tmp_path: Path) -> None:
    args = ["nohup", *CCOG, "demo", str(tmp_path / "a.tif"), "--quiet", "--size", "4096"]
    with subprocess.Popen(
        args, stdout=-1, stderr=-1, stdin=subprocess.DEVNULL, text=True
    ) as process:
        until(lambda: left(tmp_path), process)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert left(tmp_path) == ["a.tif"]


@pytest.mark.tried("a terminal that is closed while `ccog demo` writes", "right: nothing is left")
def test_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        heed_the_end_of_a_terminal()
        os.execv(CCOG[0], [*CCOG, "demo", str(tmp_path / "a.tif")])
    deadline = time.monotonic() + 120
    while not left(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert left(tmp_path) == []


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tif"
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": 300,
        "width": 400,
        "dtype": "uint8",
        "crs": "EPSG:32632",
    }
    with rasterio.open(
        path, "w", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 6e6), **profile
    ) as target:
        target.write(np.arange(120_000).reshape(1, 300, 400).astype("uint8"))
        target.update_tags(NOTE="which makes ccog say something on stderr")
    return path


def unread(args: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run with a standard output whose reader has gone before anything is written, as after `head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [*CCOG, *args], stdout=writing, timeout=120, check=False, text=True, **kwargs
        )
    finally:
        os.close(writing)


@pytest.mark.tried(
    "a closed stdout, or stdout and stderr, as of `| head -0`", "right: exit code 0 of a right file"
)
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stderr too"])
def test_nobody_reading_does_not_fail_a_write(small: Path, tmp_path: Path, both: bool) -> None:
    out = tmp_path / "out.tif"
    done = unread(
        ["create", str(small), str(out)], stderr=subprocess.STDOUT if both else subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr
    assert both or "Error" not in done.stderr
    with rasterio.open(out) as found:
        assert found.shape == (300, 400)


@pytest.mark.tried(
    "`ccog validate` of a file that is cut off, with nobody reading", "right: exit code 1"
)
def test_nobody_reading_does_not_make_a_wrong_file_right(tmp_path: Path) -> None:
    cut = tmp_path / "cut.tif"
    cut.write_bytes(gdal_cog(terrain((1, 300, 300)), {"blocksize": 128})[:-100])
    done = unread(["validate", str(cut)], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "")
