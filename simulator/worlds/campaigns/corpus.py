"""What earlier explorations found: corpus.json, the seeds that fail, each with the command that repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from simulator.model.errors import PartDied, ScenarioError
from simulator.trace.rundir import write_json

SCHEMA_VERSION = 1


class CorpusEntry(NamedTuple):
    """One seed that failed one check. `phase` is the first offending event's kind/phase, `version` the one in which it
    failed last; `fails` is False where it no longer does."""

    version: str
    scenario: str
    seed: int
    check: str
    phase: str
    seconds: float
    command: str
    fails: bool = True

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What may stand once in a corpus."""
        return self.scenario, self.seed, self.check, self.phase

    @property
    def order(self) -> tuple[Any, ...]:
        """By group, and in each those that still fail first, the fastest before the others."""
        return self.scenario, self.check, self.phase, not self.fails, self.seconds, self.seed


class Corpus:
    """The entries of one directory's corpus.json. Raises ScenarioError where it is none, or damaged."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "corpus.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            content = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {"entries": []}
            entries = [CorpusEntry(**entry) for entry in content["entries"]]
            self._entries = {entry.key: entry for entry in sorted(entries, key=lambda entry: entry.order)}
        except OSError as error:
            raise ScenarioError(f"{error.filename}: {error.strerror}; name another place with --out") from None
        except (ValueError, TypeError, KeyError) as error:
            raise ScenarioError(f"{self.path}: not a corpus, or a damaged one: {error}; remove it") from None

    def entries(self) -> list[CorpusEntry]:
        """All, in the order of the file."""
        return sorted(self._entries.values(), key=lambda entry: entry.order)

    def seeds(self, scenario: str) -> list[int]:
        """The seeds known to fail this scenario, the fastest first; after them those that no longer do."""
        entries = [entry for entry in self._entries.values() if entry.scenario == scenario]
        entries.sort(key=lambda entry: (not entry.fails, entry.seconds, entry.seed))
        return list(dict.fromkeys(entry.seed for entry in entries))

    def learn(self, scenario: str, seed: int, entries: Iterable[CorpusEntry]) -> list[CorpusEntry]:
        """A seed was run: what was found takes the place of what was known; those that no longer fail are returned."""
        new = {entry.key: entry for entry in entries}
        old = [e for e in self._entries.values() if (e.scenario, e.seed) == (scenario, seed) and e.key not in new]
        mended = [entry._replace(fails=False) for entry in old if entry.fails]
        self._entries |= {entry.key: entry for entry in mended} | new
        return mended

    def write(self) -> None:
        """Keep it, whole or not at all."""
        try:
            write_json(self.path, {"schema": SCHEMA_VERSION, "entries": [e._asdict() for e in self.entries()]})
        except OSError as error:
            raise PartDied(f"{self.path}: could not be written: {error.strerror or error}") from None
