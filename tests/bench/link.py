"""CPU per control-plane cycle: QoS 1 delta in, report out with PUBACK, accepted in, at 5,000 connections on mosquitto.

The lean link beside aiomqtt and mosquitto itself, in one run; and memory of an idle connection.
To reach: at most 1/6 of aiomqtt's CPU, no more than mosquitto's own, 6 KiB a connection.
Usage: python -m tests.bench.link [CONNECTIONS]
"""

import asyncio
import gc
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt

from simulator.backend.mosquitto import Mosquitto
from simulator.broker.access import thing_password
from simulator.links.base import MqttOptions
from simulator.links.library import LibraryMqtt
from simulator.links.loop import run_live
from simulator.links.mqtt import LeanMqtt
from simulator.worlds.health import cpu_s, resident_bytes
from simulator.worlds.limits import raise_open_files

CYCLES = 2
DELTA, REPORT = b"d" * 300, b"r" * 200


async def device(link, thing, cycles):
    await link.connect()
    await link.subscribe([f"state/{thing}/update/delta", f"state/{thing}/update/accepted"])
    yield
    for _ in range(cycles):
        (await link.receive()).ack()
        await link.publish(f"state/{thing}/update", REPORT)
        (await link.receive()).ack()
    yield
    link.abort()


async def serve(link, connections, cycles):
    """The other side: sends deltas, answers reports; its CPU is measured by being another process."""
    await link.connect()
    await link.subscribe(["state/+/update"])
    window, sent, answered = 256, 0, 0
    while answered < connections * cycles:
        while sent < connections * cycles and sent - answered < window:
            await link.publish(f"state/d{sent % connections}/update/delta", DELTA)
            sent += 1
        delivery = await link.receive()
        await link.publish(delivery.topic + "/accepted", REPORT)
        delivery.ack()
        answered += 1
    await link.close()
    await asyncio.sleep(0.2)


async def plain(options, thing, cycles):
    """The same on aiomqtt as its documentation uses it; it acknowledges by itself."""
    async with aiomqtt.Client(
        options.host, options.port, username=options.username, password=options.password,
        identifier=options.client_id, protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ) as client:  # fmt: skip
        await client.subscribe([(f"state/{thing}/update/delta", 1), (f"state/{thing}/update/accepted", 1)])
        yield
        messages = aiter(client.messages)
        for _ in range(cycles):
            await anext(messages)
            await client.publish(f"state/{thing}/update", REPORT, qos=1)
            await anext(messages)
        yield


DEVICES = {
    "lean": lambda options, thing: device(LeanMqtt(options), thing, CYCLES),
    "library": lambda options, thing: device(LibraryMqtt(options), thing, CYCLES),
    "aiomqtt": lambda options, thing: plain(options, thing, CYCLES),
}


async def fleet(make, port, connections, ready, go):
    gate = asyncio.Semaphore(64)
    gc.collect()
    before = resident_bytes()
    devices = [
        make(MqttOptions("127.0.0.1", port, f"d{i}", f"d{i}", thing_password("k", f"d{i}"), gate=gate), f"d{i}")
        for i in range(connections)
    ]
    for start in range(0, connections, 64):
        await asyncio.gather(*(anext(d) for d in devices[start : start + 64]))
    gc.collect()
    memory = (resident_bytes() - before) / connections / 1024
    gc.freeze()
    ready()
    await go()
    cpu = time.process_time()
    await asyncio.gather(*(anext(d, None) for d in devices))
    used = time.process_time() - cpu
    return used / connections / CYCLES * 1e6, memory


def child(kind, port, connections):
    """One client's process: says when it is connected, waits for the word, prints its figures."""

    async def main():
        loop = asyncio.get_running_loop()
        return await fleet(
            DEVICES[kind], port, connections, lambda: print("ready", flush=True),
            lambda: loop.run_in_executor(None, sys.stdin.readline),
        )  # fmt: skip

    print(*run_live(main), flush=True)


def measure(kind, server, connections):
    words = [sys.executable, "-m", "tests.bench.link", "child", kind, str(server.port), str(connections)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        before = cpu_s(server.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        options = MqttOptions("127.0.0.1", server.port, "service", "service", "secret")
        run_live(lambda: serve(LeanMqtt(options), connections, CYCLES))
        cpu, memory = map(float, process.stdout.readline().split())
        return cpu, memory, (cpu_s(server.pid) - before) / connections / CYCLES * 1e6


def main():
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    raise_open_files()
    with tempfile.TemporaryDirectory() as directory:
        things = [f"d{i}" for i in range(connections)]
        server = Mosquitto(Path(directory), run_key="k", things=things, services={"service": "secret"}, root="state")
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
