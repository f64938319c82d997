"""Reads quantities as people write them: `1h30m`, `16KiB`, `200/s`, `40mbit`, `10%`.

Each function takes a value from a scenario file or a flag, a text or a number, and returns it in one fixed unit: seconds,
bytes, bytes a second, a share from 0 to 1, or how many a second. For anything else it raises ValueError, whose text says
what to write instead. COMPARE holds the operators of thresholds; `many` writes a count with its noun.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = r"(\d+(?:\.\d+)?)"
_MOST = 1e15  # nothing that anybody means is more, and infinity is not a number of anything


def _bare(value: object) -> float | None:
    """The value if it is a number from 0 to `_MOST`, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        return None
    return float(value)


def _written(value: object, factors: Mapping[str, float], *, parts: int = 1) -> float | None:
    """The sum of up to `parts` numbers that are each followed by a unit; None for anything else."""
    if not isinstance(value, str):
        return None
    term = rf"{_NUMBER}\s*({'|'.join(factors)})\s*"
    if not re.fullmatch(rf"(?:{term}){{1,{parts}}}", value, re.IGNORECASE):
        return None
    total = sum(float(n) * factors[unit.lower()] for n, unit in re.findall(term, value, re.IGNORECASE))
    return total if total <= _MOST else None


def duration(value: object) -> float:
    """A duration in seconds; a plain number means seconds."""
    seconds = _bare(value)
    if seconds is None:
        seconds = _written(value, _SECONDS, parts=len(_SECONDS))
    if seconds is None:
        raise ValueError(f"{value!r} is not a duration; write 30s, 5m or 1h30m")
    return seconds


def size(value: object) -> int:
    """A size in bytes; a plain whole number means bytes."""
    size_bytes = _bare(value) if isinstance(value, int) else _written(value, _BYTES)
    if size_bytes is None:
        raise ValueError(f"{value!r} is not a size; write 16KiB or 32MB")
    return round(size_bytes)


def bandwidth(value: object) -> float:
    """A bandwidth in bytes per second; 0 means no limit. A text is in bits per second, a plain number in bytes per
    second."""
    bits_per_s = _bare(value)
    if bits_per_s is None and (bits := _written(value, _BITS)) is not None:
        bits_per_s = bits / 8
    if bits_per_s is None:
        raise ValueError(f"{value!r} is not a bandwidth; write 40mbit or 250kbit, or 0 for no limit")
    return bits_per_s


def share(value: object) -> float:
    """A share as a fraction from 0 to 1; written `10%` or 0.1."""
    fraction = _bare(value)
    if isinstance(value, str) and (match := re.fullmatch(rf"{_NUMBER}\s*%", value)):
        fraction = float(match[1]) / 100
    if fraction is None or fraction > 1:
        raise ValueError(f"{value!r} is not a share; write 10%, or a number from 0 to 1")
    return fraction


def part(value: object) -> tuple[int, int]:
    """A part of a whole as (which, of how many), which counts from 1; written `1/3`. Such a pair is returned unchanged."""
    pair = value
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+)\s*/\s*(\d+)", value)):
        pair = (int(match[1]), int(match[2]))
    if isinstance(pair, list | tuple) and len(pair) == 2:
        which, count = pair
        if isinstance(which, int) and isinstance(count, int) and 1 <= which <= count:
            return which, count
    raise ValueError(f"{value!r} is no part of a whole; write 1/3")


def ramp(value: object) -> tuple[str, float]:
    """How fast devices are started: ("rate", devices a second) for `200/s`, ("over", seconds for all) for `30s`. Such a pair
    is returned unchanged."""
    kind, number = value if isinstance(value, list | tuple) and len(value) == 2 else ("", value)
    if isinstance(number, str) and (match := re.fullmatch(rf"{_NUMBER}\s*/\s*s", number)):
        kind, number = "rate", float(match[1])
    try:
        if kind == "rate" and duration(number) > 0:
            return "rate", duration(number)
        if kind in ("", "over"):
            return "over", duration(number)
    except ValueError:
        pass
    raise ValueError(f"{value!r} is not a ramp; write 200/s (devices a second) or 30s (all within)")


def rate(value: object) -> float:
    """A rate per second, more than 0; written `60/s` or `3600/min`."""
    match = re.fullmatch(rf"{_NUMBER}\s*/\s*(s|min)", value.strip()) if isinstance(value, str) else None
    per_s = float(match[1]) / (1 if match[2] == "s" else 60) if match else 0.0
    if not 0 < per_s <= _MOST:
        raise ValueError(f"{value!r} is not a rate; write 60/s or 3600/min")
    return per_s


def threshold(value: object) -> tuple[str, float]:
    """A threshold as (operator, share); written `>= 95%` or `> 0.1`. Such a pair is returned unchanged."""
    compare, limit = value if isinstance(value, list | tuple) and len(value) == 2 else ("", value)
    if isinstance(limit, str) and (match := re.fullmatch(rf"(>=|>|<=|<)\s*({_NUMBER}\s*%?)", limit.strip())):
        compare, limit = match[1], match[2] if match[2].endswith("%") else float(match[2])
    if isinstance(compare, str) and compare in COMPARE:
        return compare, share(limit)
    raise ValueError(f"{value!r} is not a threshold; write '>= 95%' or '> 10%'")


def limit(value: object) -> tuple[str, str, float]:
    """A limit on a figure as (operator, unit, value); written `< 10m`, `>= 95%`, `<= 16MiB`, `> 50/s` or `<= 3`. The unit is
    `s`, `share`, `bytes`, `/s`, or empty for a plain number. Such a triple is returned unchanged, and a threshold's pair as one
    on a share."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], "share", threshold(value)[1]
    compare, unit, number = value if isinstance(value, list | tuple) and len(value) == 3 else ("", "", value)
    if isinstance(number, str) and (match := re.fullmatch(r"(>=|>|<=|<)\s*(\S.*?)\s*", number.strip())):
        compare, (unit, number) = match[1], _limited(match[2])
    if isinstance(compare, str) and compare in COMPARE and isinstance(unit, str) and (n := _bare(number)) is not None:
        return compare, unit, n
    raise ValueError(f"{value!r} is not a threshold; write '>= 95%', '< 10m', '<= 16MiB', '> 50/s' or '<= 3'")


def _limited(text: str) -> tuple[str, object]:
    """The unit and value of a limit's text; the text itself as its value, where it is none."""
    if re.fullmatch(_NUMBER, text):
        return "", float(text)
    for unit, parse in (("share", share), ("s", duration), ("bytes", size), ("/s", rate)):
        try:
            return unit, parse(text)
        except ValueError:
            continue
    return "", text


COMPARE = {
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
}


def many(count: int, noun: str) -> str:
    """The count with its noun, which is given in the singular: `1 device`, `1,200 devices`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
