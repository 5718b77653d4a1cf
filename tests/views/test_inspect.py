"""ccog.inspect against tifffile, GDAL's own requests, and files stored in unusual ways."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ET
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import tifffile
from click.testing import CliRunner
from rasterio.windows import Window

import ccog
from ccog.cli import main
from ccog.geometry.tile_order import morton
from ccog.tiff import tags
from ccog.views.inspect.header import Header, read_header
from ccog.views.inspect.ranges import open_ranges
from conftest import gdal_cog, terrain
from range_server import range_server, range_server_apart

ROW_MAJOR = {"compress": "deflate", "blocksize": 128}


def header_of(data: bytes) -> Header:
    with open_ranges(data) as reader:
        return read_header(reader)


def some_mask(shape: tuple[int, int]) -> np.ndarray:
    return np.where(np.random.default_rng(0).random(shape) > 0.3, np.uint8(255), np.uint8(0))


FILES: dict[str, Any] = {
    "classic": lambda: gdal_cog(terrain((1, 700, 901)), ROW_MAJOR),
    "big": lambda: gdal_cog(terrain((3, 700, 901)), ROW_MAJOR | {"bigtiff": "yes"}),
    "mask": lambda: gdal_cog(terrain((1, 700, 901)), ROW_MAJOR, some_mask((700, 901))),
    "one tile": lambda: gdal_cog(terrain((1, 60, 50)), ROW_MAJOR),
}


@pytest.mark.parametrize("name", FILES)
def test_directories_are_what_tifffile_reads(name: str) -> None:
    data = FILES[name]()
    found = header_of(data).directories
    with tifffile.TiffFile(io.BytesIO(data)) as expected:
        assert len(found) == len(expected.pages)
        for one, page in zip(found, expected.pages, strict=True):
            assert (one.height, one.width, one.tile) == (
                page.imagelength,
                page.imagewidth,
                page.tile,
            )
            assert one.stored.offsets.tolist() == list(page.dataoffsets)
            assert one.stored.counts.tolist() == list(page.databytecounts)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [(64, 64), None])
def test_big_endian_files_and_strips(big: bool, tile: tuple[int, int] | None) -> None:
    out = io.BytesIO()
    pixels = terrain((1, 300, 200))[0]
    tifffile.imwrite(out, pixels, byteorder=">", bigtiff=big, tile=tile, rowsperstrip=32)
    found = ccog.inspect(out.getvalue())
    assert (found.big_tiff, found.dtype, found.bands) == (big, "uint16", 1)
    assert found.levels[0].size == (5 * 4 * 64 * 64 * 2 if tile else pixels.nbytes)
    assert found.levels[0].order == ("row-major" if tile else "strips, row-major")
    assert not found.overlaps


def test_levels_of_a_cog() -> None:
    data = FILES["mask"]()
    found = ccog.inspect(data)
    assert [level.name for level in found.levels] == [
        "full resolution", "mask of full resolution", "overview 1", "overview 2", "overview 3",
        "mask of overview 1", "mask of overview 2", "mask of overview 3",
    ]  # fmt: skip
    assert [(level.width, level.height) for level in found.levels if level.name.startswith("over")] == [
        (450, 350), (225, 175), (112, 87)
    ]  # fmt: skip
    assert found.levels[0].ratio == pytest.approx(700 * 901 * 2 / found.levels[0].size)
    assert not found.gaps
    assert not found.overlaps
    assert "MASK_INTERLEAVED_WITH_IMAGERY=YES" in found.ghost_area
    # header, tiles and the leader and trailer of each are all there is
    tiles = sum(level.stored for level in found.levels)
    alignment = found.header_end - found.header_size
    assert found.size == found.header_end + sum(level.size for level in found.levels) + 8 * tiles
    assert 0 <= alignment <= 2 * len(found.levels) * 8


def test_the_result_is_frozen_and_equal() -> None:
    data = FILES["classic"]()
    found = ccog.inspect(data)
    assert found == ccog.inspect(data)
    with pytest.raises(FrozenInstanceError):
        found.size = 0  # type: ignore[misc]


def test_sparse_tiles_are_counted() -> None:
    pixels = da.zeros((512, 512), chunks=256, dtype="uint8")
    pixels = da.concatenate([pixels, pixels + 1], axis=1)
    data = ccog.write_ccog(
        pixels, COG_creation_options={"blocksize": 128, "sparse_ok": "yes"}
    ).compute()
    full = ccog.inspect(data).levels[0]
    assert (full.stored, full.sparse) == (16, 16)


def test_a_file_of_sparse_tiles_has_no_extent() -> None:
    data = gdal_cog(np.zeros((1, 500, 500), "uint8"), {"sparse_ok": "yes", "blocksize": 128})
    found = ccog.inspect(data)
    assert found.levels
    assert found.reads
    assert all(level.extent is None and level.stored == 0 for level in found.levels)
    assert all(read.gdal == read.coalescing == 0 for read in found.reads)
    assert found._repr_html_()


def test_gaps_left_by_an_update(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(gdal_cog(np.zeros((1, 512, 512), "uint16"), ROW_MAJOR))
    assert not ccog.inspect(path).gaps
    noise = np.random.default_rng(0).integers(0, 60000, (1, 128, 128), "uint16")
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(noise, window=Window(128, 128, 128, 128))
    found = ccog.inspect(path)
    assert found.gaps  # the tile has outgrown its place
    assert found.levels[0].order != "row-major"
    assert "KNOWN_INCOMPATIBLE_EDITION=YES" in found.ghost_area


def test_overlaps_and_bytes_after_the_end() -> None:
    data = bytearray(gdal_cog(terrain((1, 512, 512)), ROW_MAJOR))
    header = header_of(bytes(data))
    where = header.directories[0].tags[tags.TILE_OFFSETS].extent
    assert where is not None
    second = struct.unpack_from("<I", data, where[0] + 4)[0]
    struct.pack_into("<I", data, where[0] + 4, second - 2)
    found = ccog.inspect(bytes(data) + b"more")
    assert found.overlaps == ((second - 6, second - 4),)
    assert found.gaps[-1] == (len(data), len(data) + 4)


ORDERS: dict[str, Any] = {
    "Morton": lambda y, x, rows: morton(y, x),
    "groups of 2 x 2 tiles, row-major": lambda y, x, rows: (
        (y // 2 * 500 + x // 2) * 4 + y % 2 * 2 + x % 2
    ),
    "groups of 4 x 4 tiles, Morton": lambda y, x, rows: (
        morton(y // 4, x // 4) * 16 + y % 4 * 4 + x % 4
    ),
    "no known order": lambda y, x, rows: np.random.default_rng(0).permutation(y.size),
}


def stored_in(data: bytes, rule: Any, framing: int = 8) -> bytes:
    """An uncompressed one-band file with the tiles of its full resolution in another order.

    The ghost area says no longer that they are row-major. Without ``framing`` they touch each other.
    """
    header = header_of(data)
    full = header.directories[0]
    rows, cols = -(-full.height // full.tile[0]), -(-full.width // full.tile[1])
    y, x = (index.reshape(-1) for index in np.mgrid[0:rows, 0:cols])
    order = np.argsort(rule(y, x, rows), kind="stable")
    out = bytearray(data)
    where = full.tags[tags.TILE_OFFSETS].extent
    assert where is not None
    size = int(full.stored.counts[0]) + framing
    for place, tile in enumerate(order):
        old, new = (
            int(full.stored.offsets[tile]) - 4,
            int(full.stored.offsets[0]) - 4 + place * size,
        )
        out[new + 4 - framing // 2 : new + 4 - framing // 2 + size] = data[
            old + 4 - framing // 2 :
        ][:size]
        struct.pack_into("<I", out, where[0] + 4 * int(tile), new + 4)
    return bytes(out).replace(b"BLOCK_ORDER=ROW_MAJOR", b"BLOCK_ORDER=SOMETHING")


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_tiles_is_named(name: str) -> None:
    plain = gdal_cog(
        terrain((1, 1050, 1300)), {"compress": "none", "blocksize": 128, "overviews": "none"}
    )
    data = stored_in(plain, ORDERS[name])
    with (
        rasterio.MemoryFile(data) as file,
        file.open() as moved,
        rasterio.MemoryFile(plain).open() as straight,
    ):
        assert np.array_equal(moved.read(), straight.read())
    found = ccog.inspect(data)
    assert found.levels[0].order == name
    assert not found.overlaps


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_apart(interleave: str) -> None:
    options = {"blocksize": 128, "interleave": interleave}
    data = ccog.write_ccog(
        da.from_array(terrain((3, 300, 300))), COG_creation_options=options
    ).compute()
    full = ccog.inspect(data).levels[0]
    planar = full.planes == 3
    assert planar == (interleave == "band" and full.stored == 27)
    assert full.order == ("row-major, plane by plane" if planar else "row-major")


@pytest.mark.parametrize(
    ("order", "framing", "gdal"),
    [("row-major", 8, 8), ("Morton", 8, 64), ("Morton", 0, 1)],
    ids=str,
)
def test_read_costs_are_gdals_requests(tmp_path: Path, order: str, framing: int, gdal: int) -> None:
    plain = gdal_cog(terrain((1, 2048, 2048)), {"compress": "none", "blocksize": 128})
    data = plain if order == "row-major" else stored_in(plain, ORDERS[order], framing)
    (tmp_path / "a.tif").write_bytes(data)
    _, one, window = ccog.inspect(data).reads
    assert (one.gdal, window.gdal, window.coalescing) == (1, gdal, 1)
    environment = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": "100000",
    }
    for pixels, expected in (
        (Window(1024, 1024, 128, 128), one),
        (Window(1024, 1024, 1024, 1024), window),
    ):
        with range_server_apart(tmp_path) as server, rasterio.Env(**environment):
            with rasterio.open(f"/vsicurl/{server.url}/a.tif") as dataset:
                opened = len(server.ranges)
                dataset.read(window=pixels)
            assert len(server.ranges) - opened == expected.gdal, server.ranges


def test_over_http_only_the_header_is_read(tmp_path: Path) -> None:
    data = gdal_cog(terrain((1, 2048, 2048)), {"compress": "none", "blocksize": 128})
    (tmp_path / "a.tif").write_bytes(data)
    with range_server(tmp_path) as server:
        found = ccog.inspect(f"{server.url}/a.tif")
        assert len(server.ranges) == found.requests == 1
        assert sum(last - first + 1 for first, last in server.ranges) == found.bytes_read == 65536
        with pytest.raises(ccog.StoreNotFoundError, match=r"missing\.tif does not exist"):
            ccog.inspect(f"{server.url}/missing.tif")
    assert found.levels == ccog.inspect(data).levels


def test_a_file_on_s3_is_inspected(s3_options: dict[str, Any]) -> None:
    pixels = da.from_array(terrain((1, 600, 600)), chunks=(1, 256, 256))
    options = {"blocksize": 128}
    ccog.write_ccog(
        pixels, "s3://test/look.tif", COG_creation_options=options, storage_options=s3_options
    ).compute()
    found = ccog.inspect("s3://test/look.tif", s3_options)
    assert (
        found.levels
        == ccog.inspect(ccog.write_ccog(pixels, COG_creation_options=options).compute()).levels
    )
    with pytest.raises(ccog.StoreNotFoundError):
        ccog.inspect("s3://test/nothing.tif", s3_options)


def test_files_that_cannot_be_inspected_are_refused(tmp_path: Path) -> None:
    data = FILES["classic"]()
    with pytest.raises(ccog.RasterError, match="not a TIFF: it begins with b'GIF89a"):
        ccog.inspect(b"GIF89a" + bytes(100))
    with pytest.raises(ccog.RasterError, match="is empty"):
        ccog.inspect(b"")
    with pytest.raises(ccog.RasterError, match="cut off"):
        ccog.inspect(data[:300])
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    loop = bytearray(data)
    struct.pack_into("<I", loop, first + 2 + 12 * entries, first)
    with pytest.raises(ccog.RasterError, match="loop"):
        ccog.inspect(bytes(loop))
    with pytest.raises(ccog.StoreNotFoundError, match=r"missing\.tif does not exist"):
        ccog.inspect(tmp_path / "missing.tif")
    with pytest.raises(ccog.ArgumentTypeError, match="int is not a path"):
        ccog.inspect(5)
    with pytest.raises(ccog.StoreError, match="nonsense"):
        ccog.inspect("nonsense://a/b.tif")


def test_a_report_is_text_html_and_png(tmp_path: Path) -> None:
    path = tmp_path / "a <b>.tif"
    path.write_bytes(FILES["mask"]())
    found = ccog.inspect(path)
    assert "full resolution          901 x 700  128 x 128  8 x 6" in repr(found)
    html = found._repr_html_()
    assert "<b>" not in html
    assert "a &lt;b&gt;.tif" in html
    svg = ET.fromstring(found.svg)
    rectangles = svg.findall("{http://www.w3.org/2000/svg}rect")
    assert len(rectangles) > 8 * 6 + 4 * 3 + 2 * 2 + 1
    assert len({rectangle.get("fill") for rectangle in rectangles}) > 10
    found.save_svg(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == found.svg


def test_the_command_line_inspects(tmp_path: Path) -> None:
    path, svg = tmp_path / "a.tif", tmp_path / "a.svg"
    path.write_bytes(FILES["classic"]())
    result = CliRunner().invoke(main, ["inspect", str(path), "--svg", str(svg)])
    assert result.exit_code == 0, result.output
    assert result.stdout == repr(ccog.inspect(path)) + "\n"
    assert svg.read_text().startswith("<svg")
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "b.tif")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
