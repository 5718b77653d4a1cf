"""Whatever memory held before, the file is the same."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import ccog
from conftest import GEO, gdal_cog

TESTS = Path(__file__).resolve().parents[1]
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "complex64")
CODECS = (
    *("none", "lzw", "deflate", "zstd", "lzma", "jpeg", "webp", "lerc", "lerc_deflate"),
    "lerc_zstd",
)
BYTES = [(dtype, codec) for dtype in ("uint8", "int8") for codec in CODECS if "lerc" in codec]


def uneven(dtype: str, bands: int = 1, sides: tuple[int, int] = (300, 290)) -> np.ndarray:
    """Pixels (band, y, x) of which LERC makes trees of Huffman."""
    noise = np.random.default_rng(0).integers(0, 60, (bands, *sides))
    return (noise + np.arange(sides[1]) // 7).astype(dtype)


def written(dtype: str, codec: str, bands: int = 1, **options: Any) -> bytes:
    call = {**GEO, "compress": codec, "blocksize": 128, "overview_resampling": "average"}
    array = da.from_array(uneven(dtype, bands), chunks=(bands, 128, 256))
    return bytes(ccog.write_ccog(array, **(call | options)).compute(scheduler="sync"))


def digests() -> str:
    """A line for each codec, type and number of bands: what a child of the test prints."""
    import hashlib

    lines = []
    for dtype, codec, bands in itertools.product(TYPES, CODECS, (1, 3)):
        try:
            found = hashlib.sha256(written(dtype, codec, bands)).hexdigest()
        except ccog.CCOGError:
            continue
        lines.append(f"{dtype} {codec} {bands} {found}")
    return "\n".join(lines)


def printed(code: str, byte: int) -> str:
    """What a process prints whose allocator fills memory, of 255 with zeros (glibc)."""
    environment = os.environ | {"MALLOC_PERTURB_": str(byte), "PYTHONWARNINGS": "ignore"}
    run = [sys.executable, "-c", f"from gdal.test_determinism import *; print({code})"]
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment["PYTHONPATH"] = paths
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout


on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs MALLOC_PERTURB_")


@on_glibc
@pytest.mark.slow
@pytest.mark.tried(
    "Memory filled with other bytes before every codec and type is written",
    "the file is the same each time",
)
def test_every_codec_and_type_is_the_same_file_every_time() -> None:
    first, *others = (printed("digests()", byte) for byte in (255, 1, 77))
    assert first.count("\n") > 100
    assert others == [first, first]


def bytes_as_gdal() -> list[tuple[str, str, int]]:
    """The types, codecs and bands of LERC of bytes whose file is not GDAL's."""
    return [
        (dtype, codec, bands)
        for (dtype, codec), bands in itertools.product(BYTES, (1, 3))
        if written(dtype, codec, bands)
        != gdal_cog(
            uneven(dtype, bands),
            {"compress": codec, "blocksize": 128, "overview_resampling": "average"},
        )
    ]


@on_glibc
def test_lerc_of_bytes_is_gdals_file_where_gdal_finds_fresh_memory() -> None:
    assert printed("bytes_as_gdal()", 255) == "[]\n"


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("codec", ["lerc", "lerc_zstd"])
@pytest.mark.parametrize("error", [1, 3])
def test_lossy_lerc_of_bytes_is_gdals_file(dtype: str, codec: str, error: int) -> None:
    options = {"compress": codec, "blocksize": 128, "max_z_error": error}
    options["overview_resampling"] = "average"
    assert written(dtype, codec, max_z_error=error) == gdal_cog(uneven(dtype), options)


@pytest.mark.parametrize("codec", ["lerc", "lerc_deflate", "lerc_zstd"])
@pytest.mark.parametrize("env", [{}, {"GDAL_NUM_THREADS": "2"}], ids=["alone", "threads of GDAL"])
def test_lerc_of_bytes_is_the_same_on_threads(codec: str, env: dict[str, str]) -> None:
    array = da.from_array(uneven("uint8", 1, (1024, 1024)), chunks=512)
    options = {"compress": codec, "overview_resampling": "average", **GEO}
    found = {
        ccog.write_ccog(array, rasterio_env_options=env, **options).compute(scheduler="threads")
        for _ in range(6)
    }
    assert len(found) == 1


@pytest.mark.parametrize("codec", ["lerc", "lerc_zstd"])
@pytest.mark.parametrize("chunks", [(1, 128, 290), (1, 300, 290)])
def test_lerc_of_bytes_does_not_depend_on_chunks(codec: str, chunks: tuple[int, ...]) -> None:
    array = da.from_array(uneven("uint8"), chunks=chunks)
    call = {**GEO, "compress": codec, "blocksize": 128, "overview_resampling": "average"}
    assert ccog.write_ccog(array, **call).compute(scheduler="sync") == written("uint8", codec)
