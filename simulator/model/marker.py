"""Markers: lines among an artifact's first bytes that make an update go wrong, so that whoever has the artifact decides.

`fleetsim:boot-fails`, or `fleetsim:boot-fails 30%` for a share of the devices.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from simulator.model.quantity import share

HEAD_BYTES = 512  # of an artifact, in which devices look for markers
_LINE = re.compile(rb"^fleetsim:([^\r\n]*)", re.MULTILINE)

MARKERS: dict[str, tuple[str, str]] = {
    "verify-fails": ("verify", "error"),
    "install-fails": ("install", "error"),
    "install-hangs": ("install", "hang"),
    "early-success": ("install", "lie"),
    "vanish": ("install", "vanish"),
    "boot-fails": ("reboot", "error"),
    "boot-hangs": ("reboot", "hang"),
    "report-hangs": ("report", "hang"),
}
"""word -> the stage, and the way in which it goes wrong."""


class Marker(NamedTuple):
    """What goes wrong, in which stage and on which share of the devices; `stage` is empty where nobody knows the word.
    `text` is the line behind its colon."""

    text: str
    stage: str = ""
    way: str = ""
    share: float = 0.0


def markers(head: bytes) -> list[Marker]:
    """The markers in an artifact's first bytes, each on a line of its own."""
    if b"fleetsim:" not in head:  # which takes a hundredth of the time
        return []
    return [read(text.decode("utf-8", "replace").strip()) for text in _LINE.findall(head)]


def read(text: str) -> Marker:
    """The marker that this text makes."""
    word, _, odds = text.partition(" ")
    try:
        return Marker(text, *MARKERS[word], share(odds.strip() or 1))
    except (KeyError, ValueError):
        return Marker(text)


def written(text: str) -> bytes:
    """The line that holds it."""
    return f"fleetsim:{text}\n".encode()
