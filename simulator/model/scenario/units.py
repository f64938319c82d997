"""What the values of a scenario file are written in: durations, sizes, shares, rates; and what every block of it is."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from simulator.model import quantity


def _unit(parse: Any, examples: list[Any]) -> Any:
    """A type hint's metadata: parsed by `parse`, described in the JSON Schema by examples."""
    return BeforeValidator(parse), WithJsonSchema({"type": ["string", "number"], "examples": examples})


_duration, _size, _share = (
    _unit(quantity.duration, ["30s", "5m", "1h30m"]),
    _unit(quantity.size, ["16KiB", "32MB"]),
    _unit(quantity.share, ["10%", 0.1]),
)
Duration = Annotated[float, *_duration]
Size = Annotated[int, *_size]
Share = Annotated[float, *_share]
Ramp = Annotated[tuple[str, float], *_unit(quantity.ramp, ["200/s", "30s"])]
Threshold = Annotated[tuple[str, float], *_unit(quantity.threshold, [">= 95%", "> 10%"])]
Limit = Annotated[tuple[str, str, float], *_unit(quantity.limit, [">= 95%", "< 10m", "<= 16MiB", "> 50/s", "<= 3"])]
PartOf = Annotated[tuple[int, int], *_unit(quantity.part, ["1/3"])]


class Block(BaseModel):
    """Every block of a scenario: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def no_such(what: str, name: str, known: list[str]) -> str:
    """That there is no `what` of this name, and which is nearest to it or which there are."""
    near = difflib.get_close_matches(name, known, 1)
    return f"no such {what}: {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}")
