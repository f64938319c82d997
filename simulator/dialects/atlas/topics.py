"""The topics of the atlas dialect, as templates that a scenario may replace."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic templates; `{thing}` is a whole level, the same level in all of them. Raises ValueError otherwise."""

    update: str = "state/{thing}/update"
    accepted: str = "state/{thing}/update/accepted"
    rejected: str = "state/{thing}/update/rejected"
    delta: str = "state/{thing}/update/delta"
    get: str = "state/{thing}/get"
    get_accepted: str = "state/{thing}/get/accepted"
    get_rejected: str = "state/{thing}/get/rejected"
    credentials: str = "state/{thing}/credentials/get"
    credentials_accepted: str = "state/{thing}/credentials/get/accepted"
    credentials_rejected: str = "state/{thing}/credentials/get/rejected"
    _level: int = field(init=False, default=0, repr=False)
    _names: dict[str, str] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = set()
        for name, template in self.templates().items():
            parts = template.split("/")
            if parts.count("{thing}") != 1 or any(c in template.replace("{thing}", "", 1) for c in "+#\0{}"):
                raise ValueError(f"topic template {name!r} must hold {{thing}} once, as a whole level: {template!r}")
            levels.add(parts.index("{thing}"))
            parts.remove("{thing}")
            self._names["/".join(parts)] = name
        if len(levels) != 1:
            raise ValueError("topic templates must all hold {thing} at the same level")
        if len(self._names) != len(self.templates()):
            raise ValueError("topic templates must all differ")
        object.__setattr__(self, "_level", levels.pop())

    def templates(self) -> dict[str, str]:
        """name -> template."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def parse(self, topic: str) -> tuple[str, str]:
        """The template's name and the thing; ("", "") for a topic that is none of these."""
        parts = topic.split("/")
        if self._level >= len(parts):
            return "", ""
        thing = parts.pop(self._level)
        return self._names.get("/".join(parts), ""), thing


TOPICS = Topics()


def fill(template: str, thing: str) -> str:
    """The template's topic of one thing; `+` makes it the filter for all."""
    return template.replace("{thing}", thing)
