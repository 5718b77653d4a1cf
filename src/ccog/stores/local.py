"""A local or shared file system: part files beside the target become the file.

``local_target`` decides which targets are refused, ``local_folder`` guards the
directory of parts, ``local_join`` makes one file of them, ``local_errors`` explains
errors of the operating system.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ccog.errors import StoreError, StoreExistsError, StoreNotFoundError, warn_user
from ccog.geometry.parts import Buffer, Limits, Part, total
from ccog.stores import local_folder, local_join, local_target, sidecars
from ccog.stores.base import (
    MANIFEST,
    IncompleteUpload,
    Store,
    WriteResult,
    after_completion,
    exists_error,
    total_size,
)
from ccog.stores.local_errors import typed
from ccog.stores.local_join import Flaw, PartFile

_CHANGED = "the source gave different pixels when it ran again"
_TOUCHED = "something other than ccog has changed or removed files among the parts"

# flaws that an error names; the others are counted
_NAMED = 3


@dataclass(frozen=True)
class LocalStore(Store):
    """The file at ``path`` (absolute), or the one that a symbolic link there points to.

    An upload id is the path of the directory of its parts, beside the file that they
    become: a link that is given another file meanwhile is not looked at again.
    Checkpoints are beside the parts, and go with them.
    """

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
        """Refuse a target that cannot become a file; without ``overwrite`` a file.

        Refused are directories, pipes, sockets, devices and links to nothing; a missing
        or read-only directory; a name that is too long; a file that may not be replaced.
        """
        local_target.refuse_unwritable(self.path, self.overwrite, local_folder.LONGER)
        if os.path.exists(self.path) and not self.overwrite:
            raise exists_error(self.path)

    def begin(self, write: str, unanswered: float = 0.0) -> str:
        """Create the hidden directory beside the target that holds the parts.

        It is named by the write, so that a task that begins again finds its own.
        """
        real = self._real
        with typed("write beside", real):
            upload_id = str(local_folder.create(real, write, unanswered > 0))
        if self.overwrite:
            return upload_id
        # hard links protect an existing file
        with self._folder(upload_id, "write beside") as folder:
            possible = local_folder.can_link(folder)
        if not possible:
            self.abort(upload_id)
            raise StoreError(
                f"{self.path}: overwrite=False needs hard links, and the file system of "
                f"{real.parent} has none; allow overwriting, or write elsewhere"
            )
        return upload_id

    def put(self, upload_id: str, number: int, buffers: list[Buffer]) -> Part:
        """Write a part file, which is whole or absent."""
        part = self.expected_part(number, buffers)
        with self._folder(upload_id, f"write part {number} of") as folder:
            local_folder.write_file(folder, local_join.name_of(number, part.tag), buffers)
        return part

    def expected_part(self, number: int, buffers: list[Buffer]) -> Part:
        """Number, size and checksum (XXH3) of the part."""
        return Part(number, total(buffers), local_join.checksum_of(buffers))

    def complete(self, upload_id: str, parts: list[Part], write: str | None = None) -> WriteResult:
        """Join the parts into one file, flush it to disk, and rename it over the target.

        If a part is missing or holds other bytes than were put, the target stays as it was.
        """
        part_files = local_join.part_files(parts)
        _, real = self._place(upload_id)
        try:
            self._join_and_publish(upload_id, part_files)
        except StoreExistsError:
            raise
        except StoreError:
            # an earlier call may have published the file without an answer
            if not local_join.is_made_of(real, part_files):
                raise
            if self.overwrite:
                sidecars.remove(self._sidecars_of(real), real)
        after_completion(self.path, lambda: self.abort(upload_id))
        return WriteResult(self._where_it_is(real), total_size(parts))

    def abort(self, upload_id: str) -> None:
        """Remove the part files; tasks that are still running fail to put theirs.

        It is an error if something is left: the directory is somebody else's, or its file
        system does not let go of it.
        """
        directory, _ = self._place(upload_id)
        with typed("remove", directory):
            local_folder.remove(directory)

    def incomplete(self, quick: bool = False) -> list[IncompleteUpload]:
        """Uploads to this file, or, if the path is a directory, to all files in it.

        They are dated by their last part. A directory of parts that others can write to
        cannot be resumed. ``quick``: of this user's only, without listing the folder.
        """
        if os.path.isdir(self.path):
            return list(_left_in(Path(self.path)))
        real = self._real
        if quick:
            here = list(_uploads_in(local_folder.uploads_to(real), real))
        else:
            here = [upload for upload in _left_in(real.parent) if upload.url == str(real)]
        return [replace(upload, url=self.path) for upload in here]

    def continuable(self) -> list[IncompleteUpload]:
        """Uploads of this user, which are asked for by name."""
        return self.incomplete(quick=True)

    def sidecars(self) -> list[str]:
        """None where a file is there, with which they go."""
        real = self._real
        if os.path.lexists(real):
            return []
        return [*dict.fromkeys(path.name for path in self._behind(real))]

    def stored_parts(self, upload_id: str, first: int, count: int) -> dict[int, Part]:
        """None: to read a part for proof takes as long as to write it again."""
        with self._folder(upload_id, "look for parts of"):
            return {}

    @property
    def keeps_checkpoints(self) -> bool:
        """True: they are files beside the parts."""
        return True

    def save_checkpoint(self, upload_id: str, name: str, data: bytes) -> None:
        """Write a file, which is whole or absent."""
        with self._folder(upload_id, "keep a checkpoint of") as folder:
            local_folder.write_file(folder, name, [data])

    def load_checkpoint(self, upload_id: str, name: str, limit: int | None = None) -> bytes:
        """The bytes of the file, or the first of them."""
        with self._folder(upload_id, f"read the checkpoint {name} of") as folder:
            return local_folder.read_file(folder, name, limit)

    def checkpoint_names(self, upload_id: str) -> frozenset[str]:
        """Names of all files beside the parts, theirs included."""
        with (
            contextlib.suppress(StoreNotFoundError),
            self._folder(upload_id, "look for checkpoints of") as folder,
        ):
            return frozenset(os.listdir(folder))
        return frozenset()

    def remove_stale_checkpoints(self) -> None:
        """Remove directories of uploads that are empty.

        They are left by processes that were killed as an upload began or ended.
        """
        if os.path.isdir(self.path):
            uploads = _folders_of_uploads(Path(self.path))
        else:
            uploads = [local_folder.uploads_to(self._real)]
        for folder in uploads:
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    @property
    def _real(self) -> Path:
        return local_target.real_path(self.path)

    def _place(self, upload_id: str) -> tuple[Path, Path]:
        """The directory of an upload, and the file that its parts become.

        As they were named when it began, or, where that is nowhere, as this machine has it:
        links that lead to a shared file system may differ between machines.
        """
        directory, target = local_folder.directory_of(upload_id)
        if not os.path.lexists(directory):
            with contextlib.suppress(StoreError):
                here = self._real
                other = here.with_name(directory.parent.name) / directory.name
                if os.path.lexists(other):
                    return other, here
        return directory, target

    @contextlib.contextmanager
    def _folder(self, upload_id: str, doing: str) -> Iterator[int]:
        """A descriptor of the directory of parts; errors say what was being done."""
        directory, real = self._place(upload_id)
        with typed(doing, real):
            try:
                with local_folder.opened(directory) as folder:
                    yield folder
            except StoreError:
                raise
            except FileNotFoundError as error:
                raise StoreNotFoundError(
                    f"cannot {doing} {self.path}: its parts are gone ({error})"
                ) from error

    def _join_and_publish(self, upload_id: str, parts: list[PartFile]) -> None:
        with (
            self._folder(upload_id, "join the parts of") as folder,
            local_join.opened_joined(folder, parts) as joined,
        ):
            changed = local_join.has_other_parts(folder, parts)
            if flaws := local_join.join(folder, joined, parts):
                local_join.remove_checkpoints_of(folder, [flaw.part for flaw in flaws])
                raise self._refusal(flaws, changed)
            _, real = self._place(upload_id)
            self._publish(real, folder, joined, local_join.joined_name(parts))
        if changed:
            warn_user(
                f"{self.path}: a part was put twice, with different bytes: {_CHANGED}. Each tile "
                "is whole, and its overviews may be of the other run; write it again from a source "
                "that does not change"
            )

    def _refusal(self, flaws: list[Flaw], changed: bool) -> StoreError:
        """An error that names the flaws; ``changed``: parts were put twice."""
        named = "; ".join(f"part {flaw.part.number} {flaw.why}" for flaw in flaws[:_NAMED])
        more = f"; so are {len(flaws) - _NAMED} others" if len(flaws) > _NAMED else ""
        cause = _CHANGED if changed else _TOUCHED
        return StoreError(
            f"{self.path} is as it was, since {named}{more}: {cause}. Write it again; "
            "with resume=True only what was lost is done again"
        )

    def _publish(self, real: Path, folder: int, joined: int, name: str) -> None:
        """Give the joined file the target's name, and the old file's properties."""
        existing = local_target.refuse_other_kinds(real)
        if not self.overwrite:
            try:
                os.link(name, real, src_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                # an earlier call may have linked it without an answer
                if not os.path.samestat(os.lstat(real), os.fstat(joined)):
                    raise exists_error(self.path) from None
        elif existing is None:
            os.replace(name, real, src_dir_fd=folder)
        else:
            local_target.take_over(existing, real, joined)
            olds = self._sidecars_of(real)
            os.replace(name, real, src_dir_fd=folder)
            sidecars.remove([*olds, *self._sidecars_of(real)], real)
        # the rename becomes durable, where directories can be synced
        with (
            contextlib.suppress(OSError),
            local_folder.closing(os.open(real.parent, os.O_RDONLY)) as directory,
        ):
            os.fsync(directory)

    def _sidecars_of(self, real: Path) -> list[Path]:
        """What readers take for parts of the file, by its own name or that of a link to it."""
        return [*sidecars.read_with(real), *self._behind(real)]

    def _behind(self, real: Path) -> list[Path]:
        return [*sidecars.behind(real), *sidecars.behind(Path(self.path))]

    def _where_it_is(self, real: Path) -> str:
        """The path that the user gave; if it is now a link to something else, the file's own."""
        with contextlib.suppress(StoreError):
            if self._real == real:
                return self.path
        warn_user(
            f"{self.path} was made to name another file during the write; what was written is "
            f"{real}, which it named in the beginning"
        )
        return str(real)


def _left_in(folder: Path) -> Iterator[IncompleteUpload]:
    """The uploads to files in this folder."""
    if not folder.is_dir():
        raise StoreNotFoundError(f"the directory {folder} does not exist")
    for uploads in _folders_of_uploads(folder):
        target = local_folder.target_of(uploads)
        if target is not None:
            yield from _uploads_in(uploads, target)


def _folders_of_uploads(folder: Path) -> list[Path]:
    with typed("look into", folder):
        paths = [Path(entry.path) for entry in os.scandir(folder)]
    return [path for path in paths if local_folder.target_of(path) is not None]


def _uploads_in(uploads: Path, target: Path) -> Iterator[IncompleteUpload]:
    """The uploads in a directory of uploads, which need not be there."""
    # an upload that ends just now is not incomplete; what others hide is not for us
    unknown = contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError)
    with typed("look into", uploads), unknown:
        if uploads.is_symlink():
            return
        for entry in list(os.scandir(uploads)):
            if local_folder.is_upload(entry.name) and entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield IncompleteUpload(
                    url=str(target),
                    upload_id=entry.path,
                    started=datetime.fromtimestamp(status.st_mtime, UTC),
                    resumable=local_folder.has_file(Path(entry.path), MANIFEST),
                )
