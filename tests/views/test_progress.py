"""Progress on every scheduler and screen, and the names that dask's dashboard groups tasks by."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import nbformat
import numpy as np
import pytest
from dask.utils import key_split
from nbclient import NotebookClient
from rich.console import Console

import ccog
from ccog.graph.tasks import CcogTasks
from ccog.runtime.task_names import level_of, parse_name, stage_of, task_name
from ccog.views.progress import display, live
from ccog.views.progress.state import Snapshot, Stage

TOKEN = "0123456789abcdef" * 2
ZSTD = {"compress": "zstd", "blocksize": 128}
# as in test_graph: few blocks, many, and so many that blocks are of several chunks
FORMS = {"small": (4096, 20000), "large": (0, 20000), "fused": (0, 30)}


class Recorder:
    """A screen that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []
        self.last: Snapshot | None = None
        self.closed = 0

    def show(self, now: Snapshot) -> None:
        self.seen.append(now)

    def close(self, now: Snapshot | None) -> None:
        self.last, self.closed = now, self.closed + 1


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(display, "open_display", lambda: found)
    monkeypatch.setattr(live, "_TICK_SECONDS", 0.02)
    return found


def slow(seconds: float = 0.05, side: int = 6) -> da.Array:
    """Noise in side x side chunks, each of which takes a while."""

    def block(block_id: Any) -> np.ndarray:
        time.sleep(seconds)
        return np.random.default_rng(block_id).integers(0, 60000, (256, 256), "uint16")

    sides = (256,) * side
    return da.map_blocks(
        block, chunks=(sides, sides), dtype="uint16", meta=np.empty((0, 0), "uint16")
    )


def failing(block: np.ndarray, block_info: Any = None) -> np.ndarray:
    if block_info and block_info[0]["chunk-location"] == (4, 4):
        raise RuntimeError("no such pixels")
    return block


def totals(*writes: Any) -> dict[str, int]:
    """Tasks of each stage, counted one by one."""
    found: dict[str, int] = {}
    for write in writes:
        tasks = write.dask.layers[write.key].mapping
        assert isinstance(tasks, CcogTasks)
        for key in tasks:
            stage = stage_of(key if isinstance(key, str) else key[0])
            if stage:
                found[stage] = found.get(stage, 0) + 1
    return found


def counts(now: Snapshot | None) -> tuple[dict[str, int], dict[str, int]]:
    assert now is not None
    return {s.name: s.done for s in now.stages}, {s.name: s.total for s in now.stages}


def assert_watched(screen: Recorder, expected: dict[str, int]) -> None:
    """The whole of it was shown, it began at nothing, grew, and was complete in the end."""
    assert counts(screen.last) == (expected, expected)
    assert screen.closed == 1
    steps = [now.done for now in screen.seen if now.stages]
    assert steps == sorted(steps)
    assert len(set(steps)) > 3
    assert steps[0] < sum(expected.values()) / 2


@pytest.mark.parametrize(
    ("kind", "shown", "stage"),
    [
        ("block-L0", "ccog_encode_0", "encode"),
        ("block-L2", "ccog_overview_2", "overviews"),
        ("halos-L0", "ccog_halos", None),
        ("upload-L3", "ccog_upload", "upload"),
        ("merge-1", "ccog_merge", "upload"),
        ("throttle", "ccog_throttle", None),
        ("anchor", "ccog_anchor", None),
        ("begin", "ccog_begin", None),
        ("finish", "ccog_finish", "upload"),
    ],
)
def test_names_of_tasks_say_their_stage(kind: str, shown: str, stage: str | None) -> None:
    name = task_name(kind, TOKEN)
    assert key_split((name, 0, 1)) == key_split(name) == shown
    word, _, number = kind.replace("-L", "-").partition("-")
    assert parse_name(name) == (word, int(number) if number else None)
    assert stage_of(name) == stage
    assert level_of(name) == (int(kind.split("-L")[1]) if "-L" in kind else 0)


def test_other_names_are_no_ones() -> None:
    for name in ("ccog_encode_0", "random-" + TOKEN, "ccog_upload-L0-" + TOKEN[1:]):
        with pytest.raises(ValueError, match=name):
            stage_of(name)


def test_the_dashboard_groups_tasks_by_work_and_level(client: Any) -> None:
    client.compute(ccog.write_ccog(slow(0), COG_creation_options=ZSTD)).result()
    names = set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes)))
    levels = {"ccog_encode_0"} | {f"ccog_overview_{k}" for k in range(1, 5)}
    assert levels | {"ccog_upload", "ccog_finish"} <= names


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_writes_on_threads_are_watched_to_the_end(
    form: str, method: str, screen: Recorder, change_settings: Any, tmp_path: Path
) -> None:
    few, many = FORMS[form]
    change_settings(few_blocks=few, many_blocks=many)
    writer = ccog.write_ccog(
        slow(), tmp_path / "a.tif", COG_creation_options=ZSTD | {"overview_resampling": method}
    )
    with ccog.progress():
        result = writer.compute(scheduler="threads", num_workers=2)
    assert_watched(screen, totals(writer))
    assert screen.last is not None
    assert screen.last.size == result.size


def test_counts_are_of_tasks_that_are_done(screen: Recorder) -> None:
    loaded: list[int] = []
    seen: list[tuple[int, int]] = []

    def block(block_id: Any) -> np.ndarray:
        time.sleep(0.1)  # several ticks
        shown = (
            [stage.done for stage in screen.seen[-1].stages if stage.name == "encode"]
            if screen.seen
            else []
        )
        seen.append((len(loaded), shown[0] if shown else 0))
        loaded.append(1)
        return np.ones((256, 256), "uint16")

    array = da.map_blocks(
        block, chunks=((256,) * 4,) * 2, dtype="uint16", meta=np.empty((0, 0), "uint16")
    )
    with ccog.progress():
        ccog.write_ccog(array, COG_creation_options=ZSTD).compute(scheduler="synchronous")
    assert len(seen) == 16
    # each load is fused into the task that encodes it: all that were loaded before are encoded
    assert all(done == encoded for done, encoded in seen)


def test_several_files_add_up(screen: Recorder) -> None:
    array = slow(0.02)
    writers = [ccog.write_ccog(array + n, COG_creation_options=ZSTD) for n in range(3)]
    with ccog.progress():
        dask.compute(*writers[:2], scheduler="threads", num_workers=2)
        writers[2].compute(scheduler="threads", num_workers=2)
    assert counts(screen.last) == (totals(*writers),) * 2


def test_a_file_without_overviews_has_two_bars(screen: Recorder) -> None:
    with ccog.progress():
        ccog.write_ccog(slow(0, 1), COG_creation_options={"compress": "zstd"}).compute()
    assert counts(screen.last) == ({"encode": 1, "upload": 2},) * 2


@pytest.mark.parametrize("form", ["small", pytest.param("large", marks=pytest.mark.slow)])
def test_writes_on_a_cluster_are_watched_to_the_end(
    form: str, client: Any, screen: Recorder, change_settings: Any, tmp_path: Path
) -> None:
    few, _ = FORMS[form]
    change_settings(few_blocks=few)
    writer = ccog.write_ccog(slow(0.2), tmp_path / "a.tif", COG_creation_options=ZSTD)
    with ccog.progress(client):
        result = client.compute(writer).result()
    assert_watched(screen, totals(writer))
    assert screen.last is not None
    assert screen.last.size == result.size


def test_the_default_client_is_found(client: Any, screen: Recorder) -> None:
    writers = [ccog.write_ccog(slow(0, side), COG_creation_options=ZSTD) for side in (1, 6)]
    with client.as_current(), ccog.progress():
        for writer in writers:
            writer.compute()
    assert counts(screen.last) == (totals(*writers),) * 2


def test_what_is_not_waited_for_is_not_complete(client: Any, screen: Recorder) -> None:
    # longer by far than a busy machine may halt the client between its look and ours
    writer = ccog.write_ccog(slow(2), COG_creation_options=ZSTD)
    with ccog.progress(client):
        future = client.compute(writer)
        time.sleep(1)
    done, total = counts(screen.last)
    assert total == totals(writer)
    assert done["encode"] < total["encode"]
    future.cancel()


def test_a_failure_on_threads_stops_the_bars(screen: Recorder, tmp_path: Path) -> None:
    array = slow(0.02).map_blocks(failing, dtype="uint16")
    with pytest.raises(RuntimeError, match="no such pixels"), ccog.progress():
        ccog.write_ccog(array, tmp_path / "a.tif", COG_creation_options=ZSTD).compute(
            scheduler="threads"
        )
    assert (screen.last, screen.closed) == (None, 1)


def test_a_failure_on_a_cluster_stops_the_bars(
    client: Any, screen: Recorder, tmp_path: Path
) -> None:
    array = slow(0.02).map_blocks(failing, dtype="uint16")
    writer = ccog.write_ccog(array, tmp_path / "a.tif", COG_creation_options=ZSTD)
    with pytest.raises(RuntimeError, match="no such pixels"), ccog.progress(client):
        client.compute(writer).result()
    assert (screen.last, screen.closed) == (None, 1)


def test_a_scheduler_that_is_gone_leaves_the_computation_alone(screen: Recorder) -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        gone = Client(cluster, set_as_default=False)
    gone.close()
    with ccog.progress(gone):
        ccog.write_ccog(slow(0.01), COG_creation_options=ZSTD).compute(scheduler="threads")
    assert screen.last is not None
    assert screen.last.done == screen.last.total


def test_a_display_inside_another_ends_alone(screen: Recorder) -> None:
    with ccog.progress():
        with ccog.progress():
            pass
        ccog.write_ccog(slow(0.01), COG_creation_options=ZSTD).compute(scheduler="threads")
    assert screen.last is not None
    assert screen.last.done == screen.last.total > 0


def snapshots(n: int) -> list[Snapshot]:
    return [
        Snapshot((Stage("encode", k, n), Stage("upload", k // 2, n // 2)), 1000 * k)
        for k in range(n + 1)
    ]


def test_logs_are_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(seconds: float) -> list[str]:
        monkeypatch.setattr(display, "_LINE_SECONDS", seconds)
        out = io.StringIO()
        screen = display.open_display(Console(file=out))
        for now in snapshots(5000):
            screen.show(now)
        screen.close(now)
        return out.getvalue().splitlines()

    assert lines(10.0) == ["encode 5,000/5,000, upload 2,500/2,500, 5.00 MB"]
    assert 9 <= len(lines(0.0)) <= 11
    assert all(
        re.fullmatch(r"encode [\d,]+/5,000, upload [\d,]+/2,500, [\d.]+ [kM]B", line)
        for line in lines(0.0)
    )


def test_nothing_is_printed_where_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with ccog.progress():
        pass
    assert capfd.readouterr() == ("", "")


def test_a_log_of_a_failure_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), ccog.progress():
        ccog.write_ccog(slow(0.02).map_blocks(failing, dtype="uint16")).compute(scheduler="threads")
    assert capfd.readouterr() == ("", "")


HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def in_terminal(
    args: list[str], cwd: Path, during: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> bytes:
    """What `ccog ARGS` writes to a terminal of 100 columns."""
    import pty

    ours, theirs = pty.openpty()
    run = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ccog.cli import main; main()"
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", run, *args], cwd=cwd, env=env, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        if during is not None:
            during(process)
        out = b""
        try:
            while more := os.read(ours, 65536):
                out += more
        except OSError:  # the end, on Linux
            pass
    os.close(ours)
    return out


@pytest.mark.skipif(os.name != "posix", reason="terminals")
def test_a_terminal_shows_three_bars(tmp_path: Path) -> None:
    out = in_terminal(["demo", "a.tif", "--size", "2500"], tmp_path)
    assert out.count(HIDE) >= 1
    assert out.rindex(SHOW) > out.rindex(HIDE)
    # what stays after the bars were drawn for the last time
    final = out[out.rindex(b"\x1b[1A") :]
    lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", final).decode().replace("\r", "").splitlines()
    bars, said = lines[:3], lines[-2:]
    assert [line.split()[0] for line in bars] == ["encode", "overviews", "upload"]
    assert "4/4" in bars[0]
    assert bars[2].rstrip().endswith("MB")
    assert "a.tif: " in said[0]


@pytest.mark.skipif(os.name != "posix", reason="terminals")
def test_quiet_says_nothing_in_a_terminal(tmp_path: Path) -> None:
    assert in_terminal(["demo", "a.tif", "--size", "1000", "--quiet"], tmp_path) == b""


@pytest.mark.skipif(os.name != "posix", reason="terminals")
def test_interruption_leaves_the_terminal_clean(tmp_path: Path) -> None:
    def interrupt(process: subprocess.Popen[bytes]) -> None:
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)

    out = in_terminal(["demo", "a.tif"], tmp_path, interrupt)
    assert out.rindex(SHOW) > out.rindex(HIDE)
    assert out.rstrip().endswith(b"Aborted!")
    assert b"Traceback" not in out
    assert not list(tmp_path.iterdir())


CELL = """
import ccog
from ccog import demo
with ccog.progress():
    result = ccog.write_ccog(demo.terrain(3000, 1024), "a.tif").compute()
"""


@pytest.mark.slow
def test_a_notebook_keeps_the_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    html = re.sub("<[^>]*>", "", shown[0]["data"]["text/html"])
    assert [line.split()[0] for line in html.strip().splitlines()] == [
        "encode",
        "overviews",
        "upload",
    ]
    assert "9/9" in html
