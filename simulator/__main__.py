"""The command `fleetsim`: a signal ends it in a word, also while it is being loaded."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    """At once: nothing was started. An exception would pass through whatever is being imported."""
    os.write(2, b"fleetsim: interrupted\n")
    os._exit(2)


def main() -> None:
    """The entry point. Exit code 2 where a signal ended it."""
    # a script's background job inherits SIGINT as ignored: install both handlers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from simulator import cli
    from simulator.worlds import signals

    try:
        cli.main()
    except KeyboardInterrupt:  # of a verb that had started something
        print("fleetsim: interrupted", file=sys.stderr)
        sys.exit(2)
    finally:  # how it ended is known: a signal in the interpreter's own last moments changes nothing
        signals.ignore()


if __name__ == "__main__":
    main()
