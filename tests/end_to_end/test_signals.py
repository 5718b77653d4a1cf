"""Signals and closed pipes: batch systems, Kubernetes, closed terminals and `head` leave nothing behind, and no lie."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from test_cli import CCOG, left
from test_forty import leave_unfinished

import ccog
from conftest import gdal_cog, terrain

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Processes inherit it where SIGHUP is ignored, as under nohup: it is not, for these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


#: What ends a program; the quick tests send one of them.
ENDING = [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]

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
    """Send the signal; what the process has said on stderr.

    Impatient supervisors send it once more. A second Ctrl-C is a person who wants no clean-up.
    """
    process.send_signal(number)
    if number != signal.SIGINT:
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


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes long to compress."""
    path = tmp_path_factory.mktemp("noise") / "in.tif"
    pixels = np.random.default_rng(0).integers(0, 99, (1, 6000, 6000), "uint8")
    profile = dict(
        driver="GTiff", count=1, height=6000, width=6000, dtype="uint8", crs="EPSG:32632"
    )
    with rasterio.open(
        path, "w", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 6e6), **profile
    ) as to:
        to.write(pixels)
    return path


_SLOWLY = ["--co", "COMPRESS=ZSTD", "--co", "LEVEL=22", "--chunks", "512"]


@pytest.mark.tried(
    "SIGTERM and SIGHUP, twice, and Ctrl-C, while `ccog create` and `rio ccog create` write to a file",
    "right: nothing is left, exit 128 + n",
)
@pytest.mark.parametrize(
    ("command", "options", "number"),
    [
        (CCOG, [], signal.SIGTERM),
        pytest.param(CCOG, [], signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(CCOG, [], signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(CCOG, ["--workers", "1"], signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(RIO, [], signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(RIO, [], signal.SIGHUP, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGHUP", "Ctrl-C", "one worker", "rio", "rio SIGHUP"],
)
def test_a_signal_leaves_nothing_of_a_copy(
    command: list[str],
    options: list[str],
    number: signal.Signals,
    noise: Path,
    temporary: Path,
    tmp_path: Path,
) -> None:
    before = left(tmp_path)
    args = [*command, "create", str(noise), str(tmp_path / "out.tif"), *_SLOWLY, *options]
    with subprocess.Popen(
        args, stdout=-1, stderr=-1, text=True, preexec_fn=heed_the_end_of_a_terminal
    ) as process:
        until(lambda: left(tmp_path) != before, process)
        err = end(process, number)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1].startswith("Aborted")
    assert (left(tmp_path), left(temporary)) == (before, [])


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_plan(
    number: signal.Signals, noise: Path, temporary: Path, tmp_path: Path
) -> None:
    before = left(tmp_path)
    args = [*CCOG, "plan", str(noise), str(tmp_path / "out.tif"), *_SLOWLY, "--sample", "999"]
    with subprocess.Popen(
        args, stdout=-1, stderr=-1, text=True, preexec_fn=heed_the_end_of_a_terminal
    ) as process:
        time.sleep(3)  # it says nothing while it samples
        err = end(process, number)
    assert (process.returncode, err) == (128 + number, f"Aborted by {number.name}!\n")
    assert (left(tmp_path), left(temporary)) == (before, [])


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_an_answer_to_a_question(number: signal.Signals, tmp_path: Path) -> None:
    leave_unfinished(tmp_path / "a.tif")
    before = left(tmp_path)
    args = [*CCOG, "uploads", "abort", str(tmp_path)]
    with subprocess.Popen(
        args, stdin=-1, stdout=-1, stderr=-1, text=True, preexec_fn=heed_the_end_of_a_terminal
    ) as process:
        assert process.stdout is not None
        assert "a.tif" in process.stdout.readline()
        time.sleep(0.3)
        err = end(process, number)
    assert process.returncode == 128 + number
    assert err.endswith(f"Aborted by {number.name}!\n")
    assert left(tmp_path) == before


#: Each sends a signal to its own process, and drops what the handler raises.
DROPPING = {
    "as Python does in a callback of a weak reference": """
        watched = {0}
        reference = weakref.ref(watched, lambda _: interrupted())
        del watched
    """,
    "as an extension module may while it is imported": """
        with contextlib.suppress(KeyboardInterrupt):
            interrupted()
    """,
}


@pytest.mark.parametrize("dropping", DROPPING.values(), ids=DROPPING)
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_heard_where_what_is_raised_is_dropped(
    number: signal.Signals, dropping: str
) -> None:
    script = f"""
def interrupted():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0.1)

@reported()
def command():
{textwrap.indent(textwrap.dedent(dropping), "    ")}
    time.sleep(60)

command()
"""
    imports = "import contextlib, os, time, weakref; from ccog.cli.reporting import reported"
    done = subprocess.run(
        [sys.executable, "-c", imports + script],
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=heed_the_end_of_a_terminal,
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr == f"Aborted by {number.name}!\n"


@pytest.mark.tried(
    "SIGTERM and SIGHUP while the server of `ccog demo --s3` starts, and while it is written to",
    "right: the server and its folder are gone",
)
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("moment", ["starting", pytest.param("writing", marks=pytest.mark.slow)])
def test_a_signal_leaves_no_server(
    moment: str, number: signal.Signals, temporary: Path, tmp_path: Path
) -> None:
    args = [*CCOG, "demo", "a.tif", "--s3", "--keep"]
    with subprocess.Popen(
        args, stdout=-1, stderr=-1, text=True, cwd=tmp_path, preexec_fn=heed_the_end_of_a_terminal
    ) as process:
        until(lambda: servers_in(temporary), process)
        time.sleep(4 if moment == "writing" else 0)
        err = end(process, number)
    assert process.returncode == 128 + number, err
    assert (servers_in(temporary), left(temporary)) == ([], [])
    assert left(tmp_path) == ["temporary"]


def servers_in(folder: Path) -> list[int]:
    """Processes that run in a folder, or below it."""
    running = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                running.append(process.pid)
    return running


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
        until(lambda: list(tmp_path.glob(".*.parts/*/manifest.json")), process)
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
