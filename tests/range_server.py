"""A web server of one folder that serves byte ranges and remembers which were asked for.

It may serve only those who know a word, which they send as the header ``X-Word``.
"""

from __future__ import annotations

import json
import mimetypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

# where a server tells which ranges were asked for
_LOG = "/.ranges"


@dataclass
class RangeServer:
    """Where the folder is served, and the (first, last) bytes of each GET."""

    url: str
    ranges: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class ServerApart:
    """A server in another process."""

    url: str

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The (first, last) bytes of each GET until now."""
        with urlopen(self.url + _LOG) as answer:
            return [(first, last) for first, last in json.load(answer)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, folder: Path, log: list[tuple[int, int]], word: str | None, *args: object
    ) -> None:
        self._folder, self._log, self._word = folder, log, word
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.path == _LOG:
            self._tell()
            return
        if self.headers.get("X-Word") != self._word:
            self.send_error(403)
            return
        path = self._folder / urlsplit(self.path).path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = self.headers.get("Range")
        first, last = 0, size - 1
        if asked:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(size - 1, int(end or last))
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "image/tiff")
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            self._log.append((first, last))
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last - first + 1))

    def _tell(self) -> None:
        told = json.dumps(self._log).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # GDAL opens a connection for each range at once


@contextmanager
def range_server(folder: Path, word: str | None = None) -> Iterator[RangeServer]:
    """Serve a folder on a free port of this machine."""
    log: list[tuple[int, int]] = []
    server = _Server(("127.0.0.1", 0), partial(_Handler, folder, log, word))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield RangeServer(f"http://127.0.0.1:{server.server_port}", log)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def range_server_apart(folder: Path, word: str | None = None) -> Iterator[ServerApart]:
    """Serve a folder from another process, for all that GDAL reads.

    GDAL may hold the interpreter lock while it waits for an answer. A server in the same
    process would never give one, and no signal would be heard.
    """
    command = [sys.executable, __file__, str(folder), *([word] if word else [])]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        try:
            yield ServerApart(process.stdout.readline().strip())
        finally:
            process.kill()


if __name__ == "__main__":
    with range_server(Path(sys.argv[1]), *sys.argv[2:]) as _server:
        print(_server.url, flush=True)
        sys.stdin.read()
