"""`fleetsim explore`: one scenario under many seeds in virtual time.

Each seed is one run, judged like any other. Failures of the same check in the same phase of the device form a group, since
they mostly have one cause; each group shows the command of its fastest example. Failing seeds are kept in a corpus, which
the next exploration runs first, to tell which failures are gone.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import __version__
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.worlds import run as running
from simulator.worlds import signals
from simulator.worlds.campaigns.corpus import Corpus, CorpusEntry
from simulator.worlds.campaigns.workers import Result, run_seeds
from simulator.worlds.progress import SeedLine

SCHEMA_VERSION = 1
_SAVE_S = 5.0  # what was found is kept this often


@dataclass(slots=True)
class _Group:
    """Failures of one check in one phase: the `example` is the fastest of them, `summary` what the check said of it."""

    example: CorpusEntry
    summary: str
    count: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the summary."""
        entry = self.example
        return {"check": entry.check, "phase": entry.phase, "count": self.count, "seconds": entry.seconds,
                "command": entry.command, "summary": self.summary}  # fmt: skip


class Exploration:
    """What was found so far; `word` is the scenario as the user named it."""

    def __init__(self, scenario: Scenario, word: str, corpus: Corpus, line: SeedLine) -> None:
        self._scenario, self._word, self._corpus, self._line = scenario, word, corpus, line
        self._began = self._saved = time.monotonic()
        self._took_s = 0.0
        self._groups: dict[tuple[str, str], _Group] = {}
        self._unsure: list[Result] = []
        self._mended: list[CorpusEntry] = []
        self.done = self.failed = 0
        self.interrupted = False

    def hear(self, result: Result) -> None:
        """One seed was run."""
        self.done += 1
        self.failed += bool(result.failures)
        entries = [self._entry(result, failure.check, failure.phase) for failure in result.failures]
        for entry, failure in zip(entries, result.failures, strict=True):
            group = self._groups.setdefault((entry.check, entry.phase), _Group(entry, failure.summary))
            group.count += 1
            if entry.seconds < group.example.seconds:
                group.example, group.summary = entry, failure.summary
        if result.unsure:
            self._unsure.append(result)
        else:
            self._mended += self._corpus.learn(self._scenario.name, result.seed, entries)
        self._took_s = time.monotonic() - self._began
        self._line.show(self._took_s, self.done, self.failed)
        if entries and time.monotonic() - self._saved > _SAVE_S:
            self._corpus.write()
            self._saved = time.monotonic()

    def _entry(self, result: Result, check: str, phase: str) -> CorpusEntry:
        command = ["fleetsim", "run", self._word, "--world", "virtual", "--seed", str(result.seed)]
        return CorpusEntry(
            __version__, self._scenario.name, result.seed, check, phase, result.seconds, shlex.join(command)
        )

    @property
    def exit_code(self) -> int:
        """1 something failed; 2 nothing did, but not every run proves it; 0 all passed."""
        return 1 if self.failed else 2 if self._unsure or self.interrupted else 0

    def summary(self) -> dict[str, Any]:
        """The whole of it, for machines and for `as_text`."""
        unsure = [{"seed": result.seed, "why": result.unsure} for result in self._unsure]
        return {
            "schema": SCHEMA_VERSION,
            "scenario": self._scenario.name,
            "version": __version__,
            "exit_code": self.exit_code,
            "interrupted": self.interrupted,
            "seeds": self.done,
            "failed": self.failed,
            "seconds": round(self._took_s, 3),
            "groups": [group.as_dict() for group in sorted(self._groups.values(), key=lambda group: -group.count)],
            "unsure": unsure,
            "mended": [entry.command for entry in self._mended],
            "corpus": str(self._corpus.path),
        }


def explore(scenario: Scenario, word: str, seeds: range, processes: int, out: Path, *, quiet: bool) -> Exploration:
    """Run the known failing seeds, then all others; leave the corpus in `out`. Raises ScenarioError before anything
    was started."""
    running.sensible(scenario)
    running.sensible_in_virtual_time(scenario)
    corpus = Corpus(out)
    known = corpus.seeds(scenario.name)
    asked = [*known, *(seed for seed in seeds if seed not in set(known))] if known else seeds
    line = SeedLine(len(asked), sys.stderr, on=sys.stderr.isatty() and not quiet)
    exploration = Exploration(scenario, word, corpus, line)
    signals.heed()
    try:
        run_seeds(scenario, asked, processes, exploration.hear)
    except KeyboardInterrupt:
        exploration.interrupted = True
    finally:
        line.clear()
        corpus.write()
    return exploration


def as_text(summary: dict[str, Any]) -> str:
    """What was found, for a terminal."""
    rate = summary["seeds"] / summary["seconds"] if summary["seconds"] else 0.0
    lines = [
        f"{summary['scenario']}: {many(summary['seeds'], 'seed')}{', interrupted' if summary['interrupted'] else ''}, "
        f"{summary['failed']:,} failed, {len(summary['unsure']):,} unsure; {summary['seconds']:.1f} s, {rate:.1f} seeds/s"
    ]
    if groups := summary["groups"]:
        checks, phases = (max(len(name), *(len(g[name]) for g in groups)) for name in ("check", "phase"))
        lines += ["", f"  {'seeds':>6}  {'check':<{checks}}  {'phase':<{phases}}  example"]
        lines += [f"  {g['count']:>6,}  {g['check']:<{checks}}  {g['phase']:<{phases}}  {g['command']}" for g in groups]
        lines.append("")
    if unsure := summary["unsure"]:
        lines.append(f"  unsure  {unsure[0]['why']} (seed {unsure[0]['seed']})")
    if mended := summary["mended"]:
        lines.append(f"  mended  {len(mended):,} known failures are gone, such as {mended[0]}")
    return "\n".join([*lines, f"  corpus  {summary['corpus']}"])
