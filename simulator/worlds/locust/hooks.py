"""What hangs on Locust's events: its command line, a test's begin and end, the channel between master and workers."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Container, Iterator
from typing import Any

import gevent
from locust import events
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner

from simulator.worlds import signals
from simulator.worlds.live import leading
from simulator.worlds.live.protocol import NotUnderstood
from simulator.worlds.locust import arguments, health, tab
from simulator.worlds.locust.lead import Lead
from simulator.worlds.locust.operator import Operator, Schedule
from simulator.worlds.locust.parts import CarriedParts
from simulator.worlds.locust.waiting import set_waiting, waiting_of

__all__ = ["Operator", "Schedule"]

_LOG = logging.getLogger("fleetsim")
_TO_WORKER, _TO_MASTER, _CARRIES = "fleetsim-worker", "fleetsim-master", "fleetsim-carries"
_WATCH_S = 0.5
_TELL_S = 5.0  # for workers that are connected to tell what they carry

events.init_command_line_parser.add_listener(arguments.add)


class Settled(UsersDispatcher):
    """Leaves operators where they are: a worker that comes while a run goes on has no part in it, and an operator who
    moved there would leave a rollout to nobody."""

    def add_worker(self, worker_node: Any) -> None:
        """In the next run."""


@events.init.add_listener
def begin(environment: Environment, runner: Runner, **more: Any) -> None:
    """Take the roles that Locust has given this process."""
    set_waiting(environment)
    environment.dispatcher_class = Settled
    options: Any = environment.parsed_options
    working = isinstance(runner, WorkerRunner)
    if options.health and not (working and options.processes):  # of several processes their master answers
        with _or_exit(f"--health {options.health}"):
            health.answer(options.health)
    if not isinstance(runner, MasterRunner):
        _work(environment, runner)
    if working:
        with _or_exit(f"--bind {options.bind}"):
            host = socket.gethostbyname(options.bind or "localhost")
        runner.send_message(_CARRIES, leading.plain(leading.Carries(options.carry or "", host)))
    else:
        if (
            options.headless
        ):  # Locust heeds Ctrl-C alone, and not where a script's background job inherited it as ignored
            for number in signals.BOTH:  # Python's own handler: gevent prints a traceback of what another raises
                signal.signal(number, signal.default_int_handler)
        _master(environment, runner)


@contextlib.contextmanager
def _or_exit(flag: str) -> Iterator[None]:
    """Where the flag asks for what there is not, say so and end: nothing was started."""
    try:
        yield
    except (OSError, OverflowError) as error:
        _LOG.error("%s: %s", flag, getattr(error, "strerror", None) or error)
        sys.exit(3)


def _work(environment: Environment, runner: Runner) -> None:
    """Start shards for who leads, and hear of rollouts."""
    options = environment.parsed_options  # a worker's own, which a test's replace
    sources = (options.ifaddr or ()) if options is not None and isinstance(runner, WorkerRunner) else ()
    parts = CarriedParts(lambda news: runner.send_message(_TO_MASTER, leading.plain(news)), sources)

    def receive(environment: Environment, msg: Any, **more: Any) -> None:
        try:
            order = leading.to_worker_of(msg.data)
        except NotUnderstood as error:
            _LOG.error("%s", error)
            environment.process_exit_code = 3
            runner.quit()
            return
        if isinstance(order, leading.Operate):
            waiting_of(environment).offer(order)
        elif isinstance(order, leading.Over):
            environment.process_exit_code = order.exit_code
            waiting_of(environment).end()
        else:
            if isinstance(runner, WorkerRunner):
                environment.process_exit_code = 4  # what it ends with if it hears no more of the run
            parts.obey(order)

    runner.register_message(_TO_WORKER, receive)

    @environment.events.test_start.add_listener
    def start(**more: Any) -> None:
        set_waiting(environment)

    @environment.events.quitting.add_listener
    def close(**more: Any) -> None:
        parts.close()


def _master(environment: Environment, runner: Runner) -> None:
    """Lead a run with each test."""
    options: Any = environment.parsed_options
    carries: dict[str, leading.Carries] = {}  # by worker
    workers: dict[str, str] = {}  # part -> the worker that has it

    def send(order: leading.PartOrder) -> None:
        runner.send_message(_TO_WORKER, leading.plain(order), workers[order.part])

    def tell(event: leading.Operate | leading.Over) -> None:
        if isinstance(runner, MasterRunner):  # without workers this process knows already
            runner.send_message(_TO_WORKER, leading.plain(event))
        if isinstance(event, leading.Over):
            environment.process_exit_code = event.exit_code

    lead = Lead(environment, send, tell)

    def register(message: str, receive: Callable[[Any], None]) -> None:
        """What a worker of another version says ends the run, with a sentence."""

        def understand(msg: Any, **more: Any) -> None:
            try:
                receive(msg)
            except NotUnderstood as error:
                _LOG.error("%s", error)
                gevent.spawn(lead.finish, str(error))

        runner.register_message(message, understand)

    register(_TO_MASTER, lambda msg: lead.receive(leading.news_of(msg.data)))
    register(_CARRIES, lambda msg: carries.update({msg.node_id: leading.carries_of(msg.data)}))
    tab.add(environment, lead)

    @environment.events.test_start.add_listener
    def start(**more: Any) -> None:
        present = _workers(runner, carries)
        server_of = {who: carries[who].server if who in carries else "" for who in present}
        servers = {part: who for who in present for part in arguments.SERVERS.get(server_of[who], ())}
        shards = [who for who in present if not server_of[who]]
        workers.clear()
        workers.update(servers | {f"shard-{nth}": who for nth, who in enumerate(shards)})
        environment.process_exit_code = 2  # what it ends with if it stops waiting for the run's end
        lead.begin(len(shards), {part: carries[who].host for part, who in servers.items()})

    @environment.events.test_stopping.add_listener
    @environment.events.quitting.add_listener
    def stop(**more: Any) -> None:
        if options.headless:  # it ends now, and a second signal ends it no sooner
            signals.ignore()
        lead.finish("interrupted")

    @environment.events.quit.add_listener
    def say(**more: Any) -> None:
        if "text" in lead.facts:
            logging.getLogger("locust.stats_logger").info("\n%s", lead.facts["text"])

    if isinstance(runner, MasterRunner):
        gevent.spawn(_watch, runner, workers, lead)


def _workers(runner: Runner, carries: Container[str]) -> list[str]:
    """Who takes part, by age, once they have told what they carry."""
    if not isinstance(runner, MasterRunner):
        return ["local"]
    clients = runner.clients
    present = [client.id for client in (*clients.ready, *clients.spawning, *clients.running)]
    deadline = time.monotonic() + _TELL_S
    while any(who not in carries for who in present) and time.monotonic() < deadline:
        gevent.sleep(0.05)
    return sorted(present, key=runner.get_worker_index)


def _watch(runner: MasterRunner, workers: dict[str, str], lead: Lead) -> None:
    """Notice the worker that takes part and is gone."""
    while True:
        gevent.sleep(_WATCH_S)
        for part, name in tuple(workers.items()):
            client = runner.clients.get(name)
            if client is None or client.state == STATE_MISSING:
                lead.lost(part, name)
