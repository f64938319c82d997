"""A road that takes time, where timers ring early as a live loop's do."""

from simulator.broker.core import Broker
from simulator.links.base import MqttOptions
from simulator.links.clock import VirtualLoop
from simulator.links.latency import LatentMqtt
from simulator.links.memory import MemoryBroker, MemoryMqtt


class EarlyLoop(VirtualLoop):
    """Its timers ring when half of the wait is over."""

    def call_at(self, when, callback, *args, context=None):
        return super().call_at(when - (when - self.time()) / 2, callback, *args, context=context)


def test_what_was_sent_arrives_though_its_timer_rang_early():
    async def main():
        fabric = MemoryBroker(Broker())
        near = MemoryMqtt(fabric, MqttOptions("m", 0, "near"))
        far = LatentMqtt(MemoryMqtt(fabric, MqttOptions("m", 0, "far")), lambda: 0.25)
        await near.connect()
        await near.subscribe(["t"])
        await far.connect()
        began = loop.time()
        await far.publish("t", b"1")
        await far.publish("t", b"2")
        return [(await near.receive()).payload for _ in "12"], loop.time() - began

    loop = EarlyLoop()
    assert loop.run(main(), until_s=60) == ([b"1", b"2"], 0.25)
