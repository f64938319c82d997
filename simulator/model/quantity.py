"""Quantities as people write them: `1h30m`, `16KiB`, `200/s`, `40mbit`, `10%`. Errors say what to write instead."""

from __future__ import annotations

import re

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = r"(\d+(?:\.\d+)?)"


def _parts(text: str, units: str) -> list[tuple[float, str]] | None:
    if not re.fullmatch(rf"(?:{_NUMBER}\s*({units})\s*)+", text, re.IGNORECASE):
        return None
    return [(float(n), u.lower()) for n, u in re.findall(rf"{_NUMBER}\s*({units})", text, re.IGNORECASE)]


def duration(value: object) -> float:
    """Seconds; a bare number is seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    parts = _parts(value, "us|ms|s|m|h|d") if isinstance(value, str) else None
    if parts is None:
        raise ValueError(f"{value!r} is not a duration; write 30s, 5m or 1h30m")
    return sum(n * _SECONDS[u] for n, u in parts)


def size(value: object) -> int:
    """Bytes; a bare number is bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    parts = _parts(value, "[kmg]ib|[kmg]?b") if isinstance(value, str) else None
    if parts is None or len(parts) != 1:
        raise ValueError(f"{value!r} is not a size; write 16KiB or 32MB")
    return round(parts[0][0] * _BYTES[parts[0][1]])


def bandwidth(value: object) -> float:
    """Bytes per second; 0 is no limit. A bare number is bytes per second."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    parts = _parts(value, "[kmg]?bit") if isinstance(value, str) else None
    if parts is None or len(parts) != 1:
        raise ValueError(f"{value!r} is not a bandwidth; write 40mbit or 250kbit, or 0 for no limit")
    return parts[0][0] * _BITS[parts[0][1]] / 8


def share(value: object) -> float:
    """A fraction from 0 to 1; written 10% or 0.1."""
    fraction: float | None = None
    if isinstance(value, str) and (match := re.fullmatch(rf"{_NUMBER}\s*%", value)):
        fraction = float(match[1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        fraction = float(value)
    if fraction is None or not 0 <= fraction <= 1:
        raise ValueError(f"{value!r} is not a share; write 10%, or a number from 0 to 1")
    return fraction


def ramp(value: object) -> tuple[str, float]:
    """("rate", devices a second) for `200/s`, ("over", seconds) for `30s`; such a pair stays as it is."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] in ("rate", "over"):
        return value[0], float(value[1])
    if isinstance(value, str) and (match := re.fullmatch(rf"{_NUMBER}\s*/\s*s", value)) and float(match[1]) > 0:
        return "rate", float(match[1])
    try:
        return "over", duration(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a ramp; write 200/s (devices a second) or 30s (all within)") from None


def threshold(value: object) -> tuple[str, float]:
    """(operator, share) for `>= 95%` or `> 0.1`; such a pair stays as it is."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] in COMPARE:
        return value[0], share(value[1])
    if isinstance(value, str) and (match := re.fullmatch(r"(>=|>|<=|<)\s*(\S+)", value.strip())):
        text = match[2]
        return match[1], share(text if text.endswith("%") else float(text))
    raise ValueError(f"{value!r} is not a threshold; write '>= 95%' or '> 10%'")


COMPARE = {
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
}
