"""The table of what was tried, from the tests that ran: python -m pytest -m tried --write-tried docs/tables/tried.md.

A test says so with ``@pytest.mark.tried(what, outcome)``. Its row is written when it passed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PROPERTY = "tried"

_HEAD = """Written by `python -m pytest -m tried --write-tried docs/tables/tried.md`: each row is a test that passed.

| what was done | what came of it | test |
|---|---|---|
"""


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
        item.user_properties.append((_PROPERTY, list(marker.args)))


class _Table:
    """Collects the rows of tests that passed, and writes them in the order of the tests' names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" or not report.passed:
            return
        test = report.nodeid.partition("[")[0].removeprefix("tests/")
        for name, value in report.user_properties:
            if name == _PROPERTY:
                done, outcome = value
                self._rows.setdefault(test, set()).add(f"| {done} | {outcome} | `{test}` |")

    def pytest_sessionfinish(self) -> None:
        lines = [line for test in sorted(self._rows) for line in sorted(self._rows[test])]
        self._path.write_text(_HEAD + "\n".join(lines) + "\n")
