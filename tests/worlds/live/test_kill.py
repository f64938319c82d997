"""kill -9 of the replica at any moment loses nothing that was accepted, and takes no version back."""

import asyncio
import random
import subprocess
import sys
import time

import orjson

from simulator.broker.access import Access
from simulator.broker.core import Broker
from simulator.broker.server import BrokerServer
from simulator.links.base import HttpOptions, MqttOptions
from simulator.links.http import LeanHttp
from simulator.links.loop import LiveLoop
from simulator.links.mqtt import LeanMqtt
from simulator.model.io import Request
from simulator.model.scenario import Scenario
from simulator.worlds import setup
from simulator.worlds.live.options import Options
from simulator.worlds.live.protocol import BrokerAddress, Ready, event_of, line
from simulator.worlds.live.servers import Stack
from tests.worlds.running import ROOT

THINGS = [f"d-{n}" for n in range(8)]
KILLS = 3
SCENARIO = Scenario.model_validate({})


class Replica:
    """The replica as a process of its own, on a database that outlives it."""

    def __init__(self, broker_port, directory):
        stack = Stack(SCENARIO, Options(token="t"), directory, time.monotonic_ns(), 0.0, traced=False)
        stack.at.broker = BrokerAddress(host="127.0.0.1", port=broker_port, path="")
        self._config = stack.configs.server("replica")
        self._config.database = f"sqlite:{directory / 'r.sqlite'}"

    async def start(self):
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulator.worlds.live.process",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._process.stdin.write(line(self._config))
        event = None
        while not isinstance(event, Ready):
            event = event_of(await self._process.stdout.readline(), "replica")
        self.port = event.port

    async def kill(self):
        self._process.kill()
        await self._process.wait()

    async def document(self, thing):
        wanted = Request("GET", f"http://127.0.0.1:{self.port}/things/{thing}", (("authorization", "Bearer t"),))
        return orjson.loads((await LeanHttp(HttpOptions()).request(wanted)).body)


class Operator:
    """Says updates that count up for each thing, and hears which are accepted."""

    def __init__(self, broker_port):
        name = setup.OPERATOR
        password = setup.services(SCENARIO)[name]
        self._link = LeanMqtt(MqttOptions("127.0.0.1", broker_port, name, name, password))
        self.sent = dict.fromkeys(THINGS, 0)
        self.accepted = {thing: {} for thing in THINGS}  # n -> the version it got first
        self.go = asyncio.Event()

    async def enter(self):
        await self._link.connect()
        await self._link.subscribe(["state/+/update/accepted", "state/+/update/rejected"])

    async def flood(self):
        """While `go` is set, in bursts of random size."""
        dice = random.Random(1)
        while await self.go.wait():
            for thing in dice.choices(THINGS, k=dice.randrange(1, 60)):
                self.sent[thing] = n = self.sent[thing] + 1
                body = {"state": {"reported": {"n": n}}, "clientToken": f"{thing} {n}"}
                await self._link.publish(f"state/{thing}/update", orjson.dumps(body))
            await asyncio.sleep(0.002)

    async def listen(self):
        while True:
            delivery = await self._link.receive()
            _, thing, _, answer = delivery.topic.split("/")
            assert answer == "accepted"
            body = orjson.loads(delivery.payload)
            self.accepted[thing].setdefault(body["state"]["reported"]["n"], body["version"])
            delivery.ack()

    def heard_all(self):
        return all(len(self.accepted[thing]) == self.sent[thing] for thing in THINGS)


def test_kill_9_of_the_replica_under_load_loses_nothing_accepted_and_takes_no_version_back(tmp_path):
    async def main():
        access = Access(setup.run_key(SCENARIO), setup.services(SCENARIO), setup.topics(SCENARIO.target).rights())
        server = BrokerServer(Broker(access.login, access.may))
        port = await server.start("127.0.0.1", 0)
        replica, operator = Replica(port, tmp_path), Operator(port)
        await operator.enter()
        work = [asyncio.ensure_future(operator.listen()), asyncio.ensure_future(operator.flood())]
        await replica.start()
        operator.go.set()
        moments = random.Random(2)
        before = dict.fromkeys(THINGS, 0)
        for _ in range(KILLS):
            await asyncio.sleep(moments.uniform(0.02, 0.3))
            accepted = {thing: max(operator.accepted[thing].values(), default=0) for thing in THINGS}
            await replica.kill()
            await asyncio.sleep(0.01)  # some is said to nobody
            operator.go.clear()
            await replica.start()
            operator.go.set()
            for thing in THINGS:
                version = (await replica.document(thing)).get("version", 0)
                assert version >= max(accepted[thing], before[thing])
                before[thing] = version
        work[1].cancel()
        async with asyncio.timeout(20.0):
            while not operator.heard_all():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for thing in THINGS:
            versions = [operator.accepted[thing][n] for n in range(1, operator.sent[thing] + 1)]
            assert versions == sorted(set(versions))
            document = await replica.document(thing)
            assert document["reported"] == {"n": operator.sent[thing]}
            assert document["version"] >= versions[-1]
        assert not work[0].done()
        work[0].cancel()
        await replica.kill()
        await server.stop()

    with asyncio.Runner(loop_factory=LiveLoop) as runner:
        runner.run(main())
