"""Masks, overviews and statistics beside an older file: gone with it, or named in a warning."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

import ccog
from ccog.stores.sidecars import among, prefix_of
from conftest import terrain
from faults import Fault, proxied

SIDE = 64

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def plain(path: Path, **profile: Any) -> None:
    """A TIFF of ones."""
    pixels = np.ones((1, SIDE, SIDE), "uint8")
    size = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(pixels)


def placed(path: Path) -> None:
    plain(path, crs="EPSG:32633", transform=from_origin(0, 10, 1, 1))


def with_mask(path: Path) -> None:
    placed(path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.zeros((SIDE, SIDE), "uint8"))


def with_overviews(path: Path) -> None:
    """Overviews of the image, and of the mask beside it, in files of their own."""
    with_mask(path)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])


def with_overviews_of_overviews(path: Path) -> None:
    with_overviews(path)
    for end in (".ovr.ovr", ".ovr.aux.xml", ".msk.aux.xml"):
        shutil.copy(path, f"{path}{end}")


def with_statistics(path: Path) -> None:
    placed(path)
    Path(f"{path}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">7</MDI>'
        "</Metadata></PAMRasterBand></PAMDataset>"
    )


def with_a_world_file(path: Path) -> None:
    plain(path)
    path.with_suffix(".tfw").write_text("7\n0\n0\n-7\n500\n900\n")


def with_a_world_file_in_capitals(path: Path) -> None:
    plain(path)
    path.with_suffix(".WLD").write_text("7\n0\n0\n-7\n500\n900\n")


def with_an_unused_world_file(path: Path) -> None:
    placed(path)
    path.with_suffix(".tfw").write_text("7\n0\n0\n-7\n500\n900\n")


def with_a_table(path: Path) -> None:
    """A table of MapInfo, which says where the image lies."""
    plain(path)
    points = ((0, 10, 0, 0), (9, 10, 9, 0), (9, 1, 9, 9))
    lines = [f'  ({x},{y}) ({u},{v}) Label "{n}"' for n, (x, y, u, v) in enumerate(points)]
    head = ["!table", "!version 300", "Definition Table", '  File "a.tif"', '  Type "RASTER"']
    end = ["  CoordSys Earth Projection 1, 0", '  Units "degree"', ""]
    path.with_suffix(".tab").write_text("\n".join([*head, ",\n".join(lines), *end]))


def with_metadata_of_a_satellite(path: Path) -> None:
    placed(path)
    path.with_suffix(".IMD").write_text('version = "R";\nEND;\n')
    group = "BEGIN_GROUP = IMAGE\n errBias = 1.0;\nEND_GROUP = IMAGE\nEND;\n"
    path.with_suffix(".RPB").write_text(f'satId = "QB02";\nbandId = "P";\n{group}')


def with_rpcs(path: Path) -> None:
    placed(path)
    axes = ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")
    ones = [f"{axis}_{what}" for what in ("OFF", "SCALE") for axis in axes]
    sums = [f"{axis}_{part}_COEFF" for axis in ("LINE", "SAMP") for part in ("NUM", "DEN")]
    keys = [*ones, *(f"{key}_{n}" for key in sums for n in range(1, 21))]
    path.with_name("a_RPC.TXT").write_text("".join(f"{key}: 1\n" for key in keys))


def with_notes_of_other_data(path: Path) -> None:
    """GDAL reads none of them with the image."""
    placed(path)
    for name in ("a.xml", "a.txt", "a_metadata.xml", "a.dbf"):
        path.with_name(name).write_text("precious")


def with_metadata_of_kompsat(path: Path) -> None:
    with_notes_of_other_data(path)
    for name in ("a.rpc", "a.eph"):
        path.with_name(name).write_text("AUX_SATELLITE_NAME KOMPSAT\n")


OLD = (with_rpcs, with_notes_of_other_data, with_metadata_of_kompsat, with_mask, with_overviews,
       with_overviews_of_overviews, with_statistics, with_a_world_file,
       with_a_world_file_in_capitals, with_an_unused_world_file, with_a_table,
       with_metadata_of_a_satellite)  # fmt: skip

#: Files of a folder that have nothing to do with a.tif, for GDAL.
OTHERS = ("b.tif.msk", "a.tiff.msk", "a.tif.txt", "a.csv", "a.tif.msk.bak", "a.tif.bak.ovr")


def old_file(folder: Path, make: Callable[[Path], None]) -> Path:
    folder.mkdir()
    for name in OTHERS:
        (folder / name).write_text("precious")
    make(folder / "a.tif")
    assert len(os.listdir(folder)) > len(OTHERS) + 1
    return folder / "a.tif"


@pytest.mark.tried("a file with mask, overviews, statistics, world file or metadata beside it is overwritten",
                   "right: they go with it, as GDAL has it")  # fmt: skip
@pytest.mark.parametrize("make", OLD)
def test_what_gdal_removes_with_a_file_is_removed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    ours, theirs = (old_file(tmp_path / name, make) for name in ("ours", "theirs"))
    new = tmp_path / "new.tif"
    placed(new)
    rasterio.shutil.copy(new, theirs, driver="COG")
    ccog.write_ccog(np.ones((1, SIDE, SIDE), "uint8"), ours, crs="EPSG:32633", compute=True)
    assert set(OTHERS) < set(os.listdir(ours.parent))
    expected = set(os.listdir(theirs.parent))
    # not read with the old file, and with the new one that lies nowhere
    if make is not with_an_unused_world_file:
        assert set(os.listdir(ours.parent)) == expected


@pytest.mark.parametrize("make", OLD)
def test_the_new_file_is_read_as_if_it_were_alone(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    there, alone = old_file(tmp_path / "there", make), tmp_path / "alone.tif"
    for path in (there, alone):
        ccog.write_ccog(np.full((SIDE, SIDE), 200, "uint8"), path, compute=True)
    with rasterio.open(there) as found, rasterio.open(alone) as expected:
        assert found.files == [str(there)]
        assert found.profile == expected.profile
        assert (found.tags(), found.tags(1)) == (expected.tags(), expected.tags(1))
        assert found.overviews(1) == expected.overviews(1)
        assert found.dataset_mask().min() == 255


def test_a_write_that_fails_leaves_the_old_file_all_that_is_beside_it(tmp_path: Path) -> None:
    target = old_file(tmp_path / "a", with_overviews)
    before = {path.name: path.read_bytes() for path in target.parent.iterdir()}

    def fail(*_: Any) -> Any:
        raise RuntimeError("no pixels here")

    bad = da.zeros((SIDE, SIDE), dtype="uint8").map_blocks(
        fail, dtype="uint8", meta=np.empty((0, 0), "uint8")
    )
    with pytest.raises(RuntimeError, match="no pixels here"):
        ccog.write_ccog(bad, target, compute=True)
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == before


def test_both_names_of_a_file_lose_what_is_beside_them(tmp_path: Path) -> None:
    real, link = old_file(tmp_path / "real", with_mask), tmp_path / "link.tif"
    link.symlink_to(real)
    shutil.copy(f"{real}.msk", f"{link}.msk")
    ccog.write_ccog(np.full((SIDE, SIDE), 200, "uint8"), link, compute=True)
    for path in (real, link):
        with rasterio.open(path) as file:
            assert file.dataset_mask().min() == 255
    assert set(os.listdir(real.parent)) == {"a.tif", *OTHERS}


@pytest.mark.tried(
    "a mask beside the file cannot be removed", "written, with a warning that names it"
)
def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    placed(target)
    (tmp_path / "a.tif.msk").mkdir()
    with pytest.warns(ccog.CCOGWarning, match=r"a\.tif is written, and a\.tif\.msk .* be removed"):
        ccog.write_ccog(np.full((SIDE, SIDE), 200, "uint8"), target, compute=True)
    assert (tmp_path / "a.tif.msk").is_dir()


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_lies_beside_no_file_is_named_and_stays(tmp_path: Path, overwrite: bool) -> None:
    with_mask(tmp_path / "a.tif")
    (tmp_path / "a.tif").unlink()
    with pytest.warns(ccog.CCOGWarning, match=r"a\.tif there is a\.tif\.msk, which readers take"):
        write = ccog.write_ccog(terrain((1, SIDE, SIDE)), tmp_path / "a.tif", overwrite=overwrite)
    write.compute()
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "a.tif.msk"]


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets which servers have not answered other tests."""
    for name in ("_SILENT", "_UNLISTED"):
        monkeypatch.setattr(f"ccog.stores.incomplete.{name}", set())


SERVERS = {"s3_options": "s3://test", "azure_options": "az://test", "gcs_options": "gs://test",
           "no_options": "memory://test"}  # fmt: skip


@pytest.fixture
def no_options() -> dict[str, Any]:
    return {}


@pytest.mark.tried("masks and overviews of an older object lie beside it on S3, Azure, Google Cloud Storage",
                   "right; a warning names them before the write")  # fmt: skip
@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("server", SERVERS)
def test_what_stays_on_a_server_is_named(server: str, request: pytest.FixtureRequest) -> None:
    options = request.getfixturevalue(server)
    url = f"{SERVERS[server]}/{uuid.uuid4().hex}/a.tif"
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    pixels = terrain((1, SIDE, SIDE))
    for name in ("b.tif.msk", "a.tif.txt", "a.tif.d/a.tif.msk"):
        filesystem.pipe_file(f"{path.rpartition('/')[0]}/{name}", b"precious")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ccog.CCOGWarning)
        ccog.write_ccog(pixels, url, storage_options=options, compute=True)
    for end in (".ovr", ".msk"):
        filesystem.pipe_file(path + end, b"old")
    with pytest.warns(ccog.CCOGWarning, match=r"there are a\.tif\.msk, a\.tif\.ovr, which"):
        ccog.write_ccog(pixels, url, storage_options=options)


@pytest.mark.usefixtures("unasked")
@pytest.mark.tried(
    "S3 denies to list what is beside the object", "right; asked once, and no warning"
)
def test_a_denied_listing_is_no_hindrance(
    s3_options: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    pixels = terrain((1, SIDE, SIDE))
    with proxied(s3_options) as (proxy, options):
        proxy.arm(None)
        ccog.write_ccog(pixels, "s3://test/denied/a.tif", storage_options=options)
        # unfinished writes, and what is beside the object
        assert proxy.calls == {"list": 1, "list uploads": 1}
        proxy.arm(Fault("403", "list,list uploads", times=99))
        for _ in range(2):
            ccog.write_ccog(pixels, "s3://test/denied/a.tif", storage_options=options, compute=True)
        assert proxy.hits == 2
    assert not [warning for warning in recwarn if issubclass(warning.category, ccog.CCOGWarning)]


def test_names_are_known_in_any_case() -> None:
    listed = ["d/a.TFW", "d/a.tif.AUX.XML", "d/a.tif.msk.ovr", "d/a.csv", "d/a.b.msk", "d/a.IMD"]
    assert all(name.startswith(prefix_of("d/a.tif")) for name in listed)
    assert among("d/a.tif", listed) == ["a.IMD", "a.TFW", "a.tif.AUX.XML", "a.tif.msk.ovr"]
    assert among("d/a", ["d/a.msk", "d/b.msk"]) == ["a.msk"]
