"""Local targets: what is refused before work, what is found before a file is published, and what a file keeps."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import ccog
from ccog import errors
from ccog.geometry.parts import Part
from ccog.graph.build import new_token
from ccog.stores.local import LocalStore
from ccog.stores.local_join import joined_name, part_files
from conftest import gdal_cog, terrain

NOBODY = 65534
CREATION = {"blocksize": 128, "compress": "none", "overviews": "none"}
SIDE, ROWS = 256, 16

# bytes of the part that a row becomes: four tiles with their leaders and trailers
PART = SIDE * SIDE * 2 + 32

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away or mount")


class Raster:
    """Rows of chunks, of which reading the last runs ``last``, once."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "a.tif"
        self.target.write_bytes(b"before")
        self.reads: list[int] = []
        self.last: Callable[[], None] = lambda: None

    def array(self) -> da.Array:
        def read(block_id: tuple[int, int]) -> np.ndarray:
            self.reads.append(block_id[0])
            if block_id[0] == ROWS - 1:
                last, self.last = self.last, lambda: None
                last()
            return terrain((1, SIDE, SIDE), seed=block_id[0])[0]

        chunks, meta = ((SIDE,) * ROWS, (SIDE,)), np.empty((0, 0), "uint16")
        return da.map_blocks(read, chunks=chunks, dtype="uint16", meta=meta, name="rows")

    def write(self, target: Path | None = None, **kwargs: Any) -> Any:
        where = self.target if target is None else target
        return ccog.write_ccog(
            self.array(), where, COG_creation_options=CREATION, compute=True, **kwargs
        )

    def fail(self, target: Path | None = None) -> None:
        """Begin a write that can be resumed, and fail at the last row."""

        def stop() -> None:
            raise RuntimeError("no pixels here")

        self.last = stop
        with pytest.raises(RuntimeError, match="no pixels here"):
            self.write(target, resume=True)

    def expected(self) -> bytes:
        return bytes(ccog.write_ccog(self.array(), COG_creation_options=CREATION).compute())

    def parts(self) -> list[Path]:
        """Files of parts, without records."""
        return sorted(self.target.parent.glob(".a.tif.*.parts/*/0*"))


@pytest.fixture
def raster(tmp_path: Path) -> Iterator[Raster]:
    """Whose target is written on one thread, row after row."""
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield Raster(tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def make_longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


DAMAGES = {
    "is missing": Path.unlink,
    f"has {PART - 1} bytes, not the {PART}": cut_short,
    f"has {PART + 1} bytes, not the {PART}": make_longer,
    "holds other bytes": flip,
}


def lost(when: str) -> pytest.MarkDecorator:
    words = ("removed", "cut short", "made longer", "with one bit flipped")
    return pytest.mark.parametrize("says", [
        pytest.param(says, marks=pytest.mark.tried(f"a part file on local disk {what} {when}", "refused, old file kept"))
        for says, what in zip(DAMAGES, words, strict=True)
    ])  # fmt: skip


def damage(raster: Raster, says: str) -> None:
    """Damage a part that a row of blocks has put."""
    DAMAGES[says](next(path for path in raster.parts() if path.stat().st_size == PART))


@lost("while the file is written")
def test_a_part_damaged_while_writing_is_found(raster: Raster, says: str) -> None:
    raster.last = lambda: damage(raster, says)
    with pytest.raises(
        errors.StoreError, match=rf"a\.tif is as it was, since part \d+ .*{says}.*Write it again"
    ):
        raster.write()
    assert raster.target.read_bytes() == b"before"
    assert [path.name for path in raster.target.parent.iterdir()] == ["a.tif"]
    raster.write()
    assert raster.target.read_bytes() == raster.expected()


@lost("before the write is resumed")
def test_a_part_damaged_before_resuming_is_found_and_only_its_row_done_again(
    raster: Raster, says: str
) -> None:
    raster.fail()
    damage(raster, says)
    with pytest.raises(errors.StoreError, match=rf"part \d+ .*{says}"):
        raster.write(resume=True)
    assert raster.target.read_bytes() == b"before"
    raster.reads.clear()
    raster.write(resume=True)
    assert len(set(raster.reads)) == 1
    assert raster.target.read_bytes() == raster.expected()
    assert [path.name for path in raster.target.parent.iterdir()] == ["a.tif"]


def begun(path: Path, *bodies: bytes, overwrite: bool = True) -> tuple[LocalStore, str, list[Part]]:
    """A store, its session, and parts 1, 2, ... that were put."""
    store = LocalStore(str(path), overwrite)
    session = store.begin(new_token())
    return store, session, [store.put(session, n, [body]) for n, body in enumerate(bodies, 1)]


def part_file(path: Path, number: int) -> Path:
    (found,) = path.parent.glob(f".*.parts/*/{number:06d}*")
    return found


@pytest.mark.tried(
    "a worker dies while it joins the parts",
    "right: joining goes on, and what was joined is compared",
)
def test_joining_that_was_cut_short_goes_on_and_is_looked_at(tmp_path: Path) -> None:
    store, session, parts = begun(tmp_path / "a", b"one", b"two", b"three")
    flip(part_file(tmp_path / "a", 2))
    with pytest.raises(errors.StoreError, match="part 2 holds other bytes"):
        store.complete(session, parts)
    assert not list(tmp_path.glob(".*.parts/*/000001*")), "joined parts take no room"
    store.put(session, 2, [b"two"])
    store.complete(session, parts)
    assert (tmp_path / "a").read_bytes() == b"onetwothree"


@pytest.mark.tried("a hole in what a dead worker had joined", "refused, old file kept")
def test_a_hole_in_what_was_joined_is_found(tmp_path: Path) -> None:
    store, session, parts = begun(tmp_path / "a", b"one", b"two", b"three")
    part_file(tmp_path / "a", 2).unlink()
    with pytest.raises(errors.StoreError, match=r"part 2 \(3 bytes\) is missing"):
        store.complete(session, parts)
    with pytest.raises(errors.StoreError, match=r"part 2 \(3 bytes\) is missing"):
        store.complete(session, parts)
    (whole,) = tmp_path.glob(".*.parts/*/whole*")
    whole.write_bytes(bytes(11))
    store.put(session, 2, [b"two"])
    with pytest.raises(errors.StoreError, match=r"part 1 \(3 bytes\) is missing; part 3"):
        store.complete(session, parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.tried("a task that runs again puts other bytes under the number of a part (local disk)",
                   "warned: the file is of the bytes that its header speaks of")  # fmt: skip
@pytest.mark.parametrize("other", [b"TWO", b"TW", b"longer"])
def test_a_source_that_changes_does_not_change_what_was_put_before(
    tmp_path: Path, other: bytes
) -> None:
    store, session, parts = begun(tmp_path / "a", b"one", b"two", b"three")
    again = store.put(session, 2, [other])
    assert again != parts[1]
    with pytest.warns(ccog.CCOGWarning, match="the source gave different pixels when it ran again"):
        store.complete(session, parts)
    assert (tmp_path / "a").read_bytes() == b"onetwothree"


@pytest.mark.tried("other pixels at the second run, after a worker died while it joined parts (local disk)",
                   "refused: the source gave different pixels")  # fmt: skip
def test_a_source_that_changes_after_joining_began_is_named(tmp_path: Path) -> None:
    store, session, parts = begun(tmp_path / "a", b"one", b"two", b"three")
    flip(part_file(tmp_path / "a", 3))
    with pytest.raises(errors.StoreError, match="part 3 holds other bytes"):
        store.complete(session, parts)
    parts[1] = store.put(session, 2, [b"longer"])
    store.put(session, 3, [b"three"])
    with pytest.raises(
        errors.StoreError, match="the source gave different pixels when it ran again"
    ):
        store.complete(session, parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.tried("aborted by somebody else, where the target is an older file of the same size (local disk)",
                   "refused, old file kept")  # fmt: skip
def test_an_old_file_of_the_same_size_is_not_success(tmp_path: Path) -> None:
    target = tmp_path / "a"
    store, session, parts = begun(target, b"one", b"two")
    target.write_bytes(b"before")
    store.abort(session)
    with pytest.raises(errors.StoreNotFoundError, match="its parts are gone"):
        store.complete(session, parts)
    assert target.read_bytes() == b"before"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.tried("the last task runs twice, overwrite={overwrite}", "right: the same result")
def test_completing_again_is_success(tmp_path: Path, overwrite: bool) -> None:
    store, session, parts = begun(tmp_path / "a", b"one", b"two", overwrite=overwrite)
    first = store.complete(session, parts)
    assert store.complete(session, parts) == first
    # its worker died before it had removed the directory
    Path(session).mkdir(0o700, parents=True)
    assert store.complete(session, parts) == first
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.tried(
    "the first task runs twice, beside the parts of another write",
    "right: it finds its own, and leaves the other's",
)
def test_a_begin_that_runs_again_finds_its_own_and_leaves_others(tmp_path: Path) -> None:
    store, write = LocalStore(str(tmp_path / "a")), new_token()
    other = store.begin(new_token())
    first = store.begin(write)
    assert store.begin(write, unanswered=5.0) == first
    assert {upload.upload_id for upload in store.incomplete()} == {other, first}
    assert store.begin(write) != first, "the same Delayed, computed twice at once"


def planted(raster: Raster, victim: Path) -> Path:
    """The directory of a resumable write, with all that another user could have made up."""

    raster.fail()
    (folder,) = raster.target.parent.glob(".a.tif.*.parts/*")
    (folder / "whole").symlink_to(victim)
    return folder


@pytest.mark.tried("another user plants a directory to resume from, with a link to a file of the victim (local disk)",
                   "right: not used, the victim's file untouched")  # fmt: skip
@pytest.mark.parametrize("whose", [pytest.param("another user's", marks=needs_root), "everybody's"])
def test_a_planted_directory_is_not_resumed(raster: Raster, tmp_path: Path, whose: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = planted(raster, victim)
    if whose == "everybody's":
        folder.chmod(0o777)
    else:
        os.chown(folder, NOBODY, NOBODY)
    (upload,) = ccog.list_incomplete(raster.target)
    assert not upload.resumable
    raster.write(resume=True)
    assert victim.read_bytes() == b"precious"
    assert raster.target.read_bytes() == raster.expected()
    store = LocalStore(str(raster.target))
    for use in (
        lambda: store.put(str(folder), 1, [b"x"]),
        lambda: store.load_checkpoint(str(folder), "manifest.json"),
    ):
        with pytest.raises(
            errors.StorePermissionError, match=r"others than user .* can write to it"
        ):
            use()


@pytest.mark.parametrize("which", ["a part", "the joined file", "a record"])
@pytest.mark.tried("a link planted in place of {which}", "refused: it is not followed")
def test_links_among_the_parts_are_not_followed(tmp_path: Path, which: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"one")
    store, session, parts = begun(tmp_path / "a", b"one", b"two")
    pieces = part_files(parts)
    names = {"a part": pieces[0].name, "the joined file": joined_name(pieces)}
    link = tmp_path / session / names.get(which, "record")
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    says = f"cannot (join|read).*{tmp_path}/a: Too many levels of symbolic links"
    read = partial(store.load_checkpoint, session, "record")
    use = read if which == "a record" else partial(store.complete, session, parts)
    with pytest.raises(errors.StoreError, match=says):
        use()
    assert victim.read_bytes() == b"one"
    store.save_checkpoint(session, "record", b"new")
    assert store.load_checkpoint(session, "record") == b"new"
    assert victim.read_bytes() == b"one"


@pytest.mark.tried("a file system that keeps no owners and modes", "right")
def test_file_systems_that_keep_no_owners_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT, SMB and NFS for root each new directory is somebody else's, or everybody's."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY + 7)
    store, session, parts = begun(tmp_path / "a", b"one", b"two")
    store.complete(session, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_parts_are_for_their_writer_only(tmp_path: Path) -> None:
    store, session, _ = begun(tmp_path / "a", b"one")
    store.save_checkpoint(session, "manifest.json", b"{}")
    folder = tmp_path / session
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def in_child(work: Callable[[], None], user: int = 0) -> None:
    """Run ``work`` in another process, as another user where one is given; its errors fail the test."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            work()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A sticky directory like /tmp, which others can reach."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@needs_root
@pytest.mark.tried(
    "a file of somebody else in a sticky directory as target", "refused before any work"
)
def test_a_file_of_somebody_else_in_a_sticky_directory_is_refused_at_once(everybodys: Path) -> None:
    (everybodys / "a").write_bytes(b"before")

    def work() -> None:
        with pytest.raises(
            errors.StorePermissionError, match=r"sticky.*only its owner may replace it"
        ):
            LocalStore(str(everybodys / "a")).check()

    in_child(work, NOBODY)


@pytest.mark.tried(
    "parts are put until the last attempt to remove an upload (local disk)", "nothing is left"
)
def test_an_upload_that_is_emptied_late_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, session, _ = begun(tmp_path / "a", b"one", b"two")

    def empty(*args: Any, **kwargs: Any) -> None:
        for path in Path(session).iterdir():
            path.unlink()

    monkeypatch.setattr(shutil, "rmtree", empty)
    store.abort(session)
    assert not os.listdir(tmp_path)


@needs_root
@pytest.mark.tried("removing the parts of somebody else", "refused; what is ours is removed")
def test_parts_of_somebody_else_are_not_said_to_be_removed(everybodys: Path) -> None:
    _, session, _ = begun(everybodys / "a", b"one")

    def work() -> None:
        store = LocalStore(str(everybodys / "a"))
        assert [upload.upload_id for upload in store.incomplete()] == [session]
        with pytest.raises(errors.StorePermissionError, match="cannot remove"):
            store.abort(session)
        begun(everybodys / "b", b"ours")
        with pytest.raises(errors.StorePermissionError, match="cannot remove"):
            ccog.abort_incomplete(everybodys)
        assert [upload.upload_id for upload in ccog.list_incomplete(everybodys)] == [session]

    in_child(work, NOBODY)


@needs_root
@pytest.mark.tried(
    "a link of somebody else in a sticky directory as target", "refused: it is not followed"
)
def test_a_link_of_somebody_else_in_a_sticky_directory_is_not_followed(
    everybodys: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    link = everybodys / "a.tif"
    link.symlink_to(tmp_path / "victim")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(errors.StorePermissionError, match="symbolic link that user 65534 has put"):
        ccog.write_ccog(terrain((1, 64, 64)), link)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices need root")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(make, what, marks=pytest.mark.tried(f"{what} as target", "refused"))
        for make, what in (
            (os.mkfifo, "a named pipe"),
            (make_socket, "a socket"),
            (make_device, "a device"),
            (os.mkdir, "a directory"),
        )
    ],
)
def test_what_is_not_a_file_is_refused_and_stays(
    tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    target = tmp_path / "a.tif"
    store, session, parts = begun(target, b"one")
    make(target)
    before = target.lstat()
    with pytest.raises(errors.StoreError, match=says):
        ccog.write_ccog(terrain((1, 64, 64)), target)
    with pytest.raises(errors.StoreError, match=says):
        store.complete(session, parts)
    assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.tried(
    "a symbolic link as target", "right: the file that it points to is written, the link stays"
)
def test_a_link_is_written_through(tmp_path: Path, raster: Raster) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.tif"
    real.write_bytes(b"before")
    for name, to in (("link.tif", "elsewhere/real.tif"), ("second.tif", "link.tif")):
        (tmp_path / name).symlink_to(to)
    raster.last = lambda: seen.extend(ccog.list_incomplete(tmp_path / "second.tif"))
    seen: list[ccog.IncompleteUpload] = []
    assert raster.write(tmp_path / "second.tif").url == str(tmp_path / "second.tif")
    assert [upload.url for upload in seen] == [str(tmp_path / "second.tif")]
    assert real.read_bytes() == raster.expected()
    assert os.readlink(tmp_path / "second.tif") == "link.tif"
    assert os.readlink(tmp_path / "link.tif") == "elsewhere/real.tif"
    assert os.listdir(real.parent) == ["real.tif"]


@pytest.mark.tried("a write through a symbolic link fails and is resumed", "right: the link stays")
def test_resuming_through_a_link(tmp_path: Path, raster: Raster) -> None:
    link = tmp_path / "link.tif"
    link.symlink_to(raster.target)

    raster.fail(link)
    raster.reads.clear()
    raster.write(link, resume=True)
    assert set(raster.reads) == {ROWS - 1}
    assert raster.target.read_bytes() == raster.expected()
    assert link.is_symlink()


@pytest.mark.parametrize(("to", "says"), [("absent/b", "is a symbolic link to .*b, which does not exist"),
                                          ("a.tif", "leads back to itself")])  # fmt: skip
@pytest.mark.tried("a link to nothing as target: {to}", "refused, with the place it points to")
def test_links_to_nothing_are_refused_at_once(tmp_path: Path, to: str, says: str) -> None:
    (tmp_path / "a.tif").symlink_to(to)
    with pytest.raises(errors.StoreError, match=says):
        ccog.write_ccog(terrain((1, 64, 64)), tmp_path / "a.tif")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
@pytest.mark.tried("umask {mask:#o}", "right: the new file has the mode of any new file")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path, mask: int) -> None:
    def work() -> None:
        os.umask(mask)
        store, session, parts = begun(tmp_path / "a", b"one")
        store.complete(session, parts)

    in_child(work)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def acl() -> bytes:
    """An access control list of Linux by which user 1234 may read, as the extended attribute has it."""
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (0x10, 4, -1), (0x20, 0, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.tried(
    "a file with a mode, owner, attributes and ACL is replaced (local disk)", "right: they are kept"
)
def test_mode_owner_and_attributes_of_a_file_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"before")
    attributes = (
        {"user.who": b"us", "system.posix_acl_access": acl()} if hasattr(os, "setxattr") else {}
    )
    for name, value in attributes.items():
        try:
            os.setxattr(target, name, value)
        except OSError:
            pytest.skip(f"no {name} here")
    if os.geteuid() == 0:
        os.chown(target, NOBODY, NOBODY)
    target.chmod(0o640)
    before = target.stat()
    store, session, parts = begun(target, b"one")
    store.complete(session, parts)
    after = target.stat()
    assert target.read_bytes() == b"one"
    for name in ("st_mode", "st_uid", "st_gid"):
        assert getattr(after, name) == getattr(before, name)
    assert {name: os.getxattr(target, name) for name in attributes} == attributes


@pytest.mark.tried(
    "a target with another name (a hard link)", "right: the other name keeps the old content"
)
def test_another_name_of_the_file_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    os.link(tmp_path / "a", tmp_path / "b")
    store, session, parts = begun(tmp_path / "a", b"one")
    store.complete(session, parts)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"one", b"before")


@needs_root
@pytest.mark.tried(
    "a full file system (a real one, of 1 MiB)", "refused, with path and free space; old file kept"
)
def test_a_full_file_system_is_named_with_its_free_space(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        target = folder / "a.tif"
        target.write_bytes(b"before")
        says = rf"cannot write part \d+ of {target}: No space left.*[\d,]+ bytes are free in {folder}.*make room"
        with pytest.raises(errors.StoreError, match=says):
            ccog.write_ccog(
                terrain((1, 1024, 1024)), target, COG_creation_options=CREATION, compute=True
            )
        assert target.read_bytes() == b"before"
        assert os.listdir(folder) == ["a.tif"]
    finally:
        # a thread may still be writing a part
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own, of so many bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@needs_root
@pytest.mark.parametrize("size", [*(f"{256 * n}k" for n in range(1, 12)), "6m"])
@pytest.mark.tried(
    "a file of 2.8 MB on a file system of {size}",
    "right where there is room, else refused, and the old file is kept; nothing is left",
)
def test_file_systems_of_any_size_have_the_file_or_the_old_one(tmp_path: Path, size: str) -> None:
    folder, array = tmp_path / "small", terrain((1, 1024, 1024))
    creation = {"blocksize": 256, "compress": "none"}
    with _mounted(folder, size):
        target = folder / "a.tif"
        target.write_bytes(b"before")
        write = partial(ccog.write_ccog, array, target, COG_creation_options=creation, compute=True)
        if size == "6m":
            write()
            assert target.read_bytes() == gdal_cog(array, creation, transform=None, crs=None)
        else:
            with pytest.raises(errors.StoreError, match=rf"No space left.*{folder}"):
                write()
            assert target.read_bytes() == b"before"
        assert os.listdir(folder) == ["a.tif"]


@needs_root
@pytest.mark.tried(
    "the file system becomes read-only in mid-write",
    "refused, and the old file is kept; a warning names what is left, which can be removed later",
)
def test_a_file_system_that_becomes_read_only_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "small"

    def remounted(block: np.ndarray, block_id: tuple[int, int]) -> np.ndarray:
        if block_id == (6, 0):
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        return block

    array = da.from_array(terrain((1, 2048, 512))[0], chunks=256).map_blocks(
        remounted, dtype="uint16", meta=np.empty((0, 0), "uint16")
    )
    with _mounted(folder, "16m"):
        target = folder / "a.tif"
        target.write_bytes(b"before")
        delayed = ccog.write_ccog(
            array, target, COG_creation_options={"blocksize": 256, "compress": "none"}
        )
        with (
            pytest.warns(ccog.CCOGWarning, match="may remain"),
            pytest.raises(errors.StoreError, match="Read-only file system"),
        ):
            delayed.compute(scheduler="sync")
        assert target.read_bytes() == b"before"
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        assert len(ccog.abort_incomplete(target)) == 1
        assert os.listdir(folder) == ["a.tif"]


@pytest.mark.tried("a limit on the size of files (ulimit -f)", "refused, with path; old file kept")
@pytest.mark.parametrize("limit", [100_000, 300_000])
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.tif").write_bytes(b"before")
    script = f"""
        import resource, sys
        import dask.array as da
        import ccog
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        array = da.ones((1024, 256), chunks=256, dtype="uint16")
        try:
            ccog.write_ccog(array, "a.tif", COG_creation_options={CREATION}, compute=True)
        except ccog.StoreError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(rf"cannot \w+ .*{tmp_path}/a.tif: File too large.*ulimit -f", done.stdout), (
        done.stderr
    )
    assert (tmp_path / "a.tif").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.fixture
def fixed(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Makes a file or directory immutable, as long as the test runs."""
    found: list[Path] = []

    def fix(path: Path) -> None:
        done = subprocess.run(["chattr", "+i", path], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be made immutable here: {done.stderr.strip()}")
        found.append(path)

    yield fix
    for path in found:
        subprocess.run(["chattr", "-i", path], check=True)


@needs_root
@pytest.mark.tried(
    "an immutable file, or one in an immutable directory (chattr +i)", "refused before any work"
)
def test_what_may_not_be_changed_is_refused_at_once(
    tmp_path: Path, fixed: Callable[[Path], None]
) -> None:
    target = tmp_path / "folder" / "a.tif"
    target.parent.mkdir()
    target.write_bytes(b"before")
    fixed(target)
    with pytest.raises(errors.StorePermissionError, match=r"may not be replaced \(chattr"):
        ccog.write_ccog(terrain((1, 64, 64)), target)
    fixed(target.parent)
    with pytest.raises(errors.StorePermissionError, match=r"may not be changed \(chattr"):
        ccog.write_ccog(terrain((1, 64, 64)), target.parent / "b.tif")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file that is mounted by itself, as ``docker run -v /a.tif:/a.tif`` does it."""
    target = tmp_path / "a.tif"
    for path in (target, tmp_path / "source.tif"):
        path.write_bytes(b"before")
    command = ["mount", "--bind", tmp_path / "source.tif", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield target
    subprocess.run(["umount", target], check=True)


@needs_root
@pytest.mark.tried(
    "a file that is a mount point (bind mount, as in containers)", "refused before any work"
)
def test_a_file_that_is_mounted_by_itself_is_refused_at_once(mounted: Path) -> None:
    link = mounted.with_name("link.tif")
    link.symlink_to(mounted)
    for path in (mounted, link):
        with pytest.raises(errors.StoreError, match=r"a\.tif is mounted by itself.*Mount its dir"):
            ccog.write_ccog(terrain((1, 64, 64)), path)
    ccog.write_ccog(terrain((1, 64, 64)), mounted.with_name("source.tif"), compute=True)
    assert mounted.read_bytes() == b"before"


@pytest.mark.tried("a symbolic link to the file, or to its directory, is given another aim in mid-write, or removed (local disk)",
                   "right: what it named as the write began is written; a warning says so")  # fmt: skip
@pytest.mark.parametrize("change", ["another", "nothing"])
@pytest.mark.parametrize("of", ["the file", "the directory"])
def test_a_link_that_changes_in_mid_write_is_not_looked_at_again(
    tmp_path: Path, raster: Raster, change: str, of: str
) -> None:
    link, other = tmp_path / "link", tmp_path / "elsewhere" / "a.tif"
    other.parent.mkdir()
    other.write_bytes(b"other")
    here, there = (raster.target, other) if of == "the file" else (tmp_path, other.parent)
    link.symlink_to(here)

    def change_it() -> None:
        link.unlink()
        if change == "another":
            link.symlink_to(there)

    raster.last = change_it
    with pytest.warns(ccog.CCOGWarning, match="was made to name another file during the write"):
        result = raster.write(link if of == "the file" else link / "a.tif")
    assert result.url == str(raster.target)
    assert raster.target.read_bytes() == raster.expected()
    assert other.read_bytes() == b"other"
    assert not list(tmp_path.glob("**/.*.parts"))


def test_machines_may_reach_the_file_system_by_other_links(tmp_path: Path) -> None:
    """The client by one, a worker by another; each knows the path that the user gave."""
    disk, place = tmp_path / "disk", tmp_path / "place"
    disk.mkdir()
    place.symlink_to(disk)
    store, session, parts = begun(place / "a.tif", b"one", b"two")
    # now as it is on the other machine
    place.unlink()
    disk.rename(tmp_path / "mounted elsewhere")
    place.symlink_to("mounted elsewhere")
    parts.append(store.put(session, 3, [b"three"]))
    assert store.complete(session, parts).url == str(place / "a.tif")
    assert os.listdir(place) == ["a.tif"]
    assert (place / "a.tif").read_bytes() == b"onetwothree"


def test_the_folder_of_the_target_is_not_listed(
    tmp_path: Path, raster: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have a hundred thousand files, and each of them written by a call of its own."""
    listed: list[object] = []
    for function in (os.scandir, os.listdir):
        monkeypatch.setattr(os, function.__name__, noting(listed, function))
    for more in ({}, {"resume": True}):
        listed.clear()
        raster.write(**more)
        assert str(tmp_path) not in map(str, listed)
    raster.fail()
    listed.clear()
    raster.write(resume=True)
    assert str(tmp_path) not in map(str, listed)


def noting(listed: list[object], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which notes what it is asked to list."""

    def wrapped(path: Any = ".") -> Any:
        listed.append(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path)
        return function(path)

    return wrapped


def test_uploads_to_a_file_are_found_by_its_name(tmp_path: Path) -> None:
    sessions = {begun(tmp_path / "a.tif", b"one")[1] for _ in range(2)}
    begun(tmp_path / "b.tif", b"one")
    store = LocalStore(str(tmp_path / "a.tif"))
    for quick in (True, False):
        assert {upload.upload_id for upload in store.incomplete(quick)} == sessions
    assert {upload.url for upload in ccog.list_incomplete(tmp_path)} == {
        str(tmp_path / "a.tif"),
        str(tmp_path / "b.tif"),
    }
    ccog.abort_incomplete(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.tried("somebody else has taken the name of the directory of parts (local disk)",
                   "right: another one is used")  # fmt: skip
@pytest.mark.parametrize("taken", ["a file", "a link", "everybody's directory"])
def test_a_name_that_is_taken_stops_no_write(tmp_path: Path, raster: Raster, taken: str) -> None:
    place = tmp_path / f".a.tif.{os.geteuid()}.parts"
    if taken == "a file":
        place.write_bytes(b"precious")
    elif taken == "a link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to("elsewhere")
    else:
        place.mkdir()
        place.chmod(0o777)
    before = place.lstat()
    raster.write()
    assert raster.target.read_bytes() == raster.expected()
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not [path for path in tmp_path.glob(".*.parts") if path != place]
    assert not list(tmp_path.glob("elsewhere/*"))


def test_what_only_looks_like_an_upload_is_left(tmp_path: Path) -> None:
    for name in (".a.tif.0.parts/pictures", ".a.tif.1.parts/0", ".parts/" + "0" * 32):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "b").write_bytes(b"precious")
    (tmp_path / ".a.tif.2.parts").write_bytes(b"precious")
    before = sorted(tmp_path.glob("**/*"))
    assert not ccog.list_incomplete(tmp_path)
    assert not ccog.abort_incomplete(tmp_path)
    assert sorted(tmp_path.glob("**/*")) == before


@pytest.mark.parametrize("place", ["the file", "the folder"])
def test_an_empty_directory_of_uploads_is_removed(tmp_path: Path, place: str) -> None:
    """Its process was killed as it began."""
    (tmp_path / f".a.tif.{os.geteuid()}.parts").mkdir()
    ccog.abort_incomplete(tmp_path / "a.tif" if place == "the file" else tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["", "a", "/etc", "/tmp/.a.0.parts", "/tmp/a/" + "0" * 32])
def test_only_uploads_are_removed(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.StoreError, match="is not an upload to a local file"):
        LocalStore(str(tmp_path / "a")).abort(name)


@pytest.mark.tried("overwrite=False on a file system without hard links", "refused before any work")
def test_keeping_a_file_needs_hard_links(
    tmp_path: Path, raster: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    delayed = ccog.write_ccog(
        raster.array(), tmp_path / "new.tif", COG_creation_options=CREATION | {"overwrite": False}
    )
    raster.reads.clear()
    with pytest.raises(errors.StoreError, match="overwrite=False needs hard links"):
        delayed.compute()
    assert not raster.reads
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.tried("names that are too long, or that no file can have", "refused before any work")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("n" * 256, "has 256 bytes; at most 255 are possible"),
        ("ä" * 110, "has 220 bytes; at most 215 are possible .*directory of parts"),
        ("a\0b.tif", "characters that the name of a file cannot have"),
        ("a\ud800.tif", "characters that the name of a file cannot have"),
        ("/".join(["n" * 200] * 25), "File name too long|does not exist"),
    ],
)
def test_names_that_cannot_be_are_refused_at_once(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(errors.StoreError, match=says):
        ccog.write_ccog(terrain((1, 64, 64)), tmp_path / name)
    with contextlib.suppress(errors.StoreError):
        assert not ccog.list_incomplete(tmp_path / name)
    longest = tmp_path / ("n" * 215)
    ccog.write_ccog(terrain((1, 64, 64)), longest, compute=True)
    assert longest.stat().st_size


@needs_root
@pytest.mark.tried("a directory into which files may be put, and that may not be listed", "right")
def test_a_directory_that_may_not_be_listed_or_read(everybodys: Path) -> None:
    """A box into which others may put files, and no more."""
    box = everybodys / "box"
    box.mkdir()
    os.chown(box, NOBODY + 1, NOBODY + 1)
    box.chmod(0o733)

    def work() -> None:
        store, session, parts = begun(box / "a", b"one", b"two")
        store.complete(session, parts)
        with pytest.raises(errors.StorePermissionError, match="cannot look into"):
            store.incomplete()

    in_child(work, NOBODY)
    assert (box / "a").read_bytes() == b"onetwo"
