"""An Azure block blob: workers stage blocks, and the last task commits the list of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores.azure_client import ONE_ATTEMPT, AzureClient
from ccog.stores.base import (
    CONTENT_TYPE,
    IncompleteUpload,
    NoCheckpoints,
    WriteResult,
    new_part,
    size_of,
    total_size,
)
from ccog.stores.body import Body, base64_text, md5
from ccog.stores.retry import BRISK, PATIENT, Patience

_COMMIT_SECONDS = 300

# of the names of blocks, which have 64 characters at most
_UPLOAD_ID_DIGITS, _MD5_DIGITS = 25, 32


@dataclass(frozen=True)
class AzureStore(NoCheckpoints):
    """The blob of ``target`` (a URL).

    ``options`` are those of adlfs.AzureBlobFileSystem, kept out of the repr.

    Blocks that are never committed cannot be deleted. The service never shows them to
    readers, and drops them after a week, or when the blob is next written.
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

    @property
    def _client(self) -> AzureClient:
        return AzureClient(self.target, self.options)

    def check(self) -> None:
        """Refuse a missing package and unusable options.

        Without ``overwrite``, refuse an existing blob too.
        """
        self._client.connect()
        if not self.overwrite and self._size(BRISK) is not None:
            raise StoreExistsError(f"{self.target} exists; remove it, or allow overwriting")

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Name the upload, and stage one byte.

        Missing containers and permissions show now.
        """
        upload_id = uuid.uuid4().hex[:_UPLOAD_ID_DIGITS]
        first_byte: list[Buffer] = [b"\0"]
        name = _block_name(upload_id, self.expected_part(0, first_byte))
        self._stage(name, first_byte, f"start an upload to {self.target}", BRISK)
        return upload_id

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Stage one block; the service checks it against our MD5."""
        part = self.expected_part(number, buffers)
        self._stage(
            _block_name(upload_id, part),
            buffers,
            f"upload block {number} of {self.target}",
        )
        return part

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and MD5 of the block."""
        return new_part(number, size_of(buffers), md5(buffers).hex())

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Commit the blocks, which may be repeated, and check the size of the blob."""
        names = [_block_name(upload_id, part) for part in sorted(parts)]
        try:
            self._commit(names)
        except (StoreExistsError, StoreNotFoundError):
            # an earlier call may have succeeded without an answer
            if self._committed() != names:
                raise
        size, expected = self._size(), total_size(parts)
        if size != expected:
            raise StoreError(
                f"{self.target} has {size} bytes after the upload, not {expected}; write it again"
            )
        return WriteResult(self.target, expected)

    def abort(self, upload_id: str) -> None:
        """Drop the uncommitted blocks, if there is no blob yet.

        Commit an empty one, and delete it.
        """
        from azure.core import MatchConditions

        async def drop(blob: Any) -> None:
            missing = {"match_condition": MatchConditions.IfMissing}
            empty = await blob.commit_block_list([], **missing, **ONE_ATTEMPT)
            unchanged = {
                "etag": empty["etag"],
                "match_condition": MatchConditions.IfNotModified,
            }
            await blob.delete_blob(**unchanged, **ONE_ATTEMPT)

        if self._size(BRISK) is None and self._staged():
            self._client.call(drop, f"abort the upload to {self.target}", BRISK)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """None are known.

        The service does not say when blocks were staged, nor by whom, and drops them by
        itself.
        """
        return []

    def _stage(
        self, name: str, buffers: list[Buffer], doing: str, patience: Patience = PATIENT
    ) -> None:
        """Stage a block; the service compares its bytes with the MD5, with which its name ends."""
        headers = {"Content-MD5": base64_text(bytes.fromhex(name[-_MD5_DIGITS:]))}
        size = size_of(buffers)

        def stage(blob: Any) -> Any:
            body = Body(buffers)
            return blob.stage_block(name, body, length=size, headers=headers, **ONE_ATTEMPT)

        self._client.call(stage, doing, patience)

    def _commit(self, names: list[str]) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock, ContentSettings

        condition = {} if self.overwrite else {"match_condition": MatchConditions.IfMissing}

        def commit(blob: Any) -> Any:
            return blob.commit_block_list(
                [BlobBlock(name) for name in names],
                content_settings=ContentSettings(content_type=CONTENT_TYPE),
                timeout=_COMMIT_SECONDS,
                **condition,
                **ONE_ATTEMPT,
            )

        self._client.call(commit, f"complete the upload to {self.target}")

    def _size(self, patience: Patience = PATIENT) -> int | None:
        """Size of the blob; None if there is none."""

        def ask(blob: Any) -> Any:
            return blob.get_blob_properties(**ONE_ATTEMPT)

        try:
            properties = self._client.call(ask, f"look at {self.target}", patience)
        except StoreNotFoundError:
            return None
        return int(properties.size)

    def _committed(self) -> list[str]:
        return [block.id for block in self._blocks()[0]]

    def _staged(self) -> list[Any]:
        try:
            return self._blocks()[1]
        except StoreNotFoundError:
            return []

    def _blocks(self) -> tuple[list[Any], list[Any]]:
        """Committed and uncommitted blocks."""

        def ask(blob: Any) -> Any:
            return blob.get_block_list("all", **ONE_ATTEMPT)

        committed, staged = self._client.call(ask, f"look at {self.target}", BRISK)
        return committed, staged


def _block_name(upload_id: str, part: Part) -> str:
    """The name of a block; names of one blob must have equal lengths.

    It has the digest of the block, so that a part that is put again with other bytes
    replaces nothing.
    """
    number, _, digest = part
    return f"{upload_id}-{number:05d}-{digest}"
