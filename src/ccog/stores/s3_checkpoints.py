"""Checkpoints of uploads to an S3 object.

They are small objects below ``<key>.ccog-resume/<upload id>/``.
"""

from __future__ import annotations

import contextlib
import re
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from ccog.errors import StoreError, StoreNotFoundError, StorePermissionError
from ccog.stores.base import MANIFEST, IncompleteUpload, Store, below, is_at
from ccog.stores.retry import PATIENT
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import REFUSED_NAME
from ccog.stores.s3_uploads import checksum_of, first_part, list_uploads

# checkpoints that are deleted at a time
_DELETERS = 8

# pages of a thousand objects that are searched for records below a prefix
_MOST_SEARCHED = 1000

_SUFFIX = ".ccog-resume"
_RECORD = re.compile(rf"(?P<key>.+){re.escape(_SUFFIX)}/(?P<upload_id>[^/]+)/[^/]+", re.DOTALL)


class S3Checkpoints(Store):
    """The methods of a store that concern checkpoints."""

    @property
    @abstractmethod
    def _client(self) -> S3Client:
        """Calls about the object."""

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Put an object, with a checksum that the server verifies.

        Who ends the upload removes the records that are there then. So one that comes
        later is removed here. The manifest must then be listed by its name.
        """
        key = _folder(self._client.key, upload_id) + name
        doing = f"keep a checkpoint of {self.url}"
        checksum = checksum_of(self._client, [data])
        self._client.call("put_object", doing, Key=key, Body=data, **checksum)
        try:
            # who may not ask leaves it, for `ccog uploads` to find
            with contextlib.suppress(StorePermissionError):
                first_part(self._client, upload_id, PATIENT)
        except StoreNotFoundError:
            self._delete(key)
            raise
        if name == MANIFEST:
            self._require_listed(upload_id, key)

    def _require_listed(self, upload_id: str, key: str) -> None:
        """Remove a record that nobody would find."""
        try:
            if not self.has_manifest(upload_id):
                raise StoreError(
                    f"resume=True is not possible for {self.url}: the server does not list "
                    "objects under the names they are given; use a key without '//' and '/' at "
                    "its start, or write without resume=True"
                )
        except StoreError:
            self._delete(key)
            raise

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        key = _folder(self._client.key, upload_id) + name
        return self._client.read(key, limit, f"read a checkpoint of {self.url}")

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of the objects."""
        folder = _folder(self._client.key, upload_id)
        return frozenset(listed["Key"].removeprefix(folder) for listed in self._listed(folder))

    def has_manifest(self, upload_id: str) -> bool:
        """Whether the upload can be resumed."""
        key = _folder(self._client.key, upload_id) + MANIFEST
        return any(listed["Key"] == key for listed in self._listed(key))

    def remove_checkpoints(self, upload_id: str) -> None:
        """Delete the objects one by one: not all servers take lists."""
        self._remove_all(_folder(self._client.key, upload_id))

    def _remove_all(self, folder: str) -> None:
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(self._delete, (listed["Key"] for listed in self._listed(folder))))

    def remove_stale_checkpoints(self) -> None:
        """Delete the objects of uploads that the server no longer knows."""
        for upload in self.uploads_and_stale()[1]:
            key = upload.url.removeprefix(self._client.url_of(""))
            self._remove_all(_folder(key, upload.upload_id))

    def uploads_and_stale(self) -> tuple[list[IncompleteUpload], list[IncompleteUpload]]:
        """Uploads at this key or below it, and those that are over, but for their records.

        Records are listed first: an upload that begins meanwhile is not over.
        """
        stale: dict[tuple[str, str], IncompleteUpload] = {}
        with contextlib.suppress(StorePermissionError):
            for listed in self._searched():
                if (found := self._stale(listed)) is not None:
                    one = stale.setdefault((found.url, found.upload_id), found)
                    started = min(one.started, found.started)
                    stale[one.url, one.upload_id] = replace(one, started=started)
        uploads = list(list_uploads(self._client, PATIENT))
        for upload in uploads:
            stale.pop((upload.url, upload.upload_id), None)
        return uploads, list(stale.values())

    def _stale(self, listed: dict[str, Any]) -> IncompleteUpload | None:
        """The upload that an object is a record of; None for other objects."""
        match = _RECORD.fullmatch(listed["Key"])
        if match is None or not is_at(self._client.key, match["key"]):
            return None
        return IncompleteUpload(
            url=self._client.url_of(match["key"]),
            upload_id=unquote(match["upload_id"]),
            started=listed["LastModified"],
            over=True,
        )

    def _searched(self) -> Iterator[dict[str, Any]]:
        """Objects that may be records of this key, or of those below it."""
        key = self._client.key
        if key != below(key):
            yield from self._listed(f"{key}{_SUFFIX}/")
        yield from self._listed(below(key), _MOST_SEARCHED)

    def _listed(self, prefix: str, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Objects of a prefix; those of the first ``most`` pages."""
        try:
            yield from self._client.listed(
                "list_objects_v2",
                "Contents",
                f"list the checkpoints of {self.url}",
                PATIENT,
                markers=("ContinuationToken",),
                needs=("Key", "LastModified"),
                most=most,
                Prefix=prefix,
            )
        except StoreNotFoundError as error:
            # a server that refuses the name has no object of that name
            if REFUSED_NAME not in str(error):
                raise

    def _delete(self, key: str) -> None:
        self._client.call("delete_object", f"remove a checkpoint of {self.url}", Key=key)


def _folder(key: str, upload_id: str) -> str:
    return f"{key}{_SUFFIX}/{quote(upload_id, safe='')}/"
