"""The scenario file: what is refused and how it is said, cohorts and targets by exact numbers, distributions."""

import json
from collections import Counter
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.model.errors import ScenarioError
from simulator.model.scenario import (
    Backoff,
    Distribution,
    Fleet,
    Operator,
    Profile,
    Scenario,
    load_scenario,
    parse_scenario,
    with_operators,
)


def parse(text, **overrides):
    return parse_scenario(dedent(text), "s.yaml", overrides)


def refusal(text, **overrides):
    with pytest.raises(ScenarioError) as refused:
        parse(text, **overrides)
    return str(refused.value)


def fleet(devices, *cohorts):
    return Fleet(devices=devices, cohorts=cohorts)


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nfleat: {}", "s.yaml:2: fleat: unknown key; did you mean 'fleet'?"),
        ("fleet:\n  devics: 4", "s.yaml:2: fleet.devics: unknown key; did you mean 'devices'?"),
        ("zzz: 1", "s.yaml:1: zzz: unknown key"),
        (
            "rollout:\n  maximumPerMinut: 5",
            "s.yaml:2: rollout.maximumPerMinut: unknown key; did you mean 'maximumPerMinute'?",
        ),
        (
            "fleet:\n  cohorts:\n  - {name: a}\n  - {name: b,\n     shar: 5%}",
            "s.yaml:5: fleet.cohorts.1.shar: unknown key; did you mean 'share'?",
        ),
        (
            "rollout:\n  abortConfig:\n    criteriaList:\n    - thresholdPercentage: 5\n      failureTyp: ALL",
            "s.yaml:5: rollout.abortConfig.criteriaList.0.failureTyp: unknown key; did you mean 'failureType'?",
        ),
        (
            "profiles:\n  slow:\n    instal: 5s",
            "s.yaml:3: profiles.slow.instal: unknown key; did you mean 'install'?",
        ),
        (
            "profiles:\n  slow:\n    online: {exponentia: 5s}",
            "s.yaml:3: profiles.slow.online.exponentia: unknown key; did you mean 'exponential'?",
        ),
        (
            "profiles:\n  slow:\n    mishaps:\n      reboot: {error: 1%}\n      dowload: {error: 1%}",
            "s.yaml:5: profiles.slow.mishaps.dowload: unknown key; did you mean 'download'?",
        ),
        (
            "profiles:\n  slow:\n    mishaps:\n      reboot: {eror: 1%}",
            "s.yaml:4: profiles.slow.mishaps.reboot.eror: unknown key; did you mean 'error'?",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(text, said):
    assert refusal(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run_time: 5x", "s.yaml:1: run_time: '5x' is not a duration; write 30s, 5m or 1h30m"),
        ("seed: 9223372036854775808", "s.yaml:1: seed: Input should be less than 9223372036854775808"),
        ("fleet: {devices: 1000000000}", "s.yaml:1: fleet.devices: Input should be less than or equal to 100000000"),
        ("rollout: {maximumPerMinute: .inf}", "s.yaml:1: rollout.maximumPerMinute: Input should be a finite number"),
        (
            "profiles: {slow: {install: {uniform: [30s, 5s]}}}",
            "s.yaml:1: profiles.slow.install: the lower bound is more than the upper",
        ),
        (
            "profiles: {slow: {install: {lognormal: [3s, 500]}}}",
            "s.yaml:1: profiles.slow.install: sigma is a number from 0 to 10, of the logarithm",
        ),
        ("x: " + "[" * 5000, "s.yaml: its blocks are nested too deeply"),
        ("run_time: .inf", "s.yaml:1: run_time: inf is not a duration; write 30s, 5m or 1h30m"),
        ("rollout:\n  size: 16K", "s.yaml:2: rollout.size: '16K' is not a size; write 16KiB or 32MB"),
        (
            "profiles:\n  slow:\n    bandwidth: {fixed: 5MB}",
            "s.yaml:3: profiles.slow.bandwidth: '5MB' is not a bandwidth; write 40mbit or 250kbit, or 0 for no limit",
        ),
        (
            "rollout:\n  waves:\n    - {share: 110%}",
            "s.yaml:3: rollout.waves.0.share: '110%' is not a share; write 10%, or a number from 0 to 1",
        ),
        (
            "fleet:\n  ramp: [rate, null]",
            "s.yaml:2: fleet.ramp: ['rate', None] is not a ramp; write 200/s (devices a second) or 30s (all within)",
        ),
        (
            "thresholds:\n  failed: 5%",
            "s.yaml:2: thresholds.failed: '5%' is not a threshold; write '>= 95%', '< 10m', '<= 16MiB', '> 50/s' or '<= 3'",
        ),
        (
            "rollout:\n  version: 2.0",
            "s.yaml:2: rollout.version: Input should be a valid string; put it in quotes",
        ),
    ],
)
def test_a_wrong_unit_is_named_with_its_line_and_what_to_write(text, said):
    assert refusal(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fleet:\n  thing: device", "s.yaml:2: fleet.thing: it must hold %i once"),
        ("fleet:\n  thing: d-%i-%i", "s.yaml:2: fleet.thing: it must hold %i once"),
        ("fleet:\n  thing: d/%i", "s.yaml:2: fleet.thing: it becomes a topic level"),
        ("fleet:\n  client_id: same", "s.yaml:2: fleet.client_id: it must hold %i or %u"),
        ("fleet:\n  profile: wfi", "s.yaml:2: fleet.profile: no such profile: 'wfi'; did you mean 'wifi'?"),
        (
            "fleet:\n  cohorts:\n    - {name: a}\n    - {name: b, count: 1,\n       profile: mine}\nprofiles: {mini: {}}",
            "s.yaml:5: fleet.cohorts.1.profile: no such profile: 'mine'; did you mean 'mini'?",
        ),
        (
            "fleet:\n  cohorts: [{name: a}, {name: a, count: 1}]",
            "s.yaml:2: fleet.cohorts: names must differ",
        ),
        (
            "fleet:\n  cohorts:\n    - {name: a, count: 5, share: 5%}",
            "s.yaml:3: fleet.cohorts.0: give count or share, not both",
        ),
        (
            "fleet:\n  cohorts: [{name: home}]\nrollout:\n  cohorts: [homes]",
            "s.yaml:4: rollout.cohorts.0: no such cohort: 'homes'; did you mean 'home'?",
        ),
        (
            "rollout:\n  size: 5KiB\n  waves:\n    - {share: 50%}\n    - {share: 20%}",
            "s.yaml:3: rollout.waves: their shares must add up to 100%",
        ),
        (
            "rollout:\n  exponentialRate: {baseRatePerMinute: 5, incrementFactor: 2, rateIncreaseCriteria: {numberOfNotifiedThings: 1}}",
            "s.yaml:1: rollout: give maximumPerMinute beside exponentialRate: it is the cap",
        ),
        (
            "rollout:\n  maximumPerMinute: 4\n  exponentialRate:\n    baseRatePerMinute: 5\n    incrementFactor: 2\n    rateIncreaseCriteria: {numberOfNotifiedThings: 1}",
            "s.yaml:4: rollout.exponentialRate.baseRatePerMinute: it is more than maximumPerMinute",
        ),
        (
            "rollout:\n  maximumPerMinute: 4\n  exponentialRate:\n    baseRatePerMinute: 3\n    incrementFactor: 2\n    rateIncreaseCriteria: {}",
            "s.yaml:6: rollout.exponentialRate.rateIncreaseCriteria: give exactly one of",
        ),
        ("rollout:\n  marker: boot-fail", "s.yaml:2: rollout.marker: no such marker: 'boot-fail'; did you mean 'boot-fails'?"),
        ("rollout:\n  marker: boot-fails 3", "s.yaml:2: rollout.marker: no such marker: 'boot-fails 3'; did you mean"),
        ("rollout:\n  file: a\n  marker: vanish", "s.yaml:3: rollout.marker: a file holds its own"),
        ("target: {artifact_url: http://a/b}\nrollout:\n  marker: vanish", "s.yaml:3: rollout.marker: what stands at"),
        ("rollout:\n  size: 4\n  marker: vanish", "s.yaml:2: rollout.size: too small to hold the marker"),
        ("rollout:\n  name: a/b", "s.yaml:2: rollout.name: String should match pattern"),
        (
            "profiles:\n  bad:\n    mishaps:\n      download: {error: 60%, hang: 60%}",
            "s.yaml:4: profiles.bad.mishaps.download: the shares add up to more than 100%",
        ),
        ("profiles:\n  bad:\n    install: {}", "s.yaml:3: profiles.bad.install: give exactly one of fixed, uniform"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named_where_it_stands(text, said):
    assert refusal(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("faults: {fault: F9-cut}", "faults: write a list, each entry on a line of its own behind a dash"),
        ("faults: [F9-cut]", "faults.0: write a block of keys, such as fault, share, count, at"),
        ("faults: [{fault: F9-cut, with: [1]}]", "faults.0.with: write a block of keys and values"),
        ("faults: [{fault: F9-cut, with: {at: true}}]", "faults.0.with.at: write a number or a text"),
        ("faults: [{fault: F9-cut, count: true}]", "faults.0.count: Input should be a valid integer"),
        ("faults: [{fault: F9-cut, count: -1}]", "faults.0.count: Input should be greater than or equal to 0"),
        ("faults: [{fault: F9-cut, times: 1.5}]", "faults.0.times: Input should be a valid integer"),
        ("faults: [{fault: F9-cut, for: 0}]", "faults.0.for: Input should be greater than 0"),
        ("faults: [{fault: F9-cut, share: 0}]", "faults.0.share: Input should be greater than 0"),
        ("fleet: 5", "fleet: write a block of keys, such as devices, thing, client_id, username"),
    ],
)
def test_what_is_of_the_wrong_kind_is_told_in_the_words_of_the_file(text, said):
    assert refusal(text) == f"s.yaml:1: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fleet: {}\nfleet: {}", "s.yaml:2: not YAML: fleet stands twice in one block"),
        ("fleet:\n  devices: 1\n  devices: 2", "s.yaml:3: not YAML: devices stands twice in one block"),
        ("a: b: c", "s.yaml:1: not YAML: mapping values are not allowed here"),
        ("seed: !!int x", "s.yaml: not YAML: "),
        ("- fleet", "s.yaml: a scenario is a mapping of blocks"),
        ("1: x", "s.yaml:1: 1: Keys should be strings"),
    ],
)
def test_what_is_no_scenario_at_all_says_so(text, said):
    assert refusal(text).startswith(said)


def test_all_errors_are_told_at_once():
    assert refusal("fleet: {devics: 1}\nrun_time: 5x").splitlines() == [
        "s.yaml:1: fleet.devics: unknown key; did you mean 'devices'?",
        "s.yaml:2: run_time: '5x' is not a duration; write 30s, 5m or 1h30m",
    ]


def test_overrides_outweigh_the_file_and_are_checked_as_it_is():
    assert parse("fleet: {devices: 5}", **{"fleet.devices": 7}).fleet.devices == 7
    assert parse("", **{"target.broker": "mosquitto"}).target.broker == "mosquitto"
    assert refusal("", **{"fleet.ramp": "fast"}).startswith("s.yaml: fleet.ramp: 'fast' is not a ramp")


def test_a_file_gives_the_name_and_a_missing_one_is_the_users_error(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3")
    assert load_scenario(path).name == "mine"
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "other.yaml")
    path.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(path)


def test_a_scenario_survives_json_as_the_manifest_and_the_parts_have_it():
    made = parse(
        """
        fleet: {devices: 50, ramp: 5/s, cohorts: [{name: a, share: 10%, profile: mine}, {name: b}]}
        profiles: {mine: {install: {quantiles: [[0%, 1s], [100%, 5s]]}, online: {exponential: 5m, max: 1h}}}
        rollout: {waves: [{share: 5%, success: "> 90%"}, {share: 95%}], maximumPerMinute: 60, version: 2024-13-01}
        thresholds: {converged: ">= 99%"}
        """
    )
    for more in ({"exclude_none": True}, {}):
        told = json.loads(json.dumps(made.model_dump(mode="json", by_alias=True, **more)))
        assert Scenario.model_validate(told) == made
    assert made.rollout.version == "2024-13-01"  # a text, though YAML would have made a date of it


# ---- cohorts and targets


@pytest.mark.parametrize(
    ("devices", "cohorts", "counts"),
    [
        (10, [], {"all": 10}),
        (10, [{"name": "a", "count": 3}, {"name": "b"}], {"a": 3, "b": 7}),
        (10, [{"name": "a"}, {"name": "b", "share": 0.25}], {"a": 8, "b": 2}),
        (10, [{"name": "a", "count": 10}, {"name": "b"}], {"a": 10, "b": 0}),
        (3, [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}], {"a": 2, "b": 1}),
        (6, [{"name": n, "share": 0.25} for n in "abcd"], {"a": 2, "b": 1, "c": 1, "d": 2}),
        (100, [{"name": n, "share": 0.333} for n in "abc"], {"a": 33, "b": 34, "c": 33}),
        (20, [{"name": "a", "count": 5}, {"name": "b", "share": 0.75}], {"a": 5, "b": 15}),
        (1000, [{"name": "a", "share": 0.001}, {"name": "b"}], {"a": 1, "b": 999}),
    ],
)
def test_cohorts_have_exact_counts(devices, cohorts, counts):
    assert fleet(devices, *cohorts).cohort_counts() == counts


@pytest.mark.parametrize(
    ("cohorts", "total"),
    [
        ([{"name": "a", "count": 3}], 3),
        ([{"name": "a", "count": 7}, {"name": "b", "count": 4}], 11),
        ([{"name": "a", "count": 11}, {"name": "b"}], 11),
        ([{"name": "a", "share": 0.5}, {"name": "b", "share": 0.4}], 9),
        ([{"name": "a", "share": 0.6}, {"name": "b", "share": 0.6}], 12),
        ([{"name": "a", "count": 3}, {"name": "b"}, {"name": "c"}], 3),
    ],
)
def test_cohorts_that_do_not_add_up_are_refused_with_both_numbers(cohorts, total):
    with pytest.raises(ValueError, match=f"they come to {total} of 10 devices; leave count and share out of exactly"):
        fleet(10, *cohorts)


@given(st.integers(1, 500), st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_shares_that_add_up_give_counts_that_add_up_each_within_one_of_its_share(devices, weights):
    shares = [weight / sum(weights) for weight in weights]
    cohorts = [{"name": f"c{n}", "share": share} for n, share in enumerate(shares)]
    counts = fleet(devices, *cohorts).cohort_counts()
    assert sum(counts.values()) == devices
    assert all(
        abs(count - share * devices) < 1.0 + 1e-6 and count >= 0
        for count, share in zip(counts.values(), shares, strict=True)
    )


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.integers(1, 200))
def test_each_device_is_in_one_cohort_and_their_sizes_are_the_counts(seed, devices):
    made = fleet(devices, {"name": "a", "share": 0.1}, {"name": "b"}, {"name": "c", "share": 0.3})
    counts = made.cohort_counts()
    assert Counter(made.cohort_of(seed)) == {name: n for name, n in counts.items() if n}
    assert made.cohort_of(seed) == made.cohort_of(seed)


def test_a_cohort_keeps_its_devices_when_the_fleet_grows_and_gains_only_new_ones():
    small = fleet(500, {"name": "a", "count": 50}, {"name": "b"}).cohort_of(1)
    large = fleet(1000, {"name": "a", "count": 50}, {"name": "b"}).cohort_of(1)
    assert {o for o in range(500) if large[o] == "a"} <= {o for o in range(500) if small[o] == "a"}


def test_a_cohort_has_its_own_profile_or_the_fleets():
    made = Fleet(profile="wifi", cohorts=({"name": "a", "count": 1, "profile": "nb-iot"}, {"name": "b"}))
    assert [made.profile_of(name) for name in ("a", "b")] == ["nb-iot", "wifi"]
    assert Fleet(profile="wifi").profile_of("all") == "wifi"


def test_targets_are_a_share_of_the_chosen_cohorts_exactly():
    blocks = {"fleet": {"devices": 100, "cohorts": [{"name": "a", "count": 40}, {"name": "b"}]}}
    everyone = Scenario(**blocks)
    assert everyone.targets() == tuple(range(100))
    cohorts = everyone.fleet.cohort_of(everyone.seed)
    some = Scenario(**blocks, rollout={"cohorts": ["a"]}).targets()
    assert some == tuple(o for o in range(100) if cohorts[o] == "a")
    quarter = Scenario(**blocks, rollout={"cohorts": ["a"], "share": "25%"}).targets()
    half = Scenario(**blocks, rollout={"cohorts": ["a"], "share": "50%"}).targets()
    assert len(quarter) == 10
    assert set(quarter) < set(half) < set(some)
    assert list(quarter) == sorted(quarter)


def test_operators_each_have_a_rollout_and_a_part_of_the_targets():
    made = Scenario(
        fleet={"devices": 10},
        rollout={"name": "r", "version": "2.0.0"},
        operators=[
            {"part": "1/3"},
            {"part": "2/3", "version": "3.0.0", "after": "5s"},
            {"part": "3/3", "abortAfter": "1s"},
        ],
    )
    assert [one.rollout.name for one in made.rollouts] == ["r-1", "r-2", "r-3"]
    assert [one.rollout.version for one in made.rollouts] == ["2.0.0", "3.0.0", "2.0.0"]
    assert [one.targets() for one in made.rollouts] == [(0, 3, 6, 9), (1, 4, 7), (2, 5, 8)]
    assert made.targets() == tuple(range(10))
    assert [one.operator().after for one in made.rollouts] == [0, 5, 0]
    assert Scenario.model_validate(made.model_dump(mode="json", by_alias=True)) == made


def test_an_operators_deeds_come_by_time():
    assert Operator(pauseAfter="2s", pauseFor="3s", abortAfter="4s").deeds == (
        (2, "pause"),
        (4, "abort"),
        (5, "resume"),
    )
    assert Operator().deeds == ()


def test_without_operators_there_is_the_one_rollout():
    made = Scenario(fleet={"devices": 4})
    assert made.rollouts == (made,)
    (only,) = with_operators(made, 1).rollouts
    assert only.rollout.name == made.rollout.name
    assert [one.targets() for one in with_operators(made, 2).rollouts] == [(0, 2), (1, 3)]
    with pytest.raises(ScenarioError, match="--operators 3: unnamed has 2 operators of its own"):
        with_operators(with_operators(made, 2), 3)


def test_an_operator_has_somebody_to_roll_out_to():
    fleet = {"devices": 10, "cohorts": [{"name": "a", "count": 2}, {"name": "b"}]}
    made = Scenario(fleet=fleet, rollout={"cohorts": ["b"], "share": "50%"})
    assert [len(one.targets()) for one in with_operators(made, 4).rollouts] == [1, 1, 1, 1]
    with pytest.raises(ScenarioError, match="--operators 5 is more than the 4 targets"):
        with_operators(made, 5)
    named = Scenario(fleet=fleet, operators=[{"part": "2/3"}, {"cohorts": ["a"], "part": "3/3"}])
    with pytest.raises(ScenarioError, match=r"operators\.1: no device is left for it"):
        with_operators(named, None)


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", [1, 2, 3], 0.5])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(ValueError, match="is no part of a whole; write 1/3"):
        Operator(part=part)


def test_an_operators_cohort_must_be_one_of_the_fleets():
    with pytest.raises(ValueError, match=r"operators.1.cohorts.0: no such cohort: 'b'"):
        Scenario(fleet={"cohorts": [{"name": "a", "share": 1}]}, operators=[{}, {"cohorts": ["b"]}])


def test_names_logins_and_indexes_follow_the_templates():
    made = Fleet(devices=2, first_index=7, thing="pump-%i-x", client_id="c%i", username="%c/%u", password="pw-%u")
    assert list(made.names()) == ["pump-7-x", "pump-8-x"]
    assert made.login("pump-8-x") == ("c8", "c8/pump-8-x", "pw-pump-8-x")
    assert Fleet().login("device-3") == ("device-3", "device-3", None)


# ---- distributions and back-off


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"fixed": 5}, [5, 5, 5]),
        ({"uniform": [2, 4]}, [2.2, 3, 3.8]),
        ({"normal": [10, 1]}, [8.718, 10, 11.282]),
        ({"lognormal": [8, 0.5]}, [4.215, 8, 15.183]),
        ({"exponential": 10}, [1.054, 6.931, 23.026]),
        ({"quantiles": [[0, 1], [0.5, 3], [1, 13]]}, [1.4, 3, 11]),
        ({"quantiles": [[0, 1], [0.5, 1], [0.5, 9], [1, 9]]}, [1, 1, 9]),  # a step
        ({"normal": [10, 1], "min": 9, "max": 11}, [9, 10, 11]),
        ({"normal": [0, 10]}, [0, 0, 12.816]),  # times and bandwidths are never negative
    ],
)
def test_distributions_at_their_quantiles(spec, values):
    made = Distribution(**spec)
    assert [made.at(u) for u in (0.1, 0.5, 0.9)] == pytest.approx(values, abs=0.001)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "exactly one"),
        ({"fixed": 1, "uniform": [1, 2]}, "exactly one"),
        ({"quantiles": [[0, 1]]}, "at least two"),
        ({"quantiles": [[0, 1], [0.9, 2]]}, "to 1"),
        ({"quantiles": [[0.1, 1], [1, 2]]}, "from share 0"),
        ({"quantiles": [[0, 1], [0.5, 0.2], [1, 2]]}, "growing"),
        ({"quantiles": [[0, 1], [1, 2], [0.5, 3]]}, "growing"),
        ({"uniform": [1, 2], "min": 3, "max": 2}, "min is more than max"),
        ({"fixed": 5, "max": 2}, "outside"),
        ({"fixed": 5, "min": 6}, "outside"),
    ],
)
def test_distributions_that_make_no_sense_are_refused(spec, says):
    with pytest.raises(ValueError, match=says):
        Distribution(**spec)


def test_distributions_are_written_in_units_or_as_a_bare_value():
    made = Profile(
        install="1m",
        reboot={"lognormal": ["2s", 0.5], "max": "1m"},
        bandwidth={"quantiles": [["0%", "8kbit"], ["100%", "16kbit"]]},
    )
    assert made.install.at(0.5) == 60
    assert (made.reboot.lognormal, made.reboot.max) == ((2.0, 0.5), 60.0)
    assert made.bandwidth.at(0.5) == 1500


def test_back_off_grows_to_its_cap_and_jitter_only_shortens_it():
    backoff = Backoff(base=1, cap=60, jitter="50%")
    assert [backoff.delay(nth, 0.0) for nth in (0, 1, 2, 5, 6, 7, 5000)] == [1, 2, 4, 32, 60, 60, 60]
    assert backoff.delay(2, 0.999999) == pytest.approx(2, abs=0.001)
    assert Backoff(base=1, jitter=0).delay(0, 0.9) == 1
