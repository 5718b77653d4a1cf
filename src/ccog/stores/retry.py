"""Patience with stores that fail for a moment: exponential waits with full jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often to try, and the longest waits between: ``first`` seconds, doubled up to ``longest``."""

    attempts: int = 10
    first: float = 0.5
    longest: float = 20.0

    def wait(self, attempt: int) -> float:
        """Seconds to wait after that many failed attempts, between zero and the limit ("full jitter")."""
        return random.uniform(0, min(self.longest, self.first * 2 ** (attempt - 1)))


#: For parts and completion: about a minute before giving up hours of work.
PATIENT = Patience()

#: For the first call of a write: what is wrong with the target shows within seconds.
BRISK = Patience(attempts=5, longest=4.0)


def patiently(
    call: Callable[[], T],
    passing: Callable[[Exception], bool],
    patience: Patience = PATIENT,
    after: Callable[[Exception], None] = lambda _: None,
) -> T:
    """Call until it succeeds; errors that are not passing, and the last one, are raised.

    ``after`` runs after each passing error, before the next attempt or the end.
    """
    attempt = 1
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            after(error)
            if attempt == patience.attempts:
                raise
        time.sleep(patience.wait(attempt))
        attempt += 1
