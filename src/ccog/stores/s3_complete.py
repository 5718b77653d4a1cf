"""Completing an upload to S3, and proving that the object is the one just written.

The answer to a completion may be lost, and the call repeated. The server then says that
the upload is over, or that an object is there; whether that object is ours is decided
by ``s3_proof.is_proven``. Nothing else counts as success.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.geometry.parts import Part
from ccog.redaction import harmless
from ccog.stores.base import WriteResult, total_size
from ccog.stores.retry import BRISK, PATIENT, Patience, retry
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import code_of, is_transient
from ccog.stores.s3_proof import are_md5s, difference, is_proven
from ccog.stores.s3_uploads import PAGE, stored_parts

# answers to a completion whose upload is over, and to one that may not replace an object
_OVER = frozenset(("NoSuchUpload", "404"))
_REPLACES = frozenset(("PreconditionFailed", "412"))


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
            self._refuse_another()
        try:
            answer = self._complete()
        except Exception as error:
            head = self._completed_before(error)
            # nothing must stay beside the object
            self.abort(self.upload_id)
        else:
            head = self._head_or(answer)
        if differs := difference(head, self.parts, self.write):
            raise StoreError(
                f"{self.client.url} is not what was uploaded: {differs}; write it again"
            )
        self.client.drop_cached_listing()
        return WriteResult(self.client.url, total_size(self.parts), str(head["ETag"]))

    @property
    def _doing(self) -> str:
        return f"complete the upload to {self.client.url}"

    def _refuse_another(self) -> None:
        """Look once more before completing: not all servers heed the condition."""
        head = head_object(self.client)
        if head is not None and not is_proven(head, self.parts, self.write):
            raise StoreExistsError(
                f"{self.client.url} was written meanwhile; remove it, or allow overwriting"
            )

    def _complete(self) -> Any:
        """The server's answer; errors are those of s3fs, with their codes."""
        listed = [{"PartNumber": part.number, "ETag": f'"{part.tag}"'} for part in self.parts]
        request: dict[str, Any] = {
            "Key": self.client.key,
            "UploadId": self.upload_id,
            "MultipartUpload": {"Parts": listed},
        }
        if not self.overwrite:
            request["IfNoneMatch"] = "*"
        attempt = partial(self.client.once, "complete_multipart_upload", slow=True, **request)
        renew, options = self.client.renew, self.client.options
        return retry(attempt, is_transient, self._doing, after=renew, options=options)

    def _completed_before(self, error: Exception) -> dict[str, Any]:
        """Properties of the object, if an unanswered call has certainly completed it."""
        code, explanation = code_of(error), self.client.explained(error, self._doing)
        cause = harmless(error, self.client.options)
        if code == "InvalidPart":
            raise self._changed() or explanation from cause
        if not is_transient(error) and code not in _OVER | _REPLACES:
            raise explanation from cause
        try:
            head = head_object(self.client, BRISK)
        except StoreError:
            raise explanation from cause
        if head is not None and is_proven(head, self.parts, self.write):
            return head
        if head is not None and code in _OVER:
            raise StoreNotFoundError(
                f"cannot {self._doing}: somebody else has ended it. The object that is there, "
                f"of {head['LastModified']:%Y-%m-%d %H:%M:%SZ}, is not known to be the one just "
                "written; write it again"
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
        changed = [part.number for part in self.parts if stored.get(part.number, part) != part]
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

    def _head_or(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Properties of the finished object; if it may not be looked at, the answer."""
        try:
            head = head_object(self.client)
        except StorePermissionError:
            return {**answer, "ContentLength": total_size(self.parts)}
        if head is None:
            raise StoreError(
                f"{self.client.url} is not there after its upload was completed; write it again"
            )
        return head


def head_object(client: S3Client, patience: Patience = PATIENT) -> dict[str, Any] | None:
    """Properties of the object; None if there is none."""
    try:
        doing = f"look at {client.url}"
        return dict(client.call("head_object", doing, patience, Key=client.key))
    except StoreNotFoundError:
        return None
