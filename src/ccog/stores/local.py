"""A local or shared file system: part files beside the target, joined, compared, renamed into place."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ccog.errors import CCOGWarning, StoreError, StoreExistsError, StoreNotFoundError
from ccog.geometry.parts import Buffer, Limits, Part
from ccog.stores import local_folder, local_target
from ccog.stores.base import (
    MANIFEST,
    IncompleteUpload,
    WriteResult,
    new_session,
    size_of,
    target_of,
    total_size,
)
from ccog.stores.local_errors import typed
from ccog.stores.local_folder import Flaw, Piece

# a part file renamed into the directory while it is being removed takes another turn
_REMOVALS = 10

_CHANGED = "the source gave different pixels when it ran again"

# flaws that an error names; the others are counted
_NAMED = 3


@dataclass(frozen=True)
class LocalStore:
    """The file at ``path`` (absolute), or the one that a symbolic link there points to."""

    path: str
    overwrite: bool = True

    @property
    def limits(self) -> Limits:
        """A file system has none worth keeping; big parts mean few files."""
        return Limits(min_part=0, max_part=1 << 62, max_parts=1 << 62, preferred_part=1 << 40)

    @property
    def url(self) -> str:
        """The path."""
        return self.path

    def check(self) -> None:
        """Refuse what cannot become a file, and an existing one unless told otherwise.

        Not files: directories, pipes, sockets, devices, links to nothing. Not possible: a missing or read-only
        directory, a name too long, a file that may not be replaced.
        """
        extra = len(new_session(""))
        local_target.refuse_unwritable(self.path, self.overwrite, extra)
        if os.path.exists(self.path) and not self.overwrite:
            raise self._exists()

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the hidden directory beside the target that holds the parts; its name is the session.

        It is called by the write, so that a task that begins again finds its own. Where nobody can have begun, the
        same Delayed is being computed elsewhere too, and gets a directory of its own.
        """
        session = new_session(self._real.name, write)
        if unanswered and os.path.lexists(self._directory(session)):
            with self._folder(session, "write beside"):
                return session
        with typed("write beside", self._real):
            try:
                os.mkdir(self._directory(session), 0o700)
            except FileExistsError:
                session = new_session(self._real.name)
                os.mkdir(self._directory(session), 0o700)
        if not self.overwrite:
            self._need_links(session)
        return session

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Write a part file under a temporary name, then rename it, so that a part is whole or absent."""
        part = self.part(number, buffers)
        with self._folder(session, f"write part {number} of") as folder:
            local_folder.write_file(folder, Piece(*part, 0).name, buffers)
        return part

    def part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and checksum (XXH3) of the part."""
        return number, size_of(buffers), local_folder.checksum_of(buffers)

    def complete(self, session: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Join the parts into one file, flush it to disk, and rename it over the target.

        Raises
        ------
        ccog.StoreError
            A part is missing, shorter, longer or holds other bytes than were put. The target stays as it was.
        """
        pieces = local_folder.pieces_of(parts)
        try:
            self._join_and_publish(session, pieces)
        except StoreExistsError:
            raise
        except StoreError:
            # an earlier call may have come as far as publishing, but nobody heard of it
            if not local_folder.is_made_of(self._real, pieces):
                raise
        self._remove(session)
        return WriteResult(self.path, total_size(parts))

    def abort(self, session: str) -> None:
        """Remove the part files; tasks that are still running fail to put theirs.

        Raises
        ------
        ccog.StoreError
            Something is left: the directory is somebody else's, or its file system does not let go of it.
        """
        self._remove(session)
        directory = self._directory(session)
        if os.path.lexists(directory):
            with typed("remove", directory), contextlib.suppress(FileNotFoundError):
                os.rmdir(directory)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Part directories of this file, or, where the path is a directory, of all files in it.

        They are dated by their last part. Those that others can write to are listed, and cannot be resumed.
        """
        if os.path.isdir(self.path):
            return list(_left_in(Path(self.path)))
        real = self._real
        left = _left_in(real.parent)
        return [replace(upload, url=self.path) for upload in left if upload.url == str(real)]

    def stored(self, session: str, first: int, count: int) -> dict[int, Part]:
        """None is known: only reading a file would prove what it holds, and writing it takes no longer."""
        with self._folder(session, "look for parts of"):
            return {}

    @property
    def resumes(self) -> bool:
        """Records are files beside the parts."""
        return True

    def save(self, session: str, name: str, data: bytes) -> None:
        """Write a file under a temporary name, then rename it."""
        with self._folder(session, "keep a record of") as folder:
            local_folder.write_file(folder, name, [data])

    def load(self, session: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the file, or the first of them."""
        with self._folder(session, f"read the record {name} of") as folder:
            return local_folder.read_file(folder, name, limit)

    def saved(self, session: str) -> frozenset[str]:
        """Names of all files beside the parts, theirs included."""
        with (
            contextlib.suppress(StoreNotFoundError),
            self._folder(session, "look for records of") as folder,
        ):
            return frozenset(os.listdir(folder))
        return frozenset()

    def forget(self, session: str) -> None:
        """Nothing to remove: records go with the directory of the parts."""

    def tidy(self) -> None:
        """Nothing to remove, as for ``forget``."""

    @property
    def _real(self) -> Path:
        return local_target.real_path(self.path)

    def _directory(self, session: str) -> Path:
        return self._real.with_name(session)

    @contextlib.contextmanager
    def _folder(self, session: str, doing: str) -> Iterator[int]:
        """A descriptor of the directory of parts; errors on the way say what was being done."""
        with typed(doing, self._real):
            try:
                with local_folder.opened(self._directory(session)) as folder:
                    yield folder
            except StoreError:
                raise
            except FileNotFoundError as error:
                raise StoreNotFoundError(
                    f"cannot {doing} {self.path}: its parts are gone ({error})"
                ) from error

    def _need_links(self, session: str) -> None:
        """Refuse file systems on which nothing but a look beforehand would keep an existing file."""
        with self._folder(session, "write beside") as folder:
            possible = local_folder.can_link(folder)
        if not possible:
            self._remove(session)
            raise StoreError(
                f"{self.path}: overwrite=False needs hard links, and the file system of {self._real.parent} has none; "
                "allow overwriting, or write elsewhere"
            )

    def _join_and_publish(self, session: str, pieces: list[Piece]) -> None:
        with (
            self._folder(session, "join the parts of") as folder,
            local_folder.opened_whole(folder, pieces) as whole,
        ):
            changed = local_folder.ran_otherwise(folder, pieces)
            if flaws := local_folder.join(folder, whole, pieces):
                local_folder.forget_records(folder, [flaw.piece for flaw in flaws])
                raise self._refusal(flaws, changed)
            self._publish(folder, whole, local_folder.whole_name(pieces))
        if changed:
            warnings.warn(
                f"{self.path}: a part was put twice, with different bytes: {_CHANGED}. Each tile is whole, and its "
                "overviews may be of the other run; write it again from a source that does not change",
                CCOGWarning,
                stacklevel=2,
            )

    def _refusal(self, flaws: list[Flaw], changed: bool) -> StoreError:
        """What is wrong with the parts; ``changed`` where an earlier run has put others."""
        named = "; ".join(f"part {flaw.piece.number} {flaw.why}" for flaw in flaws[:_NAMED])
        more = f"; so are {len(flaws) - _NAMED} others" if len(flaws) > _NAMED else ""
        cause = (
            _CHANGED
            if changed
            else "something other than ccog has changed or removed files among the parts"
        )
        return StoreError(
            f"{self.path} is as it was, since {named}{more}: {cause}. Write it again; with resume=True only what was "
            "lost is done again"
        )

    def _publish(self, folder: int, whole: int, name: str) -> None:
        """Give the joined file the target's name, and what a file there has besides its content."""
        real = self._real
        existing = local_target.refuse_other_kinds(real)
        if not self.overwrite:
            try:
                os.link(name, real, src_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                # by an earlier call that nobody heard of
                if not os.path.samestat(os.lstat(real), os.fstat(whole)):
                    raise self._exists() from None
        else:
            if existing is not None:
                local_target.take_over(existing, real, whole)
            os.replace(name, real, src_dir_fd=folder)
        _sync_directory(real.parent)

    def _remove(self, session: str) -> None:
        """Remove the directory of parts, as far as that is possible."""
        directory = self._directory(session)
        for _ in range(_REMOVALS):
            shutil.rmtree(directory, ignore_errors=True)
            if not os.path.lexists(directory):
                return

    def _exists(self) -> StoreExistsError:
        return StoreExistsError(f"{self.path} exists; remove it, or allow overwriting")


def _left_in(folder: Path) -> Iterator[IncompleteUpload]:
    """The part directories in a directory."""
    if not folder.is_dir():
        raise StoreNotFoundError(f"the directory {folder} does not exist")
    with typed("look into", folder):
        entries = list(os.scandir(folder))
    for entry in entries:
        target = target_of(entry.name)
        # one that ends just now is not incomplete
        with contextlib.suppress(FileNotFoundError):
            if target is not None and entry.is_dir(follow_symlinks=False):
                started = datetime.fromtimestamp(entry.stat(follow_symlinks=False).st_mtime, UTC)
                resumable = local_folder.has_file(Path(entry.path), MANIFEST)
                yield IncompleteUpload(str(folder / target), entry.name, started, resumable)


def _sync_directory(directory: Path) -> None:
    """Make the rename durable, where directories can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
