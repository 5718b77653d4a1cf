"""A file on any file system of fsspec is replaced, whatever its calls do: old or new bytes are at hand."""

from __future__ import annotations

import contextlib
import errno
import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import ccog
import servers
from ccog import errors
from ccog.stores.generic import FsspecStore
from conftest import terrain

OLD, NEW = b"the old file", b"and the new one, which is longer"

#: The calls that a write makes.
CALLS = ("open", "info", "mv", "cp_file", "rm_file", "rename")


class Breaking:
    """File systems whose calls fail from one on, before they do their work or after it."""

    #: calls still to succeed; None: all succeed
    good: int | None = None
    once = after = False
    kind: type[BaseException] = OSError
    folder: Path

    @classmethod
    def arm(cls, good: int | None, *, once: bool, after: bool, kind: type[BaseException]) -> None:
        cls.good, cls.once, cls.after, cls.kind = good, once, after, kind

    def _try(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        cls = Breaking
        fails = cls.good is not None and cls.good <= 0
        if cls.good is not None:
            cls.good -= 1
        if fails and cls.once:
            cls.good = None
        if fails and cls.after:
            call(*args, **kwargs)
        if fails:
            raise cls.kind("broken")
        return call(*args, **kwargs)


class ServerError(Exception):
    """An error that is no OSError, as those of ftplib and paramiko are."""


class Renaming(Breaking, LocalFileSystem):
    """Renames replace files."""

    protocol = "renaming"
    cachable = False
    replaces = True

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return self._try(super().open, path, mode, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        return self._try(super().info, path, **kwargs)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if not self.replaces and Path(path2).exists():
            raise FileExistsError(errno.EEXIST, "there is one")
        self._try(super().mv, path1, path2)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._try(super().cp_file, path1, path2)

    def rm_file(self, path: str) -> None:
        self._try(super().rm_file, path)


class Refusing(Renaming):
    """Renames never replace a file."""

    protocol = "refusing"
    replaces = False


class Copying(Renaming):
    """fsspec's own ``mv``: a copy, then a removal; a copy that fails may have done half of it."""

    protocol = "copying"
    mv = fsspec.AbstractFileSystem.mv

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        if Breaking.good is not None and Breaking.good <= 0:
            Path(path2).write_bytes(Path(path1).read_bytes()[:6])
        super().cp_file(path1, path2)


class Unable(Renaming):
    """Nothing can be renamed."""

    protocol = "unable"

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation unsupported")


class Losing(Copying):
    """A copy, then a removal even where the copy fails: as sshfs does on some servers."""

    protocol = "losing"

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        try:
            self.cp_file(path1, path2)
        finally:
            self.rm_file(path1)


# these rename as fsspec's own do
for known in (Renaming, Refusing, Unable):
    known.mv.__module__ = LocalFileSystem.mv.__module__

KINDS = (Renaming, Refusing, Copying, Unable, Losing)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    for kind in KINDS:
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    yield
    Breaking.good = None


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(store: FsspecStore) -> BaseException | None:
    try:
        store.write([NEW[:5], NEW[5:]])
    except BaseException as error:
        return error
    return None


@pytest.mark.tried("each call of a file system of fsspec fails in turn, once or from then on, before or after its work",
                   "old or new bytes at the target, or an error that names where both are")  # fmt: skip
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "once"), [(OSError, True), (ServerError, False), (KeyboardInterrupt, True)]
)
@pytest.mark.parametrize("existing", [True, False])
def test_no_failing_call_loses_both_files(
    tmp_path: Path, kind: type[Renaming], fault: Any, once: bool, after: bool, existing: bool
) -> None:
    store = FsspecStore(f"{kind.protocol}://{tmp_path}/a.tif")
    for good in range(40):
        for path in tmp_path.iterdir():
            path.unlink()
        if existing:
            (tmp_path / "a.tif").write_bytes(OLD)
        Breaking.arm(good, once=once, after=after, kind=fault)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            failed = write(store)
        said = " ".join([str(failed), *(str(warning.message) for warning in caught)])
        used_all = Breaking.good is not None and Breaking.good >= 0
        Breaking.good = None
        found = contents(tmp_path)
        if failed is None:
            assert found["a.tif"] == NEW
        else:
            stopped = fault is KeyboardInterrupt
            assert isinstance(failed, KeyboardInterrupt if stopped else errors.StoreError)
            assert stopped or store.target in str(failed)
            says_where(said, found, OLD if existing else None)
        assert all(name == "a.tif" or f"/{name}" in said for name in found), (said, found)
        if used_all:
            assert set(found) == {"a.tif"} if existing or failed is None else not found
            return
    raise AssertionError("the calls never end")


def says_where(message: str, found: dict[str, bytes], old: bytes | None) -> None:
    """Assert that no file is lost, or that the message names where it is."""
    if found.get("a.tif") in (old, NEW):
        return
    named = {found[name] for name in found if f"/{name}" in message}
    assert NEW in named or "may be cut short" in message, (message, found)
    assert old is None or old in named, (message, found)


SERVERS = {
    "an FTP server whose renames replace": partial(servers.ftp, replaces=True),
    "an FTP server whose renames do not replace": partial(servers.ftp, replaces=False),
    "an SFTP server with posix-rename": partial(servers.sftp, posix_rename=True),
    "an SFTP server without posix-rename": partial(servers.sftp, posix_rename=False),
}


@pytest.fixture(params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """URL and options of a file system of fsspec whose files are in ``tmp_path``."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(SERVERS[request.param](tmp_path))
        except servers.NotInstalledError as error:
            pytest.skip(str(error))


@pytest.fixture
def pixels() -> np.ndarray:
    return terrain((1, 300, 300))


def delayed(pixels: np.ndarray, url: str, options: Any, **more: Any) -> Any:
    with pytest.warns(ccog.CCOGWarning, match="has no parallel uploads"):
        return ccog.write_ccog(pixels, url, storage_options=options, **more)


@pytest.mark.tried("a file on FTP and SFTP servers is overwritten, whether or not their renames replace files",
                   "right; nothing else is left")  # fmt: skip
def test_servers_get_a_new_file_and_then_another_in_its_place(
    served: tuple[str, dict[str, Any]], tmp_path: Path, pixels: np.ndarray
) -> None:
    url, options = served
    for change in (0, 1):
        delayed(pixels + change, f"{url}/a [1]*.tif", options).compute()
        expected = ccog.write_ccog(pixels + change).compute()
        assert contents(tmp_path) == {"a [1]*.tif": expected}


@pytest.mark.tried("overwrite=False on FTP, SFTP and memory://: a file comes between the call and the end",
                   "refused, that file kept")  # fmt: skip
def test_a_file_that_comes_meanwhile_is_kept(
    served: tuple[str, dict[str, Any]], tmp_path: Path, pixels: np.ndarray
) -> None:
    url, options = served
    write = delayed(pixels, f"{url}/a.tif", options, overwrite=False)
    (tmp_path / "a.tif").write_bytes(OLD)
    with pytest.raises(errors.StoreExistsError, match=f"{url}/a.tif exists"):
        write.compute()
    assert contents(tmp_path) == {"a.tif": OLD}
    (tmp_path / "a.tif").unlink()
    write.compute()
    assert contents(tmp_path) == {"a.tif": ccog.write_ccog(pixels).compute()}


def test_a_last_task_that_runs_again_has_written_its_own_file(
    served: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    url, options = served
    store = FsspecStore(f"{url}/a.tif", options, overwrite=False)
    for _ in range(2):
        assert store.write([NEW[:5], b"", memoryview(NEW)[5:]]).size == len(NEW)
    with pytest.raises(errors.StoreExistsError):
        store.write([NEW[:-1], b"!"])
    assert contents(tmp_path) == {"a.tif": NEW}


def test_a_file_that_comes_meanwhile_is_kept_in_memory(pixels: np.ndarray) -> None:
    filesystem = MemoryFileSystem()
    write = ccog.write_ccog(pixels, "memory://kept/a.tif", overwrite=False)
    filesystem.pipe("kept/a.tif", OLD)
    with pytest.raises(errors.StoreExistsError, match=r"memory://kept/a\.tif exists"):
        write.compute()
    assert filesystem.cat("kept/a.tif") == OLD
    assert filesystem.ls("kept", detail=False) == ["/kept/a.tif"]


@pytest.mark.tried("FTP and SFTP servers refuse the folder, or have gone",
                   "refused, as ccog.StoreError with the target and without the password")  # fmt: skip
@pytest.mark.parametrize("overwrite", [True, False])
def test_errors_of_servers_name_the_target(
    served: tuple[str, dict[str, Any]], pixels: np.ndarray, overwrite: bool
) -> None:
    url, options = served
    write = delayed(pixels, f"{url}/absent/a.tif", options, overwrite=overwrite)
    with pytest.raises(errors.StoreError, match=rf"cannot write {url}/absent/a\.tif: ."):
        write.compute()
    gone = {**options, "port": servers.free_port()}
    nobody = re.sub(r":\d+$", f":{gone['port']}", url)
    with pytest.raises(errors.StoreError, match=rf"cannot write to {nobody}/a\.tif: .") as caught:
        ccog.write_ccog(pixels, f"{nobody}/a.tif", storage_options=gone)
    assert "testpass" not in str(caught.value)


def test_who_may_only_read_is_told(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "a.tif").write_bytes(OLD)
    try:
        with servers.ftp(tmp_path) as (url, options):
            write = delayed(pixels, f"{url}/a.tif", options | {"username": "reader"})
            with pytest.raises(errors.StoreError, match=rf"cannot write {url}/a\.tif: 550"):
                write.compute()
    except servers.NotInstalledError as error:
        pytest.skip(str(error))
    assert contents(tmp_path) == {"a.tif": OLD}


@pytest.mark.tried(
    "an SFTP connection is dropped while pixels are computed", "right: another one is made"
)
def test_a_connection_that_was_dropped_meanwhile_is_made_again(tmp_path: Path) -> None:
    try:
        with servers.sftp(tmp_path) as (url, options):
            store = FsspecStore(f"{url}/a.tif", options, overwrite=False)
            store.check()
            # which fsspec keeps for this thread
            filesystem, _ = store._open()
            filesystem.client.close()
            store.write([NEW])
    except servers.NotInstalledError as error:
        pytest.skip(str(error))
    assert contents(tmp_path) == {"a.tif": NEW}


def test_files_are_written_side_by_side(
    served: tuple[str, dict[str, Any]], tmp_path: Path, pixels: np.ndarray
) -> None:
    url, options = served
    names = [f"{n}.tif" for n in range(6)]
    writes = [delayed(pixels + n, f"{url}/{name}", options) for n, name in enumerate(names)]
    dask.compute(*writes, scheduler="threads", num_workers=6)
    expected = [bytes(ccog.write_ccog(pixels + n).compute()) for n in range(6)]
    assert contents(tmp_path) == dict(zip(names, expected, strict=True))
