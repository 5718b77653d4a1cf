"""Names of tasks: the first elements of their keys, which dask's dashboard groups them by.

It shows the first word of a name, up to a dash, and further ones of letters only (``dask.utils.key_split``), at most
15 characters. Work is to be told apart by level, so that the level stands in the first word: tasks of
``ccog_encode_0-<token>`` are shown as ``ccog_encode_0``, those of ``ccog_upload-L0-<token>`` and of other levels
together as ``ccog_upload``.
"""

from __future__ import annotations

import re

PREFIX = "ccog_"

#: What kinds of tasks are shown as, by whether they are of an overview; of other kinds the kind is shown.
_SHOWN = {
    ("block", False): "encode",
    ("block", True): "overview",
    ("bytes", False): "tiles",
    ("bytes", True): "encode",
    ("pieces", False): "strips",
    ("pieces", True): "strips",
}
_BY_LEVEL = ("encode", "overview")
_KINDS = {(shown, overview): kind for (kind, overview), shown in _SHOWN.items()}
_NAME = re.compile(
    PREFIX
    + r"(?P<shown>[a-z]+)(?:(?:_|-L)(?P<level>[0-9]+))?(?P<rest>(?:-[A-Za-z0-9]+)*)-[0-9a-f]{32}"
)

#: The stages that people are shown, in the order in which bytes pass through them.
STAGES = ("encode", "overviews", "upload")
_UPLOADS = ("upload", "merge", "finish")


def task_name(kind: str, token: str) -> str:
    """The name of a kind of task, such as ``block-L0`` or ``merge-1``, of the write with that token (32 hex digits)."""
    word, by_level, level = kind.partition("-L")
    shown = _SHOWN.get((word, level != "0"), word) if by_level else word
    separator = "_" if shown in _BY_LEVEL else "-L"
    return f"{PREFIX}{shown}{separator if by_level else ''}{level}-{token}"


def token_of(name: str) -> str:
    """The token of the write that tasks of that name belong to."""
    return name.rsplit("-", 1)[-1]


def kind_of(name: str) -> str:
    """The kind of task of that name."""
    shown, level, rest = _parts(name)
    if level is None:
        return f"{shown}{rest}"
    return f"{_KINDS.get((shown, level > 0), shown)}-L{level}"


def level_of(name: str) -> int:
    """The level that tasks of that name work on; 0 where they work on none."""
    return _parts(name)[1] or 0


def stage_of(name: str) -> str | None:
    """Which of ``STAGES`` tasks of that name are counted in; None for those that take no time worth showing."""
    shown, level, _ = _parts(name)
    if shown in _UPLOADS:
        return "upload"
    if shown not in _BY_LEVEL:
        return None
    return "overviews" if level else "encode"


def _parts(name: str) -> tuple[str, int | None, str]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a task of ccog")
    return found["shown"], None if found["level"] is None else int(found["level"]), found["rest"]
