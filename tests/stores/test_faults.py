"""The fault matrix: every failure at every call ends with the right object or a clear error, and nothing left."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import s3fs

import ccog
import faults
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
@pytest.mark.tried(
    "a call to S3 fails once ({place}): {kind}",
    "right: the object is GDAL's; nothing is left, or a warning names it",
    kind=KINDS,
)
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
@pytest.mark.tried(
    "a call to S3 fails for ever ({place}): {kind}",
    "refused in words, or right where the object is complete; nothing is left, or a warning names it",
    kind=KINDS,
)
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


@pytest.mark.parametrize("kind", ["503", "500", "400", "drop"])
@pytest.mark.tried(
    "half of all calls to S3 fail, at random: {kind}",
    "right: the object is GDAL's, and nothing is left",
    kind=KINDS,
)
def test_a_storm_is_survived(
    kind: str,
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, options = through
    chance, met = random.Random(0), []

    def hit(call: str, size: int) -> str | None:
        met.append(call)
        return kind if chance.random() < 0.5 else None

    monkeypatch.setattr(proxy, "hit", hit)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 20.0))
    assert write(pixels, options, f"faults/storm-{kind}.tif").size == len(expected)
    assert len(met) > PARTS + 3
    assert stored(f"s3://test/faults/storm-{kind}.tif", s3_options) == expected
    assert not ccog.list_incomplete(f"s3://test/faults/storm-{kind}.tif", s3_options)


@pytest.mark.tried("no call to S3 is answered for a second in mid-write", "right")
def test_a_server_that_is_away_for_a_moment_is_waited_for(
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, options = through
    back: list[float] = []

    def hit(call: str, size: int) -> str | None:
        if call == "part" and not back:
            back.append(time.monotonic() + 1.0)
        return "drop" if back and time.monotonic() < back[0] else None

    monkeypatch.setattr(proxy, "hit", hit)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 20.0))
    write(pixels, options, "faults/away.tif")
    assert stored("s3://test/faults/away.tif", s3_options) == expected
    assert not ccog.list_incomplete("s3://test/faults/away.tif", s3_options)


@pytest.mark.parametrize("place", ["create", "first part", "middle part", "last part", "complete"])
@pytest.mark.tried(
    "access to S3 is denied in mid-write ({place})",
    "refused at once, without another attempt, and nothing is left",
)
def test_what_is_denied_is_not_tried_again(
    place: str, through: Through, s3_options: dict[str, Any], pixels: np.ndarray
) -> None:
    proxy, options = through
    key = f"faults/denied-{place.replace(' ', '-')}.tif"
    proxy.arm(placed("403", place, PARTS, times=1000))
    with pytest.raises(errors.StorePermissionError, match=r"access denied.*AccessDenied"):
        write(pixels, options, key)
    # parts are put side by side
    assert proxy.hits <= (PARTS if "part" in place else 1)
    proxy.arm(None)
    assert not ccog.list_incomplete(f"s3://test/{key}", s3_options)


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize("place", ["create", "middle part", "complete"])
@pytest.mark.tried(
    "a session token expires ({place}), {times}",
    "right with a new one, else refused; nothing is left",
    times={1: "and there is a new one", 1000: "and there is no new one"},
)
def test_an_expired_token_is_renewed(
    place: str,
    times: int,
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, options = through
    monkeypatch.setitem(faults._ERRORS, "expired", (400, "ExpiredToken"))
    key = f"faults/expired-{times}-{place.replace(' ', '-')}.tif"
    proxy.arm(placed("expired", place, PARTS, times=times))
    if times == 1:
        write(pixels, options, key)
        assert stored(f"s3://test/{key}", s3_options) == expected
    else:
        with pytest.raises(errors.StoreError, match="ExpiredToken"):
            write(pixels, options, key)
    proxy.arm(None)
    assert not ccog.list_incomplete(f"s3://test/{key}", s3_options)


GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda body: body[: len(body) // 2],
    "empty": lambda _: b"",
    "noise": lambda body: np.random.default_rng(0).bytes(len(body)),
    "a page": lambda _: b"<html><body>please log in</body></html>",
}


@pytest.mark.parametrize("how", GARBLED)
@pytest.mark.tried(
    "the answer of S3 to the completion is garbled: {how}",
    "right: the object is known to be the one just written",
)
def test_a_garbled_answer_to_the_completion_makes_no_error_of_a_right_object(
    how: str,
    through: Through,
    s3_options: dict[str, Any],
    pixels: np.ndarray,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, options = through
    proxy.arm(None)
    answer, garbled = faults._Handler._answer, []

    def wrong(handler: Any, status: int, headers: dict[str, str], body: bytes) -> None:
        if faults.call_of(handler.command, handler.path) == "complete" and not garbled:
            garbled.append(body)
            body = GARBLED[how](body)
        answer(handler, status, headers, body)

    monkeypatch.setattr(faults._Handler, "_answer", wrong)
    key = f"faults/garbled-{how.replace(' ', '-')}.tif"
    assert write(pixels, options, key).size == len(expected)
    assert garbled
    assert stored(f"s3://test/{key}", s3_options) == expected
    assert not ccog.list_incomplete(f"s3://test/{key}", s3_options)
