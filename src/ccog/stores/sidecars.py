"""Files beside a raster that readers take for parts of it: masks, overviews, statistics.

Those of an older file at the target would change what the new one is read as. GDAL
removes them with the file that it replaces. Here they are removed when the new file is
in place, or named in a warning. They are asked for by their names, since a folder may
have more files than can be listed in passing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from posixpath import basename, splitext

from ccog.errors import warn_user

#: Ends of names that GDAL looks for beside every raster.
MOST_COMMON = (".aux.xml", ".msk", ".ovr")

# behind the whole name, so that they are of this very file
_BEHIND = (
    *MOST_COMMON,
    ".msk.aux.xml",
    ".msk.ovr",
    ".ovr.aux.xml",
    ".ovr.ovr",
    ".vat.dbf",
)

# instead of the extension: world files, RPCs and metadata of satellites
_INSTEAD = (".wld", ".imd", ".rpb", "_rpc.txt")

# the same, of names that other data often have: MapInfo's tables, notes
_SHARED = (
    ".tab",
    ".xml",
    ".aux",
    ".rpc",
    ".txt",
    ".eph",
    ".pvl",
    ".pass",
    "_metadata.txt",
    "_metadata.xml",
)


def behind(path: Path) -> list[Path]:
    """Files beside a local one whose names say that they are of this very file."""
    return _existing(path, [path.name + end for end in _BEHIND])


def read_with(path: Path) -> list[Path]:
    """Files that belong to a local raster.

    Where a file may as well be somebody else's, GDAL says whether it reads the raster
    with it.
    """
    perhaps = _existing(path, _instead(path.name, (*_INSTEAD, *_SHARED)))
    known = _files_of(path) if perhaps else set()
    return [*behind(path), *(found for found in perhaps if found in known)]


def remove(sidecars: Iterable[Path], target: Path) -> None:
    """Remove what belonged to the file that was replaced; a warning names what cannot be."""
    left, why = [], ""
    for path in dict.fromkeys(sidecars):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            left.append(path.name)
            why = error.strerror or str(error)
    if left:
        warn_user(
            f"{target} is written, and {', '.join(left)} beside it cannot be removed ({why}). "
            "Readers take them for parts of the new file, though they are of the one that it "
            "replaced; remove them"
        )


def prefix_of(key: str) -> str:
    """What the names of all sidecars of an object begin with, but for rare ones."""
    return f"{splitext(key)[0]}."


def among(key: str, names: Iterable[str]) -> list[str]:
    """The sidecars of an object among names of a listing, in any case."""
    ends = [basename(key) + end for end in _BEHIND]
    wanted = {name.lower() for name in [*ends, *_instead(basename(key), _INSTEAD)]}
    return sorted(name for name in map(basename, names) if name.lower() in wanted)


def _instead(name: str, ends: Iterable[str]) -> list[str]:
    """Names with other ends than the extension; a world file's is made of it (tfw, tifw)."""
    stem, extension = splitext(name)
    letters = extension[1:]
    world = (f".{letters[0]}{letters[-1]}w", f".{letters}w") if letters else ()
    return [stem + end for end in (*world, *ends)]


def _existing(path: Path, names: Iterable[str]) -> list[Path]:
    """Files of these names beside a file; their ends may be in capitals."""
    stem = len(os.path.splitext(path.name)[0])
    spelt = [end for name in names for end in (name, name[:stem] + name[stem:].upper())]
    candidates = map(path.with_name, dict.fromkeys(spelt))
    return [found for found in candidates if os.path.lexists(found)]


def _files_of(path: Path) -> set[Path]:
    """The files that GDAL reads a TIFF with; none if it is something else."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    # which asks for names, instead of listing the folder
    env = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE")
    with env, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as file:
                return {Path(name) for name in file.files}
        except (OSError, RasterioError):
            return set()
