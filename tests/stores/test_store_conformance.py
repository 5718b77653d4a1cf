"""What every store that takes parts must do, as one class that each inherits."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccog
from ccog import errors
from ccog.geometry.parts import MIB, Part
from ccog.graph.build import new_token
from ccog.runtime.runs import abort
from ccog.stores import Store, gcs_client, resolve_store
from ccog.stores.base import after_completion
from ccog.stores.retry import Patience
from conftest import stored
from faults import ANSWERS, PASSING, Fault, Proxy, proxied
from servers import AZURE_KEY

Proxies = Callable[[dict[str, Any]], tuple[Proxy, dict[str, Any]]]

#: Bytes of a part that every store takes.
PART = 5 * MIB

QUICK_KINDS = ("404", "done 504", "bare", "circle")

#: All wrong answers, and those that are tried at every run.
SOME_ANSWERS = [
    pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK_KINDS)) for kind in ANSWERS
]

#: The bytes of a small file.
SMALL = b"a small file"


@pytest.fixture(scope="module")
def proxies() -> Iterator[Proxies]:
    """A proxy in front of each server, kept with the connections that lead through it."""
    found: dict[str, tuple[Proxy, dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:

        def proxy_of(options: dict[str, Any]) -> tuple[Proxy, dict[str, Any]]:
            key = str(options)
            if key not in found:
                found[key] = stack.enter_context(proxied(options))
            return found[key]

        yield proxy_of


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of minutes as waits of a blink."""
    monkeypatch.setattr(Patience, "wait", lambda self, attempt: 0.01)
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 0.03))


def whole_write(store: Store) -> ccog.WriteResult:
    """A write as tasks make it: begun, one record kept, one part put, completed or aborted."""
    write = new_token()
    upload_id = store.begin(write)
    try:
        if store.keeps_checkpoints:
            store.save_checkpoint(upload_id, "manifest.json", b"{}")
        result = store.complete(upload_id, [store.put(upload_id, 1, [SMALL])], write)
    except BaseException:
        abort(store, upload_id)
        raise
    after_completion(store.url, lambda: store.remove_checkpoints(upload_id))
    return result


class StoreTests:
    """Inherit, and give the ``root`` URL and ``options`` of a store."""

    #: whether parts that were put and never completed are listed
    lists = True

    #: whether the store tells what its parts hold
    proves = False

    @pytest.fixture
    def root(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> dict[str, Any] | None:
        raise NotImplementedError

    @pytest.fixture
    def url(self, root: str, request: pytest.FixtureRequest) -> str:
        return f"{root}/{request.node.name}/a b+c.tif"

    @pytest.fixture
    def store(self, url: str, options: dict[str, Any] | None) -> Store:
        if options is None:
            Path(url).parent.mkdir()
        found: Store = pickle.loads(pickle.dumps(resolve_store(url, options)))
        found.check()
        return found

    @pytest.fixture
    def read(self, url: str, options: dict[str, Any] | None) -> Callable[[], bytes]:
        return partial(stored, url, options)

    def put(self, store: Store, session: str, number: int, size: int = PART) -> tuple[Part, bytes]:
        body = np.random.default_rng(number).bytes(size)
        part = store.put(session, number, [body[:8], memoryview(body)[8:-1], b"", body[-1:]])
        assert part[:2] == (number, size)
        assert part == store.expected_part(number, [body])
        return part, body

    def test_parts_in_any_order(self, store: Store, read: Callable[[], bytes]) -> None:
        session = store.begin(new_token())
        found = dict(
            self.put(pickle.loads(pickle.dumps(store)), session, n, 9 if n == 9 else PART)
            for n in (7, 9, 2)
        )
        result = store.complete(session, list(found))
        assert read() == b"".join(found[part] for part in sorted(found))
        assert result.size == 2 * PART + 9
        assert result.url == store.url
        assert not store.incomplete()
        assert store.complete(session, list(found)).size == result.size, (
            "a completion can be repeated"
        )

    def test_a_part_put_again(self, store: Store, read: Callable[[], bytes]) -> None:
        session = store.begin(new_token())
        parts = [self.put(store, session, number) for number in (2, 3)]
        again = self.put(store, session, 2)
        assert again == parts[0]
        store.complete(session, [again[0], parts[1][0]])
        assert read() == parts[0][1] + parts[1][1]

    def test_one_small_part_is_a_file(self, store: Store, read: Callable[[], bytes]) -> None:
        session = store.begin(new_token())
        part, body = self.put(store, session, 1, 20)
        store.complete(session, [part])
        assert read() == body

    def test_nothing_shows_before_the_end(self, store: Store, read: Callable[[], bytes]) -> None:
        session = store.begin(new_token())
        with pytest.raises(FileNotFoundError):
            read()
        part, old = self.put(store, session, 1)
        store.complete(session, [part])
        session = store.begin(new_token())
        self.put(store, session, 2)
        assert read() == old
        store.abort(session)
        assert read() == old

    def test_an_aborted_upload_leaves_nothing(
        self, store: Store, read: Callable[[], bytes]
    ) -> None:
        session = store.begin(new_token())
        part, _ = self.put(store, session, 3)
        if self.lists:
            assert [(upload.url, upload.upload_id) for upload in store.incomplete()] == [
                (store.url, session)
            ]
        store.abort(session)
        store.abort(session)
        assert not store.incomplete()
        with pytest.raises(errors.StoreError):
            store.complete(session, [part])
        with pytest.raises(FileNotFoundError):
            read()
        assert not store.incomplete()

    def test_parts_that_are_stored_are_known(self, store: Store) -> None:
        session = store.begin(new_token())
        parts = {number: self.put(store, session, number)[0] for number in (2, 3, 7)}
        for first, count in ((1, 1), (1, 2), (2, 3), (3, 1000), (8, 5)):
            found = store.stored_parts(session, first, count)
            # some stores mark the upload with a first part
            found.pop(1, None)
            wanted = {
                number: part for number, part in parts.items() if first <= number < first + count
            }
            assert found == (wanted if self.proves else {})
        store.abort(session)
        if store.keeps_checkpoints:
            with pytest.raises(errors.StoreNotFoundError):
                store.stored_parts(session, 1, 1)

    def test_records_are_saved_loaded_and_removed(
        self, store: Store, read: Callable[[], bytes]
    ) -> None:
        if not store.keeps_checkpoints:
            assert not store.checkpoint_names(store.begin(new_token()))
            return
        sessions = [store.begin(new_token()), store.begin(new_token())]
        for n, session in enumerate(sessions):
            store.save_checkpoint(session, "manifest.json", b"old")
            store.save_checkpoint(session, "manifest.json", b"%d" % n)
            store.save_checkpoint(session, "row-1", b"")
            assert {"manifest.json", "row-1"} <= store.checkpoint_names(session)
            assert store.load_checkpoint(session, "manifest.json") == b"%d" % n
            store.save_checkpoint(session, "row-3", b"longer")
            assert store.load_checkpoint(session, "row-3", 3) == b"lon"
            assert store.load_checkpoint(session, "row-3", 100) == b"longer"
            assert store.load_checkpoint(session, "row-1", 10) == b""
            with pytest.raises(errors.StoreNotFoundError):
                store.load_checkpoint(session, "row-2")
        assert [upload.resumable for upload in store.incomplete()] == [True, True]
        part, body = self.put(store, sessions[0], 1)
        store.complete(sessions[0], [part])
        store.remove_checkpoints(sessions[0])
        assert read() == body
        assert not store.checkpoint_names(sessions[0])
        store.remove_stale_checkpoints()
        assert store.load_checkpoint(sessions[1], "manifest.json") == b"1"
        store.abort(sessions[1])
        assert not store.checkpoint_names(sessions[1])

    def test_an_existing_file_is_kept(
        self, store: Store, url: str, options: Any, read: Callable[[], bytes]
    ) -> None:
        keeping = resolve_store(url, options, overwrite=False)
        keeping.check()
        sessions = [store.begin(new_token()), keeping.begin(new_token())]
        parts = [
            self.put(s, session, 1 + n)
            for n, (s, session) in enumerate(zip((store, keeping), sessions, strict=True))
        ]
        store.complete(sessions[0], [parts[0][0]])
        with pytest.raises(errors.StoreExistsError):
            keeping.complete(sessions[1], [parts[1][0]])
        keeping.abort(sessions[1])
        with pytest.raises(errors.StoreExistsError, match="exists"):
            keeping.check()
        assert read() == parts[0][1]

    def test_what_comes_when_the_upload_is_over_leaves_nothing(self, store: Store) -> None:
        if not self.lists:
            pytest.skip("the service does not tell of uploads that are over")
        for ends in ("abort", "complete"):
            session = store.begin(new_token())
            part, _ = self.put(store, session, 1, 20)
            if ends == "abort":
                store.abort(session)
            else:
                store.complete(session, [part])
            with pytest.raises(errors.StoreNotFoundError):
                self.put(store, session, 2, 20)
            for name in ("manifest.json", "row-1"):
                with pytest.raises(errors.StoreNotFoundError):
                    store.save_checkpoint(session, name, b"late")
            assert not store.checkpoint_names(session)
            assert not store.incomplete()

    def test_a_write_that_begins_again_continues_its_upload(self, store: Store) -> None:
        if not self.lists:
            pytest.skip("nothing is left of an upload that is never completed")
        write = new_token()
        session = store.begin(write)
        assert store.begin(write, unanswered=1.0) == session
        assert [upload.upload_id for upload in store.incomplete()] == [session]
        # somebody else computes the same Delayed
        other = store.begin(write)
        assert other != session
        store.abort(other)
        assert [upload.upload_id for upload in store.incomplete()] == [session]
        store.abort(session)
        assert not store.incomplete()

    def test_only_uploads_to_this_very_target_are_meant(
        self, url: str, store: Store, options: Any
    ) -> None:
        if not self.lists:
            pytest.skip("the service does not list uploads")
        others = [f"{url}f", f"{url}.tif", f"{url[:-1]}", f"{url[:-4]}", f"{url} (1)"]
        stores = [resolve_store(other, options) for other in others]
        sessions = [one.begin(new_token()) for one in stores]
        mine = store.begin(new_token())
        for found in (ccog.list_incomplete(url, options), ccog.abort_incomplete(url, options)):
            assert [(upload.url, upload.upload_id) for upload in found] == [(url, mine)]
        folder = url.rpartition("/")[0] + "/"
        left = ccog.abort_incomplete(folder, options)
        assert {upload.upload_id for upload in left} == set(sessions)
        assert not ccog.list_incomplete(folder, options)

    def test_limits_allow_at_least_10000_parts(self, store: Store) -> None:
        limits = store.limits
        assert 0 <= limits.min_part <= PART <= limits.max_part
        assert limits.max_parts >= 10_000


class TestLocal(StoreTests):
    @pytest.mark.tried(
        "the folder cannot be synced or removed when a local file is complete",
        "right, and warned of the folder of parts that is left",
    )
    @pytest.mark.parametrize("fails", ["fsync", "open", "rmtree", "close"])
    def test_what_fails_when_the_file_is_complete_is_a_warning(
        self,
        store: Store,
        read: Callable[[], bytes],
        fails: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session = store.begin(new_token())
        store.save_checkpoint(session, "row-1", b"a record")
        part, body = self.put(store, session, 1, 20)
        published = False
        replace = os.replace

        def publish(*args: Any, **kwargs: Any) -> None:
            nonlocal published
            replace(*args, **kwargs)
            published = True

        module = shutil if fails == "rmtree" else os
        works = getattr(module, fails)

        def break_down(*args: Any, **kwargs: Any) -> Any:
            nonlocal published
            if published and fails == "rmtree":
                return None
            if published and fails in ("fsync", "open"):
                raise OSError(errno.EIO, "broken")
            result = works(*args, **kwargs)
            if published and fails == "close":
                published = False
                raise OSError(errno.EIO, "broken")
            return result

        monkeypatch.setattr(os, "replace", publish)
        monkeypatch.setattr(module, fails, break_down)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert store.complete(session, [part]).size == 20
        monkeypatch.undo()
        assert read() == body
        left = [upload.upload_id for upload in store.incomplete()]
        assert bool(left) == any("is complete, but" in str(w.message) for w in caught)
        assert left == ([session] if fails in ("rmtree", "open") else [])

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return str(tmp_path)

    @pytest.fixture
    def options(self) -> None:
        return None


class ServerTests(StoreTests):
    protocol = "s3"

    @pytest.fixture
    def root(self) -> str:
        return f"{self.protocol}://test/conformance"

    @pytest.mark.tried(
        "each call of a write to S3, Azure and Google Cloud Storage is answered wrongly in each of 12 ways, once",
        "right where a second attempt can mend it, else a clear error; nothing left but what a warning names",
    )
    @pytest.mark.parametrize("kind", SOME_ANSWERS)
    def test_any_call_answered_wrongly_once(
        self, kind: str, root: str, options: Any, impatient: None, proxies: Proxies
    ) -> None:
        self.try_each_call(*proxies(options), options, root, kind, times=1)

    @pytest.mark.slow
    @pytest.mark.tried(
        "each call of a write to S3, Azure and Google Cloud Storage is answered wrongly in each of 12 ways, for ever",
        "a clear error, or right where the file is complete by then; nothing left but what a warning names",
    )
    @pytest.mark.parametrize("kind", ANSWERS)
    def test_any_call_answered_wrongly_for_ever(
        self, kind: str, root: str, options: Any, impatient: None, proxies: Proxies
    ) -> None:
        self.try_each_call(*proxies(options), options, root, kind, times=1000)

    def try_each_call(
        self, proxy: Proxy, through: Any, options: Any, root: str, kind: str, times: int
    ) -> None:
        # a server that has just started may take longer than an impatient client waits, and a call
        # that is repeated counts twice
        for name in ("first", "none"):
            proxy.arm(None)
            whole_write(resolve_store(f"{root}/{kind}-{times}/{name}.tif", through))
        calls = dict(proxy.calls)
        assert len(calls) > 2
        wrong = []
        for call, at in [(call, 1 + n) for call, count in calls.items() for n in range(count)]:
            if times == 1 or at == 1:
                url = f"{root}/{kind}-{times}/{call}-{at}.tif".replace(" ", "-")
                proxy.arm(Fault(kind, call, at, times))
                outcome = self.outcome(url, through, options, kind in PASSING and times == 1)
                assert proxy.hits
                wrong += [f"{call} {at}: {outcome}"] if outcome else []
        proxy.arm(None)
        if self.lists:
            # what warnings have named
            ccog.abort_incomplete(f"{root}/{kind}-{times}/", options)
        assert not wrong, "\n".join(wrong)

    def outcome(self, url: str, through: Any, options: Any, must_succeed: bool) -> str:
        """What is not as it should be after a write through a proxy that spoils a call."""
        error: Exception | None = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                whole_write(resolve_store(url, through))
            except Exception as raised:
                error = raised
        is_warned = any(
            "remain" in str(w.message) or "may be left" in str(w.message) for w in caught
        )
        try:
            found = stored(url, options)
        except FileNotFoundError:
            found = b""
        if error is not None and (must_succeed or found or not isinstance(error, ccog.CCOGError)):
            return f"{len(found)} bytes are there, and this was raised: {error!r}"
        if error is None and found != SMALL:
            return f"success, but {len(found)} bytes are there"
        if not is_warned and (left := resolve_store(url, options).incomplete()):
            return f"left without a warning: {left}"
        return ""


class TestSeaweedFS(ServerTests):
    proves = True

    @pytest.fixture
    def options(self, s3_options: dict[str, Any]) -> dict[str, Any]:
        return s3_options


class TestJuiceFS(ServerTests):
    proves = True

    @pytest.fixture
    def options(self, juicefs_options: dict[str, Any]) -> dict[str, Any]:
        return juicefs_options


class TestMoto(ServerTests):
    @pytest.fixture
    def options(self, moto_options: dict[str, Any]) -> dict[str, Any]:
        return moto_options

    @pytest.mark.skip(
        "moto takes the marker of list_parts for a count, so that parts are not found"
    )
    def test_parts_that_are_stored_are_known(self) -> None:  # type: ignore[override]
        pass

    @pytest.mark.skip(
        "moto answers 500 where an upload to complete is gone, instead of NoSuchUpload"
    )
    def test_an_aborted_upload_leaves_nothing(self) -> None:  # type: ignore[override]
        pass

    @pytest.mark.skip("the same")
    def test_what_comes_when_the_upload_is_over_leaves_nothing(self) -> None:  # type: ignore[override]
        pass


class TestAzurite(ServerTests):
    protocol = "az"
    lists = False

    @pytest.fixture
    def options(self, azure_options: dict[str, Any]) -> dict[str, Any]:
        return azure_options

    @pytest.mark.tried(
        "a file is written to Azure with a signature that allows to write and not to read", "right"
    )
    def test_who_may_only_write_writes(
        self, options: dict[str, Any], url: str, read: Callable[[], bytes]
    ) -> None:
        blob = pytest.importorskip("azure.storage.blob")
        account = options["account_name"]
        signature = blob.generate_container_sas(
            account, "test", AZURE_KEY, permission="cw", expiry=datetime.now(UTC) + timedelta(1)
        )
        endpoint = options["connection_string"].partition("BlobEndpoint=")[2].rstrip(";")
        text = f"BlobEndpoint={endpoint};SharedAccessSignature={signature}"
        only_writes = {"account_name": account, "connection_string": text}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert whole_write(resolve_store(url, only_writes)).size == len(SMALL)
        assert read() == SMALL


class TestFakeGCS(ServerTests):
    protocol = "gs"

    @pytest.fixture
    def options(self, gcs_options: dict[str, Any]) -> dict[str, Any]:
        return gcs_options

    def test_names_with_wildcards_and_many_pages_are_removed_whole(
        self, root: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcs_client, "_PAGE", 2)
        stores = [resolve_store(f"{root}/pages/a[{n}]*?.tif", options) for n in (1, 2)]
        sessions = [store.begin(new_token()) for store in stores]
        for store, session in zip(stores, sessions, strict=True):
            for number in range(1, 6):
                store.put(session, number, [b"x" * number])
        assert len(stores[0].checkpoint_names(sessions[0])) == 6
        stores[0].abort(sessions[0])
        assert not stores[0].checkpoint_names(sessions[0])
        assert len(stores[1].checkpoint_names(sessions[1])) == 6
        left = ccog.abort_incomplete(f"{root}/pages", options)
        assert [upload.upload_id for upload in left] == [sessions[1]]
        assert not ccog.list_incomplete(f"{root}/pages/", options)
