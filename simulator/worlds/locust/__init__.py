"""Locust above the same conductor: its users are operators, who begin rollouts through the application's HTTP API, and
what each step of an update took is merged into its statistics.

    locust process (gevent)                                          each worker (gevent)
      lead.py  --stdin, stdout-->  conductor (asyncio)                 parts.py --> shard (asyncio)
         |                            broker, backend, application                     |
         `------ Locust's own channel: what is for a shard, what it said, its record --'

gevent never meets asyncio: what runs on an event loop is another process. A `locustfile.py` imports `Operator` and
`Schedule`; the rest hangs on Locust's events. Without workers the one process is master and worker.

Locust replaces parts of the standard library when it is imported. So this package imports it only when `Operator` or
`Schedule` is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.worlds.locust.hooks import Operator, Schedule

__all__ = ["Operator", "Schedule"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simulator.worlds.locust import hooks

    return getattr(hooks, name)
