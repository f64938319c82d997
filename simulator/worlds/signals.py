"""SIGINT and SIGTERM: once something was started, they end it and keep its record."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

BOTH = (signal.SIGINT, signal.SIGTERM)


def heed() -> None:
    """From now on both raise KeyboardInterrupt, also where a script's background job inherited SIGINT as ignored."""
    for number in BOTH:
        signal.signal(number, signal.default_int_handler)


@contextmanager
def held() -> Iterator[None]:
    """Both wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
