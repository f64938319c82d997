"""Topic filters: which are well-formed, which match, and an index that finds the subscribers of a topic."""

from __future__ import annotations

from typing import Any


def valid_filter(pattern: str) -> bool:
    """MQTT 5 4.7.1: `#` stands alone at the end, `+` fills a whole level."""
    if "+" not in pattern and "#" not in pattern:
        return bool(pattern)
    levels = pattern.split("/")
    return "#" not in levels[:-1] and all(len(level) == 1 or not ("+" in level or "#" in level) for level in levels)


def valid_topic(topic: str) -> bool:
    """MQTT 5 4.7.1: a topic name holds no wildcard and is not empty."""
    return bool(topic) and "+" not in topic and "#" not in topic and "\0" not in topic


def matches(pattern: str, topic: str) -> bool:
    """Whether the filter matches; wildcards at the first level do not match topics beginning with `$`."""
    p, t = pattern.split("/"), topic.split("/")
    if t[0].startswith("$") and p[0] in ("+", "#"):
        return False
    for i, level in enumerate(p):
        if level == "#":
            return True
        if i >= len(t) or level not in ("+", t[i]):
            return False
    return len(p) == len(t)


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that `narrow` matches is matched by `wide` as well."""
    w, n = wide.split("/"), narrow.split("/")
    for i, level in enumerate(w):
        if level == "#":
            return True
        if i >= len(n) or n[i] == "#" or (level != "+" and level != n[i]):
            return False
    return len(w) == len(n)


class Index:
    """Subscriptions by filter: exact topics in a dictionary (one subscriber is stored bare), wildcards in a tree."""

    __slots__ = ("_exact", "_tree")

    def __init__(self) -> None:
        self._exact: dict[str, Any] = {}
        self._tree: dict[str | None, Any] = {}  # level -> what stands below it; None -> the subscribers

    def add(self, pattern: str, key: str, value: object) -> None:
        """Subscribe `key`; an earlier value for the same filter and key is replaced."""
        if "+" in pattern or "#" in pattern:
            node = self._tree
            for level in pattern.split("/"):
                node = node.setdefault(level, {})
            node.setdefault(None, {})[key] = value
            return
        subscribers = self._exact.get(pattern)
        if subscribers is None or (type(subscribers) is tuple and subscribers[0] == key):
            self._exact[pattern] = (key, value)
        elif type(subscribers) is tuple:
            self._exact[pattern] = {subscribers[0]: subscribers[1], key: value}
        else:
            subscribers[key] = value

    def remove(self, pattern: str, key: str) -> None:
        """Take a subscription back; nothing happens where there is none."""
        if "+" in pattern or "#" in pattern:
            self._prune(self._tree, pattern.split("/"), key)
            return
        subscribers = self._exact.get(pattern)
        if type(subscribers) is tuple:
            if subscribers[0] == key:
                del self._exact[pattern]
        elif subscribers is not None:
            subscribers.pop(key, None)
            if not subscribers:
                del self._exact[pattern]

    def _prune(self, node: dict[str | None, Any], levels: list[str], key: str) -> None:
        if not levels:
            node.get(None, {}).pop(key, None)
            if not node.get(None):
                node.pop(None, None)
        elif levels[0] in node:
            self._prune(node[levels[0]], levels[1:], key)
            if not node[levels[0]]:
                del node[levels[0]]

    def find(self, topic: str) -> list[tuple[str, Any]]:
        """(key, value) of every subscription that matches; a key with several filters comes several times."""
        subscribers = self._exact.get(topic)
        matching = [subscribers] if type(subscribers) is tuple else list(subscribers.items()) if subscribers else []
        nodes = [self._tree] if self._tree else []
        hidden = topic.startswith("$")  # from wildcards at the first level
        for level in topic.split("/") if nodes else ():
            below = []
            for node in nodes:
                if "#" in node and not hidden:
                    matching.extend(node["#"][None].items())
                if level in node:
                    below.append(node[level])
                if "+" in node and not hidden:
                    below.append(node["+"])
            nodes, hidden = below, False
        for node in nodes:
            if None in node:
                matching.extend(node[None].items())
            if "#" in node:  # which matches its parent level too
                matching.extend(node["#"][None].items())
        return matching
