"""An S3 object, by multipart upload through s3fs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from ccog.errors import (
    CCOGWarning,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.geometry.parts import MIB, Buffer, Limits, Part
from ccog.redaction import harmless
from ccog.stores.base import (
    CONTENT_TYPE,
    MANIFEST,
    IncompleteUpload,
    WriteResult,
    size_of,
    total_size,
)
from ccog.stores.body import Body, base64_text, crc32, md5
from ccog.stores.retry import BRISK, ONCE, PATIENT, Patience, patiently
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import code_of, explained, is_passing, may_be_done
from ccog.stores.s3_proof import (
    MARK_BYTES,
    MARK_KEY,
    are_md5s,
    checked_tag,
    difference,
    is_proven,
    mark_of,
)

_LOGGER = logging.getLogger("ccog")

# parts that arrive while an upload is aborted can outlive the first call (AbortMultipartUpload)
_ABORTS = 5

# for what is asked while a write is being prepared
_QUICK_SECONDS = 3.0

# records that are deleted at a time
_DELETERS = 8

# answers to a completion whose upload is over, and to one that may not replace an object
_OVER = frozenset(("NoSuchUpload", "404"))
_REPLACES = frozenset(("PreconditionFailed", "412"))

# answers to a request for the first bytes of an object that has none
_EMPTY = frozenset(("InvalidRange", "416"))

# parts and uploads that are listed at a time
_PAGE = 1000


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
        if not self.overwrite and self._head(BRISK) is not None:
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the multipart upload; this is where missing buckets and permissions show.

        Metadata and a first part mark it with the name of the write. Of what calls that nobody heard of have
        created, only what has the mark is taken to be ours.
        """
        unheard = unanswered > 0
        if unheard and (session := self._begun_before(write)) is not None:
            return session

        def after(error: Exception) -> None:
            nonlocal unheard
            unheard = unheard or may_be_done(error)

        session = None
        try:
            session = self._create(write, after)
            self._mark(session, write)
        finally:
            if unheard:
                self._warn_of_unheard(session)
        return session

    def _create(self, write: str, after: Callable[[Exception], None]) -> str:
        extra = self.options.get("s3_additional_kwargs") or {}
        kwargs: dict[str, Any] = {} if "ContentType" in extra else {"ContentType": CONTENT_TYPE}
        kwargs["Metadata"] = {**(extra.get("Metadata") or {}), MARK_KEY: write}
        attempt = partial(self._client.once, "create_multipart_upload", Key=self.key, **kwargs)
        created = self._client.patiently(attempt, self._beginning, BRISK, after)
        return str(created["UploadId"])

    @property
    def _beginning(self) -> str:
        return f"start an upload to {self.url}"

    def _mark(self, session: str, write: str) -> None:
        """Put the mark as the part that the header will replace.

        Where all parts must have one size, none of another is tried.
        """
        if self.limits.equal_parts:
            return
        try:
            self._put(session, 1, [mark_of(write)], self._beginning, BRISK)
        except BaseException:
            try:
                self._abort_upload(session)
            except StoreError as error:
                self._warn(f"an upload to {self.url} remains: {error}; {self._remedy}")
            raise

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload one part with a checksum that the server verifies, and compare what it answers with ours."""
        return self._put(session, number, buffers, f"upload part {number} of {self.url}", PATIENT)

    def _put(
        self, session: str, number: int, buffers: list[Buffer], what: str, patience: Patience
    ) -> Part:
        guard = self._guard(buffers)

        def attempt() -> Part:
            where: dict[str, Any] = {"Key": self.key, "UploadId": session, "PartNumber": number}
            found = self._client.once("upload_part", **where, Body=Body(buffers), **guard)
            return number, size_of(buffers), checked_tag(found, guard, buffers)

        return self._client.patiently(attempt, what, patience)

    def _guard(self, buffers: list[Buffer]) -> dict[str, Any]:
        """The checksum to send: CRC32 as Amazon's SDKs do, MD5 where they are told that the server knows no other."""
        if (self.options.get("config_kwargs") or {}).get(
            "request_checksum_calculation"
        ) == "when_required":
            return {"ContentMD5": base64_text(md5(buffers))}
        return {"ChecksumCRC32": base64_text(crc32(buffers))}

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the part."""
        return number, size_of(buffers), md5(buffers).hex()

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Complete the upload and compare what is there with the parts."""
        ordered = sorted(parts)
        listed = {
            "Parts": [{"PartNumber": number, "ETag": f'"{tag}"'} for number, _, tag in ordered]
        }
        given: dict[str, Any] = {"Key": self.key, "UploadId": session, "MultipartUpload": listed}
        guard: dict[str, Any] = {} if self.overwrite else {"IfNoneMatch": "*"}

        def attempt() -> Any:
            return self._client.once("complete_multipart_upload", slow=True, **given, **guard)

        if not self.overwrite:
            self._refuse_another(ordered, write)
        try:
            done = patiently(
                attempt,
                is_passing,
                self._completing,
                after=self._client.renew,
                options=self.options,
            )
        except Exception as error:
            head = self._completed_before(error, session, ordered, write)
            # the answer was lost, but the object is there: nothing must stay beside it
            self.abort(session)
        else:
            head = self._head_or(done, ordered)
        if differs := difference(head, ordered, write):
            raise StoreError(f"{self.url} is not what was uploaded: {differs}; write it again")
        self._client.connect().invalidate_cache(f"{self.bucket}/{self.key}")
        return WriteResult(self.url, total_size(ordered), str(head["ETag"]))

    @property
    def _completing(self) -> str:
        return f"complete the upload to {self.url}"

    def _completed_before(
        self, error: Exception, session: str, parts: list[Part], write: str | None
    ) -> dict[str, Any]:
        """What the store says of the object that an unanswered call has completed; raises where none is proven."""
        code, explanation = code_of(error), explained(error, self._completing, self._client.who)
        if code == "InvalidPart":
            raise self._changed(session, parts) or explanation from harmless(error, self.options)
        if not is_passing(error) and code not in _OVER | _REPLACES:
            raise explanation from harmless(error, self.options)
        try:
            head = self._head(BRISK)
        except StoreError:
            raise explanation from harmless(error, self.options)
        if head is not None and is_proven(head, parts, write):
            return head
        if head is not None and code in _OVER:
            raise StoreNotFoundError(
                f"cannot {self._completing}: somebody else has ended it. The object that is there, "
                f"of {head['LastModified']:%Y-%m-%d %H:%M:%SZ}, is not known to be the one just written; write it again"
            ) from harmless(error, self.options)
        raise explanation from harmless(error, self.options)

    def _changed(self, session: str, parts: list[Part]) -> StoreError | None:
        """The error that names the parts which are not as they were first put; None where they all are."""
        held: dict[int, Part] = {}
        try:
            for first in range(1, parts[-1][0] + 1, _PAGE):
                held |= self.stored(session, first, _PAGE)
        except StoreError:
            return None
        changed = [part[0] for part in parts if part[0] in held and held[part[0]] != part]
        if not changed:
            return None
        perhaps = (
            ""
            if are_md5s(parts)
            else " (or the store names equal bytes differently, as with encryption by KMS)"
        )
        return StoreError(
            f"cannot {self._completing}: part {changed[0]}"
            f"{f' and {len(changed) - 1} others' if changed[1:] else ''} was put twice with different bytes. The "
            f"source gave different pixels when a chunk was computed again, after a worker had died{perhaps}. "
            "Make the source give the same pixels each time, or store them first, and write again"
        )

    def abort(self, session: str) -> None:
        """Abort the multipart upload until the store no longer knows it, and remove its records."""
        self._abort_upload(session)
        # who never resumes need not be allowed to list the bucket
        with contextlib.suppress(StorePermissionError):
            self.forget(session)

    def _abort_upload(self, session: str) -> None:
        given: dict[str, Any] = {"Key": self.key, "UploadId": session}
        what = f"abort the upload to {self.url}"
        with contextlib.suppress(StoreNotFoundError):
            for _ in range(_ABORTS):
                self._client.call("abort_multipart_upload", what, BRISK, **given)
                try:
                    self._client.call("list_parts", what, BRISK, **given)
                except StorePermissionError:
                    return

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this key and those that begin with it; only to this one where it must be quick."""
        if quick:
            # those to this very key come first
            first = itertools.islice(self._uploads(ONCE, timeout=_QUICK_SECONDS), _PAGE)
            return [upload for upload in first if upload.url == self.url]
        return [
            replace(upload, resumable=self._is_resumable(upload))
            for upload in self._uploads(PATIENT)
        ]

    def is_marked(self, session: str) -> bool:
        """Whether ccog has begun an upload: its first part is as long as a mark, and nobody else's would be.

        Not of uploads whose header is there, the last part to be put, and where parts must be equal.
        """
        marked = self.stored(session, 1, 1).get(1)
        return marked is not None and marked[1] == MARK_BYTES

    def _is_resumable(self, upload: IncompleteUpload) -> bool:
        store = replace(self, key=upload.url.split("://", 1)[1].partition("/")[2])
        with contextlib.suppress(StorePermissionError):
            return any(store._keys(store._records(upload.session) + MANIFEST))
        return False

    def stored(
        self, session: str, first: int, count: int, patience: Patience = PATIENT
    ) -> dict[int, Part]:
        """Parts as the server lists them, with their ETags, which are MD5s where nothing is encrypted by KMS."""
        given: dict[str, Any] = {
            "Key": self.key,
            "UploadId": session,
            "MaxParts": min(count, _PAGE),
        }
        if first > 1:
            given["PartNumberMarker"] = first - 1
        answer = self._client.call(
            "list_parts", f"look at the parts of {self.url}", patience, **given
        )
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
        """Put an object, with a checksum that the server verifies; the first must be listed as it was named."""
        key = self._records(session) + name
        self._client.call(
            "put_object", f"keep a record of {self.url}", Key=key, Body=data, **self._guard([data])
        )
        if name == MANIFEST and name not in self.saved(session):
            self._delete(key)
            raise StoreError(
                f"resume=True is not possible for {self.url}: the server does not list objects under the names they "
                "are given; use a key without '//' and '/' at its start, or write without resume=True"
            )

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
            for session in known - {upload.session for upload in self._uploads(PATIENT)}:
                self.forget(session)

    def _records(self, session: str) -> str:
        """Where the records of a session begin, or of all."""
        return f"{self.key}.ccog-resume/" + (f"{quote(session, safe='')}/" if session else "")

    def _keys(self, prefix: str) -> Iterator[str]:
        marker: dict[str, Any] = {}
        what = f"list the records of {self.url}"
        while True:
            try:
                found = self._client.call("list_objects_v2", what, Prefix=prefix, **marker)
            except StoreNotFoundError:
                # where the server refuses the name, it has nothing of that name
                return
            for item in found.get("Contents") or []:
                yield str(item["Key"])
            if not found.get("IsTruncated"):
                return
            marker = {"ContinuationToken": found["NextContinuationToken"]}

    def _delete(self, key: str) -> None:
        self._client.call("delete_object", f"remove a record of {self.url}", Key=key)

    def _uploads(
        self, patience: Patience, timeout: float | None = None
    ) -> Iterator[IncompleteUpload]:
        """Uploads to keys that begin with this one."""
        marker: dict[str, Any] = {}
        ask = partial(self._client.once, "list_multipart_uploads", timeout=timeout, Prefix=self.key)
        while True:
            what = f"list the incomplete uploads to {self.url}"
            found = self._client.patiently(partial(ask, **marker), what, patience)
            for upload in found.get("Uploads") or []:
                url = f"{self.protocol}://{self.bucket}/{upload['Key']}"
                yield IncompleteUpload(url, upload["UploadId"], upload["Initiated"])
            if not found.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": found["NextKeyMarker"],
                "UploadIdMarker": found["NextUploadIdMarker"],
            }

    def _uploads_here(self) -> list[IncompleteUpload]:
        """Uploads to this very key, asked once."""
        return [upload for upload in self._uploads(ONCE) if upload.url == self.url]

    def _begun_before(self, write: str) -> str | None:
        """The upload with the mark of this write, which an earlier call has begun unheard; None where none is found."""
        mark = self.part(1, [mark_of(write)])
        with contextlib.suppress(StoreError):
            for upload in self._uploads_here():
                if self.stored(upload.session, 1, 1, ONCE).get(1) == mark:
                    return upload.session
        return None

    def _warn_of_unheard(self, session: str | None) -> None:
        """Name the uploads that unanswered calls may have created: empty ones, which may as well be somebody else's."""
        try:
            others = [upload for upload in self._uploads_here() if upload.session != session]
            empty = [upload for upload in others if not self.stored(upload.session, 1, 1, ONCE)]
        except StoreError as error:
            self._warn(
                f"an empty upload to {self.url} may remain, since a call was not answered: {error}"
            )
            return
        if empty:
            first = min(upload.started for upload in empty)
            some = "an empty upload" if len(empty) == 1 else f"{len(empty)} empty uploads"
            self._warn(
                f"{some} to {self.url} {'remains' if len(empty) == 1 else 'remain'}, begun since "
                f"{first:%Y-%m-%d %H:%M:%SZ}: a call to begin was not answered. This may as well be another writer's, "
                f"so that ccog leaves it; {self._remedy}"
            )

    @property
    def _remedy(self) -> str:
        return f"`ccog uploads abort {self.url}` removes what is unfinished there"

    def _warn(self, text: str) -> None:
        _LOGGER.warning("%s", text)
        warnings.warn(text, CCOGWarning, stacklevel=3)

    def _refuse_another(self, parts: list[Part], write: str | None) -> None:
        """Look once more before completing: not all servers heed the condition that guards it."""
        head = self._head()
        if head is not None and not is_proven(head, parts, write):
            raise StoreExistsError(
                f"{self.url} was written meanwhile; remove it, or allow overwriting"
            )

    def _head(self, patience: Patience = PATIENT) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.call(
                "head_object", f"look at {self.url}", patience, Key=self.key
            )
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
            raise StoreError(
                f"{self.url} is not there after its upload was completed; write it again"
            )
        return head
