"""What a sweep tells about a system's capacity: completes sweep.json from the points that were measured.

`judged` takes what was asked for and measured (`simulator/worlds/campaigns/sweep.py` collects it) and adds `analysis`:
the highest throughput, the knee, the law of scaling, what was used up, and notes; and the exit code. `as_text` and
`headline` say it in words, for the terminal and for the page. Loads are devices, or offers a second; throughput is
updates a second.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from reports.sweep import scaling
from reports.sweep.points import spelled
from reports.sweep.saturation import at_pace, crowd, saturated
from reports.sweep.scaling import Estimate, Fit
from reports.words import seconds

VIRTUAL = (
    "Virtual time measures the protocol, not a machine: the time of each commit is drawn at random, and nothing waits "
    "for a processor, a disk or a network. This sweep shows how the rollout's own pace and the devices' own times add "
    "up. It does not show how many devices a real system can serve."
)


def judged(sweep: dict[str, Any]) -> dict[str, Any]:
    """The whole of sweep.json: what was asked for and measured, with `analysis` and `exit_code` added."""
    counting = [p for p in sweep["points"] if p["counts"]]
    loads, rates = medians(counting, throughput(sweep))
    best = int(np.argmax(rates)) if rates else None
    knee, knee_said = _knee(sweep, loads, rates)
    law = _law(sweep, counting, loads, rates)
    used_up, used_up_said = saturated(sweep, counting, knee)
    analysis = {
        "counting": len(counting),
        "most_per_s": None if best is None else rates[best],
        "most_at": None if best is None else loads[best],
        "knee": knee,
        "knee_said": knee_said,
        "law": None if isinstance(law, str) else _law_numbers(law, sweep),
        "law_said": f"cannot tell: {law}" if isinstance(law, str) else _law_sentence(law),
        "beyond_said": _beyond(law, sweep, loads),
        "saturated": used_up,
        "saturated_said": used_up_said,
        "notes": _notes(sweep),
    }
    done = sweep | {"analysis": analysis}
    return done | {"exit_code": _exit_code(done)}


def medians(points: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """(loads in ascending order, for each load the median of its points' values of `name`); points without one are
    left out."""
    by_load: dict[float, list[float]] = defaultdict(list)
    for point in points:
        if (value := point[name]) is not None:
            by_load[point["load"]].append(value)
    return sorted(by_load), [float(np.median(by_load[load])) for load in sorted(by_load)]


def throughput(sweep: dict[str, Any]) -> str:
    """The key of a point's throughput. Over devices, which all begin at once, it is the rate over the time that they take
    together; over rates, the rate of updates while the offered rate was held."""
    return "updates_per_s" if sweep["axis"] == "devices" else "held_per_s"


def _exit_code(sweep: dict[str, Any]) -> int:
    """4 if a part of ours died, else 1 if a promise was broken, else 2 if less was measured than asked for or invalid runs
    keep the law from being told, else 0."""
    points = sweep["points"]
    codes = {p["exit_code"] for p in points}
    short = sweep["ended"] or any(p["verdict"] == "UNKNOWN" for p in points)
    invalid = any(p["verdict"] == "INVALID" for p in points) and sweep["analysis"]["law"] is None
    return 4 if sweep["died"] or 4 in codes else 1 if 1 in codes else 2 if short or invalid else 0


def _knee(sweep: dict[str, Any], loads: list[float], rates: list[float]) -> tuple[float | None, str]:
    if sweep["axis"] == "rates":
        return _kept_up(loads, rates)
    if len(loads) < 3:
        return None, f"cannot tell: {scaling.too_few(len(loads), 3, 'to find a knee')}"
    knee, line = scaling.knee(loads, rates), "above the straight line from (0, 0) to the highest load"
    if knee is None:
        grows = "throughput still grows in proportion to the number of devices"
        far = "a tenth of the highest throughput or more"
        return None, f"none up to {loads[-1]:,.0f} devices: {grows} (no load lies {far} {line})"
    where = (
        "this is already the lowest load that was measured"
        if knee == loads[0]
        else "above this load, each further device adds less"
    )
    return (
        knee,
        f"at {knee:,.0f} devices, {rates[loads.index(knee)]:,.1f} updates a second: {where} "
        f"(this load lies farthest {line})",
    )


def _kept_up(loads: list[float], rates: list[float]) -> tuple[float | None, str]:
    how = f"keeping up means that updates succeed at {scaling.KEPT_UP:.0%} of the offered rate or more"
    last = scaling.last_kept_up(loads, rates)
    if last is not None:
        return last, f"the system kept up with {last:g}/s, but not with the next higher rate ({how})"
    if not loads:
        return None, "cannot tell: no rate was held long enough in a run that counts"
    if rates[0] < scaling.KEPT_UP * loads[0]:
        return None, f"below {loads[0]:g}/s: the system did not keep up even with the lowest rate ({how})"
    return None, f"none up to {loads[-1]:g}/s: the system kept up with each rate that counts ({how})"


# ---- the law


def _law(sweep: dict[str, Any], counting: list[dict[str, Any]], loads: list[float], rates: list[float]) -> Fit | str:
    """The law fitted to each point that counts, or why there is none. Its N is the number of devices; over rates, the mean
    number of executions under way (by Little's law)."""
    if sweep["axis"] == "devices":
        steady = zip(*medians(counting, "steady_per_s"), strict=True)
        if bound := [load for load, rate in steady if at_pace(sweep, rate)]:
            return (
                f"from {bound[0]:,.0f} devices on, the rollout's own maximum of {sweep['pace_per_s']:g} offers a second "
                "limits the throughput; remove this maximum with --unpaced, or sweep over --rates"
            )
        return scaling.fit([p["load"] for p in counting], [p["updates_per_s"] for p in counting])
    if len(loads) < scaling.LEAST_LOADS:
        return scaling.too_few(len(loads), scaling.LEAST_LOADS, scaling.FOR_THE_LAW)
    usable = [p for p in counting if p["under_way"] and p["held_per_s"]]
    return scaling.fit([p["under_way"] for p in usable], [p["held_per_s"] for p in usable])


def _law_numbers(law: Fit, sweep: dict[str, Any]) -> dict[str, Any]:
    over = "load" if sweep["axis"] == "devices" else "under_way"
    first = min(p[over] for p in sweep["points"] if p["counts"] and p[over])
    curve = [(load, *law.at(load)) for load in np.linspace(min(first, law.last), law.reach, 61).tolist()]
    return {
        "N": "devices" if sweep["axis"] == "devices" else "executions under way",
        "lambda": law.alone._asdict(),
        "sigma": law.contention._asdict(),
        "kappa": law.crosstalk._asdict(),
        "peak": law.peak._asdict() if law.peak is not None else None,
        "scatter": law.scatter,
        "last": law.last,
        "curve": [dict(zip(("N", "value", "low", "high"), row, strict=True)) for row in curve],
    }


def with_interval(estimate: Estimate) -> str:
    """An estimate as text, with its interval: `12.3 (10.1 to 14.8)`."""
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _law_sentence(law: Fit) -> str:
    return (
        f"λ {with_interval(law.alone)}, σ {with_interval(law.contention)}, κ {with_interval(law.crosstalk)}; "
        f"the points differ from the law by {law.scatter:.1%} (standard deviation); each interval holds the true value with a probability of 90%"
    )


def _beyond(law: Fit | str, sweep: dict[str, Any], loads: list[float]) -> str:
    """A sentence: where measurement ends, and what the law says beyond it."""
    if not loads:
        return "no run gave a throughput that counts"
    noun = "devices" if sweep["axis"] == "devices" else "executions under way"
    ends = f"measurement ends at {spelled(loads[-1], sweep['axis'])}"
    if isinstance(law, str):
        return f"{ends}; the throughput above this load cannot be predicted"
    if law.reach <= law.last:
        too_wide = f"its high end more than {scaling.TIMES_MAX:g} times its low end"
        return (
            f"{ends}; the throughput above this load cannot be predicted: the interval would be too wide ({too_wide})"
        )
    there = law.at(law.reach)
    sentence = f"{ends}; the law predicts {with_interval(there)} updates a second at {law.reach:,.0f} {noun}"
    if law.peak is not None:
        where = "within what was measured" if law.peak.value <= law.last else "extrapolated"
        return f"{sentence}, and the highest throughput at {with_interval(law.peak)} {noun}, which is {where}"
    return f"{sentence}; it cannot tell at which load throughput would be highest"


def _notes(sweep: dict[str, Any]) -> list[str]:
    notes, world = [], sweep["scenario"]["world"]
    if world == "virtual":
        notes.append(VIRTUAL)
    if sweep["holds"]:
        notes.append(
            f"The rollout's own settings held offers back ({', '.join(sweep['holds'])}), so they limited the throughput as "
            "much as the system did. Use --unpaced to remove them."
        )
    if sweep["axis"] == "rates":
        notes += _not_held(sweep)
    if most := crowd(sweep):
        busy = float(np.median([p["busy_before"] for p in sweep["points"] if p["busy_before"] is not None]))
        notes.append(
            f"Other programs were busy on this machine: before the runs they took up to {most:.1f} of its "
            f"{sweep['cores']} cores (median {busy:.1f}). On a machine without other work the figures would be better."
        )
    if world == "live":
        notes.append(
            "The load generator and the servers shared this machine: on separate machines the figures would be different."
            if sweep["scenario"]["target"]["kind"] == "reference"
            else "The system under test is not part of fleetsim: the CPU that its processes used was not measured."
        )
    return notes


def _not_held(sweep: dict[str, Any]) -> list[str]:
    """A note on the rates that were offered for too short a time to tell whether they were achieved, if there are any: how
    many devices it takes."""
    short = [p for p in sweep["points"] if p["counts"] and p["held_per_s"] is None and p["whole_update_s"]]
    if not short:
        return []
    most = max(p["load"] * max(p["whole_update_s"]["p99"], 1) for p in short)
    rates = ", ".join(f"{load:g}/s" for load in sorted({p["load"] for p in short}))
    return [
        f"At {rates} there were too few devices to hold the rate for longer than an update lasts, so no throughput could "
        f"be measured. Take more devices: --devices {math.ceil(2 * most / 100) * 100}."
    ]


# ---- for a terminal


def as_text(sweep: dict[str, Any], where: str) -> str:
    """What is printed at the end of a sweep. `where` is the path of its page."""
    analysis, axis = sweep["analysis"], sweep["axis"]
    heads = ("load", "verdict", "deltas/s", "updates/s", "offer to delta", "whole update", "busiest process")
    lines = [f"  {heads[0]:>13}  {heads[1]:<8}{heads[2]:>10}{heads[3]:>10}{heads[4]:>19}{heads[5]:>19}  {heads[6]}"]
    for p in sorted(sweep["points"], key=lambda p: (p["load"], p["nth"])):
        lines.append(
            f"  {spelled(p['load'], axis):>13}  {p['verdict']:<8}{number(p['deltas_per_s']):>10}"
            f"{number(p[throughput(sweep)]):>10}{median_p99(p['offer_to_delta_s']):>19}{median_p99(p['whole_update_s']):>19}  "
            f"{busiest(p)}"
        )
    lines.append("  (latencies: median / p99)" if sweep["points"] else "  nothing was measured")
    lines.append("")
    lines += [f"  {p['verdict']} at {spelled(p['load'], axis)}: {p['why']}" for p in sweep["points"] if p["why"]]
    for name in ("knee", "law", "beyond", "saturated"):
        lines.append(f"  {name:<10} {analysis[f'{name}_said']}")
    lines += [f"  note       {note}" for note in analysis["notes"]]
    if sweep["ended"]:
        lines += [f"  ended      {sweep['ended']}", f"  go on      {sweep['command']}"]
    return "\n".join([*lines, f"  report     {where}"])


def number(value: float | None) -> str:
    """A rate as text; None is `-`."""
    return "-" if value is None else f"{value:,.1f}"


def busiest(point: dict[str, Any]) -> str:
    """The process that used most CPU as text, with the share of a core that it used, on average and in its busiest
    second."""
    if not point["cpu"]:
        return "-"
    name = max(point["cpu"], key=lambda process: point["cpu"][process]["mean"])
    return f"{name} {point['cpu'][name]['mean']:.0%}, peak {point['cpu'][name]['most']:.0%}"


def median_p99(quantiles: dict[str, float] | None) -> str:
    """The median and the 99th percentile of a latency, as text; None is `-`."""
    return f"{seconds(quantiles['median'])} / {seconds(quantiles['p99'])}" if quantiles else "-"


def headline(sweep: dict[str, Any]) -> str:
    """A sentence: the highest throughput that was measured, and at which load."""
    analysis = sweep["analysis"]
    if analysis["most_per_s"] is None:
        return "No run gave a throughput that counts."
    least = min((p["whole_update_s"]["p99"] for p in sweep["points"]
                 if p["counts"] and p["load"] == analysis["most_at"] and p["whole_update_s"]), default=None)  # fmt: skip
    slow = f"; 99% of these updates took at most {seconds(least)}" if least is not None else ""
    at = spelled(analysis["most_at"], sweep["axis"])
    return f"Highest throughput: {analysis['most_per_s']:,.1f} updates a second at {at}{slow}."
