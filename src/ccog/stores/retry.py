"""Patience with stores that fail for a moment: exponential waits with full jitter, for about a minute."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ccog.redaction import redacted

T = TypeVar("T")

_LOGGER = logging.getLogger("ccog")


@dataclass(frozen=True)
class Patience:
    """For how many seconds a call is repeated after its first failure.

    The waits between attempts are at most ``first`` seconds, doubled up to ``longest``.
    An attempt that has begun is waited for, so that a slow answer counts.
    """

    seconds: float = 60.0
    first: float = 0.5
    longest: float = 10.0

    def wait(self, attempt: int) -> float:
        """Seconds to wait after that many failed attempts, between zero and the limit ("full jitter")."""
        return random.uniform(0, min(self.longest, self.first * 2 ** (attempt - 1)))


#: For parts and completion: a minute before giving up hours of work.
PATIENT = Patience()

#: For the first calls of a write, whose target may be wrong, and for removing what a failed one has put.
BRISK = Patience(seconds=10.0, longest=4.0)

#: For what is only asked by the way.
ONCE = Patience(seconds=0.0)


def patiently(
    call: Callable[[], T],
    passing: Callable[[Exception], bool],
    what: str,
    patience: Patience = PATIENT,
    after: Callable[[Exception], None] = lambda _: None,
    options: Mapping[str, Any] | None = None,
) -> T:
    """Call until it succeeds; errors that are not passing, and the last one, are raised.

    ``what`` is being done, for the log: one line says so before the second attempt. ``after`` runs after each
    passing error, before the next attempt or the end. The log shows no credentials of ``options``.
    """
    attempt, first_failure = 1, 0.0
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            after(error)
            now = time.monotonic()
            first_failure = first_failure or now
            left = patience.seconds - (now - first_failure)
            if left <= 0:
                raise
            if attempt == 1:
                _LOGGER.warning(
                    "cannot %s: %s; trying again for %.0f s", what, first_line(error, options), left
                )
        time.sleep(min(patience.wait(attempt), left))
        attempt += 1


def first_line(error: BaseException, options: Mapping[str, Any] | None = None) -> str:
    """The first line of an error's message, without credentials, those of the storage options among them."""
    return redacted(str(error).partition("\n")[0], options) or type(error).__name__
