"""The table of what was tried, from the tests that ran: python -m pytest -m tried --write-tried docs/tables/tried.md.

A test says so with ``@pytest.mark.tried(what, outcome)``. Its row is written when it passed. Each parameter has a row of
its own where the texts name it: ``tried("{kind}, at {place}", "right", kind=KINDS)``. A mapping given by the name of a
parameter says its values in words, and ``{id}`` is what pytest calls the case. ``group`` is for a test whose file is
of another group than it is itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_PROPERTY = "tried"

#: What fails, by which the rows are grouped, and whose tests try it; the last is of all others.
GROUPS = {
    "stores": ("What stores answer", ("stores/test_", "views/test_http")),
    "credentials": ("Credentials", ("runtime/test_secrets", "test_redaction")),
    "processes": (
        "Processes that fail, end and continue",
        ("end_to_end/test_signals", "runtime/test_cleanup", "tasks/test_resume"),
    ),
    "clusters": ("Clusters", ("runtime/test_clusters",)),
    "disks": ("Disks and file systems", ("stores/test_local",)),
    "files": (
        "Damaged and hostile files",
        ("views/test_hostile_files", "tasks/test_damaged_records"),
    ),
    "arguments": ("Arguments and arrays", ("",)),
}

_HEAD = """Written by `python -m pytest -m "tried and (slow or not slow)" --write-tried docs/tables/tried.md`:
each of these {} rows is of a test that passed.
"""

_TABLE = """
### {}

| what was done | what came of it | test |
|---|---|---|
"""


class Row(NamedTuple):
    """A row of the table, by its group and test."""

    group: str
    test: str
    text: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-tried", metavar="FILE", help="write the table of faults that tests tried"
    )


def pytest_configure(config: pytest.Config) -> None:
    # with several processes, the one that hears of all tests writes
    if config.getoption("--write-tried") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(Path(config.getoption("--write-tried"))))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tried"):
        item.user_properties.append((_PROPERTY, list(row_of(item, marker))))


def row_of(item: pytest.Item, marker: pytest.Mark) -> Row:
    """The row of a test, or of one of its cases."""
    test = item.nodeid.partition("[")[0].removeprefix("tests/")
    words = dict(marker.kwargs)
    group = words.pop("group", None) or _group_of(test)
    done, outcome = (_in_words(item, text, words) for text in marker.args)
    return Row(group, test, f"| {done} | {outcome} | `{test}` |")


def _group_of(test: str) -> str:
    """The group whose tests' names begin as this one's, the longest of them."""
    beginnings = {beginning: name for name, (_, tests) in GROUPS.items() for beginning in tests}
    return beginnings[max(filter(test.startswith, beginnings), key=len)]


def _in_words(item: pytest.Item, text: str, words: Mapping[str, Mapping[Any, Any]]) -> str:
    case = getattr(item, "callspec", None)
    if case is None:
        return text
    values = {
        name: words.get(name, {}).get(value, value) if name in words else value
        for name, value in case.params.items()
    }
    return text.format_map({**values, "id": case.id}).replace("|", r"\|").replace("\n", " ")


class _Table:
    """Collects the rows of tests that passed, and writes them by group, in the order of the tests' names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: set[Row] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            found = (value for name, value in report.user_properties if name == _PROPERTY)
            self._rows |= {Row(*map(str, value)) for value in found}

    def pytest_sessionfinish(self) -> None:
        pages = [_HEAD.format(len(self._rows))]
        for group, (title, _) in GROUPS.items():
            lines = [row.text for row in sorted(self._rows) if row.group == group]
            if lines:
                pages.append(_TABLE.format(title) + "\n".join(lines) + "\n")
        self._path.write_text("".join(pages))
