"""State documents, which are JSON objects as nested dicts: merging them, comparing them, and what they may not hold.

`merge` lays a change over a document, `delta` gives what is desired and not yet reported; `deeper` and `null_in_array`
find documents that are refused. Pure functions that change no argument. The replica (`replica/core.py`) calls them.
"""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def merge(base: Document, patch: Document) -> Document:
    """`base` with `patch` laid over it, key by key. A null in the patch deletes the key; an array is replaced whole.

    Neither argument is changed; parts that the patch does not touch are shared with the result.
    """
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def delta(desired: Document, reported: Document) -> Document:
    """The part of `desired` that `reported` does not have: each value that differs or is missing there, under its path.
    Keys that only `reported` has are left out; an array that differs is given whole. Empty if nothing differs."""
    different: Document = {}
    for key, wanted in desired.items():
        actual = reported.get(key)
        if isinstance(wanted, dict) and isinstance(actual, dict):
            if below := delta(wanted, actual):
                different[key] = below
        elif key not in reported or not same(wanted, actual):
            different[key] = wanted
    return different


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal. Other than in Python, `true` is not equal to 1, at any depth."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested more than `levels` deep. A text or number has no level, a flat object or array has one. The
    search stops at that depth."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels <= 0 or any(deeper(item, levels - 1) for item in value)


def null_in_array(value: Any) -> bool:
    """Whether an array in this value, at any depth, holds a null. A state document may not have such an array."""
    if isinstance(value, dict):
        return any(map(null_in_array, value.values()))
    if isinstance(value, list):
        return any(item is None or null_in_array(item) for item in value)
    return False
