"""Several files as one raster: the bytes are those of GDAL's copy of what gdalbuildvrt makes of the same files."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.merge import merge

import ccog
from ccog.errors import OptionError, RasterError, StoreError
from ccog.input.mosaic import open_mosaic
from ccog.input.opening import open_sources
from ccog.input.source import Source
from conftest import GEO, gdal_cog, terrain
from libgdal import c_texts, libgdal

HEIGHT, WIDTH = 200, 260
TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)
# (row, column) of the upper left pixels: three overlap, one is far away
PLACES = [(40, 0), (0, 150), (170, 60), (520, 640)]
SMALL: dict[str, Any] = {"BLOCKSIZE": 128, "COMPRESS": "DEFLATE"}
PALETTE = {value: (value, 255 - value, 3, 255) for value in range(256)}

Build = Callable[[list[Path]], Path]


@pytest.fixture
def build_vrt(tmp_path: Path) -> Build:
    """What the program gdalbuildvrt does, called in the library."""
    gdal = libgdal()
    gdal.GDALBuildVRTOptionsNew.restype = gdal.GDALBuildVRT.restype = ctypes.c_void_p

    def build(paths: list[Path]) -> Path:
        target = tmp_path / "built.vrt"
        names = c_texts(paths)
        options = ctypes.c_void_p(gdal.GDALBuildVRTOptionsNew(None, None))
        with rasterio.Env():
            dataset = gdal.GDALBuildVRT(
                str(target).encode(), len(paths), None, names, options, None
            )
            gdal.GDALClose(ctypes.c_void_p(dataset))
        return target

    return build


def write_tiles(
    folder: Path,
    *,
    places: list[tuple[int, int]] = PLACES,
    mask: bool = False,
    describe: dict[str, Any] | None = None,
    **profile: Any,
) -> list[Path]:
    """Files of terrain with holes: nodata, masked or transparent pixels."""
    profile = {"count": 1, "dtype": "uint8", "crs": "EPSG:32755", "nodata": None} | profile
    paths = []
    for seed, (row, col) in enumerate(places):
        path = folder / f"tile{seed}.tif"
        pixels = terrain((profile["count"], HEIGHT, WIDTH), profile["dtype"], seed)
        valid = np.random.default_rng(seed).random((HEIGHT, WIDTH)) > 0.3
        if profile["nodata"] is not None:
            pixels[:, ~valid] = profile["nodata"]
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=HEIGHT,
                width=WIDTH,
                transform=TRANSFORM * rasterio.Affine.translation(col, row),
                **profile,
            ) as target,
        ):
            colours = (describe or {}).get("colorinterp", ())
            if ColorInterp.alpha in colours:
                pixels[-1] = np.where(valid, pixels[-1] | 1, 0)
            target.colorinterp = colours or target.colorinterp
            target.write(pixels)
            if mask:
                target.write_mask(valid)
            for name, value in (describe or {}).items():
                setattr(target, name, value)
            target.update_tags(AUTHOR=f"nobody {seed}")
            if profile.get("photometric") == "palette":
                target.write_colormap(1, PALETTE)
        paths.append(path)
    return paths


def delayed(source: Source, **options: Any) -> Any:
    """The file of a source, not written yet."""
    return ccog.write_ccog(source, COG_creation_options=SMALL | options)


def written(paths: list[Path], chunk: int = 256, overlap: Any = "last", **options: Any) -> bytes:
    source = open_mosaic([str(path) for path in paths], chunk, overlap=overlap)
    return bytes(delayed(source, **options).compute(scheduler="threads"))


def copied(source: Path | str, **options: Any) -> bytes:
    with rasterio.MemoryFile(ext=".tif") as memory:
        rasterio.shutil.copy(source, memory.name, driver="COG", **SMALL, **options)
        return bytes(memory.read())


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
KINDS: dict[str, dict[str, Any]] = {
    "zero where there is no file": {"dtype": "uint16"},
    "nodata": {"nodata": 7, "dtype": "int16", "count": 2},
    "nodata nan": {"nodata": np.nan, "dtype": "float32"},
    "nodata of few digits": {"nodata": -3.4028234663852886e38, "dtype": "float32"},
    "alpha": {"count": 4, "describe": {"colorinterp": RGBA}},
    "gray and alpha": {"count": 2, "describe": {"colorinterp": (ColorInterp.gray, RGBA[-1])}},
    "palette": {"photometric": "palette"},
    "palette and nodata": {"photometric": "palette", "nodata": 5},
    "scales and units": {
        "describe": {"scales": (0.5,), "offsets": (3.0,), "units": ("m",), "descriptions": ("a",)}
    },
    "complex": {"dtype": "complex64"},
    "no crs": {"crs": None},
}  # fmt: skip


@pytest.mark.parametrize("overlap", ["last", "first"])
@pytest.mark.parametrize("kind", KINDS)
def test_several_files_equal_the_copy_of_their_vrt(
    kind: str, overlap: str, tmp_path: Path, build_vrt: Build
) -> None:
    paths = write_tiles(tmp_path, **KINDS[kind])
    kernel = "AVERAGE" if kind == "complex" else "NEAREST" if "palette" in kind else "CUBIC"
    options = {"OVERVIEW_RESAMPLING": kernel}
    # gdalbuildvrt takes the facts of the first file, which are here those of all
    vrt = build_vrt(paths if overlap == "last" else paths[::-1])
    assert written(paths, overlap=overlap, **options) == copied(vrt, **options)


@pytest.mark.parametrize("nodata", [None, 3])
def test_masks_of_several_files_are_laid_over_each_other(
    nodata: int | None, tmp_path: Path, build_vrt: Build
) -> None:
    paths = write_tiles(tmp_path, mask=True, nodata=nodata)
    # a file without a mask is valid wherever it is
    with rasterio.open(paths[1]) as masked:
        profile, pixels = masked.profile, masked.read()
    with rasterio.open(paths[1], "w", **profile) as plain:
        plain.write(pixels)
    vrt = build_vrt(paths)
    assert written(paths, OVERVIEWS="NONE") == copied(vrt, OVERVIEWS="NONE")


def test_overviews_are_new_where_files_have_some(tmp_path: Path, build_vrt: Build) -> None:
    paths = write_tiles(tmp_path, dtype="uint16", nodata=0)
    for path in paths:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4])
    vrt = build_vrt(paths)
    assert "<OverviewList" in vrt.read_text()
    assert written(paths) == copied(vrt, OVERVIEWS="IGNORE_EXISTING")


def test_the_size_of_chunks_does_not_matter(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, nodata=0, dtype="uint16")
    assert len({written(paths, chunk) for chunk in (77, 128, 4096)}) == 1


def test_files_whose_pixels_are_no_round_number_keep_their_grid(
    tmp_path: Path, build_vrt: Build
) -> None:
    paths, step = [], 1 / 3600
    for n in range(7):
        transform = rasterio.Affine(step, 0, 1 / 3 + n * 30 * step, 0, -step, 50 + n * 1e-9 * step)
        path = tmp_path / f"{n}.tif"
        size = {"count": 1, "height": 20, "width": 30, "dtype": "uint8", "crs": 4326}
        with rasterio.open(path, "w", driver="GTiff", transform=transform, **size) as target:
            target.write(np.full((1, 20, 30), n + 1, "uint8"))
        paths.append(path)
    assert written(paths) == copied(build_vrt(paths))


@pytest.mark.parametrize("overlap", ["min", "max"])
@pytest.mark.parametrize("kind", ["nodata", "nodata nan"])
def test_overlap_by_value_is_that_of_rasterio(kind: str, overlap: str, tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, **KINDS[kind])
    found = open_mosaic([str(path) for path in paths], 100, overlap=overlap).array.compute()
    assert np.array_equal(found, merge(paths, method=overlap)[0], equal_nan=True)


def test_overlap_by_value_heeds_masks_and_alpha(tmp_path: Path) -> None:
    places = [(0, 0), (0, 0)]
    for kind in ({"mask": True}, KINDS["gray and alpha"]):
        paths = write_tiles(tmp_path, places=places, **kind)
        found = open_mosaic(list(map(str, paths)), overlap="max").array.compute()[0]
        pixels, valid = [], []
        for path in paths:
            with rasterio.open(path) as dataset:
                pixels.append(dataset.read(1))
                valid.append(dataset.dataset_mask() > 0)
        expected = np.ma.masked_array(pixels, ~np.array(valid)).max(axis=0)
        assert np.array_equal(found, expected.filled(0))


def test_nodata_beside_a_mask_is_never_the_largest_value(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, places=[(0, 0), (0, 0)], mask=True, nodata=250)
    pixels = []
    for path in paths:
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(True)
            pixels.append(dataset.read(1))
    found = open_mosaic(list(map(str, paths)), overlap="max").array.compute()[0]
    assert np.array_equal(found, np.ma.masked_equal(pixels, 250).max(axis=0).filled(250))


def test_complex_numbers_have_no_overlap_by_value(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, dtype="complex64")
    with pytest.raises(OptionError, match="overlap=max"):
        open_mosaic(list(map(str, paths)), overlap="max")


# What costs nothing


def test_a_task_opens_only_the_files_that_it_needs(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, nodata=0)
    array = open_mosaic([str(path) for path in paths], 256).array
    paths[0].unlink()
    corner = array[:, 512:, 512:].compute()
    with rasterio.open(paths[-1]) as last:
        assert np.array_equal(corner[:, 8 : 8 + HEIGHT, 128 : 128 + WIDTH], last.read())
    with pytest.raises(StoreError, match="tile0"):
        array[:, :10, :10].compute()


def test_a_task_of_a_vrt_opens_only_the_files_that_it_needs(
    tmp_path: Path, build_vrt: Build
) -> None:
    paths = write_tiles(tmp_path)
    array = open_sources([str(build_vrt(paths))], 256).array
    paths[0].unlink()
    assert array[:, 512:, 512:].compute().any()
    with pytest.raises(StoreError, match="tile0"):
        array[:, :10, :10].compute()


def test_workers_of_a_cluster_read_the_files(tmp_path: Path, client: Any) -> None:
    paths = write_tiles(tmp_path, nodata=0)
    source = open_mosaic([str(path) for path in paths], 128)
    assert client.compute(delayed(source)).result() == written(paths)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("uint16", 9), ("float32", -9999.0)])
def test_areas_without_files_cost_nothing(
    dtype: str, nodata: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(0, 0), (40_000, 40_000)]
    paths = write_tiles(tmp_path, dtype=dtype, nodata=nodata, places=places)
    encoded: list[tuple[int, ...]] = []
    from ccog.gdal import encode

    usual = encode._compress

    def counted(files: Any, pixels: np.ndarray, codec: Any) -> Any:
        if not encode._is_sparse(pixels, codec):
            encoded.append(pixels.shape)
        return usual(files, pixels, codec)

    monkeypatch.setattr(encode, "_compress", counted)
    data = written(paths, 4096, SPARSE_OK="YES", BLOCKSIZE=512)
    assert len(data) < 1_000_000
    # of 100 blocks and those of overviews
    assert len(encoded) < 40
    with rasterio.MemoryFile(data).open() as found:
        assert found.shape == (40_000 + HEIGHT, 40_000 + WIDTH)
        with rasterio.open(paths[1]) as last:
            window = rasterio.windows.Window(40_000, 40_000, WIDTH, HEIGHT)
            assert np.array_equal(found.read(window=window), last.read())


@pytest.mark.parametrize("method", ["nearest", "average", "bilinear", "cubic", "lanczos", "mode", "rms"])  # fmt: skip
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -5), ("float32", 0.1), ("float32", np.nan)])  # fmt: skip
def test_areas_of_nodata_are_what_gdal_makes_of_them(
    method: str, dtype: str, nodata: float
) -> None:
    pixels = terrain((1, 500, 700), dtype)
    pixels[:, 128:, :400] = nodata
    options = {"blocksize": 128, "overview_resampling": method, "sparse_ok": "yes"}
    arr = da.from_array(pixels, chunks=(1, 128, 128))
    graph = ccog.write_ccog(arr, COG_creation_options=GEO | options | {"nodata": nodata})
    assert graph.compute(scheduler="sync") == gdal_cog(pixels, options, nodata=nodata)


@pytest.mark.slow
def test_the_graph_of_10_000_files_is_built_within_seconds(tmp_path: Path) -> None:
    size = {"count": 1, "height": 16, "width": 16, "dtype": "uint8"}
    first = tmp_path / "first.tif"
    with rasterio.open(first, "w", driver="GTiff", transform=TRANSFORM, **size) as target:
        target.write(np.ones((1, 16, 16), "uint8"))
    # the others are its bytes at other coordinates, as GDAL would take longer to write them
    before, corner, after = first.read_bytes().partition(
        struct.pack("<2d", TRANSFORM.c, TRANSFORM.f)
    )
    assert corner
    paths = []
    for n in range(10_000):
        x, y = TRANSFORM @ (16 * (n % 100), 16 * (n // 100))
        path = tmp_path / f"{n}.tif"
        path.write_bytes(before + struct.pack("<2d", x, y) + after)
        paths.append(str(path))
    started = time.perf_counter()
    source = open_mosaic(paths, 512)
    graph = delayed(source)
    # nearly all of it is opening the files, which takes about 0.5 ms each
    assert time.perf_counter() - started < 30
    assert source.array.shape == (1, 1600, 1600)
    assert len(bytes(graph.compute())) > 0


# What does not fit


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Path, Callable[..., str]]]:
    """A file, and the message about a second one beside it that differs in what is given."""
    first = write_tiles(tmp_path, places=[(0, 0)], nodata=1, count=2)[0]
    with rasterio.open(first) as dataset:
        usual = dataset.profile

    def refused(**changes: Any) -> str:
        second = tmp_path / "second.tif"
        with rasterio.open(second, "w", **usual | changes) as target:
            target.write(np.ones((target.count, HEIGHT, WIDTH), target.dtypes[0]))
        with pytest.raises(RasterError) as caught:
            open_mosaic([str(first), str(second)])
        return str(caught.value)

    return first, refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crs": "EPSG:32756"}, "CRS is EPSG:32756, expected EPSG:32755"),
        (
            {"transform": rasterio.Affine(20, 0, 5e5, 0, -20, 6e6)},
            "pixel size is 20.0 x 20.0, expected 10.0 x 10.0",
        ),
        (
            {"transform": rasterio.Affine(10, 0, 5e5 + 5, 0, -10, 6e6)},
            "upper left corner is (500005.0, 6000000.0), expected",
        ),
        ({"dtype": "int16"}, "data type is int16, expected uint8"),
        ({"nodata": 5}, "nodata is 5.0, expected 1.0"),
        ({"nodata": None}, "nodata is None, expected 1.0"),
        ({"count": 3}, "number of bands is 3, expected 2"),
        ({"transform": rasterio.Affine(10, 0, 5e5, 0, 10, 6e6)}, "rotated or flipped"),
        ({"transform": TRANSFORM * rasterio.Affine.rotation(20)}, "rotated or flipped"),
    ],
)
def test_the_first_file_that_differs_is_named(
    pair: Any, changes: dict[str, Any], says: str
) -> None:
    _, refused = pair
    message = refused(**changes)
    assert "second.tif" in message
    assert says in message
    assert ("gdalwarp" in message) == ("count" not in changes)


def test_the_command_in_the_message_brings_a_file_on_the_grid(pair: Any) -> None:
    _, refused = pair
    message = refused(transform=rasterio.Affine(20, 0, 5e5 + 5, 0, -20, 6e6), nodata=7)
    assert "gdalwarp -tr 10.0 10.0 -te 500000.0 5996000.0 505210.0 6000000.0" in message
    assert "-dstnodata 1.0" in message


def test_a_file_without_georeferencing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    size = {"count": 1, "height": 9, "width": 9, "dtype": "uint8"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", **size),
    ):
        pass
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        pytest.raises(RasterError, match=r"plain.tif has no transform"),
    ):
        open_mosaic([str(path), str(path)])


# How inputs are named


def test_patterns_and_lists_name_files(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, nodata=0)
    whole = open_mosaic(list(map(str, paths))).array.name
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(map(str, paths)) + "\n\n")
    for texts in ([str(tmp_path / "*.tif")], [f"@{listing}"], list(map(str, paths))):
        assert open_sources(texts).array.name == whole
    assert open_sources([str(tmp_path / "tile[0].tif")]).array.shape == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("text", "says"),
    [("no*.tif", "no file matches"), ("@absent.txt", "list of inputs"), ("@empty.txt", "is empty")],
)
def test_names_that_stand_for_nothing_are_explained(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(StoreError, match=says):
        open_sources([text])


@pytest.mark.tried("pipes, devices, sockets, folders and 200 GB as input or as a list", "an error")
@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "says", "of_list"),
    [
        ("pipe", "not a regular file", "not a regular file"),
        ("pipe.nc", "not a regular file", "not a regular file"),
        ("socket", "not a regular file", "not a regular file"),
        ("/dev/zero", "not a regular file", "not a regular file"),
        ("folder", "cannot open", "is a folder.*folder/\\*.tif"),
        ("huge.txt", "cannot open", "200.00 GB.*at most 100.00 MB"),
        ("bytes.txt", "cannot open", "cannot read the list"),
    ],
)
def test_what_is_not_a_file_is_refused_at_once(
    name: str, says: str, of_list: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for pipe in ("pipe", "pipe.nc"):
        os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    Path("folder").mkdir()
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00")
    Path("huge.txt").touch()
    os.truncate("huge.txt", 200_000_000_000)
    Path("list.txt").write_text(f"{name}\n")
    with pytest.raises(StoreError, match=says):
        open_sources([name])
    with pytest.raises(StoreError, match=says):
        ccog.write_ccog(name)
    with pytest.raises(StoreError, match=says):
        open_sources(["@list.txt"])
    with pytest.raises(StoreError, match=of_list):
        open_sources([f"@{name}"])


def test_a_tile_index_is_read_as_gdal_reads_it(tmp_path: Path, build_vrt: Build) -> None:
    paths = write_tiles(tmp_path, nodata=7)
    features = []
    for path in paths:
        with rasterio.open(path) as dataset:
            left, bottom, right, top = dataset.bounds
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        properties = {"location": str(path)}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32755"}}
    index = tmp_path / "index.geojson"
    collection = {"type": "FeatureCollection", "crs": crs, "features": features}
    index.write_text(json.dumps(collection))
    source = open_sources([str(index)], 256)
    found = bytes(delayed(source).compute())
    assert found == copied(f"GTI:{index}")
    # which is as good as a VRT where files do not differ
    assert found == copied(build_vrt(paths))


@pytest.mark.parametrize(
    "opened", [lambda path: open_sources([path]), lambda path: open_mosaic([path])]
)
def test_inputs_whose_urls_differ_in_the_signature_only_are_told_apart(
    opened: Callable[[str], Source],
) -> None:
    sources, files = [], []
    for value in (1, 2):
        data = gdal_cog(np.full((1, 64, 64), value, np.uint8), {}, **GEO)
        name = f"a.tif?X-Amz-Signature={value}"
        files.append(rasterio.MemoryFile(data, dirname="signed", filename=name))
        sources.append(opened(files[-1].name))
    first, second = da.compute(sources[0].array, sources[1].array)
    assert (first.max(), second.max()) == (1, 2)
    for file in files:
        file.close()
