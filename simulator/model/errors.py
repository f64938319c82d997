"""One tree of errors, sorted by whose fault it is."""

from __future__ import annotations


class FleetsimError(Exception):
    """Every error that fleetsim raises on purpose; its text is meant for a person."""


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
    """The road is at fault: a connection was refused, cut or timed out. Trying again is right.

    `reached`: an attempt to connect failed after the other side had taken the TCP connection, as far as the link can tell.
    """

    def __init__(self, message: str, *, reached: bool = False) -> None:
        super().__init__(message)
        self.reached = reached


class TransferError(LinkError):
    """A download ended early, or went past its bound or deadline; `received` bytes came before."""

    def __init__(self, message: str, *, received: int = 0) -> None:
        super().__init__(message)
        self.received = received


class PartDied(FleetsimError):
    """A part that fleetsim itself started has died unasked, or the disk is full (exit code 4)."""


class NotSimulated(FleetsimError):
    """A simulated thing was asked for what it cannot do; said loudly instead of pretended."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not simulated: {what}")
