"""SIGINT and SIGTERM: once something was started, they end it and keep its record."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

BOTH = (signal.SIGINT, signal.SIGTERM)
_came = False


def heed() -> None:
    """From now on both raise KeyboardInterrupt, also where a script's background job inherited SIGINT as ignored."""
    for number in BOTH:
        signal.signal(number, _interrupt)


def ignore() -> None:
    """From now on both change nothing: what remains is the end."""
    for number in BOTH:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    note()
    raise KeyboardInterrupt


def note() -> None:
    """One came."""
    global _came
    _came = True


def insist() -> None:
    """Raise KeyboardInterrupt where one came before: a live run may have been about to end, and pyarrow swallows what
    is raised while it loads its parts."""
    if _came:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Both wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
