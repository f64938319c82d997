"""The settings of faults (`with` in a scenario): what each may be, and how it is read.

A setting has the same meaning in whichever fault has it; its value is parsed here before the catalogue makes a rule of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.dialects.meanings import Means
from simulator.faults.rules import SessionTerms
from simulator.model.errors import ScenarioError
from simulator.model.quantity import duration, share, size

NAMED = {"delta": Means.DESIRED, "accepted": Means.ACCEPTED, "get_accepted": Means.CURRENT}
"""What a scenario calls a message -> what it means."""

SESSIONS = {
    "clean": SessionTerms(True, 0.0),
    "persistent": SessionTerms(False, 3600.0),
    "expired": SessionTerms(False, 1.0),  # resumed, as the device thinks: no outage worth the name is shorter
}
_CHOICES = {
    "name": tuple(NAMED),
    "packet_id": ("new", "same"),
    "session": ("as-is", *SESSIONS),
    "policy": ("no-jitter", "reset-on-connect"),
}


def _status(value: Any) -> float:
    if not isinstance(value, int | float) or not 400 <= value <= 599 or value % 1:
        shown = f"{value:g}" if isinstance(value, int | float) else repr(value)
        raise ValueError(f"{shown} is not the status of a refusal; write 403, 429 or 503")
    return value


def _copies(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 10 or value % 1:
        raise ValueError(f"{value!r} is not a number of copies; write a whole number from 0 to 10")
    return value


def _period(value: Any) -> float:
    if duration(value) == 0:
        raise ValueError("it must be more than 0")
    return duration(value)


def _label(value: Any) -> str:
    if not value or not isinstance(value, str):
        raise ValueError(f"{value!r} is no addition to a version; write a text such as -rc")
    return value


_PARSED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("after", "hold", "wait", "retry_after", "gap", "idle"), duration),
    "every": _period,
    "label": _label,
    "copies": _copies,
    **dict.fromkeys(("at", "odds"), share),
    "by": lambda value: -duration(value[1:]) if isinstance(value, str) and value.startswith("-") else duration(value),
    "space": size,
    "status": _status,
}


def parsed(name: str, value: Any, nth: int) -> Any:
    """The value of the setting `name` of a scenario's nth fault. Raises ScenarioError, naming the key and what it may be."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ScenarioError(f"faults.{nth}.with.{name}: {value!r} is none of {', '.join(_CHOICES[name])}")
    parse = _PARSED.get(name, str)
    try:
        return parse(value)
    except ValueError as error:
        raise ScenarioError(f"faults.{nth}.with.{name}: {error}") from None
