"""Checkpoints of uploads to an S3 object.

They are small objects below ``<key>.ccog-resume/<upload id>/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from ccog.errors import StoreError, StoreNotFoundError
from ccog.stores.base import MANIFEST
from ccog.stores.retry import PATIENT
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_parts import checksum_of
from ccog.stores.s3_uploads import list_uploads

# checkpoints that are deleted at a time
_DELETERS = 8


@dataclass(frozen=True)
class S3Checkpoints:
    """The checkpoints of all uploads to one object."""

    client: S3Client

    def put(self, upload_id: str, name: str, data: bytes) -> None:
        """Put an object, with a checksum that the server verifies.

        The manifest must then be listed by its name.
        """
        key = self._folder(upload_id) + name
        doing = f"keep a checkpoint of {self.client.url}"
        request: dict[str, Any] = {
            "Key": key,
            "Body": data,
            **checksum_of(self.client, [data]),
        }
        self.client.call("put_object", doing, **request)
        if name == MANIFEST and name not in self.names(upload_id):
            self._delete(key)
            raise StoreError(
                f"resume=True is not possible for {self.client.url}: the server does not list "
                "objects under the names they are given; use a key without '//' and '/' at its "
                "start, or write without resume=True"
            )

    def read(self, upload_id: str, name: str, limit: int | None) -> bytes:
        """The bytes of an object, or the first of them."""
        key = self._folder(upload_id) + name
        return self.client.read(key, limit, f"read a checkpoint of {self.client.url}")

    def names(self, upload_id: str) -> frozenset[str]:
        """Names of the checkpoints of an upload."""
        folder = self._folder(upload_id)
        return frozenset(key.removeprefix(folder) for key in self._keys(folder))

    def has_manifest(self, upload_id: str) -> bool:
        """Whether the upload can be resumed."""
        return any(self._keys(self._folder(upload_id) + MANIFEST))

    def remove(self, upload_id: str) -> None:
        """Delete the checkpoints of an upload, one by one: not all servers take lists."""
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(self._delete, self._keys(self._folder(upload_id))))

    def remove_stale(self) -> None:
        """Delete the checkpoints of uploads that the server no longer knows."""
        keys = list(self._keys(self._root))
        if not keys:
            return
        folders = {key.removeprefix(self._root).partition("/")[0] for key in keys}
        known = {upload.upload_id for upload in list_uploads(self.client, PATIENT)}
        for upload_id in {unquote(folder) for folder in folders} - known:
            self.remove(upload_id)

    @property
    def _root(self) -> str:
        return f"{self.client.key}.ccog-resume/"

    def _folder(self, upload_id: str) -> str:
        return f"{self._root}{quote(upload_id, safe='')}/"

    def _keys(self, prefix: str) -> Iterator[str]:
        doing = f"list the checkpoints of {self.client.url}"
        marker: dict[str, Any] = {}
        while True:
            try:
                page = self.client.call("list_objects_v2", doing, Prefix=prefix, **marker)
            except StoreNotFoundError:
                # a server that refuses the name has no object of that name
                return
            for listed in page.get("Contents") or []:
                yield str(listed["Key"])
            if not page.get("IsTruncated"):
                return
            marker = {"ContinuationToken": page["NextContinuationToken"]}

    def _delete(self, key: str) -> None:
        self.client.call("delete_object", f"remove a checkpoint of {self.client.url}", Key=key)
