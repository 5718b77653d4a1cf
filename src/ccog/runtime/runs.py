"""Runs of writes on schedulers other than distributed: an upload ends with the run that began it.

dask says how such a computation ends to callbacks that are global, and are lost while another
thread computes. So a run ends when the first of these happens:

- a task of its own fails, or one of the user's that it needs (``watched``);
- an error leaves ``compute`` of the Delayed (``computation``);
- dask does say it (``hear_end``);
- nobody holds the id of its upload any more. The tasks that wait for it hold it, so that this
  happens when the last one is done, or when the scheduler has let go of all.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dask.callbacks import Callback
from dask.task_spec import GraphNode, Task, TaskRef

from ccog.errors import CCOGWarning, StoreError
from ccog.stores import Store

# seconds that whoever lets go of an upload waits for its removal
_WAIT_SECONDS = 60.0

# seconds that an upload is not aborted since tasks still work
_TASKS_SECONDS = 10.0

_PROCESS = uuid.uuid4().hex


def new_token() -> str:
    """The random name of a write, or of a run of one: 32 hexadecimal digits."""
    return uuid.uuid4().hex


class Run(NamedTuple):
    """A run of a write: its random name, and the process whose scheduler runs it."""

    name: str
    process: tuple[str, int]

    @classmethod
    def here(cls, name: str) -> Run:
        """A run on a scheduler of this process."""
        return cls(name, (_PROCESS, os.getpid()))


class Hold:
    """Keeps an upload of a run: in the process of the run it is aborted when this is gone.

    Tasks in other processes get copies, which keep nothing.
    """

    def __init__(self, store: Store, upload_id: str, run: Run) -> None:
        self._store, self._upload_id, self.run = store, upload_id, run
        self._end = weakref.finalize(self, _let_go, store, upload_id, os.getpid())
        self._failure: BaseException | None = None
        self._working, self._change = 0, threading.Condition()
        if run == Run.here(run.name):
            _HOLDS[run.name, upload_id] = self
        else:
            self._end.detach()

    def abort(self) -> None:
        """Abort the upload, unless it is over, when no task works any more that may put parts."""
        with self._change:
            if self._failure is None:
                self._failure = StoreError(f"writing {self._store.url} was given up")
            if not self._change.wait_for(lambda: not self._working, _TASKS_SECONDS):
                # the last of the tasks does so again
                abort(self._store, self._upload_id)
                return
        self._remove()

    def _remove(self) -> None:
        # whoever comes second waits until it is done
        with self._change:
            if self._end.detach():
                abort(self._store, self._upload_id)

    def release(self) -> None:
        """The upload is complete."""
        self._end.detach()

    @contextmanager
    def working(self) -> Iterator[None]:
        """The time in which a task of the run works; if it fails, so does the run.

        The upload is aborted when no other task works. Those that fail later, since it is over,
        fail with the same error: any of them may be the one that dask hears of first.
        """
        with self._change:
            if self._failure is not None:
                raise self._failure
            self._working += 1
        try:
            yield
        except BaseException as error:
            with self._change:
                first = self._failure = self._failure or error
            if first is not error:
                raise first from None
            raise
        finally:
            with self._change:
                self._working -= 1
                is_over = self._failure is not None and not self._working
                self._change.notify_all()
            if is_over:
                self._remove()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._store, self._upload_id, self.run)


_HOLDS: weakref.WeakValueDictionary[tuple[str, str], Hold] = weakref.WeakValueDictionary()


def _arrived(store: Store, upload_id: str, run: Run) -> Hold:
    """What another process has begun, or a copy for a task there."""
    _tell_of_beginning(run)
    return _HOLDS.get((run.name, upload_id)) or Hold(store, upload_id, run)


class Begun(NamedTuple):
    """What the first task of a write gives to all that upload: the id of the upload.

    ``write`` is the name that the upload was begun with, None if an earlier run began it; ``token``
    that of the tasks. Where nobody else looks after the upload, there is a ``hold``.
    """

    upload_id: str
    write: str | None
    token: str
    hold: Hold | None = None

    def completed(self) -> None:
        """The file is complete: nothing is left to abort."""
        if self.hold is not None:
            self.hold.release()


@dataclass
class Computation:
    """A computation that somebody waits for: its run, and whether that has begun here."""

    name: str
    begun: bool = False


_COMPUTATIONS: dict[str, Computation] = {}

# the last task of the write that is being computed, and its computation
_CURRENT: ContextVar[tuple[str, Computation] | None] = ContextVar("_CURRENT", default=None)


@contextmanager
def computation(final: str) -> Iterator[Computation]:
    """The time in which a write is computed; if the block fails, so does the run."""
    found = Computation(new_token())
    _COMPUTATIONS[found.name] = found
    before = _CURRENT.set((final, found))
    try:
        yield found
    except BaseException:
        _FAILED.append(found.name)
        _give_up(found.name)
        for hold in _holds(found.name):
            hold.abort()
        raise
    finally:
        _CURRENT.reset(before)
        del _COMPUTATIONS[found.name]


def run_name(final: str) -> str:
    """The name of the run that is about to start; ``final`` is the last task of its write."""
    current = _CURRENT.get()
    return current[1].name if current is not None and current[0] == final else new_token()


@dataclass(eq=False)
class _Beginning:
    """A run that is just beginning: whether it was given up, and when that is over."""

    name: str
    is_given_up: bool = False
    over: threading.Event = field(default_factory=threading.Event)


_BEGINNING: set[_Beginning] = set()

# names of runs that have failed, and need not begin any more
_FAILED: deque[str] = deque(maxlen=1000)


def begin_run(run: Run, store: Store, token: str) -> Begun | None:
    """Begin the upload of a run; None if the run has failed meanwhile.

    A graph that was made once and is computed twice at a time has two uploads.
    """
    beginning = _Beginning(run.name)
    _BEGINNING.add(beginning)
    try:
        _tell_of_beginning(run)
        if run.name in _FAILED:
            return None
        write = new_token() if _holds(run.name) else run.name
        upload_id = store.begin(write)
        hold = Hold(store, upload_id, run)
        if beginning.is_given_up:
            hold.abort()
            return None
        return Begun(upload_id, write, token, hold)
    finally:
        _BEGINNING.discard(beginning)
        beginning.over.set()


def _tell_of_beginning(run: Run) -> None:
    if run.name in _COMPUTATIONS:
        _COMPUTATIONS[run.name].begun = True


def _give_up(name: str) -> None:
    """Wait until a run that is just beginning has begun, or its thread has removed it again."""
    # a list at once, since threads begin and end runs meanwhile
    found = [beginning for beginning in list(_BEGINNING) if beginning.name == name]
    # of two runs at a time of one graph it is not known which one has failed
    if len(found) == 1:
        found[0].is_given_up = True
        found[0].over.wait(_WAIT_SECONDS)


def _holds(name: str) -> list[Hold]:
    holds = [reference() for reference in _HOLDS.valuerefs()]
    return [hold for hold in holds if hold is not None and hold.run.name == name]


class Watched:
    """A task that may fail: then the runs that need it have failed."""

    __slots__ = ("_names", "keys", "task")

    def __init__(self, task: Task, names: tuple[str, ...]) -> None:
        self.task, self._names = task, names
        #: Of what it needs, in the order of its arguments.
        self.keys = tuple(task.dependencies)

    def __call__(self, *values: Any) -> Any:
        """Run it."""
        with ExitStack() as working:
            for name in self._names:
                # of two runs at a time of one graph it is not known which one this is
                if len(holds := _holds(name)) == 1:
                    working.enter_context(holds[0].working())
            return self.task(dict(zip(self.keys, values, strict=True)))


def watched(task: GraphNode, names: tuple[str, ...]) -> GraphNode:
    """The same task, whose failure ends the runs of these names."""
    if not isinstance(task, Task) or not names:
        return task
    func = Watched(task, names)
    return Task(task.key, func, *map(TaskRef, func.keys))


def abort(store: Store, upload_id: str) -> None:
    """Abort an upload; a failure is a warning, so that the error that led here is seen."""
    try:
        store.abort(upload_id)
    except Exception as error:
        warn_of_parts(store, error)


def warn_of_parts(store: Store, error: Exception) -> None:
    """Say that an upload could not be removed."""
    warnings.warn(
        f"parts of {store.url} may remain: {error}; list and remove them with `ccog uploads`",
        CCOGWarning,
        stacklevel=3,
    )


def _let_go(store: Store, upload_id: str, process: int) -> None:
    """Abort an upload that nobody holds, in a thread of its own.

    Python calls this wherever the last reference goes: where locks are held, or on an event loop.
    """
    if os.getpid() != process:
        return
    thread = threading.Thread(target=abort, args=(store, upload_id), name="ccog-abort")
    try:
        thread.start()
    except RuntimeError:
        # the interpreter ends
        abort(store, upload_id)
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        thread.join(_WAIT_SECONDS)


def hear_end() -> None:
    """Have dask say how the computation ends that this thread is about to start.

    It is not heard where another thread starts one at the same moment: see above.
    """
    Callback.active.add(_HEARD)


def _ended(dsk: Mapping[Any, Any], state: dict[str, Any], errored: bool) -> None:
    if not errored:
        return
    for key in state.get("running", ()):
        if (run := _run_of(dsk.get(key))) is not None:
            _give_up(run.name)
    for value in state.get("cache", {}).values():
        if isinstance(value, Begun) and value.hold is not None:
            value.hold.abort()


def _run_of(task: GraphNode | None) -> Run | None:
    """The run that a task begins, if it is such a task."""
    if not isinstance(task, Task):
        return None
    inner = task.func.task if isinstance(task.func, Watched) else task
    return next((value for value in inner.args if isinstance(value, Run)), None)


_HEARD = Callback(finish=_ended)._callback
