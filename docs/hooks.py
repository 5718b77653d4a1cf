"""What mkdocs does besides its plugins: renders examples/tour.ipynb, and links the names in docstrings."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

NOTEBOOK = Path(__file__).parents[1] / "examples" / "tour.ipynb"

_folder = tempfile.TemporaryDirectory()


@event_priority(100)  # before the plugin that renders notebooks
def on_files(files: Files, config: Any) -> Files:
    """Add the notebook, from a folder where it may leave files when it runs."""
    shutil.copy2(NOTEBOOK, _folder.name)
    files.append(File(NOTEBOOK.name, _folder.name, config.site_dir, config.use_directory_urls))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Link what Sphinx writes as ``:func:`name```, and leave out where the notebook ran."""
    link = r'<autoref optional identifier="\1"><code>\1</code></autoref>'
    html = re.sub(r":(?:func|class|meth|mod):<code>(.*?)</code>", link, html)
    return re.sub(r"(?:/[\w.-]+)+/(?=tour\.tif)", "", html)
