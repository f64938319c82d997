"""The roads of a live run's processes: which links devices and services are given, with which addresses, names and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec

from simulator.broker.access import thing_password
from simulator.links.base import HttpLink, HttpOptions, MqttLink, MqttOptions, Wires
from simulator.links.http import LeanHttp
from simulator.links.mqtt import LeanMqtt
from simulator.links.tls import context
from simulator.links.urls import local
from simulator.model.errors import LinkError, PeerError, ScenarioError
from simulator.model.scenario import Profile
from simulator.worlds import setup
from simulator.worlds.live.part import Part
from simulator.worlds.live.protocol import PartConfig, ShardConfig

_VERSION_S = 0.5  # for a broker to tell what it is
_SECURE = ("mqtts", "wss")
_SESSION_S = 300  # for which a broker keeps what came while a service was away
_CONNECTING = 64  # at once from one process: a broker's listen backlog is often 100


class ConnectGate(asyncio.Semaphore):
    """How many may connect at once; `waiting` is how many are due and held back."""

    waiting = 0

    async def acquire(self) -> Literal[True]:
        """Wait for a turn."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class Roads:
    """Makes the devices' links; what devices can share, they share."""

    def __init__(self, part: Part[ShardConfig]) -> None:
        self._fleet, self._config = part.scenario.fleet, part.config
        self._external = part.scenario.target.kind == "external"
        self._key = setup.run_key(part.scenario)
        self._gate = ConnectGate(_CONNECTING)
        part.health.count_unsent(lambda: self._gate.waiting)
        self._sources: list[str | None] = part.config.sources or [None]
        self._tls = _tls(part.config)
        self._broker = _broker(part.config, self._tls)
        library = part.config.link == "library"
        self._https = [self._http(source, library) for source in self._sources]
        self._mqtt: Callable[[MqttOptions], MqttLink] = _library_mqtt if library else LeanMqtt
        self._made = 0

    def _http(self, source: str | None, library: bool) -> HttpLink:
        options = HttpOptions(self._config.pooled, frozenset(self._config.hosts), self._tls, source)
        return _library_http(options) if library else LeanHttp(options)

    def road(self, thing: str, profile: Profile) -> Wires:
        """A thing's two links."""
        nth, self._made = self._made % len(self._sources), self._made + 1
        client_id, username, password = self._fleet.login(thing)
        if not self._external:
            username, password = thing, thing_password(self._key, thing)
            if self._config.broker.user is not None:
                username, password = self._config.broker.user, self._config.broker.password
        options = replace(
            self._broker,
            client_id=client_id,
            username=username,
            password=password,
            source=self._sources[nth],
            gate=self._gate,
        )
        here = local(self._config.host) and not self._external
        address = self._sources[nth] or (self._config.host if here else "")
        return Wires(self._mqtt(setup.session_options(options, profile)), self._https[nth], address)


def _library_mqtt(options: MqttOptions) -> MqttLink:
    from simulator.links.library import LibraryMqtt

    return LibraryMqtt(options)


def _library_http(options: HttpOptions) -> HttpLink:
    from simulator.links.library_http import LibraryHttp

    return LibraryHttp(options)


def _tls(config: PartConfig) -> ssl.SSLContext | None:
    """What TLS needs, where any was asked for. Raises ScenarioError for unreadable files."""
    asked = msgspec.structs.asdict(config.tls)
    return context(**asked) if any(asked.values()) or config.broker.scheme in _SECURE else None


def _broker(config: PartConfig, tls: ssl.SSLContext | None) -> MqttOptions:
    """How the broker is reached, by a client that has no name yet."""
    to = config.broker
    return MqttOptions(to.host, to.port, "", scheme=to.scheme, path=to.path, tls=tls if to.scheme in _SECURE else None)


def service_link(part: Part[Any], name: str) -> tuple[MqttLink, MqttOptions]:
    """The link of replica or application, which outlives short losses of its connection. It logs in as the broker's URL says;
    to a broker whose URL names no user, and that is not somebody else's, by its own name."""
    user, password = part.config.broker.user, part.config.broker.password
    if user is None and part.scenario.target.kind == "reference":
        user, password = name, setup.services(part.scenario)[name]
    options = replace(
        _broker(part.config, _tls(part.config)),
        client_id=f"{name}-{part.config.run}",  # another run on this broker is not to be taken over
        username=user,
        password=password,
        clean_start=False,
        session_expiry_s=_SESSION_S,
    )
    return mqtt_link(options), options


def mqtt_link(options: MqttOptions) -> MqttLink:
    """The lean link where it can carry the broker's scheme; the library link for WebSocket."""
    return _library_mqtt(options) if options.scheme in ("ws", "wss") else LeanMqtt(options)


async def reach(link: MqttLink, options: MqttOptions) -> None:
    """Connect once, and say plainly why not. Raises ScenarioError."""
    try:
        await link.connect()
    except (LinkError, PeerError) as error:
        user = f", user {options.username}" if options.username else ""
        raise ScenarioError(f"target.broker {options.scheme}://{options.host}:{options.port}{user}: {error}") from None


async def broker_version(options: MqttOptions) -> str:
    """What the broker calls itself, such as "mosquitto version 2.0.11"; empty where it tells nothing."""
    client_id = f"{options.client_id}-version"
    link = mqtt_link(replace(options, client_id=client_id, clean_start=True, session_expiry_s=0))
    delivery = None
    with contextlib.suppress(LinkError, PeerError):
        await link.connect()
        await link.subscribe(["$SYS/broker/version"], qos=0)
        delivery = await link.receive(asyncio.get_running_loop().time() + _VERSION_S)
    await link.close()
    return delivery.payload.decode(errors="replace") if delivery else ""
