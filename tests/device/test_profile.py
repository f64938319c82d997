"""Draws: keyed by thing, purpose and count alone; distributions by their quantiles; back-off; mishaps by their shares."""

import itertools

import pytest

from simulator.device.profile import Draws
from simulator.model.dice import Dice, draw
from simulator.model.scenario import PROFILES, Backoff, Distribution, Profile

DELAY = Distribution(exponential=1.0)


def draws(seed=1, thing="d", **profile):
    return Draws(Profile(**profile), Dice(seed, thing))


def installs(made, count=2):
    return [made.value("install", DELAY) for _ in range(count)]


def test_a_draw_depends_on_seed_thing_purpose_and_count_and_on_nothing_else():
    busy = draws(mishaps={"connect": {"error": 0.5}}, reconnect={"jitter": 1})
    busy.value("reboot", DELAY)
    busy.mishap("connect")
    busy.delay("reconnect", Backoff(), 3)
    assert installs(busy) == installs(draws())
    different = [*installs(draws()), *installs(draws(2)), *installs(draws(thing="e")), draws().value("verify", DELAY)]
    assert len(set(different)) == 7


def test_what_is_fixed_rolls_no_dice():
    made = draws()
    made.value("install", Distribution(fixed=3.0))
    made.delay("resend", Backoff(jitter=0), 1)
    assert made.mishap("verify") is None
    assert made.dice._rolls is None


def test_draws_are_spread_evenly():
    drawn = sorted(draw(7, "d", "p", n) for n in range(4000))
    assert max(abs(u - n / 4000) for n, u in enumerate(drawn)) < 0.025
    assert 0 < drawn[0] < drawn[-1] < 1


QUANTILES = [
    ({"uniform": (2, 6)}, {0.25: 3, 0.5: 4, 0.75: 5}),
    ({"normal": (10, 2)}, {0.5: 10, 0.841345: 12, 0.158655: 8, 0.977250: 14}),
    ({"lognormal": (8, 0.5)}, {0.5: 8, 0.841345: 8 * 1.648721, 0.158655: 8 / 1.648721}),
    ({"exponential": 5}, {0.5: 5 * 0.693147, 0.632121: 5, 0.993262: 25}),
    ({"quantiles": ((0, 1), (0.5, 3), (0.9, 7), (1, 17))}, {0.25: 2, 0.5: 3, 0.7: 5, 0.95: 12}),
    ({"fixed": 4}, {0.1: 4, 0.9: 4}),
    ({"normal": (10, 2), "min": 9, "max": 11}, {0.1: 9, 0.5: 10, 0.9: 11}),
    ({"normal": (0, 2)}, {0.1: 0}),
]


@pytest.mark.parametrize(("distribution", "expected"), QUANTILES)
def test_a_distribution_has_its_quantiles(distribution, expected):
    made = Distribution(**distribution)
    for u, value in expected.items():
        assert made.at(u) == pytest.approx(value, rel=1e-4, abs=1e-9)


def test_a_device_draws_its_distribution():
    made = draws()
    drawn = sorted(made.value("install", Distribution(lognormal=(8, 0.5))) for _ in range(2001))
    assert drawn[1000] == pytest.approx(8, rel=0.05)
    assert drawn[1683] / drawn[1000] == pytest.approx(1.65, rel=0.07)
    assert all(round(value * 1e6) / 1e6 == value for value in drawn)


def test_back_off_doubles_up_to_its_cap_and_is_shortened_by_its_jitter():
    plain = Backoff(base=2, cap=30, jitter=0)
    assert [plain.delay(n, 0.9) for n in range(6)] == [2, 4, 8, 16, 30, 30]
    assert plain.delay(5000, 0.9) == 30
    made, jittery = draws(), Backoff(base=2, cap=30, jitter=0.5)
    drawn = [made.delay("reconnect", jittery, n) for n in range(6)]
    assert all(full / 2 <= delay <= full for delay, full in zip(drawn, [2, 4, 8, 16, 30, 30], strict=True))
    assert len({delay / full for delay, full in zip(drawn, [2, 4, 8, 16, 30, 30], strict=True)}) == 6


def test_mishaps_come_by_their_shares():
    made = draws(mishaps={"install": {"error": 0.1, "crash": 0.3}})
    befell = [made.mishap("install") for _ in range(4000)]
    assert befell.count("error") == pytest.approx(400, rel=0.15)
    assert befell.count("crash") == pytest.approx(1200, rel=0.1)
    assert made.mishap("verify") is None
    assert {draws(mishaps={"install": {"lie": 1}}).mishap("install") for _ in range(9)} == {"lie"}


@pytest.mark.parametrize(("name", "field"), [*itertools.product(PROFILES, ["latency", "bandwidth", "install"])])
def test_the_shipped_profiles_draw_nothing_negative_and_no_standstill(name, field):
    made = getattr(PROFILES[name], field)
    drawn = [made.at(u) for u in (1e-9, 0.5, 1 - 1e-9)]
    assert drawn == sorted(drawn)
    assert drawn[0] >= 0
    assert field != "bandwidth" or made.fixed == 0 or drawn[0] > 0
