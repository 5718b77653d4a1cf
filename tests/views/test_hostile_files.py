"""ccog.inspect and ccog.validate on files that are damaged, hostile, or not files at all."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

import ccog
from ccog.cli import main
from conftest import TESTS, gdal_cog, terrain
from hostile import classic, peak_mb

# CPU seconds, generous for slow machines: all cases here take less than one
SECONDS = 5.0
LOOKS: dict[str, Callable[..., Any]] = {"inspect": ccog.inspect, "validate": ccog.validate}


@pytest.mark.tried(
    "inspect: 500 damaged files (bytes, lengths, directory entries, links, tile arrays)",
    "right: a report or a typed error, each under 1 s and 200 MB",
)
def test_inspect_of_500_damaged_files_gives_a_report_or_a_typed_error() -> None:
    look("inspect", 500, 200)


@pytest.mark.tried("validate: 120 damaged files", "right: a report or a typed error")
@pytest.mark.slow
def test_validate_of_damaged_files_gives_a_report_or_a_typed_error() -> None:
    look("validate", 120, 700)


def look(what: str, count: int, megabytes: int) -> None:
    """In a process of its own: its memory is measured, and a crash in GDAL is told from a failed test."""
    script = TESTS / "hostile.py"
    done = subprocess.run(
        [sys.executable, script, what, str(count), "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["untyped"] == []
    assert sum(found["tally"].values()) == count
    # neither is refused as a whole, nor is nothing refused
    assert min(found["tally"].get("report", 0), found["tally"].get("RasterError", 0)) > count / 10
    assert found["slowest"] < SECONDS
    assert found["grown_mb"] < megabytes


def long(tag: int, value: int, count: int = 1) -> tuple[int, int, int, bytes]:
    return tag, 4, count, struct.pack("<I", value)


def image(
    width: int, height: int, *more: tuple[int, int, int, bytes]
) -> list[tuple[int, int, int, bytes]]:
    return [long(256, width), long(257, height), long(258, 8), long(259, 1), long(277, 1), *more]


def tiles(count: int, at: int) -> list[tuple[int, int, int, bytes]]:
    return [long(322, 16), long(323, 16), long(324, at, count), long(325, at, count)]


REFUSED: dict[str, tuple[Any, str]] = {
    "2,000 directories": (lambda: classic(*[image(16, 16)] * 2000), "more than 1024 directories"),
    "directories that share their tile arrays": (
        lambda: classic(*[image(1600, 2080, *tiles(13000, 0))] * 1000, more=bytes(60_000)),
        "claim 104000000 bytes of tile arrays in a file of 174008",
    ),
    "tile arrays beyond the end": (
        lambda: classic(image(1 << 30, 1 << 30, *tiles(1 << 31, 0))),
        "cut off",
    ),
    "too many tiles": (
        lambda: classic(image(1 << 31, 1 << 31, *tiles(0, 0))),
        "18014398509481984 tiles, more than",
    ),
    "too many entries": (
        lambda: struct.pack("<2sHIH", b"II", 42, 8, 5000),
        "claims 5000 entries, more than 4096",
    ),
    "no columns": (lambda: classic(image(0, 5)), "number of columns is 0"),
    "tiles of no column": (
        lambda: classic(image(5, 5, long(322, 0), long(323, 16))),
        "columns of a tile is 0",
    ),
    "no band": (lambda: classic([*image(5, 5)[:4], long(277, 0)]), "number of bands is 0"),
    "a width of no value": (
        lambda: classic([(256, 4, 0, bytes(4)), *image(5, 5)[1:]]),
        "tag 256 has no value",
    ),
    "a width that is text": (
        lambda: classic([(256, 2, 1, b"a\0\0\0"), *image(5, 5)[1:]]),
        "tag 256 is of type 2",
    ),
    "a width beyond 32 bits": (
        lambda: struct.pack(
            "<2sHHHQQHHQQHHQQQ", b"II", 43, 8, 0, 16, 2, 256, 16, 1, 1 << 63, 257, 4, 1, 5, 0
        ),
        "9223372036854775808 x 5 pixels",
    ),
    "a tile offset beyond any file": (
        lambda: struct.pack(
            "<2sHHHQQHHQQHHQQHHQQHHQQQ",
            *(b"II", 43, 8, 0, 16, 4),
            *(256, 4, 1, 5),
            *(257, 4, 1, 5),
            *(273, 16, 1, (1 << 64) - 8),
            *(279, 4, 1, 25, 0),
        ),
        "tile whose offset is beyond",
    ),
    "no directory": (lambda: classic()[:4] + bytes(4), "holds no image"),
    "nothing": (lambda: b"", "is empty"),
    "four bytes": (lambda: b"II*\0", "cut off"),
}


@pytest.mark.parametrize("what", LOOKS)
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.tried("{what}: a TIFF with {name}", "refused at once, with the number")
def test_impossible_headers_are_refused_at_once_with_the_number(name: str, what: str) -> None:
    make, says = REFUSED[name]
    data = make()
    start, before = time.process_time(), peak_mb()
    with pytest.raises(ccog.RasterError, match=says):
        LOOKS[what](data)
    assert time.process_time() - start < SECONDS
    assert peak_mb() - before < 200


@pytest.mark.tried(
    "inspect: a sparse file of under 200 bytes with four billion tiles", "right, at once"
)
def test_a_tiny_sparse_file_with_billions_of_tiles_costs_nothing(tmp_path: Path) -> None:
    data = classic(image((1 << 20) - 16, (1 << 20) - 16, *tiles(0, 0)))
    start, before = time.process_time(), peak_mb()
    found = ccog.inspect(data)
    assert found.levels[0].sparse == 65535**2
    assert "65535 x 65535" in repr(found)
    assert found._repr_html_()
    assert time.process_time() - start < SECONDS
    assert peak_mb() - before < 200
    path = tmp_path / "gdal.tif"
    size = {"count": 1, "height": 1 << 16, "width": 1 << 16, "dtype": "uint8"}
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiled):
        pass
    level = ccog.inspect(path).levels[0]
    assert (level.stored, level.sparse) == (0, 256**2)


@pytest.mark.tried("inspect: a file of 1,000 images", "right, in under 1 s")
def test_many_images_are_listed_and_some_of_them_drawn() -> None:
    start, before = time.process_time(), peak_mb()
    found = ccog.inspect(classic(*[image(1600, 2080, long(322, 16), long(323, 16))] * 1000))
    assert len(found.levels) == 1000
    assert "image 1000" in repr(found)
    assert len(found._repr_html_()) < 20e6
    assert time.process_time() - start < SECONDS
    assert peak_mb() - before < 200


@pytest.fixture(params=["pipe", "socket", "device", "directory"])
def not_a_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "x.tif"
    with socket.socket(socket.AF_UNIX) as listener:
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            listener.bind(str(path))
        elif request.param == "device":
            path = Path("/dev/zero")
        else:
            path.mkdir()
        yield path


@pytest.mark.skipif(os.name != "posix", reason="pipes and sockets that are files")
@pytest.mark.parametrize("what", LOOKS)
@pytest.mark.tried("{what}: {id}, which is no regular file", "refused, without waiting")
def test_what_is_not_a_regular_file_is_refused_without_waiting(not_a_file: Path, what: str) -> None:
    # who waits for the other end of a pipe waits for ever: a thread lets the test fail instead
    raised: list[BaseException] = []

    def run() -> None:
        try:
            LOOKS[what](not_a_file)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    (error,) = raised
    assert isinstance(error, ccog.StoreError)
    assert "not a regular file" in str(error)
    result = CliRunner().invoke(main, [what, str(not_a_file)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


@pytest.mark.tried("a path with a NUL", "refused")
def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ccog.StoreError, match="null"):
        ccog.inspect("a\0b.tif")


def test_an_empty_raster_is_valid() -> None:
    data = gdal_cog(
        np.zeros((1, 500, 500), "uint8"), {"sparse_ok": "yes", "blocksize": 128, "nodata": 0}
    )
    found = {check.name: check.outcome for check in ccog.validate(data).checks}
    assert found["leaders and trailers"] == "skipped"
    assert "error" not in found.values()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # rasterio logs what GDAL says as UTF-8
@pytest.mark.tried(
    "tags that are not UTF-8, an odd nodata value", "right: shown as far as they can be read"
)
def test_a_text_that_is_not_utf8_and_an_odd_nodata_value_do_no_harm() -> None:
    data = gdal_cog(
        terrain((1, 300, 300)),
        {"blocksize": 128},
        describe={"update_tags": {0: {"A": "xyzzy" * 9}}},
    )
    odd = data.replace(b"xyzzy", b"\xff\xfe\x80\xc3<")
    assert ccog.inspect(odd).levels == ccog.inspect(data).levels
    assert repr(ccog.validate(odd))
    data = gdal_cog(terrain((1, 300, 300)), {"blocksize": 128}, nodata=12345)
    for text in (b"nan\0\0", b"\xff\xff\xff\xff\xff", b"1e999", b"     "):
        odd = data.replace(b"12345", text)
        assert odd != data
        assert ccog.inspect(odd).levels == ccog.inspect(data).levels
        assert repr(ccog.validate(odd))


@pytest.mark.tried(
    "validate: a tile that would fill the memory", "right: it is not read, which the report says"
)
def test_pixels_are_not_compared_where_one_tile_would_fill_the_memory() -> None:
    tile = [long(322, 32768), long(323, 32768), long(324, 0), long(325, 0)]
    full, overview = (image(side, side, long(262, 1), *tile) for side in (32768, 16384))
    data = classic(full, [long(254, 1), *overview])
    before = peak_mb()
    found = {check.name: check for check in ccog.validate(data).checks}
    assert found["overview pixels"].outcome == "skipped"
    assert "1073741824 bytes, more than" in found["overview pixels"].detail
    assert peak_mb() - before < 700


@pytest.mark.tried("a ghost area with control characters of terminals", "right: they are not shown")
def test_a_ghost_area_cannot_command_a_terminal() -> None:
    data = gdal_cog(terrain((1, 300, 300)), {"blocksize": 128}).replace(
        b"BLOCK_ORDER=ROW", b"BLOCK_ORDER=\x1b[2"
    )
    assert "\x1b" not in repr(ccog.inspect(data))
