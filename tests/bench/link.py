"""CPU per control-plane cycle: QoS 1 delta in, report out with PUBACK, accepted in, at 5,000 connections on mosquitto.

The lean link beside aiomqtt and mosquitto itself, in one run; and memory of an idle connection with its task.
To reach: at most 1/6 of aiomqtt's CPU, no more than mosquitto's own, 6 KiB a connection.
Usage: python -m tests.bench.link [CONNECTIONS]
"""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import aiomqtt

from simulator.broker.access import thing_password
from simulator.broker.mosquitto import Mosquitto
from simulator.links.base import MqttOptions
from simulator.links.library import LibraryMqtt
from simulator.links.loop import run_live
from simulator.links.mqtt import LeanMqtt
from simulator.worlds.live.health import cpu_s, resident_bytes
from simulator.worlds.live.machine import raise_open_files

CYCLES = 5
DELTA, REPORT = b"d" * 300, b"r" * 200


class Roll:
    """Counts those who have come to a point."""

    def __init__(self, awaited):
        self.missing, self.complete = awaited, asyncio.Event()

    def __call__(self):
        self.missing -= 1
        if not self.missing:
            self.complete.set()


async def device(link, thing, connected, finished, over):
    await link.connect()
    await link.subscribe([f"state/{thing}/update/delta", f"state/{thing}/update/accepted"])
    connected()
    for _ in range(CYCLES):
        (await link.receive()).ack()
        await link.publish(f"state/{thing}/update", REPORT)
        (await link.receive()).ack()
    finished()
    await over.wait()
    link.abort()


async def plain(options, thing, connected, finished, over):
    """The same on aiomqtt as its documentation uses it; it acknowledges by itself."""
    made = aiomqtt.Client(
        options.host, options.port, username=options.username, password=options.password,
        identifier=options.client_id, protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        async with options.gate:
            client = await stack.enter_async_context(made)
        await client.subscribe([(f"state/{thing}/update/delta", 1), (f"state/{thing}/update/accepted", 1)])
        connected()
        messages = aiter(client.messages)
        for _ in range(CYCLES):
            await anext(messages)
            await client.publish(f"state/{thing}/update", REPORT, qos=1)
            await anext(messages)
        finished()
        await over.wait()


DEVICES = {
    "lean": lambda options, *rest: device(LeanMqtt(options), *rest),
    "library": lambda options, *rest: device(LibraryMqtt(options), *rest),
    "aiomqtt": plain,
}


def failed(task):
    """A device that fails would be waited for forever; runs close to one another run out of ports."""
    if not task.cancelled() and task.exception() is not None:
        print(f"a device failed: {task.exception()}", file=sys.stderr, flush=True)
        os._exit(1)


async def fleet(make, port, connections):
    """Connect all and say so; then, from the parent's word until every device has finished, CPU is counted. The
    connections stay until the parent closes our stdin."""
    gate, over = asyncio.Semaphore(64), asyncio.Event()
    connected, finished = Roll(connections), Roll(connections)
    parent = partial(asyncio.get_running_loop().run_in_executor, None, sys.stdin.readline)
    gc.collect()
    before = resident_bytes()
    tasks = []
    for i in range(connections):
        options = MqttOptions("127.0.0.1", port, f"d{i}", f"d{i}", thing_password("k", f"d{i}"), gate=gate)
        tasks.append(asyncio.ensure_future(make(options, f"d{i}", connected, finished, over)))
        tasks[-1].add_done_callback(failed)
    await connected.complete.wait()
    gc.collect()
    memory = (resident_bytes() - before) / connections / 1024
    gc.freeze()
    print("ready", flush=True)
    await parent()
    cpu = time.process_time()
    await finished.complete.wait()
    print((time.process_time() - cpu) / connections / CYCLES * 1e6, memory, flush=True)
    await parent()
    over.set()
    await asyncio.gather(*tasks)


async def serve(link, connections):
    """The other side: sends deltas, 256 under way, and answers reports; in another process than the devices."""
    await link.connect()
    await link.subscribe(["state/+/update"])
    total, sent, answered = connections * CYCLES, 0, 0
    while answered < total:
        while sent < total and sent - answered < 256:
            await link.publish(f"state/d{sent % connections}/update/delta", DELTA)
            sent += 1
        delivery = await link.receive()
        await link.publish(delivery.topic + "/accepted", REPORT)
        delivery.ack()
        answered += 1
    await link.close()


def measure(kind, server, connections):
    words = [sys.executable, "-m", "tests.bench.link", "child", kind, str(server.port), str(connections)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() != "ready\n":
            sys.exit(f"{kind}: not all devices are connected")
        before = cpu_s(server.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        options = MqttOptions("127.0.0.1", server.port, "service", "service", "secret")
        run_live(lambda: serve(LeanMqtt(options), connections))
        cpu, memory = map(float, process.stdout.readline().split())
        return cpu, memory, (cpu_s(server.pid) - before) / connections / CYCLES * 1e6


def main():
    if sys.argv[1:2] == ["child"]:
        run_live(lambda: fleet(DEVICES[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4])))
        return
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    raise_open_files()
    with tempfile.TemporaryDirectory() as directory:
        things = [f"d{i}" for i in range(connections)]
        server = Mosquitto(
            Path(directory), run_key="k", things=things, services={"service": "secret"}, rights=["state/{thing}/#"]
        )
        server.start()
        try:
            found = {}
            for kind in DEVICES:
                found[kind] = cpu, memory, broker = measure(kind, server, connections)
                print(
                    f"{kind:<8} {cpu:6.0f} µs a cycle, {memory:5.1f} KiB a connection; mosquitto {broker:.0f} µs a cycle"
                )
        finally:
            server.stop()
    lean = found["lean"]
    print(f"lean / aiomqtt   {lean[0] / found['aiomqtt'][0]:.3f}   (goal 0.167)")
    print(f"lean / mosquitto {lean[0] / lean[2]:.2f}    (goal 1)")
    print(f"memory           {lean[1]:.1f} KiB (goal 6)")


if __name__ == "__main__":
    main()
