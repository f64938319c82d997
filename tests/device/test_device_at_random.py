"""Whatever comes, and whenever: the device never breaks, does no job twice, and runs the newest software in the end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.update import Phase
from tests.device.scripted import play

REFUSALS = [None, Response(403), Response(503), Response(416), Response(206, (("content-range", "bytes 7-8/9"),))]


class Story:
    """Does what a list of (time, deed, number) says, ends all faults at 100 s, and waits for the device to settle."""

    def __init__(self, deeds):
        self.deeds, self.sent, self.version = sorted(deeds), [], 1

    async def __call__(self, world):
        for at, deed, number in self.deeds:
            await world.until(at)
            await getattr(self, deed)(world, number)
        await world.until(100)
        world.fabric.down, world.mute, world.storage.script = False, set(), []
        world.device.mishaps.draws.profile.mishaps.clear()
        await world.until(1000)
        assert (world.runs, world.phase) == (str(self.version), Phase.IDLE)
        assert world.reported["software"]["version"] == world.runs
        assert world.device.agent.flash.pending is None

    async def newer(self, world, number):
        self.version += 1
        self.sent.append(world.order(str(self.version)))
        await world.say("update/delta", self.sent[-1])

    async def newer_at_once(self, world, number):
        self.version += 1
        self.sent.append(world.order(str(self.version)))
        if world.link.up:
            world.now("update/delta", self.sent[-1])

    async def again(self, world, number):
        if self.sent:
            await world.say("update/delta", self.sent[-1 - number % len(self.sent)])

    async def lose(self, world, number):
        world.lose()

    async def cut_power(self, world, number):
        world.cut_power()

    async def refuse(self, world, number):
        world.storage.script = REFUSALS[: number % 6]

    async def broker(self, world, number):
        world.fabric.down = number % 2 == 1
        world.lose()

    async def silence(self, world, number):
        world.mute = {"update", "get"} if number % 2 else set()


DEEDS = [name for name in vars(Story) if not name.startswith("_")]
TIMES = st.integers(2, 120).map(lambda n: n / 2)  # the device's own steps come at such times too


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(TIMES, st.sampled_from(DEEDS), st.integers(0, 9)), max_size=14),
    st.sampled_from([{}, {"latency": 0.5}, {"online": 7, "offline": 3}]),
    st.sampled_from([0, 0.3]),
)
def test_whatever_comes_the_device_ends_with_the_newest_software_and_did_nothing_twice(deeds, more, crash):
    mishaps = {stage: {"crash": crash} for stage in ("connect", "download", "verify", "install", "report") if crash}
    world = play(Story(deeds), mishaps=mishaps, resend={"base": 2, "cap": 30, "attempts": None}, **more)
    assert len(world.of(Kind.RETIRED)) == 1
