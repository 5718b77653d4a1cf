"""layout="chunk": the pixels of the other layout, tiles of a chunk together, and one request for a chunk."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
from pathlib import Path
from typing import Any

import async_tiff
import dask.array as da
import numpy as np
import pytest
import rasterio
import tifffile
import xarray as xr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import HTTPStore
from rasterio.io import MemoryFile
from rasterio.windows import Window
from rio_cogeo import cog_validate

import ccog
from cases import MODERN
from ccog.cli import main
from ccog.geometry.cog import CogGeometry
from ccog.geometry.pyramid import Level
from ccog.geometry.tile_order import along_curve, tile_positions
from ccog.graph import scheduling
from ccog.graph.tasks import CcogTasks
from ccog.runtime.task_names import parse_name
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from conftest import GEO, terrain
from range_server import range_server, range_server_apart

pytestmark = pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")

GHOST = "LAYOUT=IFDS_BEFORE_DATA\nKNOWN_INCOMPATIBLE_EDITION=NO"
CHUNKS = [
    (2, 256, 384),
    (2, 211, 307),
    *(
        pytest.param(chunks, marks=pytest.mark.slow)
        for chunks in ((1, 128, 128), (2, -1, -1), (2, 128, -1))
    ),
]
VSICURL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http://127.0.0.1",
}


def written(
    pixels: np.ndarray, chunks: Any, options: dict[str, Any], layout: Any = "chunk", **more: Any
) -> bytes:
    given = {
        "COG_creation_options": GEO | {"blocksize": 128, "compress": "deflate"} | options,
        "layout": layout,
    }
    array = da.from_array(pixels, chunks=chunks)
    return bytes(
        ccog.write_ccog(array, **given, **more).compute(scheduler="threads", num_workers=3)
    )


def levels(data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and masks of full resolution and of each overview, as GDAL reads them."""
    with MemoryFile(data) as memory:
        with memory.open() as dataset:
            found, count = [(dataset.read(), dataset.read_masks())], len(dataset.overviews(1))
        for k in range(count):
            with memory.open(overview_level=k) as dataset:
                found.append((dataset.read(), dataset.read_masks()))
    return found


def check(data: bytes) -> None:
    """rio-cogeo and our own validation accept it, and the ghost area claims no more than what is true."""
    found = ccog.validate(data, thorough=True)
    assert found.is_valid, found
    assert {c.outcome for c in found.checks if c.name != "overview pixels"} <= {"ok", "skipped"}, (
        found
    )
    report = ccog.inspect(data)
    assert report.ghost_area == GHOST
    assert not report.gaps
    with MemoryFile(data) as memory:
        assert cog_validate(memory.name, strict=True)[0]
        with memory.open() as dataset:
            # GDAL says COG of none but row-major tiles with leaders and trailers
            assert "LAYOUT" not in dataset.tags(ns="IMAGE_STRUCTURE")


OPTIONS: list[dict[str, Any]] = [
    {},
    {"overview_resampling": "average", "statistics": "yes"},
    {"sparse_ok": "yes", "overview_resampling": "nearest", "bigtiff": "yes"},
    {"compress": "none", "blocksize": 192},
    *([{"interleave": "band", "predictor": "yes"}, {"interleave": "tile"}] if MODERN else []),
]


SEA = terrain((2, 901, 1151))
SEA[:, 200:600, 100:900] = 0
SEA_MASK = np.random.default_rng(0).random(SEA.shape[1:]) > 0.2

#: Numbers of options, and whether there is a mask: not where statistics are asked for.
MASKED = [
    (number, masked)
    for number, options in enumerate(OPTIONS)
    for masked in ([False] if "statistics" in options else [False, True])
]


@functools.cache
def levels_of_the_other_layout(number: int, masked: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    mask = SEA_MASK if masked else None
    return levels(written(SEA, (2, 256, 384), OPTIONS[number], "gdal", mask=mask))


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(
    ("number", "masked"),
    MASKED,
    ids=[f"{'masked' if masked else 'plain'}-{OPTIONS[number]}" for number, masked in MASKED],
)
def test_every_level_has_the_pixels_of_the_other_layout(
    chunks: Any, number: int, masked: bool
) -> None:
    mask = SEA_MASK if masked else None
    found = written(SEA, chunks, OPTIONS[number], mask=mask)
    for ours, theirs in zip(levels(found), levels_of_the_other_layout(number, masked), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    check(found)
    page = tifffile.TiffFile(io.BytesIO(found)).pages[0].asarray()
    np.testing.assert_array_equal(page if page.shape == SEA.shape else page.transpose(2, 0, 1), SEA)


@pytest.mark.parametrize(
    "kind", [{"compress": "jpeg"}, {"compress": "webp", "quality": 100}, {"compress": "lerc"}]
)
def test_lossy_codecs_give_the_same_pixels(kind: dict[str, Any]) -> None:
    pixels = terrain((3, 500, 700), "uint8")
    found, expected = (written(pixels, (3, 256, 256), kind, layout) for layout in ("chunk", "gdal"))
    for ours, theirs in zip(levels(found), levels(expected), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize(
    "form", [(4096, 20000), (0, 20000), (0, 3)], ids=["small", "large", "fused"]
)
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_how_tasks_are_cut_does_not_matter(form: Any, method: str, change_settings: Any) -> None:
    pixels = terrain((2, 1301, 1151))
    mask = np.random.default_rng(0).random(pixels.shape[1:]) > 0.2
    options = {"overview_resampling": method}
    expected = written(pixels, (2, 256, 256), options, mask=mask)
    change_settings(few_blocks=form[0], many_blocks=form[1])
    assert written(pixels, (2, 256, 256), options, mask=mask) == expected


@pytest.mark.slow
def test_schedulers_and_stores_give_the_same_bytes(
    s3_options: dict[str, Any], tmp_path: Path, client: Any
) -> None:
    pixels = np.random.default_rng(0).integers(0, 60000, (1, 4100, 4200), "uint16")
    array, options = da.from_array(pixels, chunks=(1, 512, 512)), GEO | {"compress": "none"}

    def write(store: Any = None, **how: Any) -> Any:
        storage = s3_options if str(store).startswith("s3") else None
        given = {"COG_creation_options": options, "storage_options": storage, "layout": "chunk"}
        return ccog.write_ccog(array, store, **given).compute(**how)

    expected = write(scheduler="sync")
    assert write(scheduler="threads", num_workers=4) == expected
    write(str(tmp_path / "a.tif"), scheduler=client)
    assert (tmp_path / "a.tif").read_bytes() == expected
    result = write("s3://test/chunk.tif", scheduler=client)
    assert int(result.etag.strip('"').split("-")[1]) > 2
    write("s3://test/threads.tif", scheduler="threads")
    import s3fs

    files = s3fs.S3FileSystem(**s3_options, skip_instance_cache=True)
    assert files.cat("test/chunk.tif") == files.cat("test/threads.tif") == expected


@settings(max_examples=200)
@given(
    *(st.integers(1, 40) for _ in range(2)),
    *(st.integers(1, 7) for _ in range(2)),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_tile_places_follow_the_curve(
    rows: int, cols: int, down: int, across: int, planes: int, mask: bool, by_tile: bool
) -> None:
    level = Level(
        index=0,
        height=rows * 16 - 3,
        width=cols * 16 - 5,
        blocksize=16,
        block=(down * 16, across * 16),
    )
    chunks = [(i, j) for i in range(-(-rows // down)) for j in range(-(-cols // across))]
    bits = [f"{v:016b}" for v in range(64)]
    chunks.sort(
        key=lambda ij: "".join(a + b for a, b in zip(bits[ij[0]], bits[ij[1]], strict=True))
    )
    expected: list[tuple[int, int]] = []
    for i, j in chunks:
        tiles = [
            y * cols + x
            for y in range(i * down, min(rows, (i + 1) * down))
            for x in range(j * across, min(cols, (j + 1) * across))
        ]
        image = [(p, t) for t in tiles for p in range(planes)] if by_tile else []
        expected += image or [(p, t) for p in range(planes) for t in tiles]
        expected += [(planes, t) for t in tiles] if mask else []
    found = tile_positions(level, planes, mask=mask, by_tile=by_tile)
    assert [int(found[one]) for one in expected] == list(range(found.size))
    assert along_curve(level.blocks).tolist() == [list(ij) for ij in chunks]


def test_a_level_joins_its_units_as_a_binary_counter_carries() -> None:
    plan = geometry(da.zeros((2048, 2048), chunks=256, dtype="uint8"))
    for count in range(1, 200):
        stretches: dict[int, list[int]] = {}
        for n in range(count):
            joined = [stretches.pop(other) for other in plan.groups.joined_at(n)]
            stretches[n] = [*itertools.chain(*joined), n]
            assert stretches[n] == list(range(stretches[n][0], n + 1))
            assert len(stretches) <= (n + 1).bit_length()
        assert list(stretches) == plan.groups.last_joined(count)
        assert list(itertools.chain(*stretches.values())) == list(range(count))


def tasks_of(delayed: Any) -> CcogTasks:
    found = delayed.dask.layers[delayed.key].mapping
    assert isinstance(found, CcogTasks)
    return found


def geometry(array: da.Array, store: Any = None, **options: Any) -> CogGeometry:
    return tasks_of(
        ccog.write_ccog(array, store, COG_creation_options=options, layout="chunk")
    ).job.geometry


@pytest.mark.parametrize("on_cluster", [False, True])
@pytest.mark.parametrize(("method", "most"), [("average", 1.5), ("cubic", 2.5)])
def test_a_large_graph_by_chunks_has_few_tasks_a_chunk(
    method: str,
    most: float,
    on_cluster: bool,
    monkeypatch: pytest.MonkeyPatch,
    change_settings: Any,
) -> None:
    monkeypatch.setattr(scheduling, "_cluster_threads", lambda: 8 * on_cluster)
    array = da.zeros((160 * 1024, 160 * 1024), chunks=1024, dtype="uint8")
    options = {"overview_resampling": method, "bigtiff": "yes"}
    fused = tasks_of(ccog.write_ccog(array, COG_creation_options=options, layout="chunk"))
    assert len(fused) / 160**2 <= most / 2.5
    change_settings(many_blocks=1 << 40)
    whole = tasks_of(ccog.write_ccog(array, COG_creation_options=options, layout="chunk"))
    assert len(whole) / 160**2 <= most + 0.04 * (not on_cluster)
    assert len(set(whole)) == len(whole)
    corner = array[: 40 * 1024, : 40 * 1024]
    tasks = tasks_of(ccog.write_ccog(corner, COG_creation_options=options, layout="chunk"))
    assert {d[0] for key in tasks for d in tasks[key].dependencies if d not in tasks} == set(
        tasks.sources
    )


def test_more_is_uploaded_together_where_a_store_has_few_part_numbers(tmp_path: Path) -> None:
    array = da.zeros((1 << 22, 1 << 22), chunks=8192, dtype="uint8")
    url = "s3://bucket/a.tif"
    assert geometry(array, str(tmp_path / "a.tif"), bigtiff="yes").group_size == 16
    assert geometry(array, url, bigtiff="yes").group_size == 32
    plan = ccog.plan(array, url, COG_creation_options={"bigtiff": "yes"}, layout="chunk")
    assert plan.upload is not None
    assert plan.upload.most_parts <= 10_000


def test_chunks_of_fused_blocks_still_lie_together(change_settings: Any) -> None:
    change_settings(many_blocks=3)
    data = written(terrain((1, 1200, 1600)), (1, 256, 384), {})
    assert ccog.inspect(data).levels[0].order == "groups of 3 x 2 tiles, Morton"
    assert [(r.name, r.gdal) for r in ccog.inspect(data).reads][-1] == ("chunk of 3 x 2 tiles", 1)


@pytest.fixture(params=["plain", "masked", *(["band"] if MODERN else [])])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, np.ndarray, int]:
    """A file of random pixels in chunks of 8 x 8 tiles, what it is, its pixels, and requests for its mask."""
    pixels = np.random.default_rng(0).integers(0, 200, (3, 3000, 3000), "uint8")
    mask = pixels[0] > 20 if request.param == "masked" else None
    options = {"interleave": "band"} if request.param == "band" else {}
    data = written(pixels, (3, 1024, 1024), options | {"overview_resampling": "average"}, mask=mask)
    (tmp_path / "a.tif").write_bytes(data)
    return tmp_path, request.param, pixels, int(mask is not None)


def test_gdal_reads_a_chunk_with_one_request(remote: tuple[Path, str, np.ndarray, int]) -> None:
    folder, _, pixels, masks = remote
    with range_server_apart(folder) as server, rasterio.Env(**VSICURL):
        with rasterio.open(f"/vsicurl/{server.url}/a.tif") as dataset:
            opened = len(server.ranges)
            found = dataset.read(window=Window(1024, 1024, 1024, 1024))
        assert len(server.ranges) - opened == 1, server.ranges
    np.testing.assert_array_equal(found, pixels[:, 1024:2048, 1024:2048])
    reads = {read.name: read for read in ccog.inspect(folder / "a.tif").reads}
    assert reads["chunk of 8 x 8 tiles"].gdal == 1 + masks


def test_gdal_reads_the_same_row_by_row_with_eight(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (1, 3000, 3000), "uint8")
    (tmp_path / "a.tif").write_bytes(written(pixels, (1, 1024, 1024), {}, "gdal"))
    with range_server_apart(tmp_path) as server, rasterio.Env(**VSICURL):
        with rasterio.open(f"/vsicurl/{server.url}/a.tif") as dataset:
            opened = len(server.ranges)
            dataset.read(window=Window(1024, 1024, 1024, 1024))
        assert len(server.ranges) - opened == 8


def test_async_tiff_reads_a_chunk_with_one_request(
    remote: tuple[Path, str, np.ndarray, int],
) -> None:
    folder, kind, pixels, _ = remote

    async def read(url: str, asked: list[tuple[int, int]]) -> tuple[list[np.ndarray], int]:
        store = HTTPStore(url, client_options={"allow_http": True})
        file = await async_tiff.TIFF.open("a.tif", store=store)
        opened = len(asked)
        tiles = await file.fetch_tiles([(x, y) for y in range(8, 16) for x in range(8, 16)], 0)
        count = len(asked) - opened
        return [np.asarray(await tile.decode()) for tile in tiles], count

    with range_server(folder) as server:
        tiles, count = asyncio.run(read(server.url, server.ranges))
    assert count == 1
    rows = [
        np.concatenate([_bands_first(t, kind) for t in tiles[n : n + 8]], axis=2)
        for n in range(0, 64, 8)
    ]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), pixels[:, 1024:2048, 1024:2048])


def _bands_first(tile: np.ndarray, kind: str) -> np.ndarray:
    return tile if kind == "band" else tile.transpose(2, 0, 1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "options", [{}, *([{"interleave": "band"}, {"interleave": "tile"}] if MODERN else [])]
)
def test_the_plan_says_what_the_file_has(masked: bool, options: dict[str, Any]) -> None:
    pixels = terrain((2, 2048, 3072))
    mask = np.random.default_rng(0).random(pixels.shape[1:]) > 0.3 if masked else None
    given = {
        "mask": mask,
        "COG_creation_options": GEO | {"blocksize": 128} | options,
        "layout": "chunk",
    }
    array = da.from_array(pixels, chunks=(-1, 1024, 1024))
    plan, data = ccog.plan(array, **given), bytes(ccog.write_ccog(array, **given, compute=True))
    report = ccog.inspect(data)
    reads = [(read.tiles, read.gdal) for read in report.reads if "window" not in read.name]
    assert [(read.tiles, read.requests) for read in plan.reads] == reads
    offsets = np.concatenate([d.array(tags.TILE_OFFSETS) for d in tiff.parse(data).directories])
    assert plan.sizes.header == offsets.min()
    assert len(data) <= plan.sizes.largest
    assert plan.tasks == len(tasks_of(ccog.write_ccog(array, **given)))
    assert plan.layout == "chunk"


def test_the_shell_and_xarray_choose_the_layout(tmp_path: Path) -> None:
    pixels = terrain((1, 700, 900))
    options = {"blocksize": 128, "compress": "deflate", "crs": "EPSG:32755"}
    array = xr.DataArray(da.from_array(pixels[0], chunks=256), dims=("y", "x"))
    data = array.ccog.write(layout="chunk", **options)
    assert ccog.inspect(data).ghost_area == GHOST
    array.ccog.write(tmp_path / "a.tif", **options)
    args = [
        str(tmp_path / "a.tif"),
        str(tmp_path / "b.tif"),
        "--chunks",
        "256",
        "--layout",
        "chunk",
        "--co",
    ]
    done = CliRunner().invoke(main, ["create", *args, "BLOCKSIZE=128"])
    assert done.exit_code == 0, done.output
    assert ccog.inspect(tmp_path / "b.tif").ghost_area == GHOST
    assert "chunks of about" in CliRunner().invoke(main, ["plan", *args, "BLOCKSIZE=128"]).output


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ccog.OptionError, match="layout='morton' is neither 'gdal' nor 'chunk'"):
        ccog.write_ccog(np.ones((9, 9), "uint8"), layout="morton")


def test_tasks_follow_the_curve() -> None:
    array = da.zeros((1024, 1024), chunks=128, dtype="uint8")
    delayed = ccog.write_ccog(array, COG_creation_options={"blocksize": 128}, layout="chunk")
    layer = delayed.dask.layers[delayed.key]
    priority = layer.annotations["priority"]
    keys = [key for key in layer.mapping if isinstance(key, tuple)]
    first = [key for key in keys if parse_name(key[0]) == ("block", 0)]
    ordered = sorted(first, key=priority, reverse=True)
    assert [key[1:] for key in ordered[:5]] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]
    overview = next(key for key in keys if parse_name(key[0]) == ("block", 1))
    assert priority(overview) > priority(ordered[0])
    upload = next(key for key in keys if parse_name(key[0]).word == "upload")
    assert priority(upload) == priority(layer.mapping.final) == 1
