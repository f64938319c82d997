"""What was used up at the highest load of a sweep that counts.

`saturated` looks at the points of sweep.json with this load. A process is used up if it ran (or waited for a core) nearly
all the time, the machine if all its cores were busy or processes waited for one, the rollout's own pace if updates came
as fast as it lets them. The shares from which that is so stand at the top. `capacity.py` puts the result into sweep.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.sweep.points import spelled

PARTS = {"shard": "generator", "application": "application", "broker": "broker", "mosquitto": "broker",
         "replica": "replica", "storage": "storage"}  # fmt: skip
_BUSY, _BUSY_MOST, _WAITED, _AT_PACE, _OTHERS = 0.85, 0.97, 0.2, 0.9, 0.15  # shares


def part_of(process: str) -> str:
    """The name of the part of the system that this process belongs to; of an unknown process, its own name."""
    return next((part for name, part in PARTS.items() if process.startswith(name)), process)


def saturated(sweep: dict[str, Any], counting: list[dict[str, Any]], knee: float | None) -> tuple[list[str], str]:
    """What was used up at the highest load that counts: the names of the parts, and the same in a sentence. `counting` are
    the points that count, `knee` is the load at the knee, if there is one."""
    if sweep["scenario"]["world"] == "virtual":
        return [], "nothing: in virtual time no machine does the work"
    generator = _generator(sweep)
    if not counting:
        return (["generator"] if generator else []), generator or "cannot tell: no run counts"
    last = max(p["load"] for p in counting)
    there = [p for p in counting if p["load"] == last]
    causes = [*_paced(sweep, there), *_processes(there), *_machine(sweep, there)]
    sentence = "; and ".join(why for _, why in causes) or _nothing(sweep, there, knee is not None and knee < last)
    text = f"at {spelled(last, sweep['axis'])}: {sentence}"
    return list(dict.fromkeys(part for part, _ in causes)), f"{text}; {generator}" if generator else text


def _paced(sweep: dict[str, Any], there: list[dict[str, Any]]) -> list[tuple[str, str]]:
    steady = [p["steady_per_s"] for p in there if p["steady_per_s"] is not None]
    if not steady or not at_pace(sweep, float(np.median(steady))):
        return []
    return [("pace", f"the rollout's own maximum of {sweep['pace_per_s']:g} offers a second")]


def _processes(there: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The processes that ran, or were ready to run, nearly all the time: one thread cannot do more."""
    busy = []
    for process in sorted({name for p in there for name in p["cpu"]}):
        shares = [p["cpu"][process] for p in there if process in p["cpu"]]
        mean, most, waited = (float(np.median([s[of] or 0.0 for s in shares])) for of in ("mean", "most", "waited"))
        if mean + waited >= _BUSY or most >= _BUSY_MOST:
            ready = f"; it waited for a free core {waited:.0%} of the time" if waited >= _WAITED else ""
            busy.append(
                (part_of(process), f"{process} (it used {mean:.0%} of a core, {most:.0%} in its busiest second{ready})")
            )
    return busy


def _machine(sweep: dict[str, Any], there: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The machine, if all its cores were busy or a process often found none free."""
    cores, most = sweep["cores"], _most(there)
    waited = max((s["waited"] or 0.0 for p in there for s in p["cpu"].values()), default=0.0)
    if most >= _BUSY * cores:
        return [("machine", f"the machine: all of fleetsim's processes together used {most:.1f} of its {cores} cores")]
    if waited < _WAITED:
        return []
    who = "fleetsim and other programs share" if crowd(sweep) else "fleetsim's processes share"
    return [
        (
            "machine",
            f"the machine: {who} its {cores} cores, and a process waited for a free one {waited:.0%} of the time",
        )
    ]


def _nothing(sweep: dict[str, Any], there: list[dict[str, Any]], flattened: bool) -> str:
    used = f"at most {_most(there):.1f} of {sweep['cores']} cores were used"
    if not flattened:
        return f"nothing yet ({used})"
    return (
        f"no processor, though throughput no longer grows in proportion ({used}): something else is the limit, such as "
        "commits to disk, the network, or the devices' own times"
    )


def _most(there: list[dict[str, Any]]) -> float:
    return max((p["cpu_all"]["most"] for p in there if p["cpu_all"]), default=0.0)


def crowd(sweep: dict[str, Any]) -> float:
    """How many cores other programs kept busy before the runs, at most; 0 if it was too little to matter."""
    busiest = max((p["busy_before"] for p in sweep["points"] if p["busy_before"] is not None), default=0.0)
    return float(busiest) if busiest > _OTHERS * sweep["cores"] else 0.0


def _generator(sweep: dict[str, Any]) -> str:
    """A sentence about the points whose load generator was the bottleneck; empty if there are none."""
    bad = sorted({p["load"] for p in sweep["points"] if p["invalid"]})
    if not bad:
        return ""
    where = ", ".join(f"{load:,g}" for load in bad) + (" devices" if sweep["axis"] == "devices" else "/s")
    return f"at {where} the load generator itself was the bottleneck: these runs do not measure the system and are left out"


def at_pace(sweep: dict[str, Any], rate: float) -> bool:
    """Whether updates come at `rate` a second because the rollout's own pace lets no more through."""
    return bool(sweep["pace_per_s"]) and rate >= _AT_PACE * sweep["pace_per_s"]
