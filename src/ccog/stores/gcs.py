"""A Google Cloud Storage object.

Parts are objects beside the target, composed in trees of 32.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores.base import (
    MANIFEST,
    QUICK_SECONDS,
    IncompleteUpload,
    WriteResult,
    new_part,
    parts_folder,
    size_of,
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


@dataclass(frozen=True)
class GCSStore:
    """The object ``key`` of ``bucket``.

    ``options`` are those of gcsfs.GCSFileSystem, kept out of the repr.

    A body is joined before it is sent, since gcsfs takes bytes. The names of parts have
    their checksums, so that a part that is put again with other bytes replaces nothing.
    An upload id is the name of the folder of its parts.
    """

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """Objects up to 5 TiB (quotas).

        The number of parts is ours, to keep the clean-up short.
        """
        return Limits(min_part=1 << 20, max_part=5 << 40, max_parts=_FAN_IN**3)

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"gs://{self._path}"

    @property
    def _client(self) -> GCSClient:
        return GCSClient(self.url, self.options)

    def check(self) -> None:
        """Refuse a missing package; without ``overwrite`` an existing object."""
        self._client.connect()
        if not self.overwrite:
            self._refuse_existing(BRISK)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Name the upload and put an empty object.

        Missing buckets and permissions show now.
        """
        upload_id = parts_folder(self.key.rpartition("/")[2])
        path = self._part_path(upload_id, self.expected_part(0, []))
        self._client.put(path, b"", "start an upload to", BRISK)
        return upload_id

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload a part as an object."""
        part = self.expected_part(number, buffers)
        path = self._part_path(upload_id, part)
        self._client.put(path, b"".join(buffers), f"upload part {number} of")
        return part

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and CRC32 of the part."""
        return new_part(number, size_of(buffers), crc32(buffers).hex())

    def stored_parts(self, upload_id: str, first: int, count: int) -> dict[int, Part]:
        """None is known: parts are put again."""
        self._require_parts(upload_id)
        return {}

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Compose the parts in order, 32 at a time, in the end at the target.

        The parts are removed afterwards.
        """
        paths = [self._part_path(upload_id, part) for part in sorted(parts)]
        try:
            self._require_parts(upload_id)
            self._publish(self._joined(upload_id, paths), upload_id)
        except (StoreExistsError, StoreNotFoundError):
            # an earlier call may have succeeded without an answer, and begun to remove the parts
            if not self._is_of(upload_id):
                raise
        size, expected = self._size(), total_size(parts)
        if size != expected:
            raise StoreError(
                f"{self.url} has {size} bytes after the upload, not {expected}; write it again"
            )
        self.abort(upload_id)
        return WriteResult(self.url, expected)

    def _require_parts(self, upload_id: str) -> None:
        if not self._left(upload_id):
            raise StoreNotFoundError(
                f"the parts of {self.url} are gone: somebody else has ended the write"
            )

    def _is_of(self, upload_id: str) -> bool:
        """Whether the object was composed of the parts of this upload, as its metadata say."""
        info = self._client.info(self._path) or {}
        return (info.get("metadata") or {}).get(_MARK_KEY) == upload_id

    def _joined(self, upload_id: str, paths: list[str]) -> list[str]:
        """At most 32 objects that hold the parts in order."""
        depth = 0
        while len(paths) > _FAN_IN:
            joined: list[str] = []
            for start in range(0, len(paths), _FAN_IN):
                path = f"{self._folder(upload_id)}/join-{depth}-{len(joined):05d}"
                self._client.compose(paths[start : start + _FAN_IN], path, "complete the upload to")
                joined.append(path)
            paths, depth = joined, depth + 1
        return paths

    def _publish(self, paths: list[str], upload_id: str) -> None:
        """Compose the last objects at the target.

        Not all servers heed the condition, so look first.
        """
        if not self.overwrite:
            self._refuse_existing()
        condition = {} if self.overwrite else {"ifGenerationMatch": "0"}
        mark = {_MARK_KEY: upload_id}
        self._client.compose(
            paths, self._path, "complete the upload to", metadata=mark, **condition
        )

    def _refuse_existing(self, patience: Patience = PATIENT) -> None:
        if self._size(patience) is not None:
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")

    def abort(self, upload_id: str) -> None:
        """Delete the parts and checkpoints."""
        doing = "abort the upload to"
        if left := self._left(upload_id, doing, BRISK):
            self._client.remove(left, doing, BRISK)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this object, or to those below a prefix that ends in a slash.

        They are dated by their first part.
        """
        folder, _, name = self._path.rpartition("/")
        objects = self._client.find(
            folder,
            f".{name}." if name else "",
            patience=ONCE if quick else PATIENT,
            timeout=QUICK_SECONDS if quick else None,
        )
        uploads: dict[str, IncompleteUpload] = {}
        for path, info in objects.items():
            folder_path, _, object_name = path.rpartition("/")
            parent, _, upload_id = folder_path.rpartition("/")
            target = target_of(upload_id)
            if target is None or (name and name != target):
                continue
            upload = IncompleteUpload(
                url=f"gs://{parent}/{target}",
                upload_id=upload_id,
                started=datetime.fromisoformat(str(info["timeCreated"])).astimezone(UTC),
                resumable=object_name == MANIFEST,
            )
            uploads[upload_id] = _merged(uploads.get(upload_id, upload), upload)
        return list(uploads.values())

    @property
    def keeps_checkpoints(self) -> bool:
        """True: checkpoints are objects beside the parts."""
        return True

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Upload a checkpoint as an object."""
        self._client.put(f"{self._folder(upload_id)}/{name}", data, "keep a checkpoint of")

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        return self._client.read(f"{self._folder(upload_id)}/{name}", limit, "read a checkpoint of")

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of all objects beside the parts, theirs included."""
        return frozenset(path.rpartition("/")[2] for path in self._left(upload_id))

    def remove_checkpoints(self, upload_id: str) -> None:
        """Nothing to remove: checkpoints go with the parts."""

    def remove_stale_checkpoints(self) -> None:
        """Nothing to remove, as for ``remove_checkpoints``."""

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}"

    def _folder(self, upload_id: str) -> str:
        return f"{self._path.rpartition('/')[0]}/{upload_id}"

    def _part_path(self, upload_id: str, part: Part) -> str:
        number, _, checksum = part
        return f"{self._folder(upload_id)}/{number:06d}-{checksum}"

    def _left(
        self, upload_id: str, doing: str = "look at", patience: Patience = PATIENT
    ) -> list[str]:
        """Paths of the parts and checkpoints of an upload."""
        return list(self._client.find(self._folder(upload_id), doing=doing, patience=patience))

    def _size(self, patience: Patience = PATIENT) -> int | None:
        """Size of the object; None if there is none."""
        info = self._client.info(self._path, patience)
        return None if info is None else int(info["size"])


def _merged(one: IncompleteUpload, other: IncompleteUpload) -> IncompleteUpload:
    """The same upload, dated by the earlier of two of its objects."""
    started = min(one.started, other.started)
    return replace(one, started=started, resumable=one.resumable or other.resumable)
