"""No password and no signature of a URL is shown, whatever characters it has and whatever quotes it."""

from __future__ import annotations

import html
import json
import logging
import pickle
import string
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccog.input.lazy_file import LazyFile
from ccog.redaction import Address, Hidden, harmless, holds_credentials, redacted
from ccog.stores import resolve_store

SECRET = "sEcret"

# RFC 3986, 2.2, 2.3 and 3.2 to 3.5
_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_SUB_DELIMS = "!$&'()*+,;="
_IN_USER = [*_UNRESERVED, *_SUB_DELIMS, ":", "%27", "%2F", "%40", "%C3%A9"]
_IN_PATH = [*_IN_USER, "@", "/"]
_IN_QUERY = [*_IN_PATH, "?"]


def _text(characters: list[str], most: int = 6) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(characters), max_size=most).map("".join)


@st.composite
def _urls(draw: st.DrawFn) -> str:
    """URLs with a secret on both sides of any characters: in the password, the query or both."""
    scheme = draw(st.sampled_from(["http", "https", "ftp", "sftp", "s3", "webdav+https", "HTTP"]))
    name = draw(_text([*_UNRESERVED, *_SUB_DELIMS]))
    password = f"{name}:{SECRET}{draw(_text(_IN_USER))}{SECRET}@"
    host = draw(st.sampled_from(["h", "host.org", "127.0.0.1", "[2001:db8::1]"]))
    port = draw(st.sampled_from(["", ":21", ":8080"]))
    path = f"/{draw(_text(_IN_PATH))}/f.tif"
    query = f"?{draw(_text(_IN_QUERY))}={SECRET}{draw(_text(_IN_QUERY))}{SECRET}"
    user, signed = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    return f"{scheme}://{password if user else ''}{host}{port}{path}{query if signed else ''}"


_FORMS: dict[str, Callable[[str], str]] = {
    "bare": str,
    "quoted": "cannot open '{}': refused".format,
    "quoted twice": 'cannot open "{}", try again'.format,
    "backquoted": "see `{}`.".format,
    "repr": repr,
    "repr of a mapping": lambda url: repr({"url": url, "n": 1}),
    "repr of bytes": lambda url: repr(url.encode()),
    "in brackets": "no answer ({})".format,
    "in a list": "[{}]".format,
    "in angles": "<{}>".format,
    "at the end of a sentence": "cannot read {}.".format,
    "before a colon": "{}: 403 Forbidden".format,
    "two in a line": "copied {0} to {0} twice".format,
    "two without a space": "{0},{0}".format,
    "two quoted without a space": "'{0}','{0}'".format,
    "lines": "first\n{0}\n\t{0}\nlast".format,
    "JSON": lambda url: json.dumps({"url": url}),
    "JSON with escaped slashes": lambda url: json.dumps(url).replace("/", r"\/"),
    "HTML": lambda url: f'<a href="{html.escape(url)}">x</a>',
    "percent-encoded": lambda url: f"GET /?url={quote(url, safe='')} failed",
    "percent-encoded twice": lambda url: quote(quote(url, safe=""), safe=""),
    "GDAL": "/vsicurl/{}".format,
    "GDAL, quoted": "'/vsicurl_streaming/{}' not recognized".format,
    "GDAL, with options": lambda url: f"/vsicurl?max_retry=1&url={quote(url, safe='')}",
    "GDAL, zipped": "/vsizip/{{/vsicurl/{}}}/a.tif".format,
    "GDAL, changed": "vrt:///vsicurl/{}?bands=1".format,
    "fsspec, cached": "simplecache::{}".format,
    "fsspec, zipped": "zip://a.tif::filecache::{}".format,
    "JDBC": "jdbc:{}".format,
    "parameter": "open(url={}, mode='rb')".format,
}


@pytest.mark.tried(
    "passwords and signatures with any character of RFC 3986, in URLs that are quoted, escaped, "
    "encoded, chained and listed in 30 ways",
    "right: none is shown",
)
@given(_urls())
@example(f"ftp://user:{SECRET}'{SECRET}@h/x.tif")
@example(f"http://h/o'brien/f.tif?X-Amz-Signature={SECRET}")
def test_no_secret_of_a_url_is_shown(url: str) -> None:
    for form, write in _FORMS.items():
        shown = redacted(write(url))
        assert SECRET not in shown, form
        assert "***" in shown, form
        is_hidden = form == "GDAL, with options"
        assert is_hidden or (urlsplit(url).hostname or "") in shown.lower(), "it says where"


@given(_urls())
def test_what_is_known_is_taken_out_of_messages_that_quote_a_part_of_it(url: str) -> None:
    parts = urlsplit(url)
    for secret in filter(None, (parts.password, parts.query)):
        for said in (secret, f"login with {secret}, refused", f"'{secret}'"):
            assert SECRET not in redacted(said, url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"connection_string": f"AccountKey={SECRET};BlobEndpoint=http://h"},
            "{connection_string}",
        ),
        ({"endpoint_url": f"http://user:{SECRET}'1@h"}, "no host {SECRET}'1"),
        ({"client_kwargs": {"aws_secret_access_key": f"{SECRET}/1"}}, "signed with {SECRET}/1"),
        (
            {"config_kwargs": {"proxies": {"http": f"http://u:{SECRET}/more@h"}}},
            "no host u:{SECRET}",
        ),
        ({"password": f"p%27{SECRET}"}, "login p'{SECRET} refused"),
    ],
)
def test_secrets_of_options_are_taken_out_of_messages(options: dict[str, Any], said: str) -> None:
    text = said.format(SECRET=SECRET, **options)
    assert SECRET in text
    assert SECRET not in redacted(text, options)


@given(_urls())
def test_an_object_in_a_store_cannot_be_named_with_its_keys(url: str) -> None:
    assert holds_credentials(url) == (
        "@" in urlsplit(url).netloc or "secret" in urlsplit(url).query.partition("=")[0].lower()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/key.tif", "s3://bucket/key.tif"),
        ("s3://bucket: not found", "s3://bucket: not found"),
        ("s3://bucket/o'brien #1.tif", "s3://bucket/o'brien #1.tif"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/k@y.tif",) * 2,
        ("ftp://u:p@h/x.tif: refused", "ftp://u:***@h/x.tif: refused"),
        ("ftp://u:p:q@r@h:21/x", "ftp://u:***@h:21/x"),
        ("ftp://u:p/q@h:21/x", "ftp://u:***@h:21/x"),
        ("ftp://u:p#q@h/x", "ftp://u:***@h/x"),
        ("s3://AKIA:abc/def+g@bucket/key", "s3://AKIA:***@bucket/key"),
        ("ftp://u@h/x", "ftp://u@h/x"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("http://127.0.0.1:9000/x@y.tif", "http://127.0.0.1:9000/x@y.tif"),
        ("('http://h:80','x')", "('http://h:80','x')"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("https://h/a.tif#access_token=1", "https://h/a.tif#***"),
        ("simplecache::sftp://u:p@h/x", "simplecache::sftp://u:***@h/x"),
        (
            "'/vsicurl/https://h/a.tif?X-Amz-Signature=1&b=2' failed",
            "'/vsicurl/https://h/a.tif?***' failed",
        ),
        ("/vsicurl?url=https%3A%2F%2Fh%3Fsig%3D1", "/vsicurl?***"),
        ("/vsicurl?header.Authorization=Bearer%20x&url=https%3A%2F%2Fh", "/vsicurl?***"),
        ("https%3A%2F%2Fh%2Fa.tif", "https%3A%2F%2Fh%2Fa.tif"),
        ("https://h/my file.tif?a=1&X-Amz-Signature=1 z", "https://h/my file.tif?a=1&X-Amz-Signature=*** z"),
        ("PG:dbname=x password='my secret' host=h", "PG:dbname=x password='***' host=h"),
        ("jdbc:sqlserver://h:1433;user=x;password=y", "jdbc:sqlserver://h:1433;user=x;password=***"),
        ("<SecretAccessKey>abc</SecretAccessKey>", "<SecretAccessKey>***</SecretAccessKey>"),
        ("{'SessionToken': 'abc', 'n': 1}", "{'SessionToken': '***', 'n': 1}"),
        (
            "'X-Amz-Security-Token': b'abc/d', 'Host': 'h'",
            "'X-Amz-Security-Token': b'***', 'Host': 'h'",
        ),
        ("x-amz-security-token:abc\nx-amz-date:1", "x-amz-security-token:***\nx-amz-date:1"),
        ("is a.tif there? yes", "is a.tif there? yes"),
        ("give dict(key=..., secret=...) there", "give dict(key=..., secret=...) there"),
        (
            'cannot connect to "https://user:pw@host:9/bucket/key.tif?sig=secret&se=1" (again)',
            'cannot connect to "https://user:***@host:9/bucket/key.tif?***" (again)',
        ),
        ("abfs://container@account.dfs.core.windows.net/a.tif",) * 2,
    ],
)  # fmt: skip
def test_what_is_shown_of_a_text(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    words = ("a-" * 500_000, "x=" * 300_000, "http://h/" + "a:/" * 100_000, "token" * 100_000)
    assert [redacted(word) for word in words] == list(words)


@pytest.mark.parametrize("form", [repr, str.format, "{!r}".format])
def test_options_show_their_names_only(form: Callable[..., str]) -> None:
    options = Hidden(key="k3y", secret=SECRET) | {"endpoint_url": "http://h"}
    for each in (options, {"token": SECRET} | options, pickle.loads(pickle.dumps(options))):
        assert isinstance(each, Hidden)
        assert SECRET not in repr(each)
        assert each["secret"] == SECRET


def test_a_cut_address_shows_no_more() -> None:
    address = Address(f"ftp://user:{SECRET * 20}@host/a.tif")
    assert SECRET not in repr(address[:80])
    assert address[:80] == str(address)[:80]


class _AnswerError(Exception):
    """An error of a library, whose text is not in its arguments."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return f"no answer from {self.url}"


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    locals_of_the_library = {"secret": SECRET}
    try:
        raise error from cause
    except BaseException as raised:
        assert locals_of_the_library
        return raised


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (ValueError(f"bad ftp://u:{SECRET}@h/x"), True),
        (OSError(2, "no such file", f"ftp://u:{SECRET}@h/x"), True),
        (_AnswerError(f"http://h/x?sig={SECRET}"), False),
        (_raised(OSError("refused"), _AnswerError(f"http://h/x?sig={SECRET}")), False),
        (_raised(OSError("refused"), ValueError(f"http://h/x?sig={SECRET}")), True),
        (ExceptionGroup("several", [ValueError(f"http://h/x?sig={SECRET}")]), True),
    ],
)
def test_causes_notes_and_frames_of_errors_show_nothing(error: Exception, is_kept: bool) -> None:
    error.add_note(f"while reading http://h/x?sig={SECRET}")

    def fail() -> None:
        try:
            raise error
        except Exception as caught:
            raise OSError("ours") from harmless(caught)

    with pytest.raises(OSError, match="ours") as raised:
        fail()
    assert (raised.value.__cause__ is not None) == is_kept
    assert error.__traceback__ is None
    texts = traceback.format_exception(raised.value, chain=True)
    assert SECRET not in "".join(texts)


def test_what_other_libraries_log_is_left_alone() -> None:
    import s3fs  # noqa: F401

    import ccog.input.gdal_options
    import ccog.stores.s3_client
    import ccog.views.inspect.ranges  # noqa: F401

    for name in (
        "botocore.auth",
        "botocore.endpoint",
        "s3fs",
        "fsspec",
        "rasterio",
        "rasterio._env",
    ):
        logger: Any = logging.getLogger(name)
        assert not logger.filters
        record = logger.makeRecord(name, logging.DEBUG, "f", 1, "%d of a bad record", ("x",), None)
        assert logger.filter(record)
        assert (record.msg, record.args) == ("%d of a bad record", ("x",))


def test_urls_that_differ_in_what_is_hidden_are_not_taken_for_one() -> None:
    def name(number: int) -> str:
        size, dtype = (512, 512), np.dtype("uint8")
        path = Address(f"https://h/get?id={number}")
        shape: dict[str, Any] = {"count": 1, "shape": size, "sides": size, "dtype": dtype}
        return str(LazyFile(path=path, overview=None, **shape).pixels.name)

    assert name(1) != name(2)
    assert name(1) == name(1)


def test_two_keys_of_one_server_have_two_connections(s3_options: dict[str, Any]) -> None:
    clients = []
    for proxy in ("http://u:1@127.0.0.1:1", "http://u:2@127.0.0.1:1"):
        options = s3_options | {"config_kwargs": {"proxies": {"http": proxy}}}
        store: Any = resolve_store("s3://test/a.tif", options)
        clients.append(store._client._filesystem())
    assert clients[0] is not clients[1]
