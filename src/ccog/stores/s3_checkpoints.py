"""Checkpoints of uploads to an S3 object.

They are small objects below ``<key>.ccog-resume/<upload id>/``.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote

from ccog.errors import StoreError, StoreNotFoundError
from ccog.stores.base import MANIFEST, Store
from ccog.stores.retry import PATIENT
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_uploads import checksum_of, list_uploads

# checkpoints that are deleted at a time
_DELETERS = 8


class S3Checkpoints(Store):
    """The methods of a store that concern checkpoints."""

    @property
    @abstractmethod
    def _client(self) -> S3Client:
        """Calls about the object."""

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Put an object, with a checksum that the server verifies.

        The manifest must then be listed by its name.
        """
        key = self._folder(upload_id) + name
        doing = f"keep a checkpoint of {self.url}"
        checksum = checksum_of(self._client, [data])
        self._client.call("put_object", doing, Key=key, Body=data, **checksum)
        if name == MANIFEST and name not in self.checkpoint_names(upload_id):
            self._delete(key)
            raise StoreError(
                f"resume=True is not possible for {self.url}: the server does not list "
                "objects under the names they are given; use a key without '//' and '/' at its "
                "start, or write without resume=True"
            )

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the object, or the first of them."""
        key = self._folder(upload_id) + name
        return self._client.read(key, limit, f"read a checkpoint of {self.url}")

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of the objects."""
        folder = self._folder(upload_id)
        return frozenset(key.removeprefix(folder) for key in self._keys(folder))

    def has_manifest(self, upload_id: str) -> bool:
        """Whether the upload can be resumed."""
        return any(self._keys(self._folder(upload_id) + MANIFEST))

    def remove_checkpoints(self, upload_id: str) -> None:
        """Delete the objects one by one: not all servers take lists."""
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(self._delete, self._keys(self._folder(upload_id))))

    def remove_stale_checkpoints(self) -> None:
        """Delete the objects of uploads that the server no longer knows."""
        names = [key.removeprefix(self._root) for key in self._keys(self._root)]
        folders = {name.partition("/")[0] for name in names}
        if not folders:
            return
        known = {upload.upload_id for upload in list_uploads(self._client, PATIENT)}
        for upload_id in {unquote(folder) for folder in folders} - known:
            self.remove_checkpoints(upload_id)

    @property
    def _root(self) -> str:
        return f"{self._client.key}.ccog-resume/"

    def _folder(self, upload_id: str) -> str:
        return f"{self._root}{quote(upload_id, safe='')}/"

    def _keys(self, prefix: str) -> Iterator[str]:
        doing, markers = f"list the checkpoints of {self.url}", ("ContinuationToken",)
        pages = self._client.pages(
            "list_objects_v2", doing, PATIENT, markers=markers, Prefix=prefix
        )
        # a server that refuses the name has no object of that name
        with contextlib.suppress(StoreNotFoundError):
            for page in pages:
                for listed in page.get("Contents") or []:
                    yield str(listed["Key"])

    def _delete(self, key: str) -> None:
        self._client.call("delete_object", f"remove a checkpoint of {self.url}", Key=key)
