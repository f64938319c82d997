"""Many seeds of one scenario, each once in virtual time and judged, in worker processes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, NamedTuple

from simulator.model.errors import PartDied
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding, Verdict
from simulator.trace.reader import Trace
from simulator.worlds.nopandas import hide_pandas
from simulator.worlds.reproduce.replay import Again, again

_BATCH_DEVICES = 320  # devices in one batch of seeds: about half a second


class SeedFailure(NamedTuple):
    """A promise that a run broke; `phase` is the first offending event's kind/phase."""

    check: str
    phase: str
    summary: str


class Result(NamedTuple):
    """What one seed came to; `unsure` says why the run proves nothing, empty where it does."""

    seed: int
    seconds: float
    failures: tuple[SeedFailure, ...]
    unsure: str = ""


def judge_seed(scenario: Scenario, seed: int) -> Result:
    """Run one seed and judge it."""
    began = time.perf_counter()
    done = again(scenario.model_copy(update={"seed": seed}))
    failures = tuple(_failures(done))
    unsure = "" if failures or done.judgement.verdict is Verdict.PASS else _unsure(done)
    return Result(seed, round(time.perf_counter() - began, 4), failures, unsure)


def _failures(done: Again) -> Iterator[SeedFailure]:
    for finding in done.judgement.failed:
        yield SeedFailure(finding.check, _phase(done.trace, finding), finding.summary)
    if done.crash:
        yield SeedFailure("crash", done.crash, done.judgement.died[0])


def _phase(trace: Trace, finding: Finding) -> str:
    if not finding.events:
        return ""
    event = trace.row(finding.events[0])
    return "/".join(filter(None, (event["kind"], event.get("phase") or event.get("status"))))


def _unsure(done: Again) -> str:
    judgement = done.judgement
    unknown = [f"{f.check}: {f.summary}" for f in judgement.findings if f.verdict is Verdict.UNKNOWN]
    return next(iter([*judgement.died, *judgement.invalid, *judgement.incomplete, *unknown]), "nothing was checked")


# ---- in a worker

_scenario: list[Scenario] = []


def _begin(resolved: dict[str, Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    hide_pandas()
    _scenario.append(Scenario.model_validate(resolved))
    gc.freeze()  # what was imported stays


def _end_with_parent() -> None:
    """A worker waits for work on a pipe that it holds open itself: it would outlive a killed parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _batch(seeds: list[int]) -> list[Result]:
    return [judge_seed(_scenario[0], seed) for seed in seeds]


# ---- their conductor


def run_seeds(scenario: Scenario, seeds: list[int] | range, processes: int, hear: Callable[[Result], object]) -> None:
    """Run all seeds, about in their order, and `hear` each result. Whatever is raised meanwhile, no worker is left.
    Raises PartDied where one ended unasked."""
    resolved = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(resolved,))
    try:
        for result in _results(pool, _batches(seeds, scenario.fleet.devices, processes), 2 * processes):
            hear(result)
    except BaseException as error:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise PartDied("a worker ended unasked; was the memory enough for --processes?") from None
        raise
    finally:
        pool.shutdown()


def _batches(seeds: Iterable[int], devices: int, processes: int) -> Iterator[list[int]]:
    left = list(seeds)
    most = max(1, min(_BATCH_DEVICES // devices, len(left) // (4 * processes)))
    return (left[at : at + most] for at in range(0, len(left), most))


def _results(pool: ProcessPoolExecutor, batches: Iterator[list[int]], ahead: int) -> Iterator[Result]:
    waiting = {_submit(pool, batch) for batch in itertools.islice(batches, ahead)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()
        waiting |= {_submit(pool, batch) for batch in itertools.islice(batches, len(done))}


def _submit(pool: ProcessPoolExecutor, batch: list[int]) -> Future[list[Result]]:
    """Submitting may start a worker, which inherits that SIGINT is blocked: the terminal's Ctrl-C is for us alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_batch, batch)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
