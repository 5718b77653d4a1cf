"""The Python of README and guides runs as it stands, and their tables are those that were measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "docs/guides/coming-from.md",
    "docs/guides/masked.md",
    "docs/guides/time-series.md",
    "docs/guides/web-optimised.md",
]


def blocks(page: str) -> list[tuple[int, str]]:
    """The Python of a page, each block with the number of the line before it."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: block.start(1)].count("\n"), block[1]) for block in found]


def included(code: str) -> str:
    """With the files that the page includes."""
    return re.sub(r'^--8<-- "(.*)"$', lambda m: (ROOT / m[1]).read_text(), code, flags=re.MULTILINE)


def run(page: str) -> None:
    """Run the blocks of a page one after the other."""
    names: dict[str, object] = {"__name__": "page"}
    scripts = blocks(page)
    assert scripts
    for line, code in scripts:
        exec(compile("\n" * line + included(code), page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "rio_stac" in (ROOT / page).read_text():
        pytest.importorskip("rio_stac")
    monkeypatch.chdir(tmp_path)
    run(page)


def test_the_page_of_web_maps_shows_the_call_that_the_error_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "docs/guides/web-optimised.md"
    monkeypatch.chdir(tmp_path)
    run(page)
    printed = capsys.readouterr().out
    numbers = re.findall(r"-?\d+\.\d{6,}", (ROOT / page).read_text())
    assert len(numbers) == 4
    assert all(number in printed for number in numbers)
    text = (ROOT / page).read_text().partition("```text\n")[2].partition("arr = ...")[0]
    assert " ".join(text.split()) in printed


def test_the_readme_has_the_measured_rows() -> None:
    readme = (ROOT / "README.md").read_text()
    measured = (ROOT / "docs/tables/comparison.md").read_text().splitlines()
    section = readme.partition("## Why another one")[2].partition("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert set(rows) <= set(measured)
