"""Taking credentials out of texts that people and logs are shown: URLs and messages."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What stands in place of what is not shown.
HIDDEN = "***"

# user:password@ after a scheme; a password may hold an @ of its own
_PASSWORD = re.compile(r"(?P<kept>[a-z][\w+.-]*://[^\s/:@'\"]*):[^\s/'\"]*@", re.IGNORECASE)

# the query of a URL, which presigned URLs are signed in, and of GDAL's /vsicurl?...
_QUERY = re.compile(r"(?P<kept>(?:://|/vsi)[^\s?'\"<>]*)\?[^\s'\"<>]+")
# headers of requests, as botocore and s3fs log them
_HEADER = re.compile(
    r"(?P<kept>(?:x-amz-security-token|authorization|[\w-]*customer-?key)"
    r"'?: ?(?:b?['\"])?)[^\n'\"]+",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"[?&](x-amz-signature|x-goog-signature|signature|sig)=", re.IGNORECASE)

# storage options whose values are secrets, by what their names contain
_SECRET_NAMES = re.compile(r"key|secret|token|pass|sas|credential|connection_string", re.IGNORECASE)

# a shorter value is likely to be part of other words
_SHORTEST = 6


def redacted(text: object, options: Mapping[str, Any] | None = None) -> str:
    """The text without credentials.

    Taken out are passwords and query strings of URLs, headers that hold credentials,
    and the values of storage ``options`` whose names say that they are secrets.
    """
    shown = str(text)
    for value in _secrets(options or {}):
        shown = shown.replace(value, HIDDEN)
    shown = _PASSWORD.sub(rf"\g<kept>:{HIDDEN}@", shown)
    shown = _QUERY.sub(rf"\g<kept>?{HIDDEN}", shown)
    return _HEADER.sub(rf"\g<kept>{HIDDEN}", shown)


def holds_credentials(url: str) -> bool:
    """Whether a password or a signature is part of the URL."""
    return bool(_PASSWORD.search(url) or _SIGNATURE.search(url))


def in_words(error: BaseException) -> str:
    """An error of a task and its cause, without credentials.

    GDAL's own error says more than rasterio's, but cannot be pickled on its way from a worker.
    """
    return redacted(f"{error} ({error.__cause__})" if error.__cause__ else error)


def harmless(
    error: BaseException, options: Mapping[str, Any] | None = None
) -> BaseException | None:
    """The error, as the cause of another one; None if it shows credentials.

    None also if an error that it was raised from shows credentials.
    """
    link: BaseException | None = error
    while link is not None:
        if redacted(link, options) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error


class _Redacting(logging.Filter):
    """Takes credentials out of what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info:
            # formatters take the text where there is one
            record.exc_text = redacted(_TRACEBACKS.formatException(record.exc_info))
        return True


_REDACTING, _TRACEBACKS = _Redacting(), logging.Formatter()


def redact_logs(*names: str) -> None:
    """Keep credentials out of what other libraries log under these names.

    A second call changes nothing.
    """
    for name in names:
        # which does nothing where the filter is there already
        logging.getLogger(name).addFilter(_REDACTING)


class Address(str):
    """A path or URL whose repr, which logs and dashboards show of tasks, holds no credentials."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted(self))


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST and _SECRET_NAMES.search(str(name)):
            yield value
