"""The ramp as a pure function: when each device is due to start."""

from __future__ import annotations


def due(ramp: tuple[str, float], devices: int, ordinal: int) -> float:
    """Seconds after the ramp's begin at which the device with this ordinal starts.

    `ramp` is ("rate", devices a second) or ("over", seconds for all).
    """
    kind, value = ramp
    return ordinal / value if kind == "rate" else value * ordinal / devices


def length(ramp: tuple[str, float], devices: int) -> float:
    """How long the whole ramp takes, in seconds."""
    return due(ramp, devices, devices)
