"""State documents: merging them, computing the delta between desired and reported, and the limits of a document."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def merge(base: Document, patch: Document) -> Document:
    """`base` with `patch` laid over it, key by key: null deletes a key, arrays are values and replaced whole.

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
    """What of `desired` is not yet `reported`: differing leaves with their path, desired-only keys included,
    reported-only keys excluded, arrays whole. Empty when nothing differs."""
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
    """JSON equality: unlike Python's, `true` is not 1, at any depth."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def deeper(value: Any, levels: int) -> bool:
    """Whether it is nested deeper than so many levels: a leaf has none, a flat object one. Looks no further."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels <= 0 or any(deeper(item, levels - 1) for item in value)


def null_in_array(value: Any) -> bool:
    """Whether any array within holds a null, which no state document may."""
    if isinstance(value, dict):
        return any(map(null_in_array, value.values()))
    if isinstance(value, list):
        return any(item is None or null_in_array(item) for item in value)
    return False
