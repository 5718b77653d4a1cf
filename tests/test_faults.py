"""The fault matrix: every failure at every call ends with the right object or a clear error, and nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import s3fs

import ccog
from ccog import errors
from ccog.graph import new_token
from ccog.stores import s3_client
from ccog.stores.retry import Patience
from ccog.stores.s3 import S3Store
from conftest import GEO, gdal_cog
from faults import KINDS, PLACES, Proxy, placed, proxied

PARTS = 6
OPTIONS = {"blocksize": 256, "compress": "none", "overviews": "none"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of minutes as waits of a blink; everything else is as it is for users."""
    monkeypatch.setattr(Patience, "wait", lambda self, attempt: 0.01)
    monkeypatch.setattr(s3_client, "_SLOW_READ_SECONDS", 1)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (1, 3 * 1024, 5248)).astype("uint16")


@pytest.fixture(scope="module")
def expected(pixels: np.ndarray) -> bytes:
    return gdal_cog(pixels, OPTIONS)


@pytest.fixture(scope="module")
def through(s3_options: dict[str, Any]) -> Iterator[tuple[Proxy, dict[str, Any]]]:
    with proxied(s3_options) as (proxy, options):
        yield proxy, options | {"config_kwargs": {"read_timeout": 1}}


def write(pixels: np.ndarray, options: dict[str, Any], key: str, **more: Any) -> ccog.WriteResult:
    array = da.from_array(pixels, chunks=(1, 1024, 5248))
    creation = GEO | OPTIONS | more
    delayed = ccog.write_ccog(array, f"s3://test/{key}", COG_creation_options=creation, storage_options=options)
    result = delayed.compute(scheduler="threads", num_workers=2)
    assert isinstance(result, ccog.WriteResult)
    return result


def read(options: dict[str, Any], key: str) -> bytes:
    return bytes(s3fs.S3FileSystem(**options, skip_instance_cache=True).cat(f"test/{key}"))


def test_without_faults(
    through: tuple[Proxy, dict[str, Any]], s3_options: dict[str, Any], pixels: np.ndarray, expected: bytes
) -> None:
    proxy, options = through
    proxy.arm(None)
    write(pixels, options, "faults/none.tif")
    assert read(s3_options, "faults/none.tif") == expected
    assert (proxy.calls["create"], proxy.calls["part"], proxy.calls["complete"]) == (1, PARTS, 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_passing_fault_is_survived(
    kind: str,
    place: str,
    through: tuple[Proxy, dict[str, Any]],
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
) -> None:
    proxy, options = through
    key = f"faults/{kind}-{place.replace(' ', '-')}.tif"
    proxy.arm(placed(kind, place, PARTS))
    assert write(pixels, options, key).size == len(expected)
    assert proxy.hits == 1
    proxy.arm(None)
    assert read(s3_options, key) == expected
    assert not ccog.list_incomplete("s3://test/faults/", s3_options)


@pytest.mark.parametrize("place", ["create", "middle part", "complete"])
@pytest.mark.parametrize("kind", ["503", "drop", "200", "lost"])
def test_a_lasting_fault_is_a_clear_error(
    kind: str, place: str, through: tuple[Proxy, dict[str, Any]], s3_options: dict[str, Any], pixels: np.ndarray
) -> None:
    proxy, options = through
    key = f"faults/lasting-{kind}-{place.replace(' ', '-')}.tif"
    proxy.arm(placed(kind, place, PARTS, times=1000))
    if (kind, place) == ("lost", "complete"):
        write(pixels, options, key)  # the object is there, which is what counts
    else:
        with pytest.raises(errors.StoreError, match=rf"cannot (start|upload|complete).*{key}") as caught:
            write(pixels, options, key)
        assert "secret" not in str(caught.value)
    proxy.arm(None)
    assert not ccog.list_incomplete("s3://test/faults/", s3_options)


def test_an_upload_begun_unheard_is_not_that_of_another_writer(
    through: tuple[Proxy, dict[str, Any]], s3_options: dict[str, Any]
) -> None:
    proxy, options = through
    others = S3Store("test", "faults/shared.tif", s3_options)
    theirs = [others.begin(new_token()), others.begin(new_token())]
    proxy.arm(placed("lost", "create", PARTS))
    with pytest.warns(ccog.CCOGWarning, match="remain"):
        ours = S3Store("test", "faults/shared.tif", options).begin(new_token())
    left = {upload.session for upload in others.incomplete()}
    assert left >= {*theirs, ours}
    for session in left:
        others.abort(session)
    proxy.arm(None)
