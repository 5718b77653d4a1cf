"""The Python of README and guides runs as it stands, and their tables are those that were measured."""

from __future__ import annotations

import re
import subprocess
import sys
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


def test_the_table_of_code_counts_the_scripts() -> None:
    rows = (ROOT / "docs/tables/lines.md").read_text().splitlines()[2:]
    scripts = [*(ROOT / "examples/tasks").rglob("*.py")]
    assert len(scripts) == 5 * len(rows) == 25
    counted = sorted(re.findall(r"(\d+)&nbsp;/&nbsp;(\d+)", "".join(rows)))
    assert counted == sorted(size(script) for script in scripts)


def size(script: Path) -> tuple[str, str]:
    """Lines and characters, without empty lines and indentation; scripts have no comments."""
    lines = [line.strip() for line in script.read_text().splitlines() if line.strip()]
    return str(len(lines)), str(sum(map(len, lines)))


@pytest.mark.slow
def test_the_five_tasks_do_as_asked_with_ccog() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/lines.py", "ccog"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heading, _, *rows = done.stdout.splitlines()
    assert heading == "| | ccog |"
    assert len(rows) == 5
    # what is not as asked for stands behind a comma
    assert not any("," in row.split(" | ")[-1] for row in rows)


@pytest.mark.slow
def test_the_site_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs_jupyter")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = {page.parent.name: page.read_text() for page in tmp_path.rglob("index.html")}
    assert "<svg" in pages["tour"]
    # where modules lie and the notebook ran is not for readers, nor are texts with gaps
    wrong = re.compile(r"UNSET|:(func|class|meth|mod):|--8&lt;--|/\w+/tour\.tif|Bases:|, {}</td>")
    texts = {
        name: re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S)
        for name, html in pages.items()
    }
    assert [name for name, html in texts.items() if wrong.search(html)] == []
    assert "ccog.views" not in re.sub(r"<[^>]*>", "", texts["reference"])
    home = pages.pop(tmp_path.name)
    assert [name for name in pages if f'{name}/"' not in home] == []  # all are in the navigation


def test_the_readme_has_the_measured_rows() -> None:
    readme = (ROOT / "README.md").read_text()
    measured = (ROOT / "docs/tables/comparison.md").read_text().splitlines()
    section = readme.partition("## Why another one")[2].partition("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert set(rows) <= set(measured)
