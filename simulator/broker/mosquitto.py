"""A real mosquitto on loopback, configured to lose nothing it acknowledged: started, watched, counted, stopped."""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import mqtt5

from simulator.broker.access import before_thing, thing_password
from simulator.model.errors import ScenarioError

HOST = "127.0.0.1"
_COUNTER = "fleetsim-counter"  # the user that reads $SYS
_COUNTS = {
    "$SYS/broker/publish/messages/received": "published",
    "$SYS/broker/publish/messages/sent": "delivered",
    "$SYS/broker/publish/messages/dropped": "dropped",
    "$SYS/broker/clients/connected": "connected",
    "$SYS/broker/clients/total": "sessions",
}
_TICK = "$SYS/broker/uptime"  # comes first when it counts up
_READY_S, _STOP_S, _ASK_S = 10.0, 5.0, 4.0
_SETTINGS = """\
user {user}
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages false
# the defaults lose QoS 1 messages that were acknowledged to their publisher
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
sys_interval 1
# a snapshot, not a log: kill -9 loses what came since the last one
persistence true
persistence_location {directory}/
autosave_interval 10
allow_anonymous false
password_file {directory}/passwords
acl_file {directory}/rights
listener {port} {host}
"""


def find_mosquitto() -> str:
    """The program's path. Raises ScenarioError when it is not installed."""
    path = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if path is None:
        raise ScenarioError("mosquitto is not installed: apt install mosquitto, or use the embedded broker")
    return path


class Mosquitto:
    """One mosquitto whose files are below `directory`.

    A thing logs in with `thing_password(run_key, thing)` and is held to its `rights`, topic filters such as
    `state/{thing}/#`; `services` (user -> password) may use the same of all things, and read `$SYS/#`. Port 0 lets the system choose; `websocket_port` opens a
    second listener. The thread that starts it must live until `stop`: the child ends with it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = HOST,
        port: int = 0,
        run_key: str,
        things: Iterable[str] = (),
        services: Mapping[str, str],
        rights: Iterable[str],
        websocket_port: int | None = None,
        binary: str | None = None,
    ) -> None:
        self.host, self.port = host, port or free_port(host)
        self._directory, self._binary = directory.resolve(), binary
        self._websocket_port = websocket_port
        self._key, self._services, self._rights = run_key, dict(services), tuple(rights)
        self._things = tuple(things)
        self._process: subprocess.Popen[bytes] | None = None
        self.version = ""

    def start(self) -> None:
        """Write its files, start it and wait until it listens. Raises ScenarioError with its own words if it cannot."""
        self.write()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_dies_with_us(), self._binary or find_mosquitto(), "-c", str(self._directory / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is for the conductor alone
            )
        self._wait_until_ready(self._process)

    def write(self) -> None:
        """Write its files: mosquitto.conf, passwords, rights, and mosquitto_sub, by which that program may ask for its
        counts: `XDG_CONFIG_HOME=DIRECTORY mosquitto_sub -t '$SYS/#'`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = _SETTINGS.format(user=getpass.getuser(), directory=self._directory, port=self.port, host=self.host)
        if self._websocket_port is not None:
            settings += f"listener {self._websocket_port} {self.host}\nprotocol websockets\n"
        counter = thing_password(self._key, _COUNTER)
        users = self._services | {_COUNTER: counter}
        _write(self._directory / "mosquitto_sub", f"--username {_COUNTER}\n--pw {counter}\n")
        _write(self._directory / "mosquitto.conf", settings)
        _write(self._directory / "rights", access_file(self._services, self._rights))
        _write(
            self._directory / "passwords",
            "".join(password_line(thing, thing_password(self._key, thing)) for thing in self._things)
            + "".join(password_line(user, password) for user, password in users.items()),
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_S
        # its own word, because on a port in use somebody else would answer a connection
        while not (running := re.search(r"mosquitto version (\S+) running", self._log.read_text(errors="replace"))):
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                why = self.last_words() or ("it ended" if ended else f"not ready within {_READY_S:g} s")
                raise ScenarioError(f"mosquitto cannot start on {self.host}:{self.port}: {why}")
            time.sleep(0.01)
        self.version = running[1]

    @property
    def _log(self) -> Path:
        return self._directory / "mosquitto.log"

    @property
    def pid(self) -> int:
        """The process's number; 0 before the start."""
        return self._process.pid if self._process else 0

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs, and where it was killed on purpose."""
        return self._process.poll() if self._process else None

    def last_words(self) -> str:
        """The last error it logged, or else its last line."""
        try:
            lines = [re.sub(r"^\d+: ", "", line) for line in self._log.read_text(errors="replace").splitlines()]
        except OSError:
            return ""
        errors = [line for line in lines if line.startswith("Error")]
        return (errors or lines or [""])[-1]

    def counts(self) -> dict[str, int]:
        """Messages published, delivered (those of $SYS included) and dropped, clients connected, and sessions, as of
        now: mosquitto counts up every two seconds, and that is waited for. Empty when it does not answer."""
        try:
            return self._ask()
        except (OSError, IndexError, ValueError):
            return {}

    def _ask(self) -> dict[str, int]:
        password = thing_password(self._key, _COUNTER).encode()
        filters = [mqtt5.TopicFilter(topic, retain_as_published=False) for topic in (*_COUNTS, _TICK)]
        counts: dict[str, int] = {}
        data = b""
        whole = False
        with socket.create_connection((self.host, self.port), timeout=_ASK_S) as road:
            road.sendall(mqtt5.ConnectPacket(_COUNTER, username=_COUNTER, password=password).write())
            road.sendall(mqtt5.SubscribePacket(1, filters).write())
            deadline = time.monotonic() + _ASK_S
            while not whole and time.monotonic() < deadline and (more := road.recv(65536)):
                data += more
                while data:
                    try:
                        packet, length = mqtt5.read(memoryview(data))
                    except IndexError:  # not whole yet
                        break
                    data = data[length:]
                    if isinstance(packet, mqtt5.PingRespPacket):
                        whole = True
                    elif isinstance(packet, mqtt5.PublishPacket) and packet.topic in _COUNTS:
                        counts[_COUNTS[packet.topic]] = int(packet.payload)
                    elif isinstance(packet, mqtt5.PublishPacket) and not packet.retain:
                        road.sendall(mqtt5.PingReqPacket().write())  # is answered behind what has changed
            road.sendall(mqtt5.DisconnectPacket().write())
        return counts

    def kill(self) -> None:
        """End it as `kill -9` does; it can be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Ask it to end, and kill it when it does not. Safe to call twice."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def password_line(user: str, password: str) -> str:
    """A line of mosquitto's password file, hashed once: the passwords are random, and 10,000 logins are to be cheap.

    Raises ScenarioError for a name that the file cannot hold."""
    if not user or set(user) & set(":\r\n"):
        raise ScenarioError(f"mosquitto's password file cannot hold the user name {user!r}")
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 1)
    return f"{user}:$7$1${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def access_file(services: Iterable[str], rights: Iterable[str]) -> str:
    """mosquitto's access control file, with the rights that `broker.access` keeps: a thing is held to its own topics,
    where its user name stands for `{thing}`."""
    before = [before_thing(right) for right in rights]
    lines = [f"user {_COUNTER}", "topic read $SYS/#"]
    for user in services:
        lines += [f"user {user}", *(f"topic readwrite {start}#" for start in before), "topic read $SYS/#"]
    return "\n".join([*lines, *(f"pattern readwrite {start}%u/#" for start in before), ""])


def free_port(host: str = HOST) -> int:
    """A port of this address that nobody uses at this moment. Raises ScenarioError for one that is not this machine's."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ScenarioError(f"{host}: {error.strerror or error}") from None
        return int(probe.getsockname()[1])


def _dies_with_us() -> list[str]:
    """A prefix that has the kernel end the child when its parent was killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
