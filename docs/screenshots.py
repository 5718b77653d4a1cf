"""Take the pictures of docs/images in a real browser: python docs/screenshots.py [NAME...]; all without names.

Needs ccog[demo,screenshots] and the browser chromium (Debian's package; CHROMIUM names another). Each picture is of
something that runs: a write on a cluster, a plan, a file, a terminal.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask.array as da
from distributed import Client, LocalCluster
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import ccog
from ccog import demo

IMAGES = Path(__file__).parent / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
OPTIONS = {"compress": "deflate", "predictor": "yes", "crs": demo.CRS, "transform": demo.TRANSFORM}
COLUMNS = 92


def save(name: str, png: bytes) -> None:
    """As 256 colours, which takes half the bytes and looks the same."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.save(IMAGES / f"{name}.png", optimize=True)
    print(name, image.size, f"{(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")


def show(browser: Browser, html: str, width: int, padding: int = 16) -> bytes:
    """The screenshot of a page, as tall as what is on it."""
    page = browser.new_page(viewport={"width": width, "height": 100}, device_scale_factor=2)
    look = f"font:14px sans-serif;padding:{padding}px"
    page.set_content(f'<body style="margin:0"><div id="all" style="{look}">{html}</div></body>')
    return page.locator("#all").screenshot()


def islands(size: int = 10_000) -> da.Array:
    """Terrain whose sea is 0."""
    height = demo.terrain(size)
    return da.where(height > 1400, height, 0).astype("uint16")


def plan(browser: Browser) -> None:
    found = ccog.plan(
        islands(), "s3://bucket/islands.tif", COG_creation_options=OPTIONS | {"sparse_ok": "yes"}
    )
    save("plan", show(browser, found._repr_html_(), 800))


def inspect(browser: Browser) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ccog.write_ccog(
            islands(), "islands.tif", COG_creation_options=OPTIONS | {"sparse_ok": "yes"}
        ).compute()
        save("inspect", show(browser, ccog.inspect("islands.tif")._repr_html_(), 1000))


def dashboard(browser: Browser) -> None:
    """Dask's own page in the middle of a write."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(cluster.dashboard_link)
        writer = ccog.write_ccog(
            demo.terrain(16384, 1024), f"{folder}/a.tif", COG_creation_options=OPTIONS
        )
        future = client.compute(writer)
        wait(lambda: done(client, "ccog_encode_0") > 150)
        page.wait_for_timeout(1500)
        save("dashboard", page.screenshot())
        future.result()


def done(client: Client, prefix: str) -> int:
    def count(dask_scheduler: object) -> int:
        found = dask_scheduler.task_prefixes.get(prefix)  # type: ignore[attr-defined]
        return 0 if found is None else found.states["memory"] + found.states["released"]

    return client.run_on_scheduler(count)


def wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.2)


def progress(browser: Browser) -> None:
    """`ccog demo --s3` in a terminal, half way and at the end."""
    command = ["ccog", "demo", "--s3"]
    with tempfile.TemporaryDirectory() as folder:
        middle, end = half_way_and_end(command, folder)
    prompt = f"$ {' '.join(command)}"
    lines = [f"{prompt}   # half way", *middle, "", f"{prompt}   # at the end", *end]
    console = Console(
        record=True,
        file=io.StringIO(),
        width=COLUMNS,
        force_terminal=True,
        color_system="truecolor",
    )
    for line in lines:
        console.print(Text.from_ansi(line), overflow="fold")
    look = "font:13px DejaVu Sans Mono,monospace;margin:0;padding:14px;background:{background};color:{foreground}"
    html = console.export_html(
        theme=MONOKAI, inline_styles=True, code_format=f'<pre style="{look}">{{code}}</pre>'
    )
    save("progress", show(browser, html, 800, padding=0))


def half_way_and_end(command: list[str], folder: str) -> tuple[list[str], list[str]]:
    """What the terminal shows when about half of the work is done, and at last."""
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen, middle = "", list[str]()
        while "endpoint_url" not in seen:
            seen += os.read(ours, 65536).decode(errors="replace")
            lines = screen(seen)
            if not middle and re.search(r"3[2-5]/64", lines[0]) and "upload" in lines[-1]:
                middle = lines
        time.sleep(0.5)
        seen += os.read(ours, 65536).decode(errors="replace") if not seen.endswith("\n") else ""
        process.terminate()
    os.close(ours)
    return middle, screen(seen)


def screen(seen: str) -> list[str]:
    """What is left of a terminal's output: lines after the bars were drawn for the last time, colours kept."""
    kept = seen.rpartition("\x1b[1A")[2]
    kept = re.sub(r"\x1b\[[0-9;?]*[A-HJ-Zhl]", "", kept)
    return kept.replace("\r", "").splitlines() or [""]


PICTURES: dict[str, Callable[[Browser], None]] = {
    "plan": plan,
    "inspect": inspect,
    "dashboard": dashboard,
    "progress": progress,
}


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name](browser)


if __name__ == "__main__":  # processes of the cluster import this file
    main()
