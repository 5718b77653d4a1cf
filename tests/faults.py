"""A loopback proxy in front of an S3 server that makes chosen calls fail, and the cases it is used for."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ccog.stores.s3_proof import mark_of

#: What can go wrong, and what the proxy does about it.
KINDS = {
    "503": "503 SlowDown, the call is not made",
    "500": "500 InternalError, the call is not made",
    "400": "400 RequestTimeout, the call is not made",
    "drop": "connection closed before an answer, the call is not made",
    "cut": "connection closed while the request is sent",
    "lost": "the call is made, and its answer lost",
    "200": "200 with an error in the body, the call is not made",
    "stall": "silence, longer than the client waits",
}

#: Wrong answers to a single call of any store, and what the proxy does about it.
ANSWERS = {
    "500": "500, the call is not made",
    "503": "503, the call is not made",
    "403": "403, the call is not made",
    "404": "404, the call is not made",
    "done 500": "the call is made, and answered 500",
    "done 504": "the call is made, and answered 504",
    "lost": "the call is made, and its answer lost",
    "short": "the call is made, and half of its answer arrives",
    "garbled": "the call is made, and its answer is noise",
    "empty": "the call is made, and its answer has no body",
    "bare": "the call is made, and its answer has none of the fields it should have",
    "slow": "the call is made, and answered late",
    "no marker": "a listing says that there is more, and not where",
    "circle": "a listing says that there is more, always at the same place",
}

#: Those that a second attempt mends, whatever the call.
PASSING = frozenset(ANSWERS) - {"403", "404", "no marker", "circle"}

#: Calls that faults hit: a position among the parts, or the only call of its kind; the mark is the small part that
#: says whose upload it is.
PLACES = ("create", "mark", "first part", "middle part", "last part", "complete")

_ERRORS = {"503": (503, "SlowDown"), "500": (500, "InternalError"), "400": (400, "RequestTimeout"),
           "403": (403, "AccessDenied")}  # fmt: skip
# the same for the stores that have no code in the body
_PLAIN = {"404": 404}

_STALL_SECONDS = 3.0
_SLOW_SECONDS = 0.2

#: Fields of the answers' headers that clients use.
_FIELDS = ("etag", "x-goog-", "x-ms-", "x-amz-", "content-md5", "last-modified")

_MARK_BYTES = len(mark_of("0" * 32))


@dataclass(frozen=True)
class Fault:
    """Hits the ``at``-th call of that name, or of each of some, and the ``times - 1`` after it."""

    kind: str
    call: str
    at: int = 1
    times: int = 1


def call_of(method: str, path: str) -> str:
    """What a request to S3, Azure or Google Cloud Storage asks for."""
    parsed = urlsplit(path)
    query = parse_qs(parsed.query, keep_blank_values=True)
    if parsed.path.startswith(("/storage/v1/", "/upload/storage/v1/")):
        return _call_of_gcs(method, parsed.path)
    if "comp" in query:
        blocks = {"PUT": "commit", "GET": "blocks"}
        return "part" if query["comp"] == ["block"] else blocks.get(method, "other")
    if method == "POST":
        return "create" if "uploads" in query else "complete"
    if method == "PUT" and "partNumber" in query:
        return "part"
    if method == "GET":
        names = {"uploads": "list uploads", "uploadId": "list parts", "list-type": "list"}
        return next((names[name] for name in query if name in names), "get")
    if method == "DELETE":
        return "abort" if "uploadId" in query else "delete"
    return {"HEAD": "head", "PUT": "put"}.get(method, "other")


def _call_of_gcs(method: str, path: str) -> str:
    if method == "POST":
        return "compose" if path.endswith("/compose") else "put"
    if method == "GET":
        return "list" if path.endswith("/o") else "get"
    return {"DELETE": "delete"}.get(method, "other")


class Proxy:
    """Hands requests on to ``upstream`` but for those that a fault hits; counts calls by name, and by access list.

    Each waits ``latency`` seconds, as on the way to a distant server.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.latency = 0.0
        self.calls: Counter[str] = Counter()
        self.headers: list[tuple[str, frozenset[str]]] = []
        self.acls: Counter[tuple[str, str | None]] = Counter()
        self.part_sizes: list[int] = []
        self.parts: Counter[tuple[str, str]] = Counter()
        self.hits = 0
        self.fault: Fault | None = None
        self._lock = threading.Lock()

    def arm(self, fault: Fault | None) -> None:
        """Count from zero again, with another fault."""
        with self._lock:
            self.calls.clear()
            self.part_sizes.clear()
            self.parts.clear()
            self.hits = 0
            self.fault = fault

    def uploaded(self, path: str) -> None:
        """Count a part that the server has taken, by upload and number."""
        query = parse_qs(urlsplit(path).query)
        with self._lock:
            self.parts[query["uploadId"][0], query["partNumber"][0]] += 1

    def hit(self, call: str, size: int) -> str | None:
        """The kind of fault that this call, with a body of so many bytes, meets."""
        with self._lock:
            self.calls[call] += 1
            if call == "part":
                self.part_sizes.append(size)
            fault = self.fault
            if (
                fault is None
                or call not in fault.call.split(",")
                or not 0 <= self.calls[call] - fault.at < fault.times
            ):
                return None
            self.hits += 1
            return fault.kind


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    is_short = False

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        call = call_of(self.command, self.path)
        call = "mark" if (call, length) == ("part", _MARK_BYTES) else call
        self.proxy.acls[call, self.headers.get("x-amz-acl")] += 1
        self.proxy.headers.append((call, frozenset(name.lower() for name in self.headers)))
        kind = self.proxy.hit(call, length)
        time.sleep(self.proxy.latency)
        if kind == "cut":
            self.rfile.read(length // 2)
            return self._hang_up()
        body = self.rfile.read(length)
        if len(body) < length:
            return self._hang_up()
        if kind in ("drop", "stall"):
            time.sleep(_STALL_SECONDS if kind == "stall" else 0)
            return self._hang_up()
        if kind == "ignored":
            return self._answer(204, {}, b"")
        if kind in _PLAIN:
            return self._answer(_PLAIN[kind], {}, b"")
        if kind in _ERRORS or kind == "200":
            status, code = _ERRORS.get(kind, (200, "InternalError"))
            return self._answer(
                status,
                {},
                f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode(),
            )
        status, headers, found = self._forward(body)
        if call == "part" and status == 200:
            self.proxy.uploaded(self.path)
        if kind == "lost":
            return self._hang_up()
        self.is_short = kind == "short"
        self._answer(*_spoilt(kind, status, headers, found))
        self.is_short = False

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        # the host is part of what the client has signed
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        found = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), found

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        by_name = {name.lower(): value for name, value in headers.items()}
        length = by_name.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if self.is_short else body)
        if self.is_short and body:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


_MORE, _NO_MORE = b"<IsTruncated>true</IsTruncated>", b"<IsTruncated>false</IsTruncated>"
_MARKERS = (
    b"<NextContinuationToken>a</NextContinuationToken>"
    b"<NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>a</NextUploadIdMarker>"
)


def _truncated(body: bytes, markers: bytes) -> bytes:
    """A listing that is said to go on; Google Cloud Storage says so by a marker alone."""
    if body.startswith(b"{") and b"storage#objects" in body and markers:
        return b'{"nextPageToken": "a", ' + body[1:]
    return body.replace(_NO_MORE, _MORE + markers)


def _spoilt(
    kind: str | None, status: int, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """An answer with what is wrong with it."""
    if kind == "slow":
        time.sleep(_SLOW_SECONDS)
    if kind is not None and kind.startswith("done "):
        return int(kind.split()[1]), {}, b""
    if kind == "garbled":
        return status, headers, b"\x00\xffnoise" if body else b""
    if kind == "empty":
        return status, headers, b""
    if kind in ("no marker", "circle"):
        return status, headers, _truncated(body, _MARKERS if kind == "circle" else b"")
    if kind == "bare":
        few = {n: v for n, v in headers.items() if not n.lower().startswith(_FIELDS)}
        root = re.match(rb"(?:<\?xml.*?\?>\s*)?<(\w+)", body)
        emptied = b"<%s></%s>" % (root[1], root[1]) if root else b"{}" if body[:1] == b"{" else body
        return status, few, emptied
    return status, headers, body


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # readers open a connection for each range at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


@contextlib.contextmanager
def proxied(options: dict[str, Any]) -> Iterator[tuple[Proxy, dict[str, Any]]]:
    """A proxy in front of the server of the given storage_options, and the options that lead through it."""
    proxy = Proxy(_server_of(options))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        through = {name: _through(value, proxy.upstream, host) for name, value in options.items()}
        yield proxy, through
    finally:
        server.shutdown()
        server.server_close()


def _server_of(options: dict[str, Any]) -> str:
    """Host and port of a server, from an endpoint or from a connection string of Azure."""
    text = options.get("endpoint_url") or options["connection_string"]
    return str(urlsplit(text[text.index("http://") :].rstrip(";")).netloc)


def _through(value: Any, server: str, proxy: str) -> Any:
    return value.replace(server, proxy) if isinstance(value, str) else value


def placed(kind: str, place: str, parts: int, times: int = 1) -> Fault:
    """The fault of that kind at a place, in a write of so many parts."""
    at = {"middle part": 1 + parts // 2, "last part": parts}.get(place, 1)
    return Fault(kind, place.split()[-1], at, times)
