"""200 GiB of pixels to S3 on this machine: python benchmarks/dense.py [--side 327680] [--folder FOLDER] [--phase PHASE ...].

The raster (``dense_pixels.py``) is written in chunks of 4096 by two threads. Phases, by default all but ``write``:

write      writes it at once
kill       writes it with resume=True, is killed by SIGKILL when half of the chunks are made, and continues
validate   runs ``ccog validate``
windows    compares 1,000 random windows of random levels, read by GDAL through /vsis3/, with what they must be
processes  writes it again, by two process workers of 2 GB, and compares ETags
report     writes docs/tables/dense.md and docs/images/dense.svg

FOLDER, by default one of the temporary directory, keeps the server's files and ``figures.jsonl`` between calls; remove it
in the end. Two files are kept, each of about a twentieth of the bytes of its pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import dask
import dask.array as da
import dense_pixels
import numpy as np
import psutil
import rasterio
from rasterio.windows import Window

import ccog
from ccog.views.drawing import Drawing, line, text
from servers import seaweedfs

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHUNK = 4096
WINDOWS = 1000
LARGEST_WINDOW = 600
SAMPLE_SECONDS = 0.5
URL, URL_OF_WORKERS = "s3://test/dense.tif", "s3://test/workers.tif"
OPTIONS: dict[str, Any] = {"compress": "zstd", "level": 1, "overview_resampling": "average", "bigtiff": "yes",
                           "crs": "EPSG:32755", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0)}  # fmt: skip
PHASES = ("write", "kill", "validate", "windows", "processes", "report")
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f")
# the plot: sizes in pixels, marks on each axis, points of a line
WIDTH, HEIGHT, LEFT, GAP, LEGEND = 640, 180, 60, 60, 200
MARKS, POINTS = 5, 300

WRITER = "process that writes"

# made here, in a process that is to be killed half way
_made = itertools.count(1)


class Figures(NamedTuple):
    """What was found, one JSON object a line."""

    path: Path

    def add(self, phase: str, **found: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"phase": phase, **found}) + "\n")
        shown = {key: value for key, value in found.items() if key != "memory"}
        print(f"{phase}: {json.dumps(shown)}", flush=True)

    def all(self) -> dict[str, dict[str, Any]]:
        """The last of each phase."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return {found["phase"]: found for found in map(json.loads, lines)}


# ---- a process that writes


def mortal_block(block_info: Any) -> np.ndarray:
    """A chunk; the process dies when it has made as many as it is told by the environment."""
    if next(_made) == int(os.environ.get("DENSE_DIES_AFTER", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return dense_pixels.block(block_info)


def mortal_raster(side: int) -> da.Array:
    """The raster, by the name that a process has which continues the write."""
    chunks = da.core.normalize_chunks(CHUNK, (side, side))
    return da.map_blocks(mortal_block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"),
                         name=f"dense-{side}")  # fmt: skip


def write(side: int, how: str, storage: dict[str, Any]) -> None:
    """Write by threads, at once (``write``) or so that it can be continued (``kill``), or by ``processes``."""
    given: dict[str, Any] = {"COG_creation_options": OPTIONS, "storage_options": storage}
    started = time.perf_counter()
    if how == "processes":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, memory_limit="2GB", dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            pids = {worker.pid for worker in cluster.workers.values()}
            delayed = ccog.write_ccog(dense_pixels.raster(side, CHUNK), URL_OF_WORKERS, **given)
            result = client.compute(delayed).result()
            assert pids == {worker.pid for worker in cluster.workers.values()}, (
                "a worker was restarted"
            )
    else:
        with dask.config.set(scheduler="threads", num_workers=2):
            result = ccog.write_ccog(
                mortal_raster(side), URL, resume=how == "kill", **given
            ).compute()
    print(
        json.dumps(
            {"seconds": time.perf_counter() - started, "size": result.size, "etag": result.etag}
        )
    )


# ---- what is watched from outside


def role_of(process: psutil.Process) -> str:
    """What a process is for, by its command line."""
    command = " ".join(process.cmdline())
    if "weed" in command:
        return "S3 server"
    if "spawn_main" in command:
        return f"worker {process.pid}"
    return "" if "resource_tracker" in command else WRITER


class Watch:
    """Samples the resident memory of processes, in MB, until the block ends."""

    def __init__(self, roots: list[int]) -> None:
        self.samples: dict[str, list[tuple[float, float]]] = {}
        self.peaks: dict[str, float] = {}
        self.started = time.perf_counter()
        self._roots = roots
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for process in self._processes():
                with contextlib.suppress(psutil.Error, OSError):
                    self._look_at(process)

    def _processes(self) -> Iterator[psutil.Process]:
        for pid in self._roots:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(pid)
                yield from (root, *root.children(recursive=True))

    def _look_at(self, process: psutil.Process) -> None:
        role = role_of(process)
        if role:
            at = round(time.perf_counter() - self.started, 1)
            resident, peak = resident_megabytes(process.pid)
            self.samples.setdefault(role, []).append((at, resident))
            self.peaks[role] = max(peak, self.peaks.get(role, 0))


def resident_megabytes(pid: int) -> tuple[float, float]:
    """Memory of a process now, and the most that it had."""
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = (re.search(rf"{name}:\s*(\d+)", status) for name in ("VmRSS", "VmHWM"))
    now, peak = (round(int(size[1]) * 1024 / 1e6) if size else 0 for size in sizes)
    return now, peak


def run_writer(
    side: int, how: str, storage: dict[str, Any], env: dict[str, str] | None = None
) -> tuple[dict[str, Any] | None, Watch]:
    """Write in a process of its own; what it says in the end is None if it was killed."""
    command = [sys.executable, __file__, "--side", str(side), "--writer", how, json.dumps(storage)]
    writer = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | (env or {})
    )
    servers = [
        child.pid for child in psutil.Process().children() if "weed" in " ".join(child.cmdline())
    ]
    with Watch([writer.pid, *servers]) as watch:
        said, _ = writer.communicate()
    if writer.returncode == -signal.SIGKILL:
        return None, watch
    assert writer.returncode == 0, writer.returncode
    return json.loads(said.splitlines()[-1]), watch


def in_one_go(side: int, how: str, storage: dict[str, Any]) -> dict[str, Any]:
    found, watch = run_writer(side, how, storage)
    assert found is not None
    return {**found, "peaks": watch.peaks, "memory": watch.samples}


def killed_and_continued(side: int, storage: dict[str, Any]) -> dict[str, Any]:
    half = (-(-side // CHUNK)) ** 2 // 2
    started = time.perf_counter()
    nothing, before = run_writer(side, "kill", storage, {"DENSE_DIES_AFTER": str(half)})
    assert nothing is None, "it ended before it was to be killed"
    killed_after = time.perf_counter() - started
    found, after = run_writer(side, "kill", storage)
    assert found is not None
    peaks = {role: max(before.peaks.get(role, 0), peak) for role, peak in after.peaks.items()}
    memory = {
        role: [*before.samples.get(role, []), *((at + killed_after, size) for at, size in samples)]
        for role, samples in after.samples.items()
    }
    seconds = killed_after + found["seconds"]
    return {
        **found,
        "seconds": seconds,
        "killed_after": killed_after,
        "peaks": peaks,
        "memory": memory,
    }


# ---- what was written


def validate(storage: dict[str, Any]) -> dict[str, Any]:
    options = itertools.chain(
        *(("--storage-option", f"{key}={value}") for key, value in storage.items())
    )
    run = "from ccog.cli import main; main(prog_name='ccog')"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", run, "validate", URL, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {"seconds": time.perf_counter() - started, "said": done.stdout.strip()}


def environment(storage: dict[str, Any]) -> dict[str, str]:
    """How GDAL finds the server; rasterio takes no keys as options."""
    os.environ |= {"AWS_ACCESS_KEY_ID": storage["key"], "AWS_SECRET_ACCESS_KEY": storage["secret"]}
    return {
        "AWS_S3_ENDPOINT": storage["endpoint_url"].removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    }


def compare_windows(side: int, storage: dict[str, Any]) -> dict[str, Any]:
    """Windows of each level in turn, of random sides and places."""
    rng = np.random.default_rng(1)
    started = time.perf_counter()
    pixels = 0
    with rasterio.Env(**environment(storage)):
        with rasterio.open("/vsis3/test/dense.tif") as dataset:
            levels = 1 + len(dataset.overviews(1))
        for level in range(levels):
            how = {"overview_level": level - 1} if level else {}
            with rasterio.open("/vsis3/test/dense.tif", **how) as dataset:
                assert dataset.shape == (side >> level, side >> level)
                for _ in range(WINDOWS * (level + 1) // levels - WINDOWS * level // levels):
                    pixels += compare_window(dataset, level, rng)
    return {
        "seconds": time.perf_counter() - started,
        "windows": WINDOWS,
        "levels": levels,
        "pixels": pixels,
    }


def compare_window(dataset: Any, level: int, rng: np.random.Generator) -> int:
    most = min(LARGEST_WINDOW, *dataset.shape)
    height, width = (int(n) for n in rng.integers(1, most, 2, endpoint=True))
    top = int(rng.integers(0, dataset.height - height, endpoint=True))
    left = int(rng.integers(0, dataset.width - width, endpoint=True))
    found = dataset.read(1, window=Window(left, top, width, height))
    np.testing.assert_array_equal(found, dense_pixels.window(level, top, left, height, width))
    return found.size


# ---- the report

NAMES = {"write": "two threads", "kill": "two threads, killed at half and continued",
         "processes": "two process workers of 2 GB"}  # fmt: skip


def report(side: int, figures: dict[str, dict[str, Any]]) -> None:
    pixels = 2 * side**2
    lines = [
        f"{side:,} x {side:,} uint16, {pixels / 2**30:.0f} GiB of pixels:\n",
        "| written by | minutes | MB/s of pixels | file, GB | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for phase in (name for name in NAMES if name in figures):
        found = figures[phase]
        peaks = "; ".join(
            f"{shown(role, phase)} {peak:,.0f}" for role, peak in sorted(found["peaks"].items())
        )
        lines.append(f"| {NAMES[phase]} | {found['seconds'] / 60:.1f} | {pixels / found['seconds'] / 1e6:.0f} | "
                     f"{found['size'] / 1e9:.1f} | {peaks} |")  # fmt: skip
    (DOCS / "tables" / "dense.md").write_text("\n".join(lines) + "\n")
    plotted = [figures[phase] for phase in NAMES if phase in figures]
    (DOCS / "images" / "dense.svg").write_text(plot(plotted).svg)


def shown(role: str, phase: str) -> str:
    """A worker without the number of its process; beside workers another process only leads."""
    if role.startswith("worker"):
        return "worker"
    return "client and scheduler" if (role, phase) == (WRITER, "processes") else role


def plot(runs: list[dict[str, Any]]) -> Drawing:
    """Memory over time, a panel for each run."""
    samples = list(itertools.chain(*(itertools.chain(*run["memory"].values()) for run in runs)))
    scale = Scale(max(at for at, _ in samples), max(size for _, size in samples))
    panels = [panel(run, scale, n * (HEIGHT + GAP) + GAP / 2) for n, run in enumerate(runs)]
    return Drawing(
        LEFT + WIDTH + LEGEND, len(runs) * (HEIGHT + GAP), tuple(itertools.chain(*panels))
    )


class Scale(NamedTuple):
    """What lies at the right and upper end of the axes of all panels."""

    seconds: float
    megabytes: float


def panel(run: dict[str, Any], scale: Scale, top: float) -> list[str]:
    bottom, right = top + HEIGHT, LEFT + WIDTH
    shapes: list[str] = [text(LEFT, top - 8, f"{NAMES[run['phase']]}: MB over minutes", 13)]
    for mark in range(MARKS + 1):
        y, x = bottom - HEIGHT * mark / MARKS, LEFT + WIDTH * mark / MARKS
        shapes.append(line(LEFT, y, right, y, "#dddddd", 1))
        shapes.append(text(8, y + 4, f"{scale.megabytes * mark / MARKS:,.0f}"))
        shapes.append(text(x - 8, bottom + 16, f"{scale.seconds * mark / MARKS / 60:.1f}"))
    if killed_after := run.get("killed_after"):
        x = LEFT + WIDTH * killed_after / scale.seconds
        shapes += [line(x, top, x, bottom, "#333333", 1), text(x + 4, top + 12, "killed")]
    for k, (role, samples) in enumerate(sorted(run["memory"].items())):
        colour, y = COLOURS[k % len(COLOURS)], top + 20 * k
        places = [
            (LEFT + WIDTH * at / scale.seconds, bottom - HEIGHT * size / scale.megabytes)
            for at, size in thinned(samples)
        ]
        shapes += [line(*start, *stop, colour, 1.5) for start, stop in itertools.pairwise(places)]
        shapes.append(line(right + 16, y, right + 32, y, colour, 3))
        shapes.append(text(right + 38, y + 4, shown(role, run["phase"])))
    return shapes


def thinned(samples: list[list[float]]) -> list[list[float]]:
    """So few samples that a plot shows them all, each the largest of its neighbours."""
    step = math.ceil(len(samples) / POINTS)
    return [
        max(samples[at : at + step], key=lambda sample: sample[1])
        for at in range(0, len(samples), step)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=327_680)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "ccog-dense"))
    parser.add_argument("--phase", nargs="+", choices=PHASES, default=PHASES[1:])
    parser.add_argument("--writer", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.writer:
        how, storage = asked.writer
        write(asked.side, how, json.loads(storage))
        return
    assert asked.side % CHUNK == 0, "a side is whole chunks"
    assert asked.side <= 512 << dense_pixels.MOST_OVERVIEWS, (
        "the pixels of lower levels are not known"
    )
    asked.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures(asked.folder / "figures.jsonl")
    if set(asked.phase) - {"report"}:
        with seaweedfs(asked.folder) as storage:
            run_phases(asked.side, asked.phase, storage, figures)
    if "report" in asked.phase:
        report(asked.side, figures.all())


def run_phases(side: int, phases: list[str], storage: dict[str, Any], figures: Figures) -> None:
    if "write" in phases:
        figures.add("write", **in_one_go(side, "write", storage))
    if "kill" in phases:
        figures.add("kill", **killed_and_continued(side, storage))
    if "validate" in phases:
        figures.add("validate", **validate(storage))
    if "windows" in phases:
        figures.add("windows", **compare_windows(side, storage))
    if "processes" in phases:
        figures.add("processes", **in_one_go(side, "processes", storage))
        found = figures.all()
        etags = {found[phase]["etag"] for phase in ("write", "kill", "processes") if phase in found}
        print(f"the same ETag: {len(etags) == 1}", flush=True)


if __name__ == "__main__":
    main()
