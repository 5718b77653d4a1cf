"""One Azure blob through adlfs: calls on its client, repeated by us, and errors in words.

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

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import (
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
    needs,
)
from ccog.redaction import harmless, redacted
from ccog.stores.retry import PATIENT, Patience, first_line, retry

_TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))

#: For each call: the client's own attempts would multiply ours.
ONE_ATTEMPT: dict[str, Any] = {"retry_total": 0}


@dataclass(frozen=True)
class AzureClient:
    """Calls on the blob of ``url``.

    ``options`` are those of adlfs.AzureBlobFileSystem, kept out of the repr.
    """

    url: str
    options: dict[str, Any] = field(repr=False)

    def connect(self) -> None:
        """Refuse a missing package and unusable options."""
        self._filesystem()

    def call(
        self,
        call: Callable[[Any], Awaitable[Any]],
        doing: str,
        patience: Patience = PATIENT,
    ) -> Any:
        """Run a call on the blob's client, repeated while its errors are transient."""
        from fsspec.asyn import sync

        filesystem, path = self._filesystem()
        container, blob, _ = filesystem.split_path(path)

        async def once() -> Any:
            async with filesystem.service_client.get_blob_client(container, blob) as client:
                return await call(client)

        def attempt() -> Any:
            return sync(filesystem.loop, once)

        try:
            return retry(attempt, _is_transient, doing, patience, options=self.options)
        except Exception as error:
            raise _explained(error, doing, self.options) from harmless(error, self.options)

    def _filesystem(self) -> tuple[Any, str]:
        """The file system, and the path of the blob on it."""
        try:
            import adlfs  # noqa: F401  # its absence deserves a better error than fsspec's
        except ImportError:
            raise needs("writing to Azure", "adlfs") from None
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(self.url, **self.options)
        except Exception as error:
            message = f"cannot use {self.url}: {redacted(error, self.options)}"
            raise StoreError(message) from harmless(error, self.options)
        return filesystem, path


def _is_transient(error: Exception) -> bool:
    from azure.core.exceptions import (
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return error.status_code in _TRANSIENT_STATUS
    unanswered = ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError
    return isinstance(error, unanswered)


def _explained(error: Exception, doing: str, options: dict[str, Any]) -> StoreError:
    from azure.core.exceptions import ClientAuthenticationError

    status, code = (
        getattr(error, "status_code", None),
        getattr(error, "error_code", None),
    )
    # the service's message goes on with request ids and, for signatures, with the signed text
    reason = str(code or first_line(error, options))
    if status == 404:
        return StoreNotFoundError(
            f"cannot {doing}: the container or blob does not exist ({reason})"
        )
    if status in (401, 403) or isinstance(error, ClientAuthenticationError | PermissionError):
        return StorePermissionError(
            f"cannot {doing}: access denied to the credentials in use ({reason})"
        )
    if status in (409, 412):
        return StoreExistsError(f"cannot {doing}: the blob was written meanwhile ({reason})")
    return StoreError(f"cannot {doing}: {reason}")
