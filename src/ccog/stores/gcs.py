"""A Google Cloud Storage object through gcsfs: parts are objects beside the target, composed in trees of 32."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from ccog.errors import (
    MissingDependencyError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.redaction import harmless
from ccog.stores.base import (
    CONTENT_TYPE,
    MANIFEST,
    IncompleteUpload,
    WriteResult,
    new_session,
    size_of,
    target_of,
    total_size,
)
from ccog.stores.body import crc32
from ccog.stores.retry import BRISK, ONCE, PATIENT, Patience, first_line, patiently

T = TypeVar("T")

# answer to a request for the first bytes of an object that has none
_EMPTY = 416

# key of the object's metadata that names the session whose parts it was composed of
_MARK_KEY = "ccog-write"

# for what is asked while a write is being prepared
_QUICK_SECONDS = 3.0

# objects that one compose request takes (Cloud Storage, quotas)
_FAN_IN = 32


@dataclass(frozen=True)
class GCSStore:
    """The object ``key`` of ``bucket``; ``options`` are those of gcsfs.GCSFileSystem, kept out of the repr.

    A body is joined before it is sent, since gcsfs takes bytes; gcsfs checks MD5s. The names of parts say what they
    hold, so that one that is put again with other bytes replaces nothing.
    """

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """Objects up to 5 TiB (quotas); the number of parts is ours, to keep the clean-up short."""
        return Limits(min_part=1 << 20, max_part=5 << 40, max_parts=_FAN_IN**3)

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"gs://{self.bucket}/{self.key}"

    def check(self) -> None:
        """Refuse a missing package, and, where overwriting is not allowed, an existing object."""
        self._filesystem()
        if not self.overwrite:
            self._refuse_existing(BRISK)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Name the write and put an empty object, so that missing buckets and permissions show now."""
        session = new_session(self.key.rpartition("/")[2])
        self._put(self._part(session, self.part(0, [])), b"", "start an upload to", BRISK)
        return session

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload a part as an object."""
        part = self.part(number, buffers)
        self._put(self._part(session, part), b"".join(buffers), f"upload part {number} of")
        return part

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and CRC32 of the part."""
        return number, size_of(buffers), crc32(buffers).hex()

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Compose the parts in order, 32 at a time, the last time at the target, and remove them."""
        expected = total_size(parts)
        paths = [self._part(session, part) for part in sorted(parts)]
        try:
            if not self._try(lambda: self._left(session), "look at"):
                raise StoreNotFoundError(
                    f"the parts of {self.url} are gone: somebody else has ended the write"
                )
            self._publish(self._joined(session, paths), session)
        except (StoreExistsError, StoreNotFoundError):
            # an earlier call may have succeeded without an answer, and have begun to remove the parts
            if not self._is_of(session):
                raise
        found = self._size()
        if found != expected:
            raise StoreError(
                f"{self.url} has {found} bytes after the upload, not {expected}; write it again"
            )
        self.abort(session)
        return WriteResult(self.url, expected)

    def _is_of(self, session: str) -> bool:
        """Whether the object was composed of the parts of this session, as its metadata say."""
        return ((self._info() or {}).get("metadata") or {}).get(_MARK_KEY) == session

    def _joined(self, session: str, paths: list[str]) -> list[str]:
        """At most 32 objects that hold the parts in order."""
        level = 0
        while len(paths) > _FAN_IN:
            groups = [paths[n : n + _FAN_IN] for n in range(0, len(paths), _FAN_IN)]
            paths = [f"{self._folder(session)}/join-{level}-{n:05d}" for n in range(len(groups))]
            for group, path in zip(groups, paths, strict=True):
                self._compose(group, path)
            level += 1
        return paths

    def _publish(self, paths: list[str], session: str) -> None:
        """Compose the last objects at the target; where it must not exist, look first, as not all servers do."""
        if not self.overwrite:
            self._refuse_existing()
        guard = {} if self.overwrite else {"ifGenerationMatch": "0"}
        self._compose(paths, self._path, {_MARK_KEY: session}, **guard)

    def _refuse_existing(self, patience: Patience = PATIENT) -> None:
        if self._size(patience) is not None:
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")

    def abort(self, session: str) -> None:
        """Delete the parts."""
        filesystem = self._filesystem()
        if left := self._try(lambda: self._left(session), "abort the upload to", BRISK):
            self._try(lambda: filesystem.rm(left), "abort the upload to", BRISK)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Parts of this object, or of those below a prefix that ends in a slash, dated by their first."""
        folder, _, name = self._path.rpartition("/")
        prefix = f".{name}." if name else ""
        timeout, patience = (_QUICK_SECONDS, ONCE) if quick else (None, PATIENT)
        found: dict[str, IncompleteUpload] = {}
        for path, info in self._try(
            lambda: self._find(folder, prefix, timeout), "look at", patience
        ).items():
            session = path.rpartition("/")[0].rpartition("/")[2]
            target = target_of(session)
            started = datetime.fromisoformat(str(info["timeCreated"])).astimezone(UTC)
            if target is None or (name and name != target):
                continue
            url = f"gs://{path.rpartition('/')[0].rpartition('/')[0]}/{target}"
            known = found.get(session, IncompleteUpload(url, session, started))
            resumable = known.resumable or path.endswith(f"/{MANIFEST}")
            found[session] = replace(
                known, started=min(started, known.started), resumable=resumable
            )
        return list(found.values())

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """None is known: parts are put again."""
        if not self._try(lambda: self._left(session), "look at"):
            raise StoreNotFoundError(f"the parts of {self.url} are gone")
        return {}

    @property
    def resumes(self) -> bool:
        """Records are objects beside the parts."""
        return True

    def save(self, session: str, name: str, data: bytes) -> None:
        """Upload a record as an object."""
        self._put(f"{self._folder(session)}/{name}", data, "keep a record of")

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        filesystem = self._filesystem()
        path = f"{self._folder(session)}/{name}"
        first = None if limit is None else 0

        def read() -> bytes:
            try:
                return bytes(filesystem.cat_file(path, start=first, end=limit))
            except Exception as error:
                if getattr(error, "code", None) == _EMPTY:
                    return b""
                raise

        return self._try(read, "read a record of")

    def saved(self, session: str) -> frozenset[str]:
        """Names of all objects beside the parts, theirs included."""
        return frozenset(
            path.rpartition("/")[2] for path in self._try(lambda: self._left(session), "look at")
        )

    def forget(self, session: str) -> None:
        """Nothing to remove: records go with the parts."""

    def tidy(self) -> None:
        """Nothing to remove, as for ``forget``."""

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}"

    def _folder(self, session: str) -> str:
        return f"{self._path.rpartition('/')[0]}/{session}"

    def _part(self, session: str, part: Part) -> str:
        number, _, checksum = part
        return f"{self._folder(session)}/{number:06d}-{checksum}"

    def _left(self, session: str) -> list[str]:
        return list(self._find(self._folder(session)))

    def _find(self, folder: str, prefix: str = "", timeout: float | None = None) -> dict[str, Any]:
        filesystem = self._filesystem()
        filesystem.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return dict(filesystem.find(folder, prefix=prefix, detail=True, timeout=timeout))
        return {}

    def _size(self, patience: Patience = PATIENT) -> int | None:
        found = self._info(patience)
        return None if found is None else int(found["size"])

    def _info(self, patience: Patience = PATIENT) -> dict[str, Any] | None:
        filesystem = self._filesystem()
        filesystem.invalidate_cache()
        try:
            return dict(self._try(lambda: filesystem.info(self._path), "look at", patience))
        except StoreNotFoundError:
            return None

    def _put(self, path: str, body: bytes, what: str, patience: Patience = PATIENT) -> None:
        filesystem = self._filesystem()
        given = {"consistency": "md5", "content_type": CONTENT_TYPE}
        self._try(lambda: filesystem.pipe_file(path, body, **given), what, patience)

    def _compose(
        self, paths: list[str], path: str, metadata: dict[str, str] | None = None, **guard: str
    ) -> None:
        filesystem = self._filesystem()
        sources = [{"name": source.partition("/")[2]} for source in paths]
        key = path.partition("/")[2]
        destination: dict[str, Any] = {
            "name": key,
            "bucket": self.bucket,
            "contentType": CONTENT_TYPE,
        }
        if metadata:
            destination["metadata"] = metadata
        body = {
            "kind": "storage#composeRequest",
            "sourceObjects": sources,
            "destination": destination,
        }
        headers = {"Content-Type": "application/json"}

        def compose() -> Any:
            return filesystem.call(
                "POST", "b/{}/o/{}/compose", self.bucket, key, headers=headers, json=body, **guard
            )

        self._try(compose, "complete the upload to")

    def _filesystem(self) -> Any:
        try:
            return _uploader()(**self.options)
        except MissingDependencyError:
            raise
        except Exception as error:
            # an unknown token is taken for the name of a file, which the error then quotes
            raise StoreError(f"cannot use {self.url}: {self._said(error)}") from harmless(
                error, self.options
            )

    def _said(self, error: Exception) -> str:
        """The message of another library's error, without credentials."""
        return first_line(error, self.options)

    def _try(self, call: Callable[[], T], what: str, patience: Patience = PATIENT) -> T:
        """Run a call with patience; its errors become ccog's."""
        try:
            return patiently(
                call, _is_passing, f"{what} {self.url}", patience, options=self.options
            )
        except FileNotFoundError as error:
            raise StoreNotFoundError(
                f"cannot {what} {self.url}: the bucket or object does not exist"
            ) from harmless(error, self.options)
        except FileExistsError as error:
            raise StoreExistsError(
                f"cannot {what} {self.url}: the object was written meanwhile"
            ) from harmless(error, self.options)
        except Exception as error:
            denied = getattr(error, "code", None) in (401, 403) or str(error).startswith(
                "Forbidden"
            )
            if denied:
                raise StorePermissionError(
                    f"cannot {what} {self.url}: access denied to the credentials in use ({self._said(error)})"
                ) from harmless(error, self.options)
            raise StoreError(f"cannot {what} {self.url}: {self._said(error)}") from harmless(
                error, self.options
            )


@functools.cache
def _uploader() -> Any:
    try:
        import gcsfs
    except ImportError:
        raise MissingDependencyError(
            "writing to gs:// needs gcsfs: pip install 'ccog[gcs]'"
        ) from None

    class Uploader(gcsfs.GCSFileSystem):  # type: ignore[misc]
        """Without retries of its own, which would add to ours, and with instances of its own."""

        # gcsfs 2026.10 wraps this method in its retries; where it does not, it is taken as it is
        _request = getattr(
            gcsfs.GCSFileSystem._request, "__wrapped__", gcsfs.GCSFileSystem._request
        )

    return Uploader


def _is_passing(error: Exception) -> bool:
    from gcsfs.retry import is_retriable

    return bool(is_retriable(error)) or isinstance(error, ConnectionError | TimeoutError)
