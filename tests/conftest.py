"""Shared fixtures: GDAL as oracle, a real S3 server, a real cluster of processes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import settings
from rasterio.io import MemoryFile

import servers
from ccog.geometry.settings import use_settings

pytest_plugins = ["tried"]

# A busy machine is not a reason to fail. The same cases are drawn at every run, so that a failure can be
# had again; CCOG_HYPOTHESIS=random draws others.
settings.register_profile("ccog", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("CCOG_HYPOTHESIS", "ccog"))

# where these are set, pytest shows every difference of two unequal files: minutes, for megabytes
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)

#: The folder of the helper modules, which processes that tests start put on their path.
TESTS = Path(__file__).resolve().parent

#: Real rasters, where somebody keeps some beside the repository.
DATA = TESTS.parents[1] / "shared" / "data"


#: Servers that are large to install or to run, and what tests that ask for them are named or asked with.
LARGER = ("juicefs", "azure_options", "gcs_options")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a larger server are slow, as those are that say so."""
    for item in items:
        asked = [*getattr(item, "fixturenames", ()), getattr(item, "callspec", None)]
        if any(server in str(asked) for server in LARGER):
            item.add_marker(pytest.mark.slow)


def stored(url: str, options: dict[str, Any] | None = None) -> bytes:
    """The bytes at a target, as a program that comes afterwards reads them."""
    filesystem, path = fsspec.core.url_to_fs(url, **(options or {}))
    filesystem.invalidate_cache()
    return bytes(filesystem.cat_file(path))


def gdal_cog(
    pixels: np.ndarray,
    options: dict[str, Any] | None = None,
    mask: np.ndarray | None = None,
    describe: dict[str, Any] | None = None,
    **profile: Any,
) -> bytes:
    """The file that the installed COG driver writes of the same pixels and options."""
    profile = {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6), "crs": "EPSG:32755"} | profile
    count, height, width = pixels.shape
    size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    nodata = profile.get("nodata")
    if nodata is not None and pixels.dtype in (np.int64, np.uint64):
        # rasterio's writer drops such a nodata value, CreateCopy does not
        del profile["nodata"]
        band = "pixel" if rasterio.__gdal_version__ < "3.11" else "band"
        source = {**size, **profile, "driver": "GTiff", "interleave": band}
        return _copied_with_nodata(_written(pixels, mask, describe, source), int(nodata), options)
    return _written(pixels, mask, describe, {"driver": "COG", **size, **profile, **(options or {})})


def _written(pixels: np.ndarray, mask: Any, describe: Any, profile: dict[str, Any]) -> bytes:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
            for key, tags in (describe or {}).get("update_tags", {}).items():
                band, domain = key if isinstance(key, tuple) else (key, None)
                dataset.update_tags(band, domain, **tags)
            for name, value in (describe or {}).items():
                if name == "colormap":
                    dataset.write_colormap(1, value)
                elif name != "update_tags":
                    setattr(dataset, name, value)
        return bytes(memory.read())


def _copied_with_nodata(file: bytes, nodata: int, options: dict[str, Any] | None) -> bytes:
    """What CreateCopy makes of a file whose bands have a nodata value, exactly, by a VRT.

    rasterio may write values of options in capitals here.
    """
    value = f"<NoDataValue>{nodata}</NoDataValue>"
    upper = {key.upper(): str(text) for key, text in (options or {}).items()}
    with MemoryFile(file) as source, MemoryFile(ext="vrt") as vrt, MemoryFile() as cog:
        rasterio.shutil.copy(source.name, vrt.name, driver="VRT")
        xml = re.sub("(<VRTRasterBand[^>]*>)", rf"\1{value}", vrt.read().decode())
        with MemoryFile(xml.encode(), ext="vrt") as with_nodata:
            rasterio.shutil.copy(with_nodata.name, cog.name, driver="COG", **upper)
        return bytes(cog.read())


#: What gdal_cog assumes of georeferencing, as write_ccog takes it.
GEO = {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6), "crs": "EPSG:32755"}


def terrain(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Smooth pixels with noise, (band, y, x), that use much of the type's range."""
    rng = np.random.default_rng(seed)
    bands, height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    field = np.stack([np.sin(x / (19 + b)) + np.cos(y / (23 + b)) for b in range(bands)])
    field += rng.normal(0, 0.1, shape)
    kind = np.dtype(dtype)
    if kind.kind == "c":
        return (field + 1j * field[::-1]).astype(kind)
    if kind.kind == "f":
        return (field * 100).astype(kind)
    scale = 40 if kind.itemsize == 1 else 9000
    return ((field + (3 if kind.kind == "u" else 0)) * scale).astype(kind)


@pytest.fixture
def change_settings() -> Iterator[Callable[..., Any]]:
    """Replaces settings by name until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda **changes: stack.enter_context(use_settings(**changes))


@pytest.fixture(scope="session")
def s3_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of a SeaweedFS server with keys and the bucket ``test``; never skipped."""
    with servers.seaweedfs(tmp_path_factory.mktemp("weed")) as options:
        yield options


def _optional(server: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """A server that cannot be installed everywhere."""
    with contextlib.ExitStack() as stack:
        try:
            options = stack.enter_context(server(folder))
        except servers.NotInstalledError as error:
            pytest.skip(str(error))
        yield options


@pytest.fixture(scope="session")
def juicefs_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of a JuiceFS gateway."""
    yield from _optional(servers.juicefs, tmp_path_factory.mktemp("juicefs"))


@pytest.fixture(scope="session")
def moto_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of moto's simulation of S3."""
    yield from _optional(servers.moto, tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="session")
def azure_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of Azurite."""
    yield from _optional(servers.azurite, tmp_path_factory.mktemp("azurite"))


@pytest.fixture(scope="session")
def gcs_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of fake-gcs-server."""
    yield from _optional(servers.fake_gcs, tmp_path_factory.mktemp("gcs"))


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A distributed client of two worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found
