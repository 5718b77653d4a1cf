"""One file replaced by another on a file system of fsspec, whatever its calls can do.

The rule: the old file is never removed before the new one is whole, and both are kept
until the last step. Few file systems say whether moving a file replaces another one at
once, replaces it in two steps, or refuses. So the first is tried, and each failure is
followed by a look at what is there.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from ccog.errors import StoreError, warn_user
from ccog.geometry.parts import Buffer, total
from ccog.redaction import redacted
from ccog.stores.base import exists_error

# times of reading, which is no change
_READ_TIMES = ("time", "atime", "accessTime")

Info = dict[str, Any]


def info_of(filesystem: Any, path: str) -> Info | None:
    """What a file system says of a file; None if there is none."""
    filesystem.invalidate_cache(filesystem._parent(path))
    try:
        found = filesystem.info(path)
    except FileNotFoundError:
        return None
    return {key: value for key, value in found.items() if key not in _READ_TIMES}


@dataclass(frozen=True)
class Replacement:
    """The new file, whole under a name of its own, on its way to ``path``.

    ``url`` is the path for people. Errors are those of the file system; notes of them
    say which files a failure has left where.
    """

    _: KW_ONLY
    filesystem: Any
    path: str
    url: str
    overwrite: bool
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, buffers: list[Buffer]) -> None:
        """Write the new file beside the old one, then put it in its place."""
        size = total(buffers)
        try:
            self._write(buffers, size)
            old = self._replaceable(buffers, size)
        except BaseException as error:
            self._clean_up(error)
            raise
        try:
            self._publish(old)
        except BaseException as error:
            if not self._is_published(size, old):
                self._settle(old, error)
                raise
            self._remove_or_warn(self._aside)
            if not isinstance(error, Exception):
                raise
        else:
            if old is not None:
                self._remove_or_warn(self._aside)

    @property
    def _new(self) -> str:
        return f"{self.path}.{self.token}.part"

    @property
    def _aside(self) -> str:
        return f"{self.path}.{self.token}.old"

    def _write(self, buffers: list[Buffer], size: int) -> None:
        with self.filesystem.open(self._new, "wb") as file:
            for buffer in buffers:
                file.write(buffer)
        found = self._info(self._new)
        if found is None or found["size"] != size:
            raise StoreError(
                f"{self.url} is as it was: of the {size} bytes written beside it, "
                f"{0 if found is None else found['size']} are there; write it again"
            )

    def _replaceable(self, buffers: list[Buffer], size: int) -> Info | None:
        """The file at the target, if any; one that may not be replaced is an error."""
        old = self._info(self.path)
        if old is not None and old.get("type") == "directory":
            raise StoreError(f"{self.url} is a directory; give the name of a file in it")
        if old is None or self.overwrite:
            return old
        # an earlier call may have published the file without an answer
        if old["size"] == size:
            with self.filesystem.open(self.path, "rb") as file:
                if all(file.read(len(buffer)) == buffer for buffer in buffers):
                    return old
        raise exists_error(self.url)

    def _publish(self, old: Info | None) -> None:
        if old is None:
            self._move(self._new, self.path)
            return
        if not self.overwrite:
            # it is the same file
            self._remove_or_warn(self._new)
            return
        # what others call a move may lose its source where it fails
        copied = not self._renames and self._copied_aside(old)
        if not self._moved_over(old):
            self._make_room(old, copied)
            self._move(self._new, self.path)

    def _moved_over(self, old: Info) -> bool:
        """Whether one call has replaced the old file; False if it has changed nothing."""
        try:
            self._move(self._new, self.path)
        except Exception:
            if self._info(self._new) is None or self._info(self.path) != old:
                raise
            return False
        return True

    def _make_room(self, old: Info, copied: bool) -> None:
        """Give the old file another name, or remove it where a copy is whole."""
        if self._older_rename is not None:
            self._older_rename(self.path, self._aside)
        elif copied or self._copied_aside(old):
            self._remove_file(self.path)
        else:
            self.filesystem.mv(self.path, self._aside)

    def _copied_aside(self, old: Info) -> bool:
        """Whether there is a whole copy of the old file; False if nothing can be copied."""
        try:
            self.filesystem.cp_file(self.path, self._aside)
        except NotImplementedError:
            return False
        found = self._info(self._aside)
        if found is None or found["size"] != old["size"]:
            raise OSError("the file that is there cannot be copied")
        return True

    def _move(self, source: str, to: str) -> None:
        """Move a file: by the older way, where nothing may be replaced or ``mv`` is not known.

        The last resort is a copy.
        """
        from fsspec import AbstractFileSystem

        older = self._older_rename
        if older is not None and not self.overwrite:
            older(source, to)
        elif getattr(self.filesystem.mv, "__func__", None) is AbstractFileSystem.mv:
            # which would take names for patterns
            self._copy(source, to)
        else:
            try:
                self.filesystem.mv(source, to)
            except Exception as error:
                if self._info(source) is None or self._info(to) is not None:
                    raise
                try:
                    (older or self._copy)(source, to)
                except NotImplementedError:
                    raise error from None

    def _copy(self, source: str, to: str) -> None:
        self.filesystem.cp_file(source, to)
        self._remove_or_warn(source)

    @property
    def _older_rename(self) -> Callable[[str, str], object] | None:
        """SFTP's own rename, which replaces nothing, where ``mv`` is an extension; FTP's."""
        return getattr(getattr(self.filesystem, "ftp", None), "rename", None)

    @property
    def _renames(self) -> bool:
        """Whether moving is known to be renaming: as fsspec's own file systems do it.

        Where they have no way of their own, it is a copy, then a removal.
        """
        from fsspec import AbstractFileSystem

        filesystem = self.filesystem
        # dir:// and the like hold another one
        while isinstance(getattr(filesystem, "fs", None), AbstractFileSystem):
            filesystem = filesystem.fs
        module = str(getattr(filesystem.mv, "__module__", ""))
        return module.startswith("fsspec.implementations.")

    def _is_published(self, size: int, old: Info | None) -> bool:
        """Whether a call that failed has done its work: only its answer was lost."""
        with contextlib.suppress(Exception):
            found = self._info(self.path)
            is_new = found is not None and found["size"] == size and found != old
            return is_new and self._info(self._new) is None
        return False

    def _settle(self, old: Info | None, error: BaseException) -> None:
        """Bring the old file back, or say where both are."""
        taken = None
        with contextlib.suppress(Exception):
            if self._restored(old):
                self._clean_up(error)
                return
            if self._renames and not self.overwrite and self._info(self._new) is not None:
                taken = exists_error(self.url)
        if taken is not None:
            # somebody else's file has come to the target
            self._clean_up(taken)
            raise taken from error
        _note(error, self._whereabouts(old))

    def _restored(self, old: Info | None) -> bool:
        """Whether the target is as it was, perhaps after the old file was moved back."""
        now = self._info(self.path)
        if now == old:
            return True
        if old is None or self._info(self._aside) is None:
            return False
        if now is None:
            self._move(self._aside, self.path)
        else:
            self.filesystem.cp_file(self._aside, self.path)
        found = self._info(self.path)
        return found is not None and found["size"] == old["size"]

    def _whereabouts(self, old: Info | None) -> str:
        """Which files to look for."""
        aside = f"{self._named(self._aside)} or {self.url}"
        with contextlib.suppress(Exception):
            if self._info(self._new) is None:
                lost = f"what is at {self.url} may be cut short"
                return f"{lost}; the old file is at {aside}" if old else f"{lost}: remove it"
        kept = f", the old one at {aside}" if old else ""
        return f"the new file is whole at {self._named(self._new)}{kept}: give one of them its name"

    def _named(self, path: str) -> str:
        """The URL of a file of ours."""
        return self.url + path.removeprefix(self.path)

    def _clean_up(self, error: BaseException) -> None:
        """Remove what is ours, after an error that says what is left."""
        for path in (self._new, self._aside):
            try:
                self._remove(path)
            except Exception:
                _note(error, f"{self._named(path)} may be left")

    def _remove_or_warn(self, path: str) -> None:
        """Remove a file of a write that has succeeded."""
        try:
            self._remove(path)
        except BaseException as error:
            why = redacted(error) or type(error).__name__
            text = f"{self.url} is written, and {self._named(path)} may be left beside it: {why}"
            warn_user(text)
            if not isinstance(error, Exception):
                raise

    def _remove(self, path: str) -> None:
        """Remove a file of ours, if it is there."""
        if self._info(path) is not None:
            self._remove_file(path)

    def _remove_file(self, path: str) -> None:
        """Remove a file by its name, which ``rm`` would take for a pattern."""
        try:
            self.filesystem.rm_file(path)
        except NotImplementedError:
            self.filesystem.rm(path)

    def _info(self, path: str) -> Info | None:
        return info_of(self.filesystem, path)


def _note(error: BaseException, note: str) -> None:
    """Have an error say more; what only ends the program says nothing itself."""
    if isinstance(error, Exception):
        error.add_note(note)
    else:
        warn_user(note)
