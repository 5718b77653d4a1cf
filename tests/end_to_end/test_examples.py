"""Every example runs as it is, and what it writes is a valid COG."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import ccog

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = {
    "write_array": 1,
    "write_dataset": 2,
    "cluster": 1,
    "many_files": 3,
    "inspect_file": 1,
    "s3_server": 0,
}


QUICK = ("write_array", "inspect_file")


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SCRIPTS],
)
def test_an_example_runs_as_it_is(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    files = list(tmp_path.glob("*.tif"))
    assert len(files) == SCRIPTS[name]
    assert all(ccog.validate(path).is_valid for path in files)


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("<svg" in output.get("data", {}).get("text/html", "") for output in outputs)
    assert ccog.validate(tmp_path / "tour.tif").is_valid
