"""Names of tasks: the first elements of their keys, which dask's dashboard groups them by.

It shows the first word of a name, up to a dash, and further ones of letters only (``dask.utils.key_split``). Levels
are to be told apart, so they stand in the first word: tasks of ``ccog_encode_L0-<token>`` are shown as
``ccog_encode_L0``, those of ``ccog_upload-L0-<token>`` and other levels together as ``ccog_upload``.
"""

from __future__ import annotations

import re

PREFIX = "ccog_"

#: Kinds of tasks that are shown by level, as ("full resolution", "overviews").
_SHOWN = {
    "block": ("encode", "overview"),
    "bytes": ("tiles", "encode"),
    "pieces": ("strips", "strips"),
    "pixels": ("pixels", "pixels"),
}
_KINDS = {(word, k): kind for kind, words in _SHOWN.items() for k, word in enumerate(words)}
_LEVEL = re.compile(r"[-_]L([0-9]+)")
_NAME = re.compile(PREFIX + r"(?P<shown>[a-z]+)(?:_L(?P<level>[0-9]+))?(?P<rest>(?:-[A-Za-z0-9]+)*)-[0-9a-f]{32}")

#: The stages that people are shown, in the order in which bytes pass through them.
STAGES = ("encode", "overviews", "upload")
_STAGES = {"encode_L0": "encode", "overview": "overviews", "encode": "overviews"}
_UPLOADS = ("upload", "merge", "finish")


def task_name(kind: str, token: str) -> str:
    """The name of a kind of task, such as ``block-L0`` or ``merge-1``, of the write with that token (32 hex digits)."""
    word, by_level, level = kind.partition("-L")
    if by_level and word in _SHOWN:
        return f"{PREFIX}{_SHOWN[word][level != '0']}_L{level}-{token}"
    return f"{PREFIX}{kind}-{token}"


def kind_of(name: str) -> str:
    """The kind of task of that name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a task of ccog")
    shown, level = found["shown"], found["level"]
    if level is None:
        return f"{shown}{found['rest']}"
    return f"{_KINDS[shown, int(level != '0')]}-L{level}"


def level_of(name: str) -> int:
    """The level that tasks of that name work on; 0 where they work on none."""
    found = _LEVEL.search(name)
    return int(found[1]) if found else 0


def stage_of(name: str) -> str | None:
    """Which of ``STAGES`` tasks of that name are counted in; None for those that take no time worth showing."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    if found["shown"] in _UPLOADS:
        return "upload"
    if found["level"] is None:
        return None
    return _STAGES.get(f"{found['shown']}_L{found['level']}", _STAGES.get(found["shown"]))
