"""What a rollout answers: what to do next (Offer, Pending, Done), what has happened (Moved, Changed), where a target is
(Standing)."""

from __future__ import annotations

from msgspec import Struct

from simulator.model.update import Execution, State


class Offer(Struct, frozen=True):
    """Offer this execution now; it was due at `due` (the clock of `now`)."""

    execution: Execution
    due: float


class Pending(Struct, frozen=True):
    """Nothing to offer until `wake_at` (None: until an outcome comes)."""

    wake_at: float | None


class Done(Struct, frozen=True):
    """Every target has ended."""

    reason: str


class Moved(Struct, frozen=True):
    """News of the rollout: begin, wave, pause, resume, abort or end; `size` counts its targets, or the wave's."""

    status: str
    size: int
    reason: str = ""


class Changed(Struct, frozen=True):
    """News of an execution; `span` is in seconds since it was offered, None where it never was."""

    thing: str
    job: str
    state: State
    span: float | None
    reason: str = ""


class Standing(Struct, frozen=True):
    """One target's latest execution."""

    job: str
    state: State
    attempt: int
    wave: int
