"""Taking credentials out of texts that people and logs are shown: URLs and messages.

What is known of a call, the URL and the storage options, is taken out by its text. What else a
message quotes is found by ``://``. Where a URL ends inside a message nobody can know, since it may
hold quotes, brackets and commas: all up to the next space counts as the URL. Rather too much is
hidden than too little.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

#: What stands in place of what is not shown.
HIDDEN = "***"

_WORD = re.compile(r"\S+")
# the :// of a URL that is part of another one
_ENCODED = re.compile(r"%(?:25)*3A%(?:25)*2F", re.IGNORECASE)
_START = re.compile(r"(?<![a-z\d+.-])[a-z][a-z\d+.-]{0,30}://", re.IGNORECASE)

# what may close a quotation or a sentence after a URL
_CLOSING = "'\"`)]}>,.;:!"

# in these a user without a password may be a token
_WEB = ("http", "https")

# a port, and what may close a quotation after it
_PORT = re.compile(r"\d*(?!\w)")

# headers of requests, as botocore and s3fs quote them
_HEADER = re.compile(
    r"(?P<kept>(?<![\w-])(?:x-amz-security-token|authorization|[\w-]{0,60}customer-?key)"
    r"'?: ?(?:b?['\"])?)[^\n'\"]+",
    re.IGNORECASE,
)
# values whose names say that they are secrets: in queries, calls, connection strings, JSON and XML
_NAMED = re.compile(
    r"(?P<kept>(?<![\w-])[\w-]{0,40}(?:password|passwd|pwd|secret|signature|credential|token"
    r"|accountkey|\bsig)[\w-]{0,20}(?:=|>|['\"]: ?b?(?=['\"])))(?!\.\.\.)"
    r"(?:(?P<quote>['\"])(?:(?!(?P=quote)).)*(?P=quote)|[^\s&;<'\"]+)",
    re.IGNORECASE,
)

# storage options whose values are secrets, by what their names contain
_SECRET_NAMES = re.compile(r"key|secret|token|pass|sas|credential|connection_string", re.IGNORECASE)

# and of the query of a signed URL
_SIGNED = re.compile(r"sig|(?:.*-)?signature", re.IGNORECASE)

_SEPARATORS = re.compile("[/@?#:]")

# a shorter value is likely to be part of other words
_SHORTEST = 6

#: What is known of a call: its URLs and its storage options.
Known = Mapping[str, Any] | str | None


def redacted(text: object, *known: Known) -> str:
    """The text without credentials.

    Taken out are passwords and queries of URLs, headers that hold credentials, values whose names
    say that they are secrets, and all secrets of the URLs and storage options that are ``known``.
    """
    shown = str(text)
    for each in known:
        if isinstance(each, str):
            shown = shown.replace(str(each), _parted(each).shown)
    for value in sorted(_secrets(known), key=len, reverse=True):
        shown = shown.replace(value, HIDDEN)
    shown = _WORD.sub(lambda word: _parted(word[0]).shown, shown)
    shown = _HEADER.sub(rf"\g<kept>{HIDDEN}", shown)
    return _NAMED.sub(rf"\g<kept>\g<quote>{HIDDEN}\g<quote>", shown)


def holds_credentials(url: str) -> bool:
    """Whether a password or a signature is part of the URL."""
    parted = _parted(url)
    return bool(parted.passwords or _NAMED.search(parted.query))


def in_words(error: BaseException, *known: Known) -> str:
    """An error of a task and its cause, without credentials.

    GDAL's own error says more than rasterio's, but cannot be pickled on its way from a worker.
    """
    return redacted(f"{error} ({error.__cause__})" if error.__cause__ else error, *known)


def harmless(error: BaseException, *known: Known) -> BaseException | None:
    """The error, to raise ours from: without its frames, and without credentials in its message.

    Frames of other libraries hold requests and keys, which tracebacks with local variables show.
    So the cause says what went wrong, and not where. None if it shows credentials in spite of that.
    """
    for link in _chain(error):
        _clean(link, known)
    said = "\n".join(f"{link} {link!r}" for link in _chain(error))
    is_clean = redacted(said, *known) == said and not _holds(error, known)
    return error if is_clean else None


def _holds(error: BaseException, known: tuple[Known, ...]) -> bool:
    """Whether something known would travel with the error to another process."""
    try:
        travelling = pickle.dumps(error)
    except Exception:  # then it goes nowhere
        return False
    return any(secret.encode() in travelling for secret in _secrets(known))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that would travel with it to another process."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        link = left.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        left += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
        yield link


def _clean(error: BaseException, known: tuple[Known, ...]) -> None:
    """Drop the frames of an error, and take credentials out of what it says."""

    def hide(value: Any) -> Any:
        return redacted(value, *known) if isinstance(value, str) else value

    error.__traceback__ = None
    if hasattr(error, "__notes__"):
        error.__notes__ = list(map(hide, error.__notes__))
    # those of GDAL cannot be changed
    with contextlib.suppress(AttributeError):
        error.args = tuple(map(hide, error.args))
    for name in ("strerror", "filename", "filename2"):
        if isinstance(value := getattr(error, name, None), str):
            setattr(error, name, hide(value))


class Hidden(dict[str, Any]):
    """Options, some of which may be secrets: tracebacks, logs and tasks show their names only."""

    def __repr__(self) -> str:
        return f"<options {', '.join(map(str, self))}>" if self else "<no options>"

    def __or__(self, other: Any) -> Hidden:  # type: ignore[override]
        return Hidden({**self, **other})

    def __ror__(self, other: Any) -> Hidden:  # type: ignore[override]
        return Hidden({**other, **self})

    # Sentry asks for this where it would go through the values
    __sentry_repr__ = __repr__


class Address(str):
    """A path or URL whose repr, which logs and dashboards show of tasks, holds no credentials."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted(self))

    def __getitem__(self, key: Any) -> Address:
        # rich cuts long texts before it asks for their repr
        return Address(super().__getitem__(key))

    __sentry_repr__ = __repr__


def addressed(target: Any) -> Any:
    """What a user gives to read or write, so that no traceback shows what is secret of a URL."""
    return Address(target) if isinstance(target, str) else target


def hidden(options: Any) -> Any:
    """Options as a user gives them, so that no traceback shows their values."""
    return Hidden(options) if isinstance(options, Mapping) else options


class _Parted(NamedTuple):
    """A word that holds URLs, as it is shown, and what of it is not."""

    shown: str
    passwords: tuple[str, ...] = ()
    query: str = ""


def _parted(word: str) -> _Parted:
    """Take a word apart; it is shown as it is where nothing in it is secret."""
    if _ENCODED.search(word):
        parted = _parted(unquote(word))
        is_clean = not parted.passwords and not parted.query
        return _Parted(word) if is_clean else parted
    # JSON may escape slashes
    plain = word.replace(r"\/", "/")
    starts = [match.start() for match in _START.finditer(plain)]
    places = [*starts, plain.lower().find("/vsi")]
    if max(places) < 0:
        return _Parted(word)
    address, query = _without_query(plain, min(place for place in places if place >= 0))
    bounds = [0, *(start for start in starts if start < len(address)), len(address)]
    pieces = [_piece(address[start:stop]) for start, stop in itertools.pairwise(bounds)]
    shown = "".join(piece.shown for piece in pieces)
    passwords = tuple(itertools.chain.from_iterable(piece.passwords for piece in pieces))
    if query:
        shown += f"{query[0]}{HIDDEN}{query[len(query.rstrip(_CLOSING)) :]}"
    return _Parted(shown, passwords, query) if passwords or query else _Parted(word)


def _without_query(word: str, start: int) -> tuple[str, str]:
    """What is before the query of a URL, and the query; or the fragment, which may hold tokens."""
    at = word.find("?", start)
    if at < 0:
        at = word.find("#", start)
        at = at if "=" in word[at:] else -1
    return (word, "") if at < 0 else (word[:at], word[at:])


def _piece(text: str) -> _Parted:
    """One URL without a query, with what follows it up to the next one."""
    scheme, mark, rest = text.partition("://")
    authority = rest.partition("/")[0]
    user, at, _ = authority.rpartition("@")
    name, colon, password = user.partition(":")
    if at and colon:
        return _hidden(text, len(scheme + mark + name + colon), len(password))
    if at:
        is_token = scheme.lower() in _WEB
        return _hidden(text, len(scheme + mark), len(user)) if is_token else _Parted(text)
    return _piece_with_port(text, len(scheme + mark), authority)


def _piece_with_port(text: str, start: int, authority: str) -> _Parted:
    """A URL where no user is in sight: what stands for a port may begin a password.

    Passwords may hold slashes that nobody has escaped.
    """
    host = authority.rpartition("]")[2]
    name, colon, port = host.partition(":")
    if not colon or name == "arn":
        return _Parted(text)
    start += len(authority) - len(port)
    at = text.rfind("@")
    if port.strip(_CLOSING).isdigit() or (at < start and _PORT.match(port)):
        return _Parted(text)
    return _hidden(text, start, at - start if at > start else len(port))


def _hidden(text: str, start: int, length: int) -> _Parted:
    """The text with something hidden."""
    secret = text[start : start + length]
    return _Parted(f"{text[:start]}{HIDDEN}{text[start + length :]}", (secret,))


def _secrets(known: Iterable[Any]) -> Iterator[str]:
    """Values that are secrets of URLs and options: as they are, without escapes, and in parts.

    A library that takes a password for a host shows a part of it.
    """
    for each in known:
        found = _secrets_of_url(each) if isinstance(each, str) else _secrets_of(each or {})
        for value in found:
            forms = {value, unquote(value), *_SEPARATORS.split(value)}
            yield from (form for form in forms if len(form) >= _SHORTEST)


def _secrets_of_url(url: str) -> Iterator[str]:
    parted = _parted(url)
    yield from parted.passwords
    yield parted.query[1:]
    for name, value in parse_qsl(parted.query[1:]):
        if _SECRET_NAMES.search(name) or _SIGNED.fullmatch(name):
            yield value


def _secrets_of(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_of(value)
        elif isinstance(value, str):
            yield from _secrets_of_url(value)
            if str(name).lower() == "connection_string":
                yield from _secrets_of_connection(value)
            elif _SECRET_NAMES.search(str(name)):
                yield value


def _secrets_of_connection(text: str) -> Iterator[str]:
    """Keys and signatures of a connection string of Azure, which also names accounts and hosts."""
    for field in text.split(";"):
        name, _, value = field.partition("=")
        if name.strip().lower() in ("accountkey", "sharedaccesssignature"):
            yield value
