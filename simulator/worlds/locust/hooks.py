"""What hangs on Locust's events: its command line, a test's begin and end, the channel between master and workers."""

from __future__ import annotations

import logging
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner

from simulator.worlds.locust import flags, tab
from simulator.worlds.locust.lead import Lead
from simulator.worlds.locust.operator import Operator, Schedule
from simulator.worlds.locust.parts import Parts
from simulator.worlds.locust.session import session_of, set_session

__all__ = ["Operator", "Schedule"]

_TO_WORKER, _TO_MASTER = "fleetsim-worker", "fleetsim-master"
_WATCH_S = 0.5

events.init_command_line_parser.add_listener(flags.add)


@events.init.add_listener
def begin(environment: Environment, runner: Runner, **more: Any) -> None:
    """Take the roles that Locust has given this process."""
    set_session(environment)
    if not isinstance(runner, MasterRunner):
        _work(environment, runner)
    if not isinstance(runner, WorkerRunner):
        _master(environment, runner)


def _work(environment: Environment, runner: Runner) -> None:
    """Start shards for who leads, and hear of rollouts."""
    parts = Parts(lambda what: runner.send_message(_TO_MASTER, what))

    def hear(environment: Environment, msg: Any, **more: Any) -> None:
        what = msg.data
        if "operate" in what:
            session_of(environment).offer(what["operate"])
        elif "exit_code" in what:
            environment.process_exit_code = what["exit_code"]
            session_of(environment).end()
        else:
            if isinstance(runner, WorkerRunner):
                environment.process_exit_code = 4  # what it ends with if it hears no more of the run
            parts.obey(what)

    runner.register_message(_TO_WORKER, hear)

    @environment.events.test_start.add_listener
    def start(**more: Any) -> None:
        set_session(environment)

    @environment.events.quitting.add_listener
    def close(**more: Any) -> None:
        parts.close()


def _master(environment: Environment, runner: Runner) -> None:
    """Lead a run with each test."""
    workers: list[str] = []

    def send(worker: int, what: dict[str, Any]) -> None:
        runner.send_message(_TO_WORKER, what, workers[worker])

    def tell(what: dict[str, Any]) -> None:
        if isinstance(runner, MasterRunner):  # without workers this process knows already
            runner.send_message(_TO_WORKER, what)
        if "exit_code" in what:
            environment.process_exit_code = what["exit_code"]

    lead = Lead(environment, send, tell)
    runner.register_message(_TO_MASTER, lambda msg, **more: lead.hear(msg.data))
    tab.add(environment, lead)

    @environment.events.test_start.add_listener
    def start(**more: Any) -> None:
        workers[:] = _workers(runner)
        lead.begin(len(workers))

    @environment.events.test_stopping.add_listener
    @environment.events.quitting.add_listener
    def stop(**more: Any) -> None:
        lead.finish("interrupted")

    @environment.events.quit.add_listener
    def say(**more: Any) -> None:
        if "text" in lead.facts:
            logging.getLogger("locust.stats_logger").info("\n%s", lead.facts["text"])

    if isinstance(runner, MasterRunner):
        gevent.spawn(_watch, runner, workers, lead)


def _workers(runner: Runner) -> list[str]:
    """Who takes part, by age: a worker's place in this list is its number, whatever Locust counts."""
    if not isinstance(runner, MasterRunner):
        return ["local"]
    clients = runner.clients
    present = [client.id for client in (*clients.ready, *clients.spawning, *clients.running)]
    return sorted(present, key=runner.get_worker_index)


def _watch(runner: MasterRunner, workers: list[str], lead: Lead) -> None:
    """Notice the worker that takes part and is gone."""
    while True:
        gevent.sleep(_WATCH_S)
        for number, name in enumerate(workers):
            client = runner.clients.get(name)
            if client is None or client.state == STATE_MISSING:
                lead.lost(number, name)
