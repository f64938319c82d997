"""The flags of the command line, in one table: `run`, `sweep`, `explore`, `serve`, `mosquitto` and Locust take theirs from it.

A new flag of one of these verbs is a row of FLAGS; a flag of another verb is a parameter of its function in cli/. A row has
the same name, environment variable and help text wherever it is offered. The command that repeats a run is spelled from the
values that were in force (`repeating`), wherever they came from: the command line, the environment, or the start form of
Locust's page."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from typing import Any, Literal, NamedTuple

from simulator.model.masks import masked

Kind = Literal["text", "number", "path", "switch", "several"]


class Flag(NamedTuple):
    """A flag: `verbs` are the commands that have it, `locust` among them. `least` and `most` bound a number. `key` is the
    key of the scenario that it is laid over. `form`: the start form of Locust's page shows it. `several`: it may be given
    again. One without `env` cannot be set by the environment."""

    name: str
    verbs: str
    help: str
    kind: Kind = "text"
    default: Any = None
    least: int | None = None
    most: int | None = None
    key: str = ""
    short: str = ""
    form: bool = False
    env: bool = True
    hidden: bool = False

    @property
    def dest(self) -> str:
        """Its name as that of a parameter."""
        return self.name.replace("-", "_")

    @property
    def option(self) -> str:
        """As it is typed."""
        return f"--{self.name}"

    @property
    def variable(self) -> str | None:
        """The environment variable that sets it; None where none does."""
        return f"FLEETSIM_{self.dest.upper()}" if self.env and not self.hidden else None


LOOPBACK = "127.0.0.1"
PORT_MOST = 65535

FLAGS = (
    # load
    Flag("devices", "run mosquitto locust", "how many devices; without it, as the scenario says", "number",
         least=1, key="fleet.devices", short="-c", form=True),
    Flag("devices", "sweep", "fleet sizes to try, such as 500,1000,2000; beside --rates: the size of the fleet", short="-c"),
    Flag("rates", "sweep", "offers a second to try, such as 60/s,120/s"),
    Flag("repeat", "sweep", "how often each load is run, each time with another seed", "number", 1, least=1),
    Flag("unpaced", "sweep", "leave out the rollout's waves, maximumConcurrent and own rate", "switch"),
    Flag("seeds", "explore", "how many seeds to try", "number", 1000, least=1),
    Flag("first-seed", "explore", "the first of them; without it, the scenario's", "number", least=0, most=2**62),
    Flag("ramp", "run sweep locust", "how fast devices are started, such as 200/s, or 30s for all of them", key="fleet.ramp",
         form=True),
    Flag("first-index", "run mosquitto locust", "the index in the first device's name", "number", least=0,
         key="fleet.first_index"),
    Flag("run-time", "run sweep", "the longest that a run may take, such as 1h30m", key="run_time"),
    Flag("seed", "run sweep mosquitto locust", "the number that all random draws come from", "number", least=0, key="seed",
         form=True),
    Flag("world", "run sweep", "live (real connections) or virtual (simulated time)", key="world"),
    Flag("fault", "run locust", "one more fault, on all devices from the start; may be given again", "several"),
    Flag("operators", "run", "how many operators share the targets, each with a rollout of their own", "number", least=1),
    # target
    Flag("broker", "run sweep serve locust", "embedded, mosquitto, or an mqtt:// mqtts:// ws:// wss:// URL",
         key="target.broker"),
    Flag("database", "run sweep serve locust", "sqlite, or sqlite:PATH", key="target.database"),
    Flag("storage", "run sweep locust", "embedded, or the URL of the new software", key="target.artifact_url"),
    Flag("link", "run sweep locust", "lean or library: which client code the devices use", default="lean"),
    Flag("pooled", "run sweep locust", "downloads share connections", "switch"),
    Flag("processes", "run sweep", "how many processes run the devices", "number", 1, least=1),
    Flag("processes", "explore", "how many processes share the runs", "number", 1, least=1),
    Flag("ifaddr", "run sweep locust", "a local address that devices connect from; may be given again", "several"),
    Flag("allow-remote", "run sweep serve locust", "a host beyond this machine that may be spoken to; may be given again",
         "several"),
    Flag("bind", "run sweep serve mosquitto locust",
         "the address of this machine on which fleetsim's servers listen; workers on other hosts must reach it", default=LOOPBACK),
    Flag("broker-port", "serve", "the broker's port; 0: any that is free", "number", 1883, least=0, most=PORT_MOST),
    Flag("broker-port", "mosquitto", "the broker's port", "number", 1883, least=1, most=PORT_MOST),
    Flag("backend-port", "serve", "the port of the replica's API (things); 0: any that is free", "number", 8080, least=0,
         most=PORT_MOST),
    Flag("application-port", "serve", "the port of the application's API (rollouts); 0: any that is free", "number", 8081,
         least=0, most=PORT_MOST),
    Flag("storage-port", "serve", "the port of the storage's API (artifacts); 0: any that is free", "number", 8082, least=0,
         most=PORT_MOST),
    Flag("token", "serve", "the token that the HTTP APIs ask for; without it, a fresh one is made and printed"),
    # security
    Flag("cafile", "run sweep serve locust", "a file of certificates to trust"),
    Flag("cert", "run sweep serve locust", "a client certificate to show"),
    Flag("key", "run sweep serve locust", "the client certificate's key"),
    Flag("insecure", "run sweep serve locust", "do not check the server's certificate", "switch"),
    # output
    Flag("out", "run locust", "the directory below which run directories are made", "path", "runs"),
    Flag("out", "sweep", "the sweep's directory; one that is there already is continued", "path"),
    Flag("out", "explore", "the directory for what failed; without it, runs/explore/SCENARIO", "path"),
    Flag("json", "run", "print summary.json and nothing else", "switch"),
    Flag("json", "sweep", "print sweep.json and nothing else", "switch"),
    Flag("json", "explore", "print the result as JSON and nothing else", "switch"),
    Flag("csv", "run", "also write devices.csv as PREFIX_devices.csv"),
    Flag("html", "run sweep", "also write the report to this file", "path"),
    Flag("junit", "run", "also write the JUnit XML to this file", "path"),
    Flag("quiet", "run", "print the verdict alone", "switch"),
    Flag("quiet", "sweep", "print nothing while it runs", "switch"),
    Flag("metrics", "run locust", "serve Prometheus metrics at this address while it runs, such as 127.0.0.1:9464 or :0"),
    # diagnosis
    Flag("self-test", "run", "measure how many of the scenario's devices this machine can drive, up to -c", "switch"),
    Flag("check-determinism", "run", "run twice in virtual time and show the first event that differs", "switch", env=False),
    # of the conductor that Locust starts
    Flag("led", "run", "led over stdin and stdout, by this many workers", "number", hidden=True),
    Flag("carried", "run", "SERVER=ADDRESS of the worker that carries it", "several", hidden=True),
    Flag("command", "run", "the command that repeats the run", hidden=True),
)  # fmt: skip


def flags_of(verb: str) -> tuple[Flag, ...]:
    """The flags of a command, in the order of its help."""
    return tuple(flag for flag in FLAGS if verb in flag.verbs.split())


def laid(values: Mapping[str, Any]) -> dict[str, Any]:
    """What these values, by parameter name, lay over a scenario: dotted key -> value."""
    keys = {flag.dest: flag.key for flag in FLAGS if flag.key}
    return {key: values[name] for name, key in keys.items() if values.get(name) is not None}


OPTION_OF = {flag.key: flag.option for flag in FLAGS if flag.key}
"""key of the scenario -> the flag that is laid over it, for messages."""


def spelled(verb: str, values: Mapping[str, Any], always: Container[str] = ()) -> list[str]:
    """The words that say these values, by parameter name, on the verb's command line. A value that is as by default is left
    out, unless its parameter is among `always`."""
    words: list[str] = []
    for flag in flags_of(verb):
        value = values.get(flag.dest)
        as_by_default = str(value) in ("", str(flag.default)) or value is False
        if flag.hidden or value is None or (as_by_default and flag.dest not in always):
            continue
        if flag.kind == "switch":
            words += [flag.option if value else f"--no-{flag.name}"]
        elif flag.kind == "several":
            words += [word for item in value for word in (flag.option, str(item))]
        else:
            words += [flag.short or flag.option, str(value)]
    return words


def repeating(verb: str, values: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> list[str]:
    """The words that repeat a command with these values in this environment, which is the process's where None is given.

    A default is spelled where the environment says otherwise: it was typed to overrule that. A URL with a password that
    came from the environment is left out: masked it would be wrong, and the environment gives it again."""
    given = os.environ if environment is None else environment
    set_there = {flag.dest: value for flag in flags_of(verb) if (value := given.get(flag.variable or ""))}
    secret = {name for name, value in set_there.items() if values.get(name) == value and masked(value) != value}
    shown = {name: value for name, value in values.items() if name not in secret}
    return spelled(verb, shown, always=set_there)
