"""Judges the judge: perfect alarms must pass everywhere, constant alarms and none nowhere.

Invariant: the outputs are made from the scene's own expectations; no detector runs.
"""

from __future__ import annotations

import numpy as np

from benchmarks.operator.judging import Alert, Output, Verdict, judge
from benchmarks.operator.running import build_scene
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import iso
from benchmarks.operator.situations import Situation

ALWAYS_EVERY_S = 900


def judge_oracles(situation: Situation, seed: int = 0) -> dict[str, Verdict]:
    """Return the verdicts on perfect alarms, on constant ones and on none.

    Where a refusal is accepted there is also the verdict on one that gives no reason.
    """
    scene, criteria = build_scene(situation, seed), situation.criteria
    facts = _facts(scene)
    outputs = {
        "perfect": Output(_perfect(scene), facts=facts),
        "always": Output(_always(scene), facts=facts),
        "never": Output([], facts=facts),
    }
    if criteria.or_refused is not None:
        outputs["vague"] = Output(exit_code=2, message="the input cannot be used")
    return {name: judge(scene, criteria, output) for name, output in outputs.items()}


def _facts(scene: Scene) -> dict[str, int | str | None]:
    first = min(float(host.time[0]) for host in scene.hosts)
    last = max(float(host.time[-1]) for host in scene.hosts)
    texts = [text[:16].replace("T", " ") for text in iso([first, last])]
    facts: dict[str, int | str | None] = {"first": texts[0], "last": texts[1]}
    facts |= {"records": scene.rows, "entities": len(scene.hosts)}
    return facts | {"rejected": 0, "warming": 0, "late": 0}


def _perfect(scene: Scene) -> list[Alert]:
    """Return one alert for each incident, soon after its start, with the true usual value."""
    hosts = {host.name: host for host in scene.hosts}
    alerts = []
    for must in scene.must_alarm:
        host = hosts[must.entity]
        row = int(np.searchsorted(host.time, must.start + (must.end - must.start) * 0.1))
        is_inside = row < len(host.time) and host.time[row] <= must.end
        moment = float(host.time[row]) if is_inside else must.end
        metric = must.metric or next(iter(host.columns))
        kind = must.kinds[0]
        alerts.append(Alert(moment, must.entity, kind, metric, must.usual, "perfect"))
    return alerts


def _always(scene: Scene) -> list[Alert]:
    """Return an alarm for every metric, every quarter of an hour."""
    alerts = []
    for host in scene.hosts:
        every = max(1, int(ALWAYS_EVERY_S / max(1, float(np.median(np.diff(host.time))))))
        moments = host.time[::every].tolist()
        for metric in host.columns:
            alerts += [
                Alert(float(moment), host.name, "anomaly", metric, None, "always")
                for moment in moments
            ]
    return alerts
