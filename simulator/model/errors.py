"""The errors that fleetsim raises on purpose, a class for each party that can be at fault.

Their text is for the user. `cli/main.py` prints the text of one that reaches it and ends with exit code 4 for PartDied,
with 3 for all others.
"""

from __future__ import annotations


class FleetsimError(Exception):
    """The base of all errors that fleetsim raises on purpose; the text is for the user."""


class ScenarioError(FleetsimError):
    """The user's input is at fault: a scenario, a flag, a limit of this machine (exit code 3)."""


class PeerError(FleetsimError):
    """The other side broke its protocol: an answer that is not JSON, a refused login.

    `code` is the peer's own reason code, where it gave one.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class LinkError(FleetsimError):
    """The network is at fault: a connection was refused, cut or timed out. Whoever gets it may try again.

    `reached`: an attempt to connect failed after the other side had taken the TCP connection, as far as the link can tell.
    """

    def __init__(self, message: str, *, reached: bool = False) -> None:
        super().__init__(message)
        self.reached = reached


class TransferError(LinkError):
    """A download ended early, or went beyond its limit of size or time; `received` bytes had come until then."""

    def __init__(self, message: str, *, received: int = 0) -> None:
        super().__init__(message)
        self.received = received


class PartDied(FleetsimError):
    """A process that fleetsim itself started ended when it should not have, or the disk is full (exit code 4)."""


class NotSimulated(FleetsimError):
    """A simulated part was asked for something that it cannot do. It raises this and does not pretend to have done it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not simulated: {what}")
