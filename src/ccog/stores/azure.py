"""An Azure block blob through adlfs: blocks staged by the workers, one list committed at the end."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import (
    MissingDependencyError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.redaction import harmless, redacted
from ccog.stores.base import (
    CONTENT_TYPE,
    IncompleteUpload,
    KeepsNothing,
    WriteResult,
    size_of,
    total_size,
)
from ccog.stores.body import Body, base64_text, md5
from ccog.stores.retry import BRISK, PATIENT, Patience, first_line, patiently

_PASSING_STATUS = frozenset((408, 429, 500, 502, 503, 504))
_COMMIT_SECONDS = 300

# the client's own would add to ours
_ONE_ATTEMPT: dict[str, Any] = {"retry_total": 0}

# of the names of blocks
_SESSION_DIGITS, _MD5_DIGITS = 25, 32


@dataclass(frozen=True)
class AzureStore(KeepsNothing):
    """The blob of ``target`` (a URL); ``options`` are those of adlfs.AzureBlobFileSystem, kept out of the repr.

    Blocks that are never committed cannot be deleted; the service drops them after a week, or when the blob is
    next written, and never shows them to readers.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """Those of block blobs: 50,000 blocks of up to 4,000 MiB."""
        return Limits(min_part=1 << 20, max_part=4000 << 20, max_parts=50_000)

    @property
    def url(self) -> str:
        """The blob's URL."""
        return self.target

    def check(self) -> None:
        """Refuse a missing package, unusable options, and, where overwriting is not allowed, an existing blob."""
        self._filesystem()
        if not self.overwrite and self._size(BRISK) is not None:
            raise StoreExistsError(f"{self.target} exists; remove it, or allow overwriting")

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Name the write, and stage one byte, so that missing containers and permissions show now."""
        session = uuid.uuid4().hex[:_SESSION_DIGITS]
        start: list[Buffer] = [b"\0"]
        self._stage(
            _block(session, self.part(0, start)), start, f"start an upload to {self.target}", BRISK
        )
        return session

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Stage one block; the service checks it against our MD5."""
        part = self.part(number, buffers)
        self._stage(
            _block(session, part), buffers, f"upload block {number} of {self.target}", PATIENT
        )
        return part

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the block."""
        return number, size_of(buffers), md5(buffers).hex()

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Commit the blocks, which may be repeated, and check the size of the blob."""
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock, ContentSettings

        names = [_block(session, part) for part in sorted(parts)]
        guard = {} if self.overwrite else {"match_condition": MatchConditions.IfMissing}

        def commit(blob: Any) -> Any:
            settings = ContentSettings(content_type=CONTENT_TYPE)
            blocks = [BlobBlock(name) for name in names]
            given = {"content_settings": settings, "timeout": _COMMIT_SECONDS} | guard
            return blob.commit_block_list(blocks, **given, **_ONE_ATTEMPT)

        try:
            self._call(commit, f"complete the upload to {self.target}")
        except (StoreExistsError, StoreNotFoundError):
            # an earlier call may have succeeded without an answer
            if self._committed() != names:
                raise
        found, expected = self._size(), total_size(parts)
        if found != expected:
            raise StoreError(
                f"{self.target} has {found} bytes after the upload, not {expected}; write it again"
            )
        return WriteResult(self.target, expected)

    def abort(self, session: str) -> None:
        """Drop the uncommitted blocks, which is possible where there is no blob yet: by an empty one, deleted."""
        from azure.core import MatchConditions

        async def drop(blob: Any) -> None:
            done = await blob.commit_block_list(
                [], match_condition=MatchConditions.IfMissing, **_ONE_ATTEMPT
            )
            unchanged = {"etag": done["etag"], "match_condition": MatchConditions.IfNotModified}
            await blob.delete_blob(**unchanged, **_ONE_ATTEMPT)

        if self._size(BRISK) is None and self._staged():
            self._call(drop, f"abort the upload to {self.target}", BRISK)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """None: the service does not say when blocks were staged, nor by whom, and drops them by itself."""
        return []

    def _stage(self, name: str, buffers: list[Buffer], what: str, patience: Patience) -> None:
        """Stage a block; its name ends in its MD5, with which the service compares the bytes that come."""
        headers = {"Content-MD5": base64_text(bytes.fromhex(name[-_MD5_DIGITS:]))}
        size = size_of(buffers)

        def stage(blob: Any) -> Any:
            return blob.stage_block(
                name, Body(buffers), length=size, headers=headers, **_ONE_ATTEMPT
            )

        self._call(stage, what, patience)

    def _size(self, patience: Patience = PATIENT) -> int | None:
        what = f"look at {self.target}"
        try:
            found = self._call(
                lambda blob: blob.get_blob_properties(**_ONE_ATTEMPT), what, patience
            )
        except StoreNotFoundError:
            return None
        return int(found.size)

    def _committed(self) -> list[str]:
        return [block.id for block in self._blocks()[0]]

    def _staged(self) -> list[Any]:
        try:
            return self._blocks()[1]
        except StoreNotFoundError:
            return []

    def _blocks(self) -> tuple[list[Any], list[Any]]:
        found: tuple[list[Any], list[Any]] = self._call(
            lambda blob: blob.get_block_list("all", **_ONE_ATTEMPT), f"look at {self.target}", BRISK
        )
        return found

    def _filesystem(self) -> Any:
        try:
            import adlfs  # noqa: F401  # its absence deserves a better error than fsspec's
        except ImportError:
            raise MissingDependencyError(
                "writing to Azure needs adlfs: pip install 'ccog[azure]'"
            ) from None
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.target, **self.options)
        except Exception as error:
            said = redacted(error, self.options)
            raise StoreError(f"cannot use {self.target}: {said}") from harmless(error, self.options)

    def _call(
        self, call: Callable[[Any], Awaitable[Any]], what: str, patience: Patience = PATIENT
    ) -> Any:
        """Run a call on the blob's client with patience; its errors become ccog's."""
        from fsspec.asyn import sync

        filesystem, path = self._filesystem()
        container, blob, _ = filesystem.split_path(path)

        async def once() -> Any:
            async with filesystem.service_client.get_blob_client(container, blob) as client:
                return await call(client)

        try:
            return patiently(
                lambda: sync(filesystem.loop, once),
                _is_passing,
                what,
                patience,
                options=self.options,
            )
        except Exception as error:
            raise _explained(error, what, self.options) from harmless(error, self.options)


def _block(session: str, part: Part) -> str:
    """The name of a block: those of one blob must have equal lengths, of 64 characters at most.

    It says what the block holds, so that a part that is put again with other bytes replaces nothing.
    """
    number, _, digest = part
    return f"{session}-{number:05d}-{digest}"


def _is_passing(error: Exception) -> bool:
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return error.status_code in _PASSING_STATUS
    return isinstance(
        error, ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError
    )


def _explained(error: Exception, what: str, options: dict[str, Any]) -> StoreError:
    from azure.core.exceptions import ClientAuthenticationError

    status, code = getattr(error, "status_code", None), getattr(error, "error_code", None)
    # the service's message goes on with request ids and, for signatures, with what was signed
    reason = str(code or first_line(error, options))
    if status == 404:
        return StoreNotFoundError(f"cannot {what}: the container or blob does not exist ({reason})")
    if status in (401, 403) or isinstance(error, ClientAuthenticationError | PermissionError):
        return StorePermissionError(
            f"cannot {what}: access denied to the credentials in use ({reason})"
        )
    if status in (409, 412):
        return StoreExistsError(f"cannot {what}: the blob was written meanwhile ({reason})")
    return StoreError(f"cannot {what}: {reason}")
