"""Faults that are drawn: the same for the same seed, each of them one that may be asked for."""

from collections import Counter

from simulator.faults.catalogue import CATALOGUE, rule_of
from simulator.faults.swarm import with_swarm
from simulator.model.scenario import Scenario


def drawn(seed, swarm=4):
    return with_swarm(Scenario(seed=seed, swarm=swarm))


def test_the_same_seed_draws_the_same_and_more_are_more_of_the_same():
    assert drawn(7) == drawn(7)
    assert drawn(7).faults != drawn(8).faults
    assert drawn(7, 2).faults == drawn(7, 4).faults[:2]
    assert drawn(7).swarm == 0
    assert with_swarm(drawn(7)) == drawn(7)


def test_every_harmless_fault_is_drawn_and_each_may_be_asked_for():
    names = Counter()
    for seed in range(200):
        for nth, fault in enumerate(drawn(seed).faults):
            rule_of(fault, nth)
            names[fault.fault] += 1
    assert set(names) == {name for name, entry in CATALOGUE.items() if not entry.breaks}
    assert max(names.values()) < 5 * min(names.values())
