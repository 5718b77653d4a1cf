"""What commands print and how they end: errors, warnings and signals in one line each."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from ccog.errors import CCOGError, StoreExistsError
from ccog.redaction import redacted

# sent by batch systems, Kubernetes, `timeout`, closed terminals; Windows has no SIGHUP
_ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

# errors of writing to a pipe whose reader has gone, and to a terminal that is closed
_NOBODY_READS = (errno.EPIPE, errno.EIO)

# shells add this to the number of the signal that ended a program
_SIGNALLED = 128


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Print warnings and errors as one line each, and end with the right exit code.

    It is 1 after an error, and after a signal 128 plus its number (Ctrl-C: 130).
    """
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        # whoever types a command can do nothing about the code of libraries
        for category in (NotGeoreferencedWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda message, *_, **__: echo(
            f"Warning: {_one_line(str(message))}", err=True
        )
        try:
            with _ended_by_signals():
                yield
        except StoreExistsError as error:
            _fail(f"{error} (--overwrite)")
        except (CCOGError, RasterioError) as error:
            _fail(str(error) or type(error).__name__)
        except OSError as error:
            named = error.filename and f"{error.filename}: {error.strerror}"
            _fail(named or str(error) or type(error).__name__)
        except KeyboardInterrupt as error:
            _end(error)
        except click.Abort as error:
            # what a question of click makes of a signal, or of an answer that is no
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            _end(error.__context__)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line. A closed pipe (`head`) or terminal does not change the result."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        if error.errno not in _NOBODY_READS:
            raise
        # the rest of the buffer goes nowhere when the interpreter ends
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), (sys.stderr if err else sys.stdout).fileno())


def _fail(message: str) -> NoReturn:
    raise click.ClickException(_one_line(message)) from None


def _end(error: KeyboardInterrupt) -> NoReturn:
    number = getattr(error, "number", signal.SIGINT)
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    echo(f"Aborted{by}!", err=True)
    sys.exit(_SIGNALLED + number)


def _one_line(text: str) -> str:
    return " ".join(redacted(text).split())


# seconds after which a signal that was lost is sent again
_AGAIN_SECONDS = 0.05


class _EndedError(KeyboardInterrupt):
    """A signal asks the program to end.

    Python drops what is raised while it calls back for a weak reference or removes an object, and
    modules that Cython compiled drop what is raised while they are imported. An error that is gone
    before it has ended the program was dropped.
    """

    def __init__(self, number: int, *, when_gone: Callable[[int], None]) -> None:
        super().__init__(number)
        self.number = number
        self._when_gone = when_gone

    def __del__(self) -> None:
        self._when_gone(self.number)


class _Ending:
    """Whether a signal has asked the program to end.

    After the first signal, or Ctrl-C, only another Ctrl-C disturbs the clean-up.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.is_over = False

    def ask(self, number: int, _: Any) -> None:
        """Handle a signal, as `signal.signal` takes it."""
        if self.is_asked and number != signal.SIGINT:
            return
        self.is_asked = True
        raise _EndedError(number, when_gone=self._ask_again)

    def _ask_again(self, number: int) -> None:
        if self.is_over:
            return
        self.is_asked = False
        main = threading.main_thread().ident
        threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number)).start()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that an unfinished write is removed.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """
    before, show_dropped = _unchanged_handlers(), sys.unraisablehook
    ending = _Ending()

    def show_others(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, _EndedError):
            show_dropped(dropped)

    try:
        for number in before:
            signal.signal(number, ending.ask)
        if before:
            sys.unraisablehook = show_others
        yield
    finally:
        ending.is_over = True
        sys.unraisablehook = show_dropped
        for number, handler in before.items():
            # which also holds while the interpreter ends
            is_ignored = ending.is_asked and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if is_ignored else handler)


def _unchanged_handlers() -> dict[int, Any]:
    """Handlers that nobody has changed; only the main thread may set others."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    usual: dict[int, Any] = dict.fromkeys(_ENDING_SIGNALS, signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    unchanged = [number for number in usual if signal.getsignal(number) == usual[number]]
    return {number: usual[number] for number in unchanged}
