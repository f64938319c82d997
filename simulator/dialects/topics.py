"""Topic templates: on which topics a dialect talks, and which topics are a thing's own.

A dialect lists its topics as the fields of a subclass of `Topics`, each with the template that is used unless the
scenario's `target.topics` replaces it, such as `update: str = "state/{thing}/update"`. `{thing}` is one whole level of the
topic, at any depth, but at the same depth in all templates of a dialect: so one look at a topic tells whose it is and
which of the templates it fits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

THING = "{thing}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The templates of one dialect, by name; this base has none, as suits a dialect without MQTT. Raises ValueError for
    templates that cannot be told apart or do not hold `{thing}` as described above."""

    _level: int = field(init=False, default=0, repr=False)
    _names: dict[str, str] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = set()
        for name, template in self.templates().items():
            parts = template.split("/")
            if parts.count(THING) != 1 or any(c in template.replace(THING, "", 1) for c in "+#\0{}"):
                raise ValueError(f"topic template {name!r} must hold {{thing}} once, as a whole level: {template!r}")
            levels.add(parts.index(THING))
            parts.remove(THING)
            self._names["/".join(parts)] = name
        if len(levels) > 1:
            raise ValueError("topic templates must all hold {thing} at the same level")
        if len(self._names) != len(self.templates()):
            raise ValueError("topic templates must all differ")
        object.__setattr__(self, "_level", max(levels, default=0))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of its templates."""
        return tuple(f.name for f in fields(cls) if f.init)

    def templates(self) -> dict[str, str]:
        """name -> template."""
        return {name: getattr(self, name) for name in self.names()}

    def rights(self) -> tuple[str, ...]:
        """What a thing may publish and subscribe to, as topic filters with `{thing}` in them: all that is below its own
        name, wherever that stands. Read by the brokers; whoever is a service may use the same of all things."""
        before = dict.fromkeys(template.partition(THING)[0] for template in self.templates().values())
        return tuple(f"{prefix}{THING}/#" for prefix in before)

    def parse(self, topic: str) -> tuple[str, str]:
        """The template's name and the thing; ("", "") for a topic that is none of these."""
        parts = topic.split("/")
        if self._level >= len(parts):
            return "", ""
        thing = parts.pop(self._level)
        return self._names.get("/".join(parts), ""), thing


def fill(template: str, thing: str) -> str:
    """The template's topic of one thing; `+` makes it the filter for all."""
    return template.replace(THING, thing)
