"""The fault matrix: every failure at every call ends with the right object or a clear error, and nothing left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import s3fs

import ccog
from ccog import errors
from ccog.graph.build import new_token
from ccog.stores import s3_client
from ccog.stores.retry import Patience
from ccog.stores.s3 import S3Store
from conftest import GEO, gdal_cog, stored
from faults import KINDS, PLACES, Proxy, placed, proxied

Through = tuple[Proxy, dict[str, Any]]

PARTS = 3
OPTIONS = {"blocksize": 256, "compress": "none", "overviews": "none"}
QUICK = ("middle part", "complete")
PLACES_TRIED = [
    pytest.param(place, marks=[pytest.mark.slow] * (place not in QUICK)) for place in PLACES
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of minutes as waits of a blink; everything else is as it is for users."""
    monkeypatch.setattr(Patience, "wait", lambda self, attempt: 0.01)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 0.2))
    monkeypatch.setattr(s3_client, "_SLOW_READ_SECONDS", 1)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (1, PARTS * 512, 5248)).astype("uint16")


@pytest.fixture(scope="module")
def expected(pixels: np.ndarray) -> bytes:
    return gdal_cog(pixels, OPTIONS)


@pytest.fixture(scope="module")
def through(s3_options: dict[str, Any]) -> Iterator[Through]:
    with proxied(s3_options) as (proxy, options):
        yield proxy, options | {"config_kwargs": {"read_timeout": 1}}


def write(pixels: np.ndarray, options: dict[str, Any], key: str, **more: Any) -> ccog.WriteResult:
    array = da.from_array(pixels, chunks=(1, 1024, 5248))
    creation = GEO | OPTIONS | more
    delayed = ccog.write_ccog(
        array, f"s3://test/{key}", COG_creation_options=creation, storage_options=options
    )
    result = delayed.compute(scheduler="threads", num_workers=2)
    assert isinstance(result, ccog.WriteResult)
    return result


@contextlib.contextmanager
def warned_of_what_nobody_heard_of(
    kind: str, place: str, key: str, options: dict[str, Any]
) -> Iterator[None]:
    """Nothing is left, but for empty uploads whose creation was not answered, which a warning names."""
    if (kind, place) != ("lost", "create"):
        yield
        assert not ccog.list_incomplete(f"s3://test/{key}", options)
        return
    with pytest.warns(
        ccog.CCOGWarning, match=f"empty uploads? to .*{key} remains?.*ccog uploads abort"
    ):
        yield
    filesystem = s3fs.S3FileSystem(**options)
    for upload in ccog.abort_incomplete(f"s3://test/{key}", options):
        assert upload.url == f"s3://test/{key}"
    assert not filesystem.call_s3("list_multipart_uploads", Bucket="test", Prefix=key).get(
        "Uploads"
    )


def test_a_write_makes_no_more_calls_than_it_needs(
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
) -> None:
    proxy, options = through
    proxy.arm(None)
    write(pixels, options, "faults/none.tif")
    assert stored("s3://test/faults/none.tif", s3_options) == expected
    made = [proxy.calls[call] for call in ("create", "mark", "part", "complete")]
    assert made == [1, 1, PARTS, 1]


@pytest.mark.parametrize("place", PLACES_TRIED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_passing_fault_is_survived(
    kind: str,
    place: str,
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
) -> None:
    proxy, options = through
    key = f"faults/{kind}-{place.replace(' ', '-')}.tif"
    proxy.arm(placed(kind, place, PARTS))
    with warned_of_what_nobody_heard_of(kind, place, key, s3_options):
        assert write(pixels, options, key).size == len(expected)
    assert proxy.hits == 1
    proxy.arm(None)
    assert stored(f"s3://test/{key}", s3_options) == expected


@pytest.mark.parametrize("place", ["create", "middle part", "complete"])
@pytest.mark.parametrize("kind", ["503", "drop", "200", "lost"])
def test_a_lasting_fault_is_a_clear_error(
    kind: str,
    place: str,
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
) -> None:
    proxy, options = through
    key = f"faults/lasting-{kind}-{place.replace(' ', '-')}.tif"
    proxy.arm(placed(kind, place, PARTS, times=1000))
    if (kind, place) == ("lost", "complete"):
        write(pixels, options, key)  # the object is there, which is what counts
    else:
        with (
            warned_of_what_nobody_heard_of(kind, place, key, s3_options),
            pytest.raises(
                errors.StoreError, match=rf"cannot (start|upload|complete).*{key}"
            ) as caught,
        ):
            write(pixels, options, key)
        assert "secret" not in str(caught.value)
        assert "uploadId" not in str(caught.value)
    proxy.arm(None)
    assert not ccog.list_incomplete(f"s3://test/{key}", s3_options)


@pytest.mark.tried(
    "the answer to the begin of an upload is lost while two other writers begin at the same key",
    "warned: their uploads are left alone, and the empty one is named",
)
def test_an_upload_begun_unheard_is_not_that_of_another_writer(
    through: Through, s3_options: dict[str, Any]
) -> None:
    proxy, options = through
    others = S3Store("test", "faults/shared.tif", s3_options)
    theirs = [others.begin(new_token()), others.begin(new_token())]
    proxy.arm(placed("lost", "create", PARTS))
    with pytest.warns(ccog.CCOGWarning, match="an empty upload .* remains"):
        ours = S3Store("test", "faults/shared.tif", options).begin(new_token())
    left = {upload.upload_id for upload in others.incomplete()}
    assert left > {*theirs, ours}
    for session in left:
        others.abort(session)
    proxy.arm(None)


@pytest.mark.tried(
    "the begin of an upload never reaches the server, and another program begins one at the same key meanwhile",
    "right: the other upload is left alone",
)
def test_an_upload_that_was_not_begun_is_not_looked_for_among_those_of_others(
    through: Through, s3_options: dict[str, Any]
) -> None:
    proxy, options = through
    store = S3Store("test", "faults/fresh.tif", options)
    create = s3fs.S3FileSystem(**s3_options).call_s3
    theirs = create("create_multipart_upload", Bucket="test", Key=store.key)["UploadId"]
    proxy.arm(placed("drop", "create", PARTS))
    with pytest.warns(ccog.CCOGWarning, match="may as well be another writer's"):
        ours = store.begin(new_token())
    assert {upload.upload_id for upload in store.incomplete()} == {theirs, ours}
    assert store.stored_parts(ours, 1, 1)
    assert not store.stored_parts(theirs, 1, 1)
    proxy.arm(None)
    for session in (ours, theirs):
        store.abort(session)
