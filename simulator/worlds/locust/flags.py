"""What is said to the conductor on Locust's command line, or in its start form: the flags of `fleetsim run`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """One of them; `form`: whether the start form of the web page shows it."""

    name: str
    text: str
    form: bool = False
    many: bool = False
    switch: bool = False


FLAGS = (
    Flag("devices", "how many; empty: as the scenario says", form=True),
    Flag("ramp", "of the devices: 200/s or 30s; empty: as the scenario says", form=True),
    Flag("seed", "which draws; empty: as the scenario says", form=True),
    Flag("broker", "embedded, mosquitto, or mqtt:// mqtts:// ws:// wss:// URL"),
    Flag("database", "sqlite, or sqlite:PATH"),
    Flag("storage", "embedded, or the artifact's URL"),
    Flag("fault", "one more, on all devices from the start", many=True),
    Flag("first-index", "of the devices"),
    Flag("link", "lean or library"),
    Flag("pooled", "downloads share connections", switch=True),
    Flag("ifaddr", "a local address to bind", many=True),
    Flag("allow-remote", "a host beyond this machine that is meant", many=True),
    Flag("bind", "where our servers listen, an address that workers on other hosts reach"),
    Flag("metrics", "serve Prometheus metrics here: 127.0.0.1:9464"),
    Flag("cafile", "trusted certificates"),
    Flag("cert", "a client certificate"),
    Flag("key", "its key"),
    Flag("insecure", "do not check certificates", switch=True),
    Flag("out", "where run directories go"),
)


SERVERS = {"broker": ("broker",), "backend": ("storage", "replica"), "application": ("application",)}
"""What a worker may carry instead of a shard, and the parts of which that consists."""


def add(parser: Any) -> None:
    """Teach Locust's parser the flags. (Its groups cannot hide one from the start form.)"""
    parser.add_argument(
        "--carry",
        choices=SERVERS,
        env_var="FLEETSIM_CARRY",
        help="of a worker: this server of a run's, on --bind, instead of a shard",
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
        "--scenario", default="quickstart", env_var="FLEETSIM_SCENARIO", help="a file, or a shipped one's name"
    )
    for flag in FLAGS:
        more: dict[str, Any] = {"action": "store_true"} if flag.switch else {"action": "append"} if flag.many else {}
        env_var = f"FLEETSIM_{flag.name.upper().replace('-', '_')}"
        if flag.form:
            more["default"] = ""  # a form shows what is text
        names = ("-c", "--devices") if flag.name == "devices" else (f"--{flag.name}",)
        parser.add_argument(*names, env_var=env_var, help=flag.text, include_in_web_ui=flag.form, **more)


_FORM = {"scenario": "scenario", "num_users": "users", "run_time": "run-time"} | {
    flag.name: flag.name for flag in FLAGS if flag.form and flag.name != "seed"
}


def changed(options: Namespace, before: Namespace) -> list[str]:
    """The words of Locust's command line for what the start form has changed; the seed is always told."""
    now = {word: getattr(options, name, None) for name, word in _FORM.items() if name in before}
    then = {word: getattr(before, name) for name, word in _FORM.items() if name in before}
    return [part for word, value in now.items() if value != then[word] for part in (f"--{word}", str(value))]


def words(options: Namespace) -> list[str]:
    """The words of `fleetsim run` that say the same."""
    said = [str(options.scenario)]
    for flag in FLAGS:
        value = getattr(options, flag.name.replace("-", "_"), None)
        if flag.switch:
            said += [f"--{flag.name}"] if value else []
        elif value:
            said += [word for one in (value if flag.many else [value]) for word in (f"--{flag.name}", str(one))]
    if options.run_time:
        said += ["--run-time", f"{options.run_time}s"]
    if (options.num_users or 1) > 1:
        said += ["--operators", str(options.num_users)]
    return said
