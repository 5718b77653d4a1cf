"""An S3 object, by multipart upload through s3fs."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from ccog.errors import CCOGWarning, StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.parts import MIB, Buffer, Limits, Part
from ccog.stores.base import CONTENT_TYPE, MANIFEST, IncompleteUpload, WriteResult, size_of, total_size
from ccog.stores.body import Body, base64_text, crc32, md5
from ccog.stores.retry import BRISK, PATIENT, Patience, patiently
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import TagMismatchError, code_of, explained, is_passing, may_be_done

# parts that arrive while an upload is aborted can outlive the first call (AbortMultipartUpload)
_ABORTS = 5

# servers name the start of an upload to the second
_SLACK_SECONDS = 2.0

# records that are deleted at a time
_DELETERS = 8

# for what is only tidied up on the way to another attempt
_ONCE = Patience(attempts=1)

# answers to a completion after which the object may be there all the same
_PERHAPS_COMPLETE = frozenset(("NoSuchUpload", "404", "PreconditionFailed", "412"))

# answers to a request for the first bytes of an object that has none
_EMPTY = frozenset(("InvalidRange", "416"))

_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_MD5S = re.compile(r"[0-9a-f]{32}-\d+")


@dataclass(frozen=True)
class S3Store:
    """The object ``key`` of ``bucket``; ``options`` are those of s3fs.S3FileSystem, kept out of the repr.

    ``fixed_upload_size=True`` among them, s3fs's word for it, makes all parts but the last equally long.
    """

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    overwrite: bool = True
    protocol: str = "s3"

    @property
    def limits(self) -> Limits:
        """Amazon S3 multipart upload limits (user guide, qfacts): 10,000 parts of 5 MiB to 5 GiB."""
        equal = bool(self.options.get("fixed_upload_size"))
        return Limits(min_part=5 * MIB, max_part=5 << 30, max_parts=10_000, equal_parts=equal)

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"{self.protocol}://{self.bucket}/{self.key}"

    @property
    def _client(self) -> S3Client:
        return S3Client(self.bucket, self.options)

    def check(self) -> None:
        """Refuse a missing package, and, where overwriting is not allowed, an existing object."""
        self._client.connect()
        if not self.overwrite and self._head() is not None:
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the multipart upload; this is where missing buckets and permissions show."""
        started = time.monotonic() - unanswered
        if unanswered:
            self._drop_unanswered(started)

        def after(error: Exception) -> None:
            if may_be_done(error):
                self._drop_unanswered(started)

        def attempt() -> Any:
            return self._client.once("create_multipart_upload", Key=self.key, **kwargs)

        extra = self.options.get("s3_additional_kwargs") or {}
        kwargs: dict[str, Any] = {} if "ContentType" in extra else {"ContentType": CONTENT_TYPE}
        found = self._client.patiently(attempt, f"start an upload to {self.url}", BRISK, after)
        return str(found["UploadId"])

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload one part with a checksum that the server verifies, and compare what it answers with ours."""
        guard = self._guard(buffers)

        def attempt() -> Part:
            where: dict[str, Any] = {"Key": self.key, "UploadId": session, "PartNumber": number}
            found = self._client.once("upload_part", **where, Body=Body(buffers), **guard)
            return number, size_of(buffers), _checked_tag(found, guard, buffers)

        return self._client.patiently(attempt, f"upload part {number} of {self.url}")

    def _guard(self, buffers: list[Buffer]) -> dict[str, Any]:
        """The checksum to send: CRC32 as Amazon's SDKs do, MD5 where they are told that the server knows no other."""
        if (self.options.get("config_kwargs") or {}).get("request_checksum_calculation") == "when_required":
            return {"ContentMD5": base64_text(md5(buffers))}
        return {"ChecksumCRC32": base64_text(crc32(buffers))}

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the part."""
        return number, size_of(buffers), md5(buffers).hex()

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Complete the upload and compare what is there with the parts."""
        ordered = sorted(parts)
        listed = {"Parts": [{"PartNumber": number, "ETag": f'"{tag}"'} for number, _, tag in ordered]}
        given: dict[str, Any] = {"Key": self.key, "UploadId": session, "MultipartUpload": listed}
        guard: dict[str, Any] = {} if self.overwrite else {"IfNoneMatch": "*"}

        def attempt() -> Any:
            return self._client.once("complete_multipart_upload", slow=True, **given, **guard)

        what = f"complete the upload to {self.url}"
        if not self.overwrite:
            self._refuse_another(ordered)
        try:
            done = patiently(attempt, is_passing, after=self._client.renew)
        except Exception as error:
            head = self._head() if is_passing(error) or code_of(error) in _PERHAPS_COMPLETE else None
            if head is None or _difference(head, ordered):
                raise explained(error, what, self._client.who) from error
            # the answer was lost, but the object is there: nothing must stay beside it
            self.abort(session)
        else:
            head = self._head_or(done, ordered)
        if differs := _difference(head, ordered):
            raise StoreError(f"{self.url} is not what was uploaded: {differs}; write it again")
        self._client.connect().invalidate_cache(f"{self.bucket}/{self.key}")
        return WriteResult(self.url, total_size(ordered), str(head["ETag"]))

    def abort(self, session: str) -> None:
        """Abort the multipart upload until the store no longer knows it, and remove its records."""
        self._abort_upload(session)
        # who never resumes need not be allowed to list the bucket
        with contextlib.suppress(StorePermissionError):
            self.forget(session)

    def _abort_upload(self, session: str) -> None:
        given = {"what": f"abort the upload to {self.url}", "Key": self.key, "UploadId": session}
        with contextlib.suppress(StoreNotFoundError):
            for _ in range(_ABORTS):
                self._client.call("abort_multipart_upload", **given)
                try:
                    self._client.call("list_parts", **given)
                except StorePermissionError:
                    return

    def incomplete(self) -> list[IncompleteUpload]:
        """Uploads to this key and those that begin with it."""
        found = [upload for upload, _ in self._uploads(PATIENT)]
        return [replace(upload, resumable=self._is_resumable(upload)) for upload in found]

    def _is_resumable(self, upload: IncompleteUpload) -> bool:
        store = replace(self, key=upload.url.split("://", 1)[1].partition("/")[2])
        with contextlib.suppress(StorePermissionError):
            return any(store._keys(store._records(upload.session) + MANIFEST))
        return False

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """Parts as the server lists them, with their ETags, which are MD5s where nothing is encrypted by KMS."""
        given = {"Key": self.key, "UploadId": session, "PartNumberMarker": first - 1, "MaxParts": min(count, 1000)}
        answer = self._client.call("list_parts", f"look at the parts of {self.url}", **given)
        found = {}
        for part in answer.get("Parts") or []:
            number = int(part["PartNumber"])
            if number < first + count:
                found[number] = (number, int(part["Size"]), str(part["ETag"]).strip('"'))
        return found

    @property
    def resumes(self) -> bool:
        """Records are objects below ``<key>.ccog-resume/``; where parts must be equal none is put before the end."""
        return not self.limits.equal_parts

    def save(self, session: str, name: str, data: bytes) -> None:
        """Put an object, with a checksum that the server verifies."""
        key = self._records(session) + name
        self._client.call("put_object", f"keep a record of {self.url}", Key=key, Body=data, **self._guard([data]))

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        path = f"{self.bucket}/{self._records(session)}{name}"
        what = f"read a record of {self.url}"
        first = None if limit is None else 0

        def read() -> bytes:
            try:
                return bytes(self._client.connect().cat_file(path, start=first, end=limit))
            except OSError as error:
                if code_of(error) in _EMPTY:
                    return b""
                raise

        return self._client.patiently(read, what)

    def saved(self, session: str) -> frozenset[str]:
        """Names of the objects."""
        folder = self._records(session)
        return frozenset(key.removeprefix(folder) for key in self._keys(folder))

    def forget(self, session: str) -> None:
        """Delete the objects, one by one: not all servers take lists of them."""
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(self._delete, self._keys(self._records(session))))

    def tidy(self) -> None:
        """Delete records whose upload the server no longer knows."""
        root = self._records("")
        known = {unquote(key.removeprefix(root).partition("/")[0]) for key in self._keys(root)}
        if known:
            for session in known - {upload.session for upload, _ in self._uploads(PATIENT)}:
                self.forget(session)

    def _records(self, session: str) -> str:
        """Where the records of a session begin, or of all."""
        return f"{self.key}.ccog-resume/" + (f"{quote(session, safe='')}/" if session else "")

    def _keys(self, prefix: str) -> Iterator[str]:
        marker: dict[str, Any] = {}
        while True:
            what = f"list the records of {self.url}"
            found = self._client.call("list_objects_v2", what, Prefix=prefix, **marker)
            for item in found.get("Contents") or []:
                yield str(item["Key"])
            if not found.get("IsTruncated"):
                return
            marker = {"ContinuationToken": found["NextContinuationToken"]}

    def _delete(self, key: str) -> None:
        self._client.call("delete_object", f"remove a record of {self.url}", Key=key)

    def _uploads(self, patience: Patience) -> Iterator[tuple[IncompleteUpload, float]]:
        """Uploads to keys that begin with this one, and their age in seconds by the server's clock."""
        marker: dict[str, Any] = {}
        while True:
            what = f"list the incomplete uploads to {self.url}"
            list_next = partial(self._client.once, "list_multipart_uploads", Prefix=self.key, **marker)
            found = self._client.patiently(list_next, what, patience)
            now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
            for upload in found.get("Uploads") or []:
                url = f"{self.protocol}://{self.bucket}/{upload['Key']}"
                age = (now - upload["Initiated"]).total_seconds()
                yield IncompleteUpload(url, upload["UploadId"], upload["Initiated"]), age
            if not found.get("IsTruncated"):
                return
            marker = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}

    def _drop_unanswered(self, started: float) -> None:
        """Abort the upload that a call since ``started`` (monotonic seconds) has created unheard.

        Where there is more than one candidate, another writer is at the same key: both are left alone.
        """
        try:
            uploads = [
                upload for upload, age in self._uploads(_ONCE) if upload.url == self.url and self._since(age, started)
            ]
            if len(uploads) == 1:
                self.abort(uploads[0].session)
        except StoreError as error:
            uploads = []
            warnings.warn(f"an incomplete upload to {self.url} may remain: {error}", CCOGWarning, stacklevel=2)
        if len(uploads) > 1:
            warnings.warn(f"{len(uploads)} incomplete uploads to {self.url} remain", CCOGWarning, stacklevel=2)

    def _since(self, age: float, started: float) -> bool:
        return age <= time.monotonic() - started + _SLACK_SECONDS

    def _refuse_another(self, parts: list[Part]) -> None:
        """Look once more before completing: not all servers heed the condition that guards it."""
        head = self._head()
        if head is not None and _difference(head, parts):
            raise StoreExistsError(f"{self.url} was written meanwhile; remove it, or allow overwriting")

    def _head(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.call("head_object", f"look at {self.url}", Key=self.key)
        except StoreNotFoundError:
            return None
        return found

    def _head_or(self, done: dict[str, Any], parts: list[Part]) -> dict[str, Any]:
        """What the store says of the finished object, or of its completion where it may not be looked at."""
        try:
            head = self._head()
        except StorePermissionError:
            return {**done, "ContentLength": total_size(parts)}
        if head is None:
            raise StoreError(f"{self.url} is not there after its upload was completed; write it again")
        return head


def _checked_tag(found: dict[str, Any], guard: dict[str, Any], buffers: list[Buffer]) -> str:
    """The ETag of a part that the server has received as it was sent.

    Where the server does not answer with the CRC32, the ETag must be the MD5 of the part, if it looks like one.
    """
    tag = str(found["ETag"]).strip('"')
    if "ChecksumCRC32" in found and "ChecksumCRC32" in guard:
        same = found["ChecksumCRC32"] == guard["ChecksumCRC32"]
    else:
        same = not _MD5.fullmatch(tag) or _has_opaque_tags(found) or tag == md5(buffers).hex()
    if not same:
        raise TagMismatchError(
            f"the store received other bytes: it answers {tag} to a part of {size_of(buffers)} bytes"
        )
    return tag


def _has_opaque_tags(found: dict[str, Any]) -> bool:
    """Whether ETags are no MD5s: encryption with a key of KMS or of the customer (S3 API, Object)."""
    return str(found.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in found


def _difference(head: dict[str, Any], parts: list[Part]) -> str:
    """What tells the object from the parts in size or ETag; empty where nothing does."""
    size, expected = int(head["ContentLength"]), total_size(parts)
    if size != expected:
        return f"{size} bytes instead of {expected}"
    tag = str(head["ETag"]).strip('"')
    tags = [tag for _, _, tag in parts]
    known = all(map(_MD5.fullmatch, tags)) and _MD5_OF_MD5S.fullmatch(tag) and not _has_opaque_tags(head)
    combined = (
        f"{hashlib.md5(b''.join(map(bytes.fromhex, tags)), usedforsecurity=False).hexdigest()}-{len(tags)}"
        if known
        else tag
    )
    return "" if tag == combined else f"ETag {tag} instead of {combined}"
