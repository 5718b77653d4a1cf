"""The rule for repeating calls to stores: waits that grow, for about a minute."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ccog.errors import StoreError
from ccog.redaction import harmless, redacted

T = TypeVar("T")
Marker = dict[str, Any]

# pages of a listing, of a thousand entries each, that are asked for at most, and how many
# markers back a circle is noticed
_MOST_PAGES = 10_000
_CYCLE = 100


class AnswerError(Exception):
    """An answer that is not what the call promises. The same call may be answered better."""


_LOGGER = logging.getLogger("ccog")


@dataclass(frozen=True)
class Patience:
    """How long a call is repeated: for ``seconds`` after its first failure.

    The first wait is ``first`` seconds at most. The limit doubles with each attempt, up
    to ``longest``. A slow answer counts: an attempt that has begun is never cut short.
    """

    seconds: float = 60.0
    first: float = 0.5
    longest: float = 10.0

    def wait(self, attempt: int) -> float:
        """Random seconds to wait after that many failures ("full jitter")."""
        return random.uniform(0, min(self.longest, self.first * 2 ** (attempt - 1)))


#: For parts and completion: a minute before hours of work are given up.
PATIENT = Patience()

#: For the first calls of a write, whose target may be wrong, and for cleaning up.
BRISK = Patience(seconds=10.0, longest=4.0)

#: For questions whose answer is welcome, but not needed.
ONCE = Patience(seconds=0.0)


def retry(
    call: Callable[[], T],
    is_transient: Callable[[Exception], bool],
    doing: str,
    patience: Patience = PATIENT,
    *,
    after: Callable[[Exception], object] | None = None,
    explained: Callable[[Exception, str], StoreError] | None = None,
    options: Mapping[str, Any] | None = None,
) -> T:
    """Call until it succeeds, as long as errors are transient; then raise the last one.

    Parameters
    ----------
    doing
        For the log, which gets one line before the second attempt: "cannot {doing}".
    after
        Called with each transient error, before the next attempt or the end.
    explained
        Says what is raised instead of the last error, of which it gets ``doing``, too.
    options
        Storage options: neither the log nor a cause shows credentials that are among them.
    """
    attempt, first_failure = 1, 0.0
    try:
        while True:
            try:
                return call()
            except Exception as error:
                if not is_transient(error):
                    raise
                if after is not None:
                    after(error)
                now = time.monotonic()
                first_failure = first_failure or now
                left = patience.seconds - (now - first_failure)
                if left <= 0:
                    raise
                if attempt == 1:
                    reason = first_line(error, options)
                    _LOGGER.warning("cannot %s: %s; trying again for %.0f s", doing, reason, left)
            time.sleep(min(patience.wait(attempt), left))
            attempt += 1
    except Exception as error:
        if explained is None:
            raise
        raise explained(error, doing) from harmless(error, options)


def needed(answer: Mapping[str, Any], name: str) -> Any:
    """What a call promises to answer; AnswerError if it is not there."""
    value = answer.get(name)
    if value is None:
        raise AnswerError(f"the server's answer has no {name}")
    return value


def pages(ask: Callable[[Marker], tuple[T, Marker | None]], doing: str) -> Iterator[T]:
    """Pages of a listing.

    ``ask`` gets the arguments that ask for a page, none for the first, and returns it with
    those of the next; None: it is the last. A server that goes round in circles, or has no
    end, is an error.
    """
    marker: Marker = {}
    seen: list[Marker] = []
    while len(seen) < _MOST_PAGES:
        page, following = ask(marker)
        yield page
        if following is None:
            return
        if not following or following in seen[-_CYCLE:]:
            raise StoreError(f"cannot {doing}: the server says that there is more, but not where")
        marker = following
        seen.append(marker)
    raise StoreError(f"cannot {doing}: it has more than {_MOST_PAGES} pages")


def first_line(error: BaseException, options: Mapping[str, Any] | None = None) -> str:
    """The first line of an error's message, without credentials."""
    line = str(error).partition("\n")[0]
    return redacted(line, options) or type(error).__name__
