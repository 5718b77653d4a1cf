"""Errors of S3: which are transient, which are final, and how to say them to a person."""

from __future__ import annotations

import asyncio
from typing import Any

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, StorePermissionError
from ccog.redaction import redacted
from ccog.stores.retry import AnswerError

_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_TRANSIENT_CODES = {
    *_EXPIRED_CODES,
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "InvalidDigest",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

#: Code of servers on file systems for a name that they cannot keep.
REFUSED_NAME = "XMinioInvalidObjectName"

# codes besides those that s3fs raises as FileNotFoundError or PermissionError
_NOT_FOUND_CODES = {"NotFound", REFUSED_NAME}
_DENIED_CODES = {"Forbidden", "InvalidToken"}
_EXISTS_CODES = {"412", "PreconditionFailed", "ConditionalRequestConflict"}

# errors of botocore and others by name, so that they need not be imported to compare
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "CredentialRetrievalError",
    "TokenRetrievalError",
}
_UNREACHABLE = {
    "ClientError",  # of aiohttp; botocore's carries a response and is looked at first
    "ConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteReadError",
    "ResponseParserError",
}
_NEVER_SENT = {"ConnectTimeoutError", "EndpointConnectionError"}


class TagMismatchError(AnswerError):
    """The store's checksum of a part differs from that of the bytes sent."""


def code_of(error: BaseException) -> str:
    """S3's error code, or empty where S3 did not answer."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed a moment later."""
    response = _response(error)
    if response:
        return code_of(error) in _TRANSIENT_CODES or _status_of(error) in _TRANSIENT_STATUS
    return is_unanswered(error) or isinstance(error, AnswerError)


def is_unanswered(error: Exception) -> bool:
    """Whether no answer reached us."""
    names = _class_names(error)
    if _response(error) or "SSLError" in names:
        return False
    builtin = isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError)
    return builtin or bool(names & _UNREACHABLE)


def may_be_done(error: Exception) -> bool:
    """Whether the call may have done its work although it failed.

    A server, or a proxy before it, may fail after the work.
    """
    failed = _status_of(error) >= 500 or code_of(error) == "InternalError"
    unanswered = is_unanswered(error) and not _class_names(error) & _NEVER_SENT
    return failed or unanswered or isinstance(error, AnswerError)


def _status_of(error: BaseException) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def is_expired(error: Exception) -> bool:
    """Whether the credentials in use have expired."""
    return code_of(error) in _EXPIRED_CODES


def explained(error: Exception, doing: str, who: str) -> StoreError:
    """The error as ccog raises it: what failed, why, and whose credentials were used."""
    code, message = code_of(error), _message(error)
    if _class_names(error) & _NO_CREDENTIALS:
        return StorePermissionError(
            f"cannot {doing}: no usable credentials ({message}); ccog tried {who}. Give them as "
            "storage options (key, profile, anon, ...), or set the AWS_* variables"
        )
    if code == "NoSuchBucket":
        return StoreNotFoundError(f"cannot {doing}: the bucket does not exist ({message})")
    if code in _DENIED_CODES or isinstance(error, PermissionError):
        return StorePermissionError(f"cannot {doing}: access denied to {who} ({message})")
    if code in _EXISTS_CODES:
        why = "the object was written meanwhile and overwriting is not allowed"
        return StoreExistsError(f"cannot {doing}: {why}")
    if code == "NoSuchUpload":
        why = f"the upload is over; somebody else has completed or aborted it ({message})"
        return StoreNotFoundError(f"cannot {doing}: {why}")
    if code in _NOT_FOUND_CODES or isinstance(error, FileNotFoundError):
        why = f"the bucket, object or upload does not exist ({message})"
        return StoreNotFoundError(f"cannot {doing}: {why}")
    if is_unanswered(error):
        why = f"no answer from the server ({message}); check endpoint_url and the network"
        return StoreError(f"cannot {doing}: {why}")
    return StoreError(f"cannot {doing}: {message}")


def _class_names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _response(error: BaseException) -> dict[str, Any]:
    """S3's parsed answer, of the error itself or of the one that s3fs translated."""
    for raised in (error, error.__cause__):
        response = getattr(raised, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
    return {}


def _message(error: BaseException) -> str:
    answer = _response(error).get("Error", {})
    if answer.get("Code"):
        return ": ".join(str(answer[key]) for key in ("Code", "Message") if answer.get(key))
    return redacted(error) or type(error).__name__
