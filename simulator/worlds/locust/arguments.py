"""Locust's command line and its start form: Locust's own flags, and beside them those of `fleetsim run` (worlds/flags.py).

A run under Locust is a `fleetsim run` that Locust starts: `words` says it in that command's flags, and `command` in
Locust's, which is what repeats it."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.worlds.flags import Flag, flags_of, repeating, spelled

SCENARIO = "quickstart"
SERVERS = {"broker": ("broker",), "backend": ("storage", "replica"), "application": ("application",)}
"""What a worker may carry instead of a shard, and the parts of which that consists."""

_FORM = {"num_users": "users", "run_time": "run-time"}  # of Locust's own: what the start form may change


def add(parser: Any) -> None:
    """Teach Locust's parser the flags. (Its groups cannot hide one from the start form.)"""
    parser.add_argument(
        "--carry",
        choices=SERVERS,
        env_var="FLEETSIM_CARRY",
        help="of a worker: carry this server of a run, on --bind, instead of a shard of the devices",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--health",
        type=int,
        env_var="FLEETSIM_HEALTH",
        help="answer GET /health on this port of loopback",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--scenario",
        default=SCENARIO,
        env_var="FLEETSIM_SCENARIO",
        help="a scenario file, or the name of a shipped one",
    )
    for flag in flags_of("locust"):
        more: dict[str, Any] = {"default": ""} if flag.form else {}  # a form shows what is text
        parser.add_argument(
            *_names(flag), env_var=flag.variable, help=flag.help, include_in_web_ui=flag.form, **_action(flag), **more
        )


def _names(flag: Flag) -> list[str]:
    return [name for name in (flag.short, flag.option) if name]


def _action(flag: Flag) -> dict[str, Any]:
    return {"action": {"switch": "store_true", "several": "append"}.get(flag.kind, "store")}


def words(options: Namespace) -> list[str]:
    """The words of `fleetsim run` that say the same as these options of Locust's."""
    line = [str(options.scenario), *spelled("locust", vars(options))]
    if options.run_time:
        line += ["--run-time", f"{options.run_time}s"]
    if (options.num_users or 1) > 1:
        line += ["--operators", str(options.num_users)]
    return line


def command(
    line: Sequence[str], options: Namespace, before: Namespace, parser: Any, environment: Mapping[str, str]
) -> list[str]:
    """The words that repeat a run, but for its seed. Ours are spelled from what is in force. Of Locust's own there are
    those of its command `line`, those that its `parser` takes from the environment, and what the start form has changed
    since `before`."""
    own = _without_ours(line, parser)
    changed = [name for name in _FORM if name in before and getattr(options, name) != getattr(before, name)]
    typed, in_force = (parser.parse_known_args(own, env_vars=names)[0] for names in ({}, environment))
    for action in parser._actions:
        variable, value = getattr(action, "env_var", None) or "", getattr(in_force, action.dest, None)
        if variable.startswith("LOCUST_") and value != getattr(typed, action.dest) and action.dest not in changed:
            own += [action.option_strings[-1], *([] if value is True else [str(value)])]
    for name in changed:
        own += [f"--{_FORM[name]}", str(getattr(options, name))]
    named = options.scenario != SCENARIO or "FLEETSIM_SCENARIO" in environment
    scenario = ["--scenario", str(options.scenario)] if named else []
    health = ["--health", str(options.health)] if options.health else []
    ours = {name: value for name, value in vars(options).items() if name != "seed" and value is not False}
    return ["locust", *own, *scenario, *health, *repeating("locust", ours, environment)]


def _without_ours(line: Sequence[str], parser: Any) -> list[str]:
    """The words of Locust's own flags in this command line; one of ours may be abbreviated in it."""
    ours = ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--carry", "--health", "--scenario"):
        ours.add_argument(name)
    for flag in flags_of("locust"):
        ours.add_argument(*_names(flag), **_action(flag))
    options = {option for each in (ours, parser) for action in each._actions for option in action.option_strings}

    def whole(word: str) -> str:
        name, equals, value = word.partition("=")
        meant = [option for option in options if option.startswith(name)]
        return f"{meant[0]}{equals}{value}" if word.startswith("--") and len(meant) == 1 else word

    return list(ours.parse_known_args([whole(word) for word in line])[1])


def repeated(line: Sequence[str], options: Namespace, before: Namespace) -> list[str]:
    """The same, of this process's Locust and environment."""
    from locust.argument_parser import get_parser

    return command(line, options, before, get_parser(), os.environ)
