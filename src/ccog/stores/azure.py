"""An Azure block blob: workers stage blocks, the last task commits the list of them.

All that ccog uses of adlfs stands in this module. Checked with adlfs 2026.8 and
azure-storage-blob 12.31:

- ``AzureBlobFileSystem.service_client`` is the account's client of azure-storage-blob,
  with the credentials that the options name. ``loop`` is the event loop that it belongs
  to. Without them: make a ``BlobServiceClient`` here.
- ``split_path(path)`` gives container, blob and version.
- ``retry_total=0``, given to each call, turns the client's own retries off. Without it:
  they would multiply ours.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ccog.errors import (
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
    needs,
)
from ccog.geometry.parts import Buffer, Limits, Part, total
from ccog.redaction import harmless, redacted
from ccog.stores import sidecars
from ccog.stores.base import (
    CONTENT_TYPE,
    QUICK_SECONDS,
    Store,
    WriteResult,
    after_completion,
    checked_result,
    exists_error,
    total_size,
)
from ccog.stores.body import Body, base64_text, md5
from ccog.stores.retry import BRISK, PATIENT, AnswerError, Patience, first_line, retry

_TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))
_ONE_ATTEMPT: dict[str, Any] = {"retry_total": 0}

_COMMIT_SECONDS = 300


class _Found(NamedTuple):
    """What is known of a blob."""

    size: int
    etag: str | None


@dataclass(frozen=True)
class AzureStore(Store):
    """The blob of ``target`` (a URL); ``options`` are those of adlfs.AzureBlobFileSystem.

    Blocks that are never committed cannot be deleted, and the service does not say who
    staged them. It never shows them to readers, and drops them after a week, or when
    the blob is next written. So unfinished uploads are not listed.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """Limits of block blobs: 50,000 blocks of up to 4,000 MiB."""
        return Limits(min_part=1 << 20, max_part=4000 << 20, max_parts=50_000)

    @property
    def url(self) -> str:
        """The blob's URL."""
        return self.target

    def check(self) -> None:
        """Refuse a missing package and unusable options; without ``overwrite`` a blob."""
        self._filesystem()
        if not self.overwrite and self._look(BRISK) is not None:
            raise exists_error(self.target)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Stage one byte, so that missing containers and permissions show now."""
        # names of blocks have 64 characters at most
        upload_id = uuid.uuid4().hex[:25]
        self._stage(upload_id, 0, [b"\0"], f"start an upload to {self.target}", BRISK)
        return upload_id

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Stage one block."""
        return self._stage(upload_id, number, buffers, f"upload block {number} of {self.target}")

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the block."""
        return Part(number, total(buffers), md5(buffers).hex())

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Commit the blocks, which may be repeated, and check the size of the blob."""
        names, size = [_block_name(upload_id, part) for part in sorted(parts)], total_size(parts)
        try:
            etag = self._commit(names)
        except StoreError:
            # an earlier call may have succeeded without an answer
            committed: list[Any] = []
            with contextlib.suppress(StoreError):
                committed, _ = self._blocks()
            if [block.id for block in committed] != names:
                raise
            etag = None
        found = after_completion(self.target, self._found)
        # who may not look, or sees what somebody else has written since, relies on the service
        if found is None or (etag is not None and found.etag != etag):
            return WriteResult(self.target, size)
        return checked_result(self.target, found.size, size)

    def _found(self) -> _Found | None:
        """Size and ETag of the blob; None if it may not be looked at."""
        try:
            # a cache on the way may know no better at first
            found = self._look(BRISK) or self._look(BRISK)
        except StorePermissionError:
            return None
        if found is None:
            raise StoreNotFoundError(
                f"{self.target} was not found after the service had committed it; somebody may "
                "have removed it. If not, write it again"
            )
        return found

    def abort(self, upload_id: str) -> None:
        """Drop the uncommitted blocks, if there is no blob yet.

        To this end an empty one is committed and deleted.
        """
        from azure.core import MatchConditions

        async def drop(blob: Any) -> None:
            missing = {"match_condition": MatchConditions.IfMissing}
            empty = await blob.commit_block_list([], **missing, **_ONE_ATTEMPT)
            unchanged = {"match_condition": MatchConditions.IfNotModified}
            await blob.delete_blob(etag=empty["etag"], **unchanged, **_ONE_ATTEMPT)

        if self._look(BRISK) is not None:
            return
        try:
            _, staged = self._blocks()
        except StoreNotFoundError:
            return
        if staged:
            self._call(drop, f"abort the upload to {self.target}", BRISK)

    def sidecars(self) -> list[str]:
        """Names in one page of a listing of the blobs beside this one."""
        from fsspec.asyn import sync

        filesystem, path = self._filesystem()
        container, key, _ = filesystem.split_path(path)

        async def first_page() -> list[str]:
            async with filesystem.service_client.get_container_client(container) as client:
                found = client.list_blobs(name_starts_with=sidecars.prefix_of(key), **_ONE_ATTEMPT)
                async for page in found.by_page():
                    return [blob.name async for blob in page]
            return []

        try:
            names = sync(filesystem.loop, first_page, timeout=QUICK_SECONDS)
        except Exception as error:
            explanation = self._explained(error, f"look beside {self.target}")
            raise explanation from harmless(error, self.options)
        folder = key.rpartition("/")[0]
        beside = [name for name in names if name.rpartition("/")[0] == folder]
        return sidecars.among(key, beside)

    def _stage(
        self,
        upload_id: str,
        number: int,
        buffers: list[Buffer],
        doing: str,
        patience: Patience = PATIENT,
    ) -> Part:
        """Stage a block; the service compares its bytes with our MD5."""
        part = self.expected_part(number, buffers)
        name = _block_name(upload_id, part)
        digest = base64_text(bytes.fromhex(part.tag))
        settings = {"length": part.size, "headers": {"Content-MD5": digest}}

        def stage(blob: Any) -> Any:
            return blob.stage_block(name, Body(buffers), **settings, **_ONE_ATTEMPT)

        self._call(stage, doing, patience)
        return part

    def _commit(self, names: list[str]) -> str | None:
        """Commit the blocks; the ETag of the blob."""
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock, ContentSettings

        content = ContentSettings(content_type=CONTENT_TYPE)
        settings: dict[str, Any] = {"content_settings": content, "timeout": _COMMIT_SECONDS}
        if not self.overwrite:
            settings["match_condition"] = MatchConditions.IfMissing

        def commit(blob: Any) -> Any:
            blocks = [BlobBlock(name) for name in names]
            return blob.commit_block_list(blocks, **settings, **_ONE_ATTEMPT)

        answer: dict[str, Any] = self._call(commit, f"complete the upload to {self.target}")
        return answer.get("etag")

    def _look(self, patience: Patience) -> _Found | None:
        """Size and ETag of the blob; None if there is none."""

        async def look(blob: Any) -> _Found:
            properties = await blob.get_blob_properties(**_ONE_ATTEMPT)
            if properties.size is None:
                raise AnswerError("the server's answer has no size")
            return _Found(int(properties.size), properties.etag)

        try:
            found: _Found = self._call(look, f"look at {self.target}", patience)
        except StoreNotFoundError:
            return None
        return found

    def _blocks(self) -> tuple[list[Any], list[Any]]:
        """Committed and uncommitted blocks."""

        def blocks(blob: Any) -> Any:
            return blob.get_block_list("all", **_ONE_ATTEMPT)

        committed, staged = self._call(blocks, f"look at {self.target}", BRISK)
        return committed, staged

    def _call(
        self, call: Callable[[Any], Awaitable[Any]], doing: str, patience: Patience = PATIENT
    ) -> Any:
        """Run a call on the blob's client, repeated while its errors are transient."""
        from fsspec.asyn import sync

        filesystem, path = self._filesystem()
        container, blob, _ = filesystem.split_path(path)

        async def once() -> Any:
            async with filesystem.service_client.get_blob_client(container, blob) as client:
                return await call(client)

        return retry(
            lambda: sync(filesystem.loop, once),
            _is_transient,
            doing,
            patience,
            explained=self._explained,
            options=self.options,
        )

    def _explained(self, error: Exception, doing: str) -> StoreError:
        from azure.core.exceptions import ClientAuthenticationError

        status = getattr(error, "status_code", None)
        # the service's message goes on with request ids and signed text
        reason = getattr(error, "error_code", None) or first_line(error, self.options)
        if status == 404:
            why = f"the container or blob does not exist ({reason})"
            return StoreNotFoundError(f"cannot {doing}: {why}")
        if status in (401, 403) or isinstance(error, ClientAuthenticationError | PermissionError):
            why = f"access denied to the credentials in use ({reason})"
            return StorePermissionError(f"cannot {doing}: {why}")
        if status in (409, 412):
            return StoreExistsError(f"cannot {doing}: the blob was written meanwhile ({reason})")
        return StoreError(f"cannot {doing}: {reason}")

    def _filesystem(self) -> tuple[Any, str]:
        """The file system, and the path of the blob on it."""
        try:
            import adlfs  # noqa: F401  # its absence deserves a better error than fsspec's
        except ImportError:
            raise needs("writing to Azure", "adlfs") from None
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(self.target, **self.options)
        except Exception as error:
            message = f"cannot use {self.target}: {redacted(error, self.options)}"
            raise StoreError(message) from harmless(error, self.options)
        return filesystem, path


def _block_name(upload_id: str, part: Part) -> str:
    """The name of a block; names of one blob must have equal lengths.

    It has the digest of the block, so that a part that is put again with other bytes
    replaces nothing.
    """
    return f"{upload_id}-{part.number:05d}-{part.tag}"


def _is_transient(error: Exception) -> bool:
    from azure.core import exceptions

    if isinstance(error, exceptions.DecodeError | AnswerError):
        return True
    if isinstance(error, exceptions.HttpResponseError) and error.status_code is not None:
        return error.status_code in _TRANSIENT_STATUS
    unanswered = exceptions.ServiceRequestError | exceptions.ServiceResponseError
    return isinstance(error, unanswered | ConnectionError | TimeoutError)
