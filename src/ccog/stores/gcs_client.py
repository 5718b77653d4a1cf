"""One Google Cloud Storage bucket through gcsfs: calls repeated by us, and errors in words.

All that ccog uses of gcsfs stands in this module. Three things are not promised by its
documentation; they were checked with gcsfs 2026.10:

- ``GCSFileSystem._request.__wrapped__`` is a request without gcsfs's own retries.
  Without it: the method is taken as it is, and each of our attempts may be several, so
  that a write takes longer to give up.
- ``call(method, path, *names, headers=, json=, **query)`` makes any call of the JSON
  API. Without it: composing objects needs another client.
- ``gcsfs.retry.is_retriable(error)`` says which errors are transient. Without it: compare
  ``error.code`` here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ccog.errors import (
    MissingDependencyError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
    needs,
)
from ccog.redaction import harmless
from ccog.stores.base import CONTENT_TYPE
from ccog.stores.retry import PATIENT, Patience, first_line, retry

T = TypeVar("T")

# answer to a request for the first bytes of an empty object
_EMPTY = 416


@dataclass(frozen=True)
class GCSClient:
    """Calls that serve the object of ``url``.

    ``options`` are those of gcsfs.GCSFileSystem, kept out of the repr.

    Paths begin with the bucket. ``doing`` is followed by the URL in messages: "upload
    part 3 of".
    """

    url: str
    options: dict[str, Any] = field(repr=False)

    def connect(self) -> None:
        """Refuse a missing package and unusable options."""
        self._filesystem()

    def put(self, path: str, body: bytes, doing: str, patience: Patience = PATIENT) -> None:
        """Store an object; gcsfs compares its MD5."""
        filesystem = self._filesystem()
        settings = {"consistency": "md5", "content_type": CONTENT_TYPE}
        self._retry(lambda: filesystem.pipe_file(path, body, **settings), doing, patience)

    def read(self, path: str, limit: int | None, doing: str) -> bytes:
        """The bytes of an object, or the first of them."""
        filesystem = self._filesystem()
        start = None if limit is None else 0

        def attempt() -> bytes:
            try:
                return bytes(filesystem.cat_file(path, start=start, end=limit))
            except Exception as error:
                if getattr(error, "code", None) == _EMPTY:
                    return b""
                raise

        return self._retry(attempt, doing)

    def info(self, path: str, patience: Patience = PATIENT) -> dict[str, Any] | None:
        """Properties of an object; None if there is none."""
        filesystem = self._filesystem()
        filesystem.invalidate_cache()
        try:
            return dict(self._retry(lambda: filesystem.info(path), "look at", patience))
        except StoreNotFoundError:
            return None

    def find(
        self,
        folder: str,
        prefix: str = "",
        *,
        doing: str = "look at",
        patience: Patience = PATIENT,
        timeout: float | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Objects below a folder, by path, with their properties.

        None if the folder does not exist.
        """
        filesystem = self._filesystem()

        def attempt() -> dict[str, dict[str, Any]]:
            filesystem.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                return dict(filesystem.find(folder, prefix=prefix, detail=True, timeout=timeout))
            return {}

        return self._retry(attempt, doing, patience)

    def remove(self, paths: list[str], doing: str, patience: Patience) -> None:
        """Delete objects."""
        filesystem = self._filesystem()
        self._retry(lambda: filesystem.rm(paths), doing, patience)

    def compose(
        self,
        paths: list[str],
        path: str,
        doing: str,
        *,
        metadata: dict[str, str] | None = None,
        **condition: str,
    ) -> None:
        """Join up to 32 objects to a new one, in the service."""
        filesystem = self._filesystem()
        bucket, _, key = path.partition("/")
        destination: dict[str, Any] = {
            "name": key,
            "bucket": bucket,
            "contentType": CONTENT_TYPE,
        }
        if metadata:
            destination["metadata"] = metadata
        request = {
            "kind": "storage#composeRequest",
            "sourceObjects": [{"name": source.partition("/")[2]} for source in paths],
            "destination": destination,
        }

        def attempt() -> Any:
            return filesystem.call(
                "POST",
                "b/{}/o/{}/compose",
                bucket,
                key,
                headers={"Content-Type": "application/json"},
                json=request,
                **condition,
            )

        self._retry(attempt, doing)

    def _filesystem(self) -> Any:
        try:
            return _uploader()(**self.options)
        except MissingDependencyError:
            raise
        except Exception as error:
            # an unknown token is taken for the name of a file, which the error then quotes
            message = f"cannot use {self.url}: {first_line(error, self.options)}"
            raise StoreError(message) from harmless(error, self.options)

    def _retry(self, call: Callable[[], T], doing: str, patience: Patience = PATIENT) -> T:
        """Call until it succeeds.

        The last error is ccog's and says what could not be done.
        """
        doing = f"{doing} {self.url}"
        try:
            return retry(call, _is_transient, doing, patience, options=self.options)
        except Exception as error:
            raise _explained(error, doing, self.options) from harmless(error, self.options)


@functools.cache
def _uploader() -> Any:
    try:
        import gcsfs
    except ImportError:
        raise needs("writing to gs://", "gcsfs") from None

    class Uploader(gcsfs.GCSFileSystem):  # type: ignore[misc]
        """A file system without retries of its own; a subclass has instances of its own."""

        _request = getattr(
            gcsfs.GCSFileSystem._request, "__wrapped__", gcsfs.GCSFileSystem._request
        )

    return Uploader


def _is_transient(error: Exception) -> bool:
    from gcsfs.retry import is_retriable

    return bool(is_retriable(error)) or isinstance(error, ConnectionError | TimeoutError)


def _explained(error: Exception, doing: str, options: dict[str, Any]) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreNotFoundError(f"cannot {doing}: the bucket or object does not exist")
    if isinstance(error, FileExistsError):
        return StoreExistsError(f"cannot {doing}: the object was written meanwhile")
    reason = first_line(error, options)
    if getattr(error, "code", None) in (401, 403) or str(error).startswith("Forbidden"):
        return StorePermissionError(
            f"cannot {doing}: access denied to the credentials in use ({reason})"
        )
    return StoreError(f"cannot {doing}: {reason}")
