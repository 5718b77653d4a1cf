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
    """The kind of a task, such as ``block``, and its level or, of merges, its depth."""

    word: str
    number: int | None


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
    match = _match(name)
    word = "block" if match["shown"] in _SHOWN_BLOCKS.values() else match["shown"]
    number = match["level"] or match["depth"]
    return TaskKind(word, None if number is None else int(number))


def level_of(name: str) -> int:
    """The level that tasks of that name work on; 0 where they work on none."""
    return int(_match(name)["level"] or 0)


def stage_of(name: str) -> str | None:
    """Which of ``STAGES`` tasks of that name count for; None if they take no time."""
    return _STAGE_OF.get(_match(name)["shown"])


def _match(name: str) -> re.Match[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a task of ccog")
    return match
