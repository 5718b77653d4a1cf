"""An S3 object, by multipart upload.

Each concern has its module: ``s3_begin`` (creating and marking an upload),
``s3_uploads`` (parts, listing, aborting), ``s3_complete``, ``s3_checkpoints``,
``s3_proof`` (checksums and ETags), ``s3_errors``. ``s3_client`` is the only one that
calls s3fs.
"""

from __future__ import annotations

import contextlib
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from ccog.errors import StorePermissionError
from ccog.geometry.parts import MIB, Buffer, Limits, Part, total
from ccog.stores import sidecars
from ccog.stores.base import QUICK_SECONDS, IncompleteUpload, WriteResult, exists_error
from ccog.stores.retry import BRISK, ONCE
from ccog.stores.s3_begin import begin_upload
from ccog.stores.s3_checkpoints import S3Checkpoints
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_complete import Completion, head_object
from ccog.stores.s3_proof import expected_tag
from ccog.stores.s3_uploads import (
    abort_upload,
    is_marked,
    put_part,
    stored_parts,
    uploads_here,
)


@dataclass(frozen=True)
class S3Store(S3Checkpoints):
    """The object ``key`` of ``bucket``; ``options`` are those of s3fs.S3FileSystem.

    ``fixed_upload_size=True`` among them, s3fs's word for it, makes all parts but the
    last equally long. None of them is put before the end then, so there are no
    checkpoints.
    """

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    _: KW_ONLY
    overwrite: bool = True
    protocol: str = "s3"

    @property
    def limits(self) -> Limits:
        """10,000 parts of 5 MiB to 5 GiB (S3 user guide, multipart upload limits)."""
        equal = bool(self.options.get("fixed_upload_size"))
        return Limits(min_part=5 * MIB, max_part=5 << 30, max_parts=10_000, equal_parts=equal)

    @property
    def url(self) -> str:
        """The object's URL."""
        return self._client.url

    @property
    def _client(self) -> S3Client:
        return S3Client(
            bucket=self.bucket, key=self.key, protocol=self.protocol, options=self.options
        )

    @property
    def keeps_checkpoints(self) -> bool:
        """True, unless parts must be equal."""
        return not self.limits.equal_parts

    def check(self) -> None:
        """Refuse a missing package; without ``overwrite`` an existing object."""
        self._client.connect()
        if not self.overwrite and head_object(self._client, BRISK) is not None:
            raise exists_error(self.url)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the multipart upload: missing buckets and permissions show now."""
        mark = not self.limits.equal_parts
        return begin_upload(self._client, write, unanswered > 0, mark)

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload one part with a checksum that the server verifies."""
        doing = f"upload part {number} of {self.url}"
        return put_part(self._client, upload_id, number, buffers, doing)

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the part, and the checksum that the user wants."""
        return Part(number, total(buffers), expected_tag(self._client.algorithm, buffers))

    def stored_parts(self, upload_id: str, first: int, count: int) -> dict[int, Part]:
        """Parts as the server lists them, with their ETags."""
        return stored_parts(self._client, upload_id, first, count)

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Complete the upload, and compare the object with the parts."""
        return Completion(
            client=self._client,
            upload_id=upload_id,
            parts=sorted(parts),
            write=write,
            overwrite=self.overwrite,
            abort=self.abort,
        ).run()

    def abort(self, upload_id: str) -> None:
        """Abort the upload until the server has forgotten it; remove its checkpoints."""
        abort_upload(self._client, upload_id)
        # without resume=True there is no need to be allowed to list the bucket
        with contextlib.suppress(StorePermissionError):
            self.remove_checkpoints(upload_id)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this key, or to those below it; if quick, to this key only.

        If not quick, also records that writes which are over have left.
        """
        if quick:
            return uploads_here(self._client, quick=True)
        uploads, stale = self.uploads_and_stale()
        return [*map(self._judged, uploads), *stale]

    def sidecars(self) -> list[str]:
        """Names in one page of a listing of the objects beside this one."""
        listed = self._client.call(
            "list_objects_v2",
            f"look beside {self.url}",
            ONCE,
            timeout=QUICK_SECONDS,
            Prefix=sidecars.prefix_of(self.key),
            Delimiter="/",
        )
        return sidecars.among(self.key, [found["Key"] for found in listed.get("Contents") or []])

    def _judged(self, upload: IncompleteUpload) -> IncompleteUpload:
        """The upload, with whether it can be resumed and whether ccog has begun it."""
        store = replace(self, key=upload.url.removeprefix(self._client.url_of("")))
        resumable = False
        with contextlib.suppress(StorePermissionError):
            resumable = store.has_manifest(upload.upload_id)
        by_ccog = resumable or is_marked(store._client, upload.upload_id)
        return replace(upload, resumable=resumable, by_ccog=by_ccog)
