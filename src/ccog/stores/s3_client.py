"""One S3 object through s3fs: calls repeated by us, and errors in words.

All that ccog uses of s3fs stands in this module. Five things are not promised by its
documentation; they were checked with s3fs 2026.9 and aiobotocore 3.10:

- ``S3FileSystem.call_s3(method, timeout=..., **kwargs)`` makes any call of botocore's
  client. Without it: use the client in ``S3FileSystem.s3`` through
  ``fsspec.asyn.sync``.
- ``retries``, a class attribute, says how often s3fs makes an attempt. Without it: each
  of our attempts may be several of its own, so that a write takes longer to give up.
- ``connect(refresh=True)`` looks credentials up anew. Without it: a write that outlives
  a temporary token fails.
- fsspec keeps instances by class and options, so that ``_filesystem`` costs nothing
  after the first call. A subclass has instances of its own. Without it: ``retries``
  would change file systems that the user has made.
- Errors are FileNotFoundError or PermissionError by S3's code, raised from botocore's.
  Without it: name the codes in ``s3_errors``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import StoreError, needs
from ccog.redaction import Hidden
from ccog.stores.checksums import ALGORITHMS
from ccog.stores.retry import PATIENT, AnswerError, Marker, Patience, needed, pages, retry
from ccog.stores.s3_errors import code_of, explained, is_expired, is_transient

_CONNECT_SECONDS = 10
_READ_SECONDS = 60

# completing 10,000 parts can take minutes on some servers
_SLOW_READ_SECONDS = 300

_POOL = 32

_COMPLETE = "complete_multipart_upload"

# of s3_additional_kwargs: what says when the object may be replaced is for completion alone
_CONDITIONS = frozenset(
    ("IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince", "MpuObjectSize")
)

# ... and what keeps the object from being read or removed is not for the records beside it
_KEEPING = frozenset(
    (
        "ObjectLockEventHold",
        "ObjectLockEventHoldDurationDays",
        "ObjectLockEventHoldDurationYears",
        "ObjectLockLegalHoldStatus",
        "ObjectLockMode",
        "ObjectLockRetainUntilDate",
        "StorageClass",
        "WebsiteRedirectLocation",
    )
)

# answers to a request for the first bytes of an empty object
_EMPTY = frozenset(("InvalidRange", "416"))


@dataclass(frozen=True, kw_only=True)
class S3Client:
    """Calls about an object, with ``options`` of s3fs.S3FileSystem."""

    bucket: str
    key: str
    protocol: str
    options: dict[str, Any] = field(repr=False)

    @property
    def url(self) -> str:
        """The object's URL."""
        return self.url_of(self.key)

    def url_of(self, key: str) -> str:
        """The URL of another object of the bucket."""
        return f"{self.protocol}://{self.bucket}/{key}"

    def connect(self) -> None:
        """Refuse a missing package, and options that s3fs or ccog refuses."""
        algorithm = self.algorithm
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise StoreError(
                f"cannot write {self.url}: s3_additional_kwargs has ChecksumAlgorithm={algorithm}; "
                f"known are {', '.join(sorted(ALGORITHMS))}"
            )
        self._filesystem()

    @property
    def extra(self) -> Hidden:
        """The user's arguments of all calls that know them."""
        return Hidden(self.options.get("s3_additional_kwargs") or {})

    @property
    def algorithm(self) -> str | None:
        """The checksum that the user wants the object and its parts to have."""
        name = self.extra.get("ChecksumAlgorithm")
        return None if name is None else str(name).upper()

    def call(
        self,
        method: str,
        doing: str,
        patience: Patience = PATIENT,
        *,
        needs: str | None = None,
        checked: Callable[[Any], Any] = dict,
        after: Callable[[Exception], None] | None = None,
        explain: bool = True,
        **request: Any,
    ) -> Any:
        """An S3 call, repeated while its errors are transient.

        ``needs`` names what the answer must have; ``checked`` makes the result of it, or raises
        AnswerError. ``explain=False``: the last error is that of s3fs. ``timeout`` limits each
        attempt, in seconds.
        """

        def attempt() -> Any:
            filesystem = self._filesystem(method)
            answer = filesystem.call_s3(method, Bucket=self.bucket, **request)
            if needs is not None:
                needed(answer, needs)
            return checked(answer)

        def renew_and_more(error: Exception) -> None:
            self._renew(error)
            if after is not None:
                after(error)

        return retry(
            attempt,
            is_transient,
            doing,
            patience,
            after=renew_and_more,
            explained=self.explained if explain else None,
            options=self.options,
        )

    def explained(self, error: Exception, doing: str) -> StoreError:
        """The error of s3fs as ccog raises it."""
        return explained(error, doing, self._who)

    def listed(
        self,
        method: str,
        entries: str,
        doing: str,
        patience: Patience,
        *,
        markers: tuple[str, ...],
        needs: tuple[str, ...],
        most: int | None = None,
        **request: Any,
    ) -> Iterator[dict[str, Any]]:
        """Entries of a listing, or those of its first ``most`` pages.

        ``markers`` are the arguments that ask for the next page. An entry without what it
        ``needs`` is an error.
        """

        def ask(marker: Marker) -> tuple[dict[str, Any], Marker | None]:
            page = self.call(method, doing, patience, checked=listing, **request, **marker)
            if not page.get("IsTruncated"):
                return page, None
            following = {name: page.get(f"Next{name}") for name in markers}
            return page, {name: value for name, value in following.items() if value}

        for page in itertools.islice(pages(ask, doing), most):
            for entry in page.get(entries) or []:
                try:
                    for name in needs:
                        needed(entry, name)
                except AnswerError as error:
                    raise self.explained(error, doing) from None
                yield entry

    def read(self, key: str, limit: int | None, doing: str) -> bytes:
        """The bytes of an object of the bucket, or the first of them."""
        path = f"{self.bucket}/{key}"
        start = None if limit is None else 0

        def attempt() -> bytes:
            try:
                return bytes(self._filesystem().cat_file(path, start=start, end=limit))
            except OSError as error:
                if code_of(error) in _EMPTY:
                    return b""
                raise

        return retry(
            attempt,
            is_transient,
            doing,
            after=self._renew,
            explained=self.explained,
            options=self.options,
        )

    def drop_cached_listing(self) -> None:
        """Have s3fs forget what it listed before this object was written."""
        self._filesystem().invalidate_cache(f"{self.bucket}/{self.key}")

    @property
    def _who(self) -> str:
        """Whose credentials are used, without the credentials."""
        options = self.options | dict(self.options.get("client_kwargs") or {})
        if options.get("anon"):
            return "anonymous users (anon=True)"
        if options.get("key") or options.get("username") or options.get("aws_access_key_id"):
            return "the access key in storage_options"
        if options.get("profile"):
            return f"the profile {options['profile']!r}"
        return "the credentials found in this process's environment"

    def _renew(self, error: Exception) -> None:
        """Look the credentials up anew if they have expired."""
        if is_expired(error):
            for method in ("", "put_object", _COMPLETE):
                self._filesystem(method).connect(refresh=True)

    def _filesystem(self, method: str = "") -> Any:
        """The file system for a call of that name."""
        config = Hidden(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            max_pool_connections=_POOL,
            request_checksum_calculation="when_required",
            retries={"total_max_attempts": 1},
        )
        config |= dict(self.options.get("config_kwargs") or {})
        if method == _COMPLETE:
            config["read_timeout"] = max(_SLOW_READ_SECONDS, config["read_timeout"])
        options = Hidden(self.options, config_kwargs=dict(config))
        if self.extra:
            options["s3_additional_kwargs"] = dict(self._extra_of(method))
        # fsspec tells file systems apart by the repr of their options
        return _uploader()(**options)

    def _extra_of(self, method: str) -> Hidden:
        """The user's arguments for a call; s3fs leaves out those that the call does not know."""
        hidden = frozenset() if method == _COMPLETE else _CONDITIONS
        hidden |= _KEEPING if method == "put_object" else frozenset()
        given = Hidden({name: value for name, value in self.extra.items() if name not in hidden})
        return given if self.algorithm is None else given | {"ChecksumAlgorithm": self.algorithm}


def listing(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a call that lists; one that says nothing is an AnswerError."""
    if not answer.keys() - {"ResponseMetadata"}:
        raise AnswerError("the server's answer is empty")
    return answer


@functools.cache
def _uploader() -> Any:
    try:
        import s3fs
    except ImportError:
        raise needs("writing to s3://", "s3fs") from None

    class Uploader(s3fs.S3FileSystem):  # type: ignore[misc]
        """A file system without retries of its own."""

        retries = 1

    return Uploader
