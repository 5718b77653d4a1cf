"""Names of tasks: the first elements of their keys, which dask's dashboard groups them by.

The dashboard shows the first word of a name, up to a dash, then further ones of letters only
(``dask.utils.key_split``), and at most 15 characters. Encoding is to be told apart by level, so
the level stands in the first word there: tasks of ``ccog_encode_0-<token>`` are shown as
``ccog_encode_0``, uploads of all levels, ``ccog_upload-L0-<token>`` among them, as ``ccog_upload``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PREFIX = "ccog_"

# blocks are shown as the work on them, by whether they are of an overview
_SHOWN_BLOCKS = {False: "encode", True: "overview"}
_BLOCK_WORDS = tuple(_SHOWN_BLOCKS.values())

_NAME = re.compile(
    PREFIX + r"(?P<shown>[a-z]+)"
    r"(?:(?:_|-L)(?P<level>[0-9]+))?"
    r"(?:-(?P<depth>[0-9]+))?"
    r"-[0-9a-f]{32}"
)

#: The stages that people are shown, in the order in which bytes pass through them.
STAGES = ("encode", "overviews", "upload")
_STAGE_OF = {
    "encode": "encode",
    "overview": "overviews",
    "upload": "upload",
    "merge": "upload",
    "finish": "upload",
}


class TaskKind(NamedTuple):
    """The kind of a task, such as ``block``, and the level or, of merges, the depth it is of."""

    word: str
    number: int | None


class _Name(NamedTuple):
    """What the name of a task says."""

    shown: str
    level: int | None
    depth: int | None


def task_name(kind: str, token: str) -> str:
    """The name of tasks of a kind, such as ``block-L0`` or ``merge-1``.

    ``token`` is that of their write: 32 hexadecimal digits.
    """
    word, by_level, level = kind.partition("-L")
    if word == "block":
        return f"{PREFIX}{_SHOWN_BLOCKS[level != '0']}_{level}-{token}"
    return f"{PREFIX}{word}{by_level}{level}-{token}"


def token_of(name: str) -> str:
    """The token of the write that tasks of that name belong to."""
    return name.rsplit("-", 1)[-1]


def parse_name(name: str) -> TaskKind:
    """The kind of the tasks of that name."""
    shown, level, depth = _parts(name)
    word = "block" if shown in _BLOCK_WORDS else shown
    return TaskKind(word, depth if level is None else level)


def kind_of(name: str) -> str:
    """The kind of the tasks of that name, as ``task_name`` takes it."""
    word, number = parse_name(name)
    if number is None:
        return word
    return f"{word}-{number}" if word == "merge" else f"{word}-L{number}"


def level_of(name: str) -> int:
    """The level that tasks of that name work on; 0 where they work on none."""
    return _parts(name).level or 0


def stage_of(name: str) -> str | None:
    """Which of ``STAGES`` tasks of that name count for; None for those that take no time."""
    return _STAGE_OF.get(_parts(name).shown)


def _parts(name: str) -> _Name:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a task of ccog")
    shown, level, depth = match["shown"], match["level"], match["depth"]
    return _Name(shown, _number(level), _number(depth))


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)
