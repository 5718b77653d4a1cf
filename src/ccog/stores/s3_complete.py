"""Completing an upload to S3, and proving that the object is the one just written.

The answer to a completion may be lost, and the call repeated. The server then says that
the upload is over, or that an object is there; whether that object is ours is decided
by ``s3_proof.is_proven``. Nothing else counts as success.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.geometry.parts import Part
from ccog.redaction import harmless
from ccog.stores.base import WriteResult, after_completion, total_size
from ccog.stores.retry import BRISK, PATIENT, Patience
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import code_of
from ccog.stores.s3_proof import (
    are_md5s,
    completed_part,
    difference,
    etag_of,
    is_proven,
    shown_etag,
)
from ccog.stores.s3_uploads import PAGE, stored_parts

# answers to a completion whose upload is over
_OVER = frozenset(("NoSuchUpload", "404"))


@dataclass(frozen=True, kw_only=True)
class Completion:
    """The completion of an upload.

    ``parts`` are sorted; ``write`` is the name of the write, None if that is not known.
    ``abort`` is called if the answer was lost, but the object is there.
    """

    client: S3Client
    upload_id: str
    parts: list[Part]
    write: str | None
    overwrite: bool
    abort: Callable[[str], None]

    def run(self) -> WriteResult:
        """Complete the upload, and compare the object with the parts."""
        if not self.overwrite:
            # once more, since not all servers heed the condition
            head = head_object(self.client)
            if head is not None and not is_proven(head, self.parts, self.write):
                raise StoreExistsError(
                    f"{self.client.url} was written meanwhile; remove it, or allow overwriting"
                )
        try:
            answer = self._complete()
        except Exception as error:
            head = self._completed_before(error)
            # nothing must stay beside the object
            after_completion(self.client.url, lambda: self.abort(self.upload_id))
        else:
            head = self._looked_at(answer)
        if differs := difference(head, self.parts, self.write):
            raise StoreError(
                f"{self.client.url} is not what was uploaded: {differs}; write it again"
            )
        self.client.drop_cached_listing()
        return WriteResult(self.client.url, total_size(self.parts), head.get("ETag"))

    @property
    def _doing(self) -> str:
        return f"complete the upload to {self.client.url}"

    def _complete(self) -> dict[str, Any]:
        """The server's answer; errors are those of s3fs, with their codes."""
        condition: dict[str, Any] = {} if self.overwrite else {"IfNoneMatch": "*"}
        answer: dict[str, Any] = self.client.call(
            "complete_multipart_upload",
            self._doing,
            needs="ETag",
            explain=False,
            Key=self.client.key,
            UploadId=self.upload_id,
            MultipartUpload={"Parts": [completed_part(part) for part in self.parts]},
            **condition,
        )
        return answer

    def _completed_before(self, error: Exception) -> dict[str, Any]:
        """Properties of the object, if an unanswered call has certainly completed it."""
        code, explanation = code_of(error), self.client.explained(error, self._doing)
        cause = harmless(error, self.client.options)
        if code == "InvalidPart":
            raise self._changed() or explanation from cause
        try:
            head = head_object(self.client, BRISK)
        except StoreError:
            raise explanation from cause
        if head is not None and is_proven(head, self.parts, self.write):
            return head
        if head is not None and code in _OVER:
            since = head.get("LastModified")
            of = f", of {since:%Y-%m-%d %H:%M:%SZ}," if since else ""
            raise StoreNotFoundError(
                f"cannot {self._doing}: somebody else has ended it. The object that is there{of} "
                "is not known to be the one just written; write it again"
            ) from cause
        raise explanation from cause

    def _changed(self) -> StoreError | None:
        """An error that names the parts which were put again with other bytes, if any."""
        stored: dict[int, Part] = {}
        try:
            for first in range(1, self.parts[-1].number + 1, PAGE):
                stored |= stored_parts(self.client, self.upload_id, first, PAGE)
        except StoreError:
            return None
        changed = [
            part.number
            for part in self.parts
            if etag_of(stored.get(part.number, part)) != etag_of(part)
        ]
        if not changed:
            return None
        others = f" and {len(changed) - 1} others" if len(changed) > 1 else ""
        perhaps = " (or the store names equal bytes differently, as with encryption by KMS)"
        if are_md5s(self.parts):
            perhaps = ""
        return StoreError(
            f"cannot {self._doing}: part {changed[0]}{others} was put twice with different bytes. "
            "The source gave different pixels when a chunk was computed again, after a worker had "
            f"died{perhaps}. Make the source give the same pixels each time, or store them first, "
            "and write again"
        )

    def _looked_at(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Properties of the finished object; if it cannot be looked at, the answer's."""
        answered = {**answer, "ContentLength": total_size(self.parts)}
        head = after_completion(self.client.url, lambda: self._head_or(answered))
        is_right = is_proven(answered, self.parts, None)
        # what is there now may be another object that was written since
        if head is None or (is_right and shown_etag(head) != shown_etag(answered)):
            return answered
        return head

    def _head_or(self, answered: dict[str, Any]) -> dict[str, Any]:
        """The object's properties; if it may not be looked at, the answer's."""
        try:
            # a cache on the way may know no better at first
            head = head_object(self.client, BRISK) or head_object(self.client, BRISK)
        except StorePermissionError:
            return answered
        if head is None:
            raise StoreNotFoundError(
                f"{self.client.url} was not found after the server had completed its upload; "
                "somebody may have removed it. If not, write it again"
            )
        return head


def head_object(client: S3Client, patience: Patience = PATIENT) -> dict[str, Any] | None:
    """Properties of the object; None if there is none."""
    try:
        head: dict[str, Any] = client.call(
            "head_object",
            f"look at {client.url}",
            patience,
            needs="ContentLength",
            Key=client.key,
        )
    except StoreNotFoundError:
        return None
    return head
