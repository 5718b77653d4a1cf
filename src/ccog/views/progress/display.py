"""Displays of progress: bars in a terminal or notebook, a line now and then in a log."""

from __future__ import annotations

import importlib
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ccog.runtime.task_names import STAGES
from ccog.views.progress.state import Snapshot
from ccog.wording import byte_text

_LINE_SECONDS, _LINE_SHARE = 10.0, 0.1


class Display(Protocol):
    """Shows snapshots until it is closed."""

    def show(self, now: Snapshot) -> None:
        """Show the state now."""

    def close(self, last: Snapshot | None) -> None:
        """Show the last state, None after a failure, and leave the terminal tidy."""


def open_display(console: Console | None = None) -> Display:
    """The display that suits the standard error of this process."""
    console = Console(stderr=True) if console is None else console
    if console.is_jupyter:
        return _Notebook(console)
    if console.is_terminal and not console.is_dumb_terminal:
        return _Terminal(console)
    return _Log(console)


class _Bars:
    """One bar for each stage."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, auto_refresh=False)
        hidden: dict[str, Any] = {"start": False, "total": None, "visible": False, "note": ""}
        self._rows = {name: self._progress.add_task(name, **hidden) for name in STAGES}

    def _update(self, now: Snapshot) -> None:
        for stage in now.stages:
            row = self._rows[stage.name]
            note = byte_text(now.size) if stage.name == STAGES[-1] and now.size else ""
            self._progress.start_task(row)
            self._progress.update(
                row, total=stage.total, completed=stage.done, visible=True, note=note
            )


class _Terminal(_Bars):
    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress.start()

    def show(self, now: Snapshot) -> None:
        self._update(now)
        self._progress.refresh()

    def close(self, last: Snapshot | None) -> None:
        if last is not None:
            self._update(last)
        self._progress.stop()


class _Notebook(_Bars):
    """Bars as the output of a cell, which stay in the notebook; needs no widgets."""

    _handle: Any = None

    def show(self, now: Snapshot) -> None:
        if not now.stages:
            return
        self._update(now)
        if self._handle is None:
            ipython: Any = importlib.import_module("IPython.display")
            self._handle = ipython.display(self._progress, display_id=True)
        else:
            self._handle.update(self._progress)

    def close(self, last: Snapshot | None) -> None:
        if last is not None:
            self.show(last)


class _Log:
    """A line for each tenth of the work, at most one in ten seconds, one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_share = _LINE_SHARE
        self._next_time = time.monotonic() + _LINE_SECONDS

    def show(self, now: Snapshot) -> None:
        share = now.done / max(1, now.total)
        if share >= self._next_share and time.monotonic() >= self._next_time:
            self._next_share = share + _LINE_SHARE
            self._next_time = time.monotonic() + _LINE_SECONDS
            self._write(now)

    def close(self, last: Snapshot | None) -> None:
        if last is not None and last.stages:
            self._write(last)

    def _write(self, now: Snapshot) -> None:
        counts = [f"{stage.name} {stage.done:,}/{stage.total:,}" for stage in now.stages]
        size = [byte_text(now.size)] if now.size else []
        print(", ".join([*counts, *size]), file=self._console.file, flush=True)
