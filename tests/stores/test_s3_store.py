"""What S3 stores do when others are at the same key, when sources change, and when servers go or rename."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import s3fs

import ccog
from ccog import errors
from ccog.geometry.parts import MIB, Part
from ccog.graph.build import new_token
from ccog.stores import resolve_store
from ccog.stores.checksums import ALGORITHMS, _crc
from ccog.stores.incomplete import _SILENT
from ccog.stores.retry import Patience, retry
from ccog.stores.s3 import S3Store
from ccog.stores.s3_complete import Completion
from ccog.stores.s3_proof import difference, is_proven
from conftest import stored, terrain
from faults import Fault, proxied

SERVERS = ("s3", "juicefs", "moto")
OLD, NEW = b"what was there before", b"what is written now.."


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "wait", lambda self, attempt: 0.01)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 0.3))
    _SILENT.clear()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(server: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """storage_options of each of the S3 servers."""
    found: dict[str, Any] = request.getfixturevalue(f"{server}_options")
    return found


@pytest.fixture
def store(options: dict[str, Any], request: pytest.FixtureRequest) -> S3Store:
    return S3Store("test", f"s3-store/{request.node.originalname}.tif", options)


@pytest.fixture
def other(options: dict[str, Any]) -> Callable[..., Any]:
    """Calls on the same bucket by another program."""
    filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    return lambda method, **given: filesystem.call_s3(method, Bucket="test", **given)


def read(store: S3Store) -> bytes:
    return stored(store.url, store.options)


@pytest.mark.tried(
    "somebody else aborts the upload, and an older object of the same size is at the key",
    "refused: the object is not known to be the one just written",
)
@pytest.mark.parametrize("resumed", [False, True])
def test_an_old_object_of_the_same_size_is_not_success(
    store: S3Store, other: Callable[..., Any], resumed: bool
) -> None:
    other("put_object", Key=store.key, Body=OLD)
    write = new_token()
    session = store.begin(write)
    part = store.put(session, 1, [NEW])
    other("abort_multipart_upload", Key=store.key, UploadId=session)
    with pytest.raises(errors.StoreError, match="cannot complete the upload") as caught:
        store.complete(session, [part], None if resumed else write)
    if isinstance(caught.value, errors.StoreNotFoundError):
        assert "somebody else has ended it" in str(caught.value)
        assert "not known to be the one just written" in str(caught.value)
    assert read(store) == OLD


@pytest.mark.tried(
    "somebody else writes an object of the same size meanwhile, and overwriting is not allowed",
    "refused: theirs is kept",
)
def test_an_object_of_the_same_size_is_kept_where_overwriting_is_not_allowed(
    store: S3Store, other: Callable[..., Any]
) -> None:
    keeping = S3Store(store.bucket, store.key, store.options, overwrite=False)
    write = new_token()
    session = keeping.begin(write)
    part = keeping.put(session, 1, [NEW])
    other("put_object", Key=store.key, Body=OLD)
    with pytest.raises(errors.StoreExistsError, match="written meanwhile"):
        keeping.complete(session, [part], write)
    assert read(store) == OLD
    keeping.abort(session)


def head_of(tag: str, mark: str | None = None, **more: Any) -> dict[str, Any]:
    # MinIO writes names of metadata with capitals
    return {
        "ContentLength": 7,
        "ETag": f'"{tag}"',
        "Metadata": {"Ccog-Write": mark} if mark else {},
        **more,
    }


def test_an_object_is_ours_by_its_mark_or_by_its_etag() -> None:
    md5s = [hashlib.md5(body).hexdigest() for body in (b"abc", b"defg")]
    combined = hashlib.md5(b"".join(map(bytes.fromhex, md5s))).hexdigest() + "-2"
    parts = [Part(1, 3, md5s[0]), Part(2, 4, md5s[1])]
    kms = {"ServerSideEncryption": "aws:kms"}
    mine, theirs = new_token(), new_token()
    assert is_proven(head_of(combined), parts, None)
    assert is_proven(head_of("opaque", mine, **kms), parts, mine)
    assert not is_proven(head_of("opaque", theirs, **kms), parts, mine)
    assert not is_proven(head_of("opaque", None, **kms), parts, mine)
    assert not is_proven(head_of(combined, None, **kms), parts, mine)
    assert not is_proven(head_of("0" * 32), parts, None), "put in one piece"
    assert not is_proven(head_of(combined) | {"ContentLength": 8}, parts, mine)
    assert not is_proven(head_of("0" * 32 + "-2", mine), parts, mine), (
        "the same array, written before"
    )
    assert not difference(head_of("opaque", mine, **kms), parts, mine)
    assert theirs in difference(head_of("opaque", theirs, **kms), parts, mine)
    assert not difference(head_of("opaque", theirs, **kms), parts, None), "an earlier run's"
    assert "ETag" in difference(head_of("0" * 32 + "-2"), parts, mine)


@pytest.mark.tried(
    "a worker is killed between beginning an upload and reporting it",
    "right: the task that runs again continues the upload, which its mark makes known",
)
def test_a_write_that_begins_again_finds_its_upload_by_its_mark(store: S3Store) -> None:
    write = new_token()
    others = [store.begin(new_token()), store.begin(new_token())]
    session = store.begin(write)
    assert store.begin(write, unanswered=1.0) == session
    assert store.stored_parts(session, 1, 1)
    assert {upload.upload_id for upload in store.incomplete()} == {session, *others}
    for found in (session, *others):
        store.abort(found)


@pytest.mark.tried(
    "a write begins again after a begin that never happened, while another program's upload to the key is new",
    "warned: the other upload is left alone and named",
)
def test_an_upload_of_another_program_is_never_aborted(
    store: S3Store, other: Callable[..., Any]
) -> None:
    theirs = other("create_multipart_upload", Key=store.key)["UploadId"]
    with pytest.warns(
        ccog.CCOGWarning, match=f"empty upload to {store.url} remains.*another writer's"
    ):
        session = store.begin(new_token(), unanswered=1.0)
    assert {upload.upload_id for upload in store.incomplete()} == {theirs, session}
    assert not store.stored_parts(theirs, 1, 1)
    for found in (session, theirs):
        store.abort(found)


@pytest.mark.tried(
    "a source gives different pixels when a worker has died, so that a part is put twice with different bytes",
    "refused, naming the part, or right where the server keeps both",
)
def test_a_part_that_changed_is_named(server: str, store: S3Store) -> None:
    write = new_token()
    session = store.begin(write)
    first = store.put(session, 1, [b"a" * 5 * MIB])
    before = store.put(session, 2, [b"before"])
    store.put(session, 2, [b"later!!"])
    if server == "s3":
        # SeaweedFS keeps both, and takes the one that is named
        store.complete(session, [first, before], write)
        assert read(store) == b"a" * 5 * MIB + b"before"
        return
    with pytest.raises(
        errors.StoreError, match=r"part 2 was put twice with different bytes\. The source"
    ):
        store.complete(session, [first, before], write)
    with pytest.raises(FileNotFoundError):
        read(store)
    store.abort(session)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 65535, 65537, (4 << 20) + 11])
def test_checksums_are_those_that_others_compute(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    buffers = [data[: size // 3], memoryview(data)[size // 3 : size // 2], data[size // 2 :]]
    assert _crc(0xEDB88320, 32, buffers) == zlib.crc32(data).to_bytes(4, "big")
    assert ALGORITHMS["SHA256"](buffers) == hashlib.sha256(data).digest()
    assert ALGORITHMS["CRC64NVME"](buffers) == ALGORITHMS["CRC64NVME"]([data])
    # of the catalogue of CRCs
    assert ALGORITHMS["CRC32C"]([b"1234", b"56789"]).hex() == "e3069283"
    assert ALGORITHMS["CRC64NVME"]([b"1234", b"56789"]).hex() == "ae8b14860a799888"
    crc32c = pytest.importorskip("google_crc32c")
    assert ALGORITHMS["CRC32C"](buffers) == crc32c.value(data).to_bytes(4, "big")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", "sha256"])
def test_the_checksum_that_the_user_wants_is_that_of_the_object(
    store: S3Store, algorithm: str
) -> None:
    extra = {"s3_additional_kwargs": {"ChecksumAlgorithm": algorithm}}
    wanting = replace(store, options=store.options | extra)
    wanting.check()
    write = new_token()
    session = wanting.begin(write)
    wanting.save_checkpoint(session, "row-1", b"a record")
    bodies = [b"a" * 5 * MIB, b"b" * 10]
    parts = [wanting.put(session, number, [body]) for number, body in enumerate(bodies, 1)]
    assert parts == [wanting.expected_part(n, [body]) for n, body in enumerate(bodies, 1)]
    wanting.complete(session, parts, write)
    assert wanting.complete(session, parts, write).size == sum(map(len, bodies))
    wanting.remove_checkpoints(session)
    assert read(store) == b"".join(bodies)


def test_a_checksum_that_s3_does_not_know_is_refused(store: S3Store) -> None:
    extra = {"s3_additional_kwargs": {"ChecksumAlgorithm": "CRC16"}}
    with pytest.raises(errors.StoreError, match=r"ChecksumAlgorithm=CRC16; known are .*SHA256"):
        replace(store, options=store.options | extra).check()


def test_arguments_of_the_user_reach_the_calls_that_they_are_for(
    s3_options: dict[str, Any],
) -> None:
    extra = {
        "StorageClass": "STANDARD",
        "IfNoneMatch": "*",
        "CacheControl": "no-cache",
        "ChecksumAlgorithm": "SHA1",
    }
    with proxied(s3_options | {"s3_additional_kwargs": extra}) as (proxy, options):
        target = {"store": "s3://test/s3-store/arguments.tif", "storage_options": options}
        ccog.write_ccog(terrain((1, 300, 300)), **target, resume=True).compute()
        headers = proxy.headers
        # the same condition again, which the object that is there now does not meet
        with pytest.raises(errors.StoreExistsError):
            ccog.write_ccog(terrain((1, 300, 300), seed=1), **target).compute()
    sent = {
        name: {call for call, found in headers if name in found}
        for name in ("x-amz-storage-class", "if-none-match", "cache-control", "x-amz-checksum-sha1")
    }
    assert sent == {
        "x-amz-storage-class": {"create"},
        "if-none-match": {"complete"},
        "cache-control": {"create", "put"},
        "x-amz-checksum-sha1": {"mark", "part", "put"},
    }


@pytest.mark.tried(
    "the server answers that an upload is aborted, and never aborts it",
    "warned: the upload remains",
)
def test_an_upload_that_the_server_never_forgets_is_not_taken_for_aborted(
    s3_options: dict[str, Any],
) -> None:
    with proxied(s3_options) as (proxy, options):
        store = S3Store("test", "s3-store/kept.tif", options)
        session = store.begin(new_token())
        proxy.arm(Fault("ignored", "abort", times=1000))
        with pytest.raises(errors.StoreError, match="still lists it after 5 calls"):
            store.abort(session)
        assert [upload.upload_id for upload in store.incomplete()] == [session]
        proxy.arm(None)
        store.abort(session)
    assert not store.incomplete()


@pytest.mark.tried(
    "records of a resumable write are left when it is over",
    "listed by `ccog uploads list`, and removed by `ccog uploads abort`",
)
@pytest.mark.parametrize("place", ["over/a.tif", "over/", "over"])
def test_records_of_writes_that_are_over_are_listed_and_removed(
    s3_options: dict[str, Any], place: str
) -> None:
    place = f"s3://test/s3-store/{place}"
    call = s3fs.S3FileSystem(**s3_options, skip_instance_cache=True).call_s3
    store = S3Store("test", "s3-store/over/a.tif", s3_options)
    session = store.begin(new_token())
    store.save_checkpoint(session, "manifest.json", b"{}")
    for key in ("a.tif.ccog-resume/gone/row-1", "a.tif.ccog-resume/gone/row-2", "b/c/d"):
        call("put_object", Bucket="test", Key=f"s3-store/over/{key}", Body=b"x")
    found = {upload.upload_id: upload.over for upload in ccog.list_incomplete(place, s3_options)}
    assert found == {session: False, "gone": True}
    store.remove_stale_checkpoints()
    assert [one.resumable for one in ccog.abort_incomplete(place, s3_options)] == [True]
    assert not ccog.list_incomplete(place, s3_options)
    listed = call("list_objects_v2", Bucket="test", Prefix="s3-store/over/")["Contents"]
    assert [item["Key"] for item in listed] == ["s3-store/over/b/c/d"]


@pytest.mark.tried(
    "somebody else writes the object just after it was completed, before it is looked at",
    "right: the write has succeeded",
)
def test_an_object_that_is_replaced_at_once_was_written(
    store: S3Store, other: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = new_token()
    session = store.begin(write)
    part = store.put(session, 1, [NEW])
    complete = Completion._complete

    def replaced(self: Completion) -> dict[str, Any]:
        answer = complete(self)
        other("put_object", Key=store.key, Body=OLD + b"er")
        return answer

    monkeypatch.setattr(Completion, "_complete", replaced)
    assert store.complete(session, [part], write).size == len(NEW)


ODD_KEYS = ("/lead.tif", "odd//middle.tif")


@pytest.mark.tried(
    "keys with // or a leading / on a server that keeps them under other names, with resume=True",
    "refused before any pixel is computed, and nothing is left; right where the server keeps such names",
)
@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_leave_no_records(
    server: str, options: dict[str, Any], other: Callable[..., Any], key: str
) -> None:
    array = da.from_array(terrain((1, 600, 300)), chunks=(1, 256, 300))
    delayed = ccog.write_ccog(array, f"s3://test/{key}", storage_options=options, resume=True)
    if server == "moto":
        delayed.compute(scheduler="threads")
    else:
        with pytest.raises(
            errors.StoreError, match="does not list objects under the names they are given"
        ):
            delayed.compute(scheduler="threads")
    names = [item["Key"] for item in other("list_objects_v2").get("Contents") or []]
    assert not [name for name in names if "ccog-resume" in name]
    assert (key in names) == (server == "moto")
    begun = [upload["Key"] for upload in other("list_multipart_uploads").get("Uploads") or []]
    assert not [name for name in begun if name.endswith(key.rpartition("/")[2])]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_can_be_written(
    options: dict[str, Any], other: Callable[..., Any], key: str
) -> None:
    ccog.write_ccog(terrain((1, 300, 300)), f"s3://test/{key}", storage_options=options).compute()
    store = S3Store("test", key, options)
    assert read(store) == ccog.write_ccog(terrain((1, 300, 300))).compute()
    other("delete_object", Key=key)


GONE: dict[str, Any] = {
    "s3://test/gone.tif": {"key": "k", "secret": "sec", "endpoint_url": "http://127.0.0.1:9"},
    "az://test/gone.tif": {
        "connection_string": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;"
        "BlobEndpoint=http://127.0.0.1:9/a;"
    },
    "gs://test/gone.tif": {"token": "anon", "endpoint_url": "http://127.0.0.1:9"},
}


@pytest.mark.tried(
    "the server is gone while parts are put",
    "refused after a minute on every store, with a line in the log",
)
@pytest.mark.slow
@pytest.mark.parametrize("url", GONE)
def test_a_server_that_is_gone_is_waited_for_as_long_on_every_store(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Patience, "wait", lambda self, attempt: 0.2)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 2.0))
    store = resolve_store(url, GONE[url])
    session = "session" if url.startswith("gs") else "0" * 25
    started = time.monotonic()
    with (
        caplog.at_level(logging.INFO, "ccog"),
        pytest.raises(errors.StoreError, match=r"part 3|block 3") as caught,
    ):
        store.put(session, 3, [b"x"])
    assert 2 <= time.monotonic() - started < 10
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ccog"]
    assert line.endswith("; trying again for 2 s")
    assert "127.0.0.1:9" in line
    for text in (line, str(caught.value)):
        assert not any(secret in text for secret in ("uploadId", "c2VjcmV0", 'sec"', "?uploadId"))


def test_patience_lasts_for_a_time_and_not_for_a_number_of_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(1000.0, 0.25)
    # not the module that all threads share: they would move this clock, too
    clock_of_retries = SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr("ccog.stores.retry.time", clock_of_retries)
    tries = []

    def fail() -> None:
        tries.append(1)
        raise ConnectionError("http://user:pw@host/key?X-Amz-Signature=abc refused")

    with pytest.raises(ConnectionError):
        retry(fail, lambda _: True, "try")
    assert len(tries) == 3


@pytest.fixture
def unfinished(
    request: pytest.FixtureRequest, tmp_path: Any
) -> Iterator[tuple[str, dict[str, Any] | None, Any]]:
    """A target with one unfinished write, and the store."""
    url, options = str(tmp_path / "a.tif"), None
    if request.param != "local":
        url = f"{request.param[0]}://test/unfinished/a.tif"
        options = request.getfixturevalue(request.param[1])
    stores = [resolve_store(url, options), resolve_store(url + ".other", options)]
    sessions = [store.begin(new_token()) for store in stores]
    yield url, options, stores[0]
    for store, session in zip(stores, sessions, strict=True):
        store.abort(session)


@pytest.mark.tried(
    "a file is written where an earlier write was killed",
    "warned: names the time, and the command that removes it",
)
@pytest.mark.parametrize(
    "unfinished", ["local", ("s3", "s3_options"), ("gs", "gcs_options")], indirect=True
)
def test_an_unfinished_write_is_named_when_the_next_is_built(
    unfinished: tuple[str, dict[str, Any] | None, Any],
) -> None:
    url, options, store = unfinished
    (begun,) = [upload.started for upload in store.incomplete() if upload.url == url]
    with pytest.warns(
        ccog.CCOGWarning, match=f"An unfinished write to {url}, begun {begun:%Y-%m-%d %H:%M:%SZ}"
    ) as warned:
        ccog.write_ccog(np.ones((300, 300), "uint8"), url, storage_options=options)
    (warning,) = [found for found in warned if "unfinished" in str(found.message)]
    assert f"`ccog uploads abort {url}`" in str(warning.message)
    assert "running now" in str(warning.message)
    assert warning.filename == __file__


def test_building_does_not_wait_for_a_server_that_is_not_there(s3_options: dict[str, Any]) -> None:
    gone = GONE["s3://test/gone.tif"]
    started = time.monotonic()
    for n in range(20):
        ccog.write_ccog(
            np.ones((300, 300), "uint8"), f"s3://test/gone-{n}.tif", storage_options=gone
        )
    assert time.monotonic() - started < 10
    refused = s3_options | {"secret": "wrong"}
    ccog.write_ccog(np.ones((300, 300), "uint8"), "s3://test/refused.tif", storage_options=refused)
