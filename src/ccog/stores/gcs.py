"""A Google Cloud Storage object.

Parts are objects beside the target, composed in trees of 32.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ccog.errors import (
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
    warn_user,
)
from ccog.geometry.parts import Buffer, Limits, Part, total
from ccog.stores import sidecars
from ccog.stores.base import (
    MANIFEST,
    QUICK_SECONDS,
    IncompleteUpload,
    Store,
    WriteResult,
    after_completion,
    below,
    checked_result,
    exists_error,
    is_at,
    parts_folder,
    target_of,
    total_size,
)
from ccog.stores.body import crc32
from ccog.stores.gcs_client import GCSClient
from ccog.stores.retry import BRISK, ONCE, PATIENT, Patience

# key of the object's metadata that names the upload whose parts it was composed of
_MARK_KEY = "ccog-write"

# objects that one compose request takes (Cloud Storage, quotas)
_FAN_IN = 32

# the object that is there as long as an upload is in progress
_BEGUN = "begun"

# parts that are listed still are removed once more, that often
_REMOVALS = 5

_COMPLETE, _ABORT = "complete the upload to", "abort the upload to"


@dataclass(frozen=True)
class GCSStore(Store):
    """The object ``key`` of ``bucket``; ``options`` are those of gcsfs.GCSFileSystem.

    A body is joined before it is sent, since gcsfs takes bytes. The names of parts have
    their checksums, so that a part that is put again with other bytes replaces nothing.
    An upload id is the name of the folder of its parts. Checkpoints are beside them, and
    go with them.
    """

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    _: KW_ONLY
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """Objects up to 5 TiB (quotas); the number of parts keeps the clean-up short."""
        return Limits(min_part=1 << 20, max_part=5 << 40, max_parts=_FAN_IN**3)

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"gs://{self._path}"

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def _client(self) -> GCSClient:
        return GCSClient(self.url, self.options)

    def check(self) -> None:
        """Refuse a missing package; without ``overwrite`` an existing object."""
        self._client.connect()
        self._refuse_existing(BRISK)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Put a small object, so that missing buckets and permissions show now.

        While it is there, the upload is in progress. Its folder is named by the write, so
        that a task that begins again finds its own. If nobody can have begun, the same
        Delayed is being computed elsewhere too, and gets another folder.
        """
        name, mine = self.key.rpartition("/")[2], uuid.uuid4().hex.encode()
        upload_id, doing = parts_folder(name, write), "start an upload to"
        begun = self._beside(upload_id, _BEGUN)
        try:
            self._client.put(begun, mine, doing, BRISK, new=True)
        except StoreExistsError:
            # an earlier attempt may have succeeded without an answer
            if not unanswered and self._client.read(begun, None, doing, BRISK) != mine:
                upload_id = parts_folder(name)
                self._client.put(self._beside(upload_id, _BEGUN), mine, doing, BRISK)
        except (StoreNotFoundError, StorePermissionError):
            raise
        except StoreError:
            self._forget(begun, mine)
            raise
        return upload_id

    def _forget(self, begun: str, mine: bytes) -> None:
        """Remove what an unanswered attempt to begin may have left; at least say so."""
        try:
            if self._client.read(begun, None, _ABORT, ONCE) == mine:
                self._client.remove([begun], _ABORT, BRISK)
        except StoreNotFoundError:
            pass
        except StoreError as error:
            warn_user(
                f"an empty upload to {self.url} may remain: {error}; "
                f"`ccog uploads abort {self.url}` removes what is unfinished there"
            )

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload a part as an object."""
        part = self.expected_part(number, buffers)
        path, body = self._part_path(upload_id, part), b"".join(buffers)
        self._put(upload_id, path, body, f"upload part {number} of")
        return part

    def _put(self, upload_id: str, path: str, body: bytes, doing: str) -> None:
        """Store an object beside the parts, or none if the upload is over.

        Who ends an upload first says so, then removes what is there. So what comes later
        is removed here.
        """
        self._client.put(path, body, doing)
        try:
            self._require_begun(upload_id)
        except StoreNotFoundError:
            self._client.remove([path], doing)
            raise

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and CRC32 of the part."""
        return Part(number, total(buffers), crc32(buffers).hex())

    def stored_parts(self, upload_id: str, first: int, count: int) -> dict[int, Part]:
        """None is known: parts are put again."""
        self._require_begun(upload_id)
        return {}

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Compose the parts, 32 at a time, in the end at the target; remove them."""
        paths = [self._part_path(upload_id, part) for part in sorted(parts)]
        try:
            self._require_begun(upload_id)
            paths = self._joined(upload_id, paths)
            # not all servers heed the condition
            self._refuse_existing()
            condition = {} if self.overwrite else {"ifGenerationMatch": "0"}
            mark = {_MARK_KEY: upload_id}
            info = self._client.compose(paths, self._path, _COMPLETE, metadata=mark, **condition)
        except StoreError as error:
            # an earlier call may have succeeded without an answer, and removed parts
            info = self._completed_before(upload_id, error)
        result = checked_result(self.url, info["size"], total_size(parts))
        after_completion(self.url, lambda: self.abort(upload_id))
        return result

    def _require_begun(self, upload_id: str) -> None:
        # who may not look cannot compose the parts either
        with contextlib.suppress(StorePermissionError):
            if self._client.info(self._beside(upload_id, _BEGUN)) is None:
                raise StoreNotFoundError(
                    f"the parts of {self.url} are gone: somebody else has ended the write"
                )

    def _completed_before(self, upload_id: str, error: StoreError) -> dict[str, Any]:
        """Properties of the object, if its metadata name this upload; else the error."""
        try:
            info = self._client.info(self._path, BRISK) or {}
        except StoreError:
            raise error from None
        if (info.get("metadata") or {}).get(_MARK_KEY) != upload_id:
            raise error
        return info

    def _joined(self, upload_id: str, paths: list[str]) -> list[str]:
        """At most 32 objects that hold the parts in order."""
        depth = 0
        while len(paths) > _FAN_IN:
            joined: list[str] = []
            for start in range(0, len(paths), _FAN_IN):
                path = self._beside(upload_id, f"join-{depth}-{len(joined):05d}")
                self._client.compose(paths[start : start + _FAN_IN], path, _COMPLETE)
                joined.append(path)
            paths, depth = joined, depth + 1
        return paths

    def _refuse_existing(self, patience: Patience = PATIENT) -> None:
        """Refuse an object that may not be overwritten."""
        if not self.overwrite and self._client.info(self._path, patience) is not None:
            raise exists_error(self.url)

    def abort(self, upload_id: str) -> None:
        """Say that the upload is over, then delete parts and checkpoints until none is listed."""
        self._client.remove([self._beside(upload_id, _BEGUN)], _ABORT, BRISK)
        for _ in range(_REMOVALS):
            left = self._left(upload_id, _ABORT, BRISK)
            if not left:
                return
            self._client.remove(left, _ABORT, BRISK)
        raise StoreError(
            f"cannot {_ABORT} {self.url}: the server still lists {len(left)} objects of it after "
            f"{_REMOVALS} removals; try `ccog uploads abort {self.url}` later"
        )

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this object, or to those below it; if quick, to this object only.

        They are dated by their first part.
        """
        uploads: dict[str, IncompleteUpload] = {}
        for path, info in self._searched(quick):
            upload = _upload_of(path, info)
            if upload is not None and is_at(self.url, upload.url):
                other = uploads.setdefault(upload.upload_id, upload)
                uploads[upload.upload_id] = replace(
                    upload,
                    started=min(other.started, upload.started),
                    resumable=other.resumable or upload.resumable,
                )
        return list(uploads.values())

    def sidecars(self) -> list[str]:
        """Names in one page of a listing of the objects beside this one."""
        beside = sidecars.prefix_of(self._path)
        pages = self._client.listed(beside, patience=ONCE, timeout=QUICK_SECONDS)
        folder = self._path.rpartition("/")[0]
        names = [path for path in next(pages, {}) if path.rpartition("/")[0] == folder]
        return sidecars.among(self.key, names)

    def _searched(self, quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Objects that may be parts of this object, or of those below it."""
        folder, _, name = self._path.rpartition("/")
        parts = f"{folder}/.{name}."
        if quick:
            pages = self._client.listed(parts, patience=ONCE, timeout=QUICK_SECONDS)
            yield from next(pages).items()
            return
        for start in (parts, below(self._path)) if name else (below(self._path),):
            for page in self._client.listed(start):
                yield from page.items()

    @property
    def keeps_checkpoints(self) -> bool:
        """True: they are objects beside the parts."""
        return True

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Upload a checkpoint as an object."""
        self._put(upload_id, self._beside(upload_id, name), data, "keep a checkpoint of")

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        path = self._beside(upload_id, name)
        return self._client.read(path, limit, "read a checkpoint of")

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of all objects beside the parts, theirs included."""
        return frozenset(path.rpartition("/")[2] for path in self._left(upload_id))

    def _beside(self, upload_id: str, name: str) -> str:
        return f"{self._path.rpartition('/')[0]}/{upload_id}/{name}"

    def _part_path(self, upload_id: str, part: Part) -> str:
        return self._beside(upload_id, f"{part.number:06d}-{part.tag}")

    def _left(
        self, upload_id: str, doing: str = "look at", patience: Patience = PATIENT
    ) -> list[str]:
        """Paths of the parts and checkpoints of an upload."""
        folder = self._beside(upload_id, "")
        pages = self._client.listed(folder, doing=doing, patience=patience)
        return [*itertools.chain(*pages)]


def _upload_of(path: str, info: dict[str, Any]) -> IncompleteUpload | None:
    """The upload that an object is a part or checkpoint of; None for other objects."""
    folder, _, name = path.rpartition("/")
    parent, _, upload_id = folder.rpartition("/")
    target = target_of(upload_id)
    if target is None:
        return None
    return IncompleteUpload(
        url=f"gs://{parent}/{target}",
        upload_id=upload_id,
        started=datetime.fromisoformat(str(info["timeCreated"])).astimezone(UTC),
        resumable=name == MANIFEST,
    )
