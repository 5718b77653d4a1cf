"""What users install: wheel and sdist, in an environment of their own and on the workers of a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import tomllib
import venv
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import rasterio
import yaml

from ccog.errors import needs

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: object, folder: Path) -> str:
    """What a command prints, without this environment's ways to find ccog."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that is built of it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.fixture(scope="module")
def own_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an empty environment."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture
def served(built: Path) -> Iterator[str]:
    """The URL of the wheel on loopback."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (wheel,) = built.glob("*.whl")
        yield f"http://127.0.0.1:{server.server_port}/{wheel.name}"
        server.shutdown()


@pytest.mark.slow
def test_the_index_would_take_them(built: Path, tmp_path: Path) -> None:
    files = sorted(built.iterdir())
    assert [path.name.endswith((".whl", ".tar.gz")) for path in files] == [True, True]
    said = run(
        sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files, folder=tmp_path
    )
    assert said.count("PASSED") == 2


# before the next test, which removes ccog from the environment
@pytest.mark.slow
def test_the_demo_runs_where_nothing_else_is_installed(
    built: Path, own_python: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    run(own_python, "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)
    run(own_python, "-m", "pip", "check", folder=tmp_path)
    ccog = own_python.with_name("ccog")
    assert PROJECT["version"] in run(ccog, "--version", folder=tmp_path)
    assert "600 x 600 pixels" in run(ccog, "demo", "--size", 600, folder=tmp_path)
    assert "600 x 600" in run(ccog, "inspect", "ccog-demo.tif", folder=tmp_path)
    run(own_python, "-m", "pip", "uninstall", "--quiet", "--yes", "ccog", folder=tmp_path)


_ON_A_CLUSTER = """
import importlib.util, sys
from distributed import Client, LocalCluster, PipInstall

def has_ccog():
    return importlib.util.find_spec("ccog") is not None

if __name__ == "__main__":
    url, out = sys.argv[1:]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            before = client.run(has_ccog)
            plugin = PipInstall(packages=[f"ccog[xarray] @ {url}"], restart_workers=True)
            client.register_plugin(plugin)
            print(*before.values(), *client.run(has_ccog).values())
            importlib.invalidate_caches()
            import ccog, dask.array as da
            client.run(exec, "import rioxarray")
            arr = da.arange(1024 * 1024, dtype="float32").reshape(1024, 1024).rechunk(512)
            print(ccog.write_ccog(arr, out, crs="EPSG:32632").compute().url)
"""


@pytest.mark.slow
def test_workers_get_it_by_pip_install(own_python: Path, served: str, tmp_path: Path) -> None:
    run(own_python, "-m", "pip", "install", "--quiet", "distributed", folder=tmp_path)
    script, out = tmp_path / "script.py", tmp_path / "out.tif"
    script.write_text(_ON_A_CLUSTER)
    said = run(own_python, script, served, out, folder=tmp_path)
    assert said.splitlines() == ["False False True True", str(out)]
    with rasterio.open(out) as written:
        assert (written.shape, written.read(1)[-1, -1]) == ((1024, 1024), 1024 * 1024 - 1)


def _names(requirements: list[str]) -> dict[str, str]:
    """Requirements by name: what follows is their versions."""
    pairs = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?\s*(.*)", text) for text in requirements]
    return {pair[1]: pair[2] for pair in pairs if pair}


def test_the_recipe_of_conda_asks_for_what_the_wheel_asks_for() -> None:
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == PROJECT["version"]
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    named = {"dask-core": "dask", "python-xxhash": "xxhash"}
    run_time = _names([text for text in recipe["requirements"]["run"] if "__unix" not in text])
    del run_time["python"]
    assert {named.get(name, name): of for name, of in run_time.items()} == _names(
        PROJECT["dependencies"]
    )


def test_no_page_installs_from_the_index_what_is_not_there() -> None:
    """Until ccog is there: in a clone it is ``.``, elsewhere ``ccog @ git+REPOSITORY``."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    without_address = re.compile(r"pip install ccog|['\"]ccog\[[\w,]+\]['\"]")
    assert [page for page in pages if without_address.search(page.read_text())] == []


def test_a_missing_package_is_named_as_the_index_has_it() -> None:
    assert str(needs("writing", "s3fs")) == "writing needs s3fs: pip install s3fs"
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    calls = re.findall(r"raise needs\(f?\"[^\"]*\", (.*)\)", code)
    named = set(re.findall(r"\"([\w-]+)\"", "".join(calls)))
    extras = [name for group in PROJECT["optional-dependencies"].values() for name in group]
    assert {"s3fs", "adlfs", "gcsfs", "rio-cogeo", "xarray", "distributed"} <= named
    assert named <= _names(extras).keys()
