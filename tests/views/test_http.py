"""Servers that do not serve what was asked for: an error that says so, never a verdict on the file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import ccog
from conftest import gdal_cog, terrain
from range_server import range_server

pytest.importorskip("aiohttp")

LOOKS: dict[str, Callable[..., Any]] = {"inspect": ccog.inspect, "validate": ccog.validate}


class _Server(ThreadingHTTPServer):
    # as many connections as a client opens at once
    request_queue_size = 512


class _Handler(BaseHTTPRequestHandler):
    """A server whose answer to a request for bytes depends on its kind."""

    def __init__(self, kind: str, data: bytes, target: str, *args: Any) -> None:
        self._kind, self._data, self._target = kind, data, target
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        if self._kind.isdecimal():
            self.send_error(int(self._kind))
            return
        if self._kind == "redirect":
            self.send_response(302)
            self.send_header("Location", self._target)
            self.end_headers()
            return
        self._answer(body)

    def _answer(self, body: bool) -> None:
        asked = self.headers.get("Range")
        data, is_page = self._data, self._kind == "page"
        if asked and self._kind != "no ranges" and not is_page:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
            # the header is whole, and the rest is not
            if self._kind == "short" or (self._kind == "short later" and first):
                data = data[: len(data) // 2]
        self.send_response(206 if asked and not is_page else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if is_page else "image/tiff")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(kind: str, data: bytes, target: str = "") -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), partial(_Handler, kind, data, target))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a.tif"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def cog() -> bytes:
    return gdal_cog(terrain((1, 700, 900)), {"compress": "none", "blocksize": 128})


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no ranges", "serves no byte ranges"),
        ("short", "try again"),
        ("page", "answers with a page"),
        ("403", "cannot read .*: the server answers 403 Forbidden"),
        ("503", "cannot read .*: the server answers 503 Service Unavailable"),
        ("404", "does not exist"),
        ("redirect", "cannot read .*: TooManyRedirects"),
    ],
)
@pytest.mark.tried("{look} over HTTP: {kind}", "refused, with what the server does")
def test_what_is_not_the_file_is_an_error(look: str, kind: str, says: str, cog: bytes) -> None:
    data = b"<html>please log in</html>" * 9000 if kind == "page" else cog
    # which leads a redirect in a circle
    with serving(kind, data, "/a.tif") as url, pytest.raises(ccog.StoreError, match=says):
        LOOKS[look](url)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.tried("{look} over HTTP: no server", "refused: the network is to be looked at")
def test_a_server_that_is_not_there_does_not_mean_that_the_file_is_not(look: str) -> None:
    with serving("page", b"") as url:
        pass
    with pytest.raises(ccog.StoreError, match="; check the address") as caught:
        LOOKS[look](url)
    assert not isinstance(caught.value, ccog.StoreNotFoundError)


@pytest.mark.tried(
    "validate over HTTP: answers that are cut after the header",
    "an error, and not a finding about the file",
)
def test_an_answer_that_is_short_after_the_header_is_not_a_finding(cog: bytes) -> None:
    with serving("short later", cog) as url, pytest.raises(ccog.StoreError, match="try again"):
        ccog.validate(url)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.tried("{look} over HTTP: a redirect", "right: followed")
def test_a_redirect_is_followed(look: str, cog: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(cog)
    with (
        range_server(tmp_path) as server,
        serving("redirect", b"", f"{server.url}/a.tif") as url,
    ):
        seen = LOOKS[look](url)
    assert seen.url == url
    assert look == "inspect" or seen.is_valid


def test_validating_reads_parts_of_the_file_and_not_all(tmp_path: Path) -> None:
    data = gdal_cog(terrain((1, 3000, 3000)), compress="none", blocksize=256)
    (tmp_path / "a.tif").write_bytes(data)
    with range_server(tmp_path) as server:
        assert ccog.validate(f"{server.url}/a.tif").is_valid
        fetched = sum(last + 1 - first for first, last in server.ranges)
        assert max(last - first for first, last in server.ranges) < len(data) / 8
    assert fetched < len(data)
