"""One bucket through s3fs: single attempts, repeated by us with fresh bodies, and errors in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ccog.errors import MissingDependencyError
from ccog.redaction import harmless, redact_logs
from ccog.stores.retry import PATIENT, Patience, patiently
from ccog.stores.s3_errors import explained, is_expired, is_passing

T = TypeVar("T")

# these log requests with their headers, and the endpoint, at DEBUG
for _package in ("botocore", "aiobotocore"):
    redact_logs(*(f"{_package}.{name}" for name in ("auth", "endpoint", "hooks", "regions")))
redact_logs("s3fs")

_CONNECT_SECONDS = 10
_READ_SECONDS = 60

# completing 10,000 parts can take minutes on some servers
_SLOW_READ_SECONDS = 300

_POOL = 32


@dataclass(frozen=True)
class S3Client:
    """Calls on ``bucket`` with the options of s3fs.S3FileSystem, which stay out of the repr."""

    bucket: str
    options: dict[str, Any] = field(repr=False)

    @property
    def who(self) -> str:
        """Whose credentials are used, without the credentials."""
        given = self.options | dict(self.options.get("client_kwargs") or {})
        if given.get("anon"):
            return "anonymous users (anon=True)"
        if given.get("key") or given.get("username") or given.get("aws_access_key_id"):
            return "the access key in storage_options"
        if given.get("profile"):
            return f"the profile {given['profile']!r}"
        return "the credentials found in this process's environment"

    def connect(self, slow: bool = False) -> Any:
        """The file system; ``slow`` waits longer for answers."""
        given = dict(self.options.get("config_kwargs") or {})
        config = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "max_pool_connections": _POOL,
            "request_checksum_calculation": "when_required",
            "retries": {"total_max_attempts": 1},
            **given,
        }
        if slow:
            config["read_timeout"] = max(_SLOW_READ_SECONDS, config["read_timeout"])
        return _uploader()(**{**self.options, "config_kwargs": config})

    def once(
        self, method: str, slow: bool = False, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """One attempt of an S3 call, with the errors of s3fs; ``timeout`` limits it as a whole, in seconds."""
        return self.connect(slow).call_s3(method, Bucket=self.bucket, timeout=timeout, **kwargs)

    def patiently(
        self,
        attempt: Callable[[], T],
        what: str,
        patience: Patience = PATIENT,
        after: Callable[[Exception], None] = lambda _: None,
    ) -> T:
        """Attempts until one succeeds; what remains is ccog's error saying what could not be done."""

        def renewed(error: Exception) -> None:
            self.renew(error)
            after(error)

        try:
            return patiently(attempt, is_passing, what, patience, renewed, self.options)
        except Exception as error:
            raise explained(error, what, self.who) from harmless(error, self.options)

    def call(self, method: str, what: str, patience: Patience = PATIENT, **kwargs: Any) -> Any:
        """An S3 call with patience."""
        return self.patiently(lambda: self.once(method, **kwargs), what, patience)

    def renew(self, error: Exception) -> None:
        """Look the credentials up anew where they have expired."""
        if is_expired(error):
            for slow in (False, True):
                self.connect(slow).connect(refresh=True)


@functools.cache
def _uploader() -> Any:
    try:
        import s3fs
    except ImportError:
        raise MissingDependencyError(
            "writing to s3:// needs s3fs: pip install 'ccog[s3]'"
        ) from None

    class Uploader(s3fs.S3FileSystem):  # type: ignore[misc]
        """Without retries of its own, which would send a consumed body again, and with instances of its own."""

        retries = 1

    return Uploader
