"""Google Cloud Storage through gcsfs: calls repeated by us, and errors in words.

All that ccog uses of gcsfs stands in this module. Three things are not promised by its
documentation; they were checked with gcsfs 2026.10:

- ``GCSFileSystem._request.__wrapped__`` is a request without gcsfs's own retries.
  Without it: the method is taken as it is, and each of our attempts may be several, so
  that a write takes longer to give up.
- ``call(method, path, *names, headers=, json=, json_out=, timeout=, **query)`` makes any
  call of the JSON API. Without it: listing and composing objects needs another client.
- ``gcsfs.retry.is_retriable(error)`` says which errors are transient. Without it: compare
  ``error.code`` here.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from ccog.stores.retry import (
    PATIENT,
    AnswerError,
    Marker,
    Patience,
    first_line,
    needed,
    pages,
    retry,
)

T = TypeVar("T")

# objects that are listed, and deleted, at a time
_PAGE = 1000
_DELETERS = 16

# answer to a request for the first bytes of an empty object
_EMPTY = 416


@dataclass(frozen=True)
class GCSClient:
    """Calls that serve the object of ``url``, with ``options`` of gcsfs.GCSFileSystem.

    Paths begin with the bucket. ``doing`` is followed by the URL in messages: "upload
    part 3 of".
    """

    url: str
    options: dict[str, Any] = field(repr=False)

    def put(
        self, path: str, body: bytes, doing: str, patience: Patience = PATIENT, new: bool = False
    ) -> None:
        """Store an object; gcsfs compares its MD5. ``new``: StoreExistsError if there is one."""
        settings = {"consistency": "md5", "content_type": CONTENT_TYPE}
        settings["mode"] = "create" if new else "overwrite"
        self._call(lambda gcs: gcs.pipe_file(path, body, **settings), doing, patience)

    def read(self, path: str, limit: int | None, doing: str, patience: Patience = PATIENT) -> bytes:
        """The bytes of an object, or the first of them."""
        start = None if limit is None else 0

        def read(gcs: Any) -> bytes:
            try:
                return bytes(gcs.cat_file(path, start=start, end=limit))
            except Exception as error:
                if getattr(error, "code", None) == _EMPTY:
                    return b""
                raise

        return self._call(read, doing, patience)

    def info(self, path: str, patience: Patience = PATIENT) -> dict[str, Any] | None:
        """Properties of an object; None if there is none."""
        bucket, _, key = path.partition("/")

        def look(gcs: Any) -> dict[str, Any]:
            return _sized(gcs.call("GET", "b/{}/o/{}", bucket, key, json_out=True))

        try:
            return self._call(look, "look at", patience)
        except StoreNotFoundError:
            return None

    def listed(
        self,
        start: str,
        *,
        doing: str = "look at",
        patience: Patience = PATIENT,
        timeout: float | None = None,
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """Pages of objects whose paths have that start: their properties by path."""
        bucket, _, prefix = start.partition("/")

        def ask(marker: Marker) -> tuple[dict[str, dict[str, Any]], Marker | None]:
            query = {"prefix": prefix, "maxResults": _PAGE, "timeout": timeout, **marker}

            def list_them(gcs: Any) -> tuple[dict[str, dict[str, Any]], Marker | None]:
                page = gcs.call("GET", "b/{}/o", bucket, json_out=True, **query)
                needed(page, "kind")
                items = page.get("items") or []
                objects = {f"{bucket}/{needed(item, 'name')}": item for item in items}
                token = page.get("nextPageToken")
                return objects, {"pageToken": token} if token else None

            return self._call(list_them, doing, patience)

        return pages(ask, f"{doing} {self.url}")

    def remove(self, paths: Iterable[str], doing: str, patience: Patience = PATIENT) -> None:
        """Delete objects, if they are there."""

        def remove(path: str) -> None:
            bucket, _, key = path.partition("/")
            with contextlib.suppress(StoreNotFoundError):
                self._call(
                    lambda gcs: gcs.call("DELETE", "b/{}/o/{}", bucket, key), doing, patience
                )

        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(remove, paths))

    def compose(
        self,
        paths: list[str],
        path: str,
        doing: str,
        *,
        metadata: dict[str, str] | None = None,
        **condition: str,
    ) -> dict[str, Any]:
        """Join up to 32 objects to a new one, in the service; its properties."""
        bucket, _, key = path.partition("/")
        new: dict[str, Any] = {"name": key, "bucket": bucket, "contentType": CONTENT_TYPE}
        if metadata:
            new["metadata"] = metadata
        request = {
            "kind": "storage#composeRequest",
            "sourceObjects": [{"name": source.partition("/")[2]} for source in paths],
            "destination": new,
        }
        headers = {"Content-Type": "application/json"}

        def compose(gcs: Any) -> dict[str, Any]:
            place = ("b/{}/o/{}/compose", bucket, key)
            settings = {"headers": headers, "json": request, "json_out": True}
            return _sized(gcs.call("POST", *place, **settings, **condition))

        return self._call(compose, doing)

    def connect(self) -> Any:
        """The file system; a missing package and unusable options are refused."""
        try:
            return _uploader()(**self.options)
        except MissingDependencyError:
            raise
        except Exception as error:
            # an unknown token is taken for the name of a file, which the error then quotes
            message = f"cannot use {self.url}: {first_line(error, self.options)}"
            raise StoreError(message) from harmless(error, self.options)

    def _call(self, call: Callable[[Any], T], doing: str, patience: Patience = PATIENT) -> T:
        """Run a call on the file system, repeated while its errors are transient."""
        filesystem, doing = self.connect(), f"{doing} {self.url}"
        return retry(
            lambda: call(filesystem),
            _is_transient,
            doing,
            patience,
            explained=self._explained,
            options=self.options,
        )

    def _explained(self, error: Exception, doing: str) -> StoreError:
        if isinstance(error, FileNotFoundError):
            return StoreNotFoundError(f"cannot {doing}: the bucket or object does not exist")
        if isinstance(error, FileExistsError):
            return StoreExistsError(f"cannot {doing}: the object was written meanwhile")
        # gcsfs puts the status behind a message that may be empty
        reason = first_line(error, self.options).removeprefix(", ")
        if isinstance(error, KeyError | json.JSONDecodeError | UnicodeDecodeError):
            reason = f"the server's answer is not what it should be ({reason})"
        if getattr(error, "code", None) in (401, 403) or str(error).startswith("Forbidden"):
            why = f"access denied to the credentials in use ({reason})"
            return StorePermissionError(f"cannot {doing}: {why}")
        return StoreError(f"cannot {doing}: {reason}")


@functools.cache
def _uploader() -> Any:
    try:
        import gcsfs
    except ImportError:
        raise needs("writing to gs://", "gcsfs") from None
    request = gcsfs.GCSFileSystem._request

    class Uploader(gcsfs.GCSFileSystem):  # type: ignore[misc]
        """A file system without retries; a subclass has instances of its own."""

        _request = getattr(request, "__wrapped__", request)

    return Uploader


def _is_transient(error: Exception) -> bool:
    from gcsfs.retry import is_retriable

    # gcsfs raises KeyError where an answer lacks what it looks for
    odd = AnswerError | json.JSONDecodeError | UnicodeDecodeError | KeyError
    return bool(is_retriable(error)) or isinstance(error, odd | ConnectionError | TimeoutError)


def _sized(info: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of an object, if its size is among them."""
    return {**info, "size": int(needed(info, "size"))}
