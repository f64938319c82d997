"""How a live run is set up beside its scenario, and which addresses it may speak to or listen on."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from simulator.links.urls import local, parts_of, refuse_unmeant
from simulator.model.errors import LinkError, ScenarioError
from simulator.worlds.live.protocol import TlsOptions

LOOPBACK = "127.0.0.1"
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


class Ports(Struct):
    """On which ports our servers listen; 0 lets the system choose. The backend's is the replica's API."""

    broker: int = 0
    backend: int = 0
    storage: int = 0
    application: int = 0


@dataclass(slots=True)
class Options:
    """How a live run is set up, beside its scenario."""

    link: str = "lean"
    processes: int = 1
    pooled: bool = False
    ifaddr: list[str] = field(default_factory=list)
    apart: bool = False  # shards may be on hosts of their own, which have source addresses of their own
    allow_remote: list[str] = field(default_factory=list)
    bind: str = LOOPBACK  # an address of this host: our servers listen there, and devices find them there
    ports: Ports = field(default_factory=lambda: Ports())
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    tls: TlsOptions = field(default_factory=lambda: TlsOptions())
    metrics: str | None = None
    carried: dict[str, str] = field(default_factory=dict)  # server -> the address of the worker that carries it

    @property
    def hosts(self) -> list[str]:
        """What is meant beyond this machine; our own servers are."""
        own = {self.bind, *self.carried.values()}
        return [*self.allow_remote, *sorted(host for host in own if not local(host))]

    def host(self, name: str) -> str:
        """Where this server of ours listens."""
        return self.carried.get(name, self.bind)


def refuse_remote(key: str, host: str, options: Options) -> None:
    """Raise ScenarioError for a host beyond this machine that no --allow-remote names."""
    try:
        refuse_unmeant(host, options.allow_remote)
    except LinkError as error:
        raise ScenarioError(f"{key}: {error}") from None


def listen_address(key: str, text: str, options: Options) -> tuple[str, int]:
    """HOST:PORT to listen on; no host means loopback. Raises ScenarioError for a bad one, or one that is not allowed."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ScenarioError(f"{key}: {text!r} is neither HOST:PORT nor :PORT, such as {LOOPBACK}:9464")
    refuse_remote(key, host, options)
    return host, int(port)


def broker_address(url: str, options: Options) -> dict[str, Any]:
    """A broker's URL as the links want it. Raises ScenarioError for a bad one, or one that is not allowed."""
    parts = parts_of(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ScenarioError(
            f"target.broker: {url!r} is none of embedded, mosquitto, mqtt://HOST, mqtts://HOST, ws://HOST, wss://HOST"
        )
    refuse_remote("target.broker", parts.hostname, options)
    if parts.scheme in ("ws", "wss") and options.link == "lean":
        raise ScenarioError("target.broker: the lean link has no WebSocket; add --link library")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ScenarioError(f"target.broker: {url!r} has no valid port") from None
    return {
        "scheme": parts.scheme,
        "host": parts.hostname,
        "port": port,
        "path": parts.path or "/mqtt",
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }


def refuse_no_address(options: Options) -> None:
    """Raise ScenarioError for a --bind that is no one address, and for an --ifaddr that this machine has not."""
    try:
        whole = ipaddress.IPv4Address(options.bind).is_unspecified
    except ValueError:
        whole = True
    if whole:
        raise ScenarioError(
            f"--bind {options.bind}: name one IPv4 address of this machine, by which devices will find it"
        )
    for source in [] if options.apart else options.ifaddr:  # of other hosts each has its own
        try:
            with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as made:
                made.bind((source, 0))
        except (OSError, OverflowError) as error:
            raise ScenarioError(f"--ifaddr {source}: {getattr(error, 'strerror', None) or error}") from None
