"""Compares a detector's alerts with what a situation asks.

Invariant: pure; a verdict depends only on the scene, the criteria and the detector's output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.operator.criteria import Criteria
from benchmarks.operator.scene import MustAlarm, Scene
from benchmarks.operator.signals import DAY, MINUTE, iso

LONGEST_MESSAGE = 110
ROUNDING = 1e-9


@dataclass
class Alert:
    """One alarm or data-quality verdict; ``time`` in seconds since 1970 UTC."""

    time: float
    entity: str
    kind: str = "anomaly"
    metric: str | None = None
    expected: float | None = None
    reason: str = ""


@dataclass
class Output:
    """All that a detector reported about a scene.

    facts : records, entities, rejected, warming, late: numbers; first, last: times as text
    """

    alerts: list[Alert] = field(default_factory=list)
    exit_code: int = 0
    message: str = ""
    facts: dict[str, int | str | None] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """Return a fact that is a number, 0 if it is unknown."""
        return int(self.facts.get(name) or 0)


@dataclass
class Check:
    """One criterion: what was required, what was measured."""

    required: str
    measured: str
    passed: bool


@dataclass
class Verdict:
    """All criteria of one situation.

    found, incidents : incidents found, and all
    false_alarms     : in ``entity_days``, outside of incidents and excused stretches
    """

    checks: list[Check]
    found: int = 0
    incidents: int = 0
    false_alarms: int = 0
    entity_days: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return all(check.passed for check in self.checks)


class _Timeline:
    """Alerts of one entity in order of time."""

    def __init__(self, alerts: Iterable[Alert] = ()) -> None:
        self._alerts = sorted(alerts, key=lambda alert: alert.time)
        self._times = np.array([alert.time for alert in self._alerts])

    def within(
        self, start: float, end: float, kinds: tuple[str, ...], metric: str | None
    ) -> list[Alert]:
        """Return the alerts from start to end, both included."""
        low = np.searchsorted(self._times, start, "left")
        high = np.searchsorted(self._times, end, "right")
        return [
            alert
            for alert in self._alerts[low:high]
            if alert.kind in kinds and metric in (None, alert.metric)
        ]


def judge(scene: Scene, criteria: Criteria, output: Output) -> Verdict:
    """Apply the criteria of a situation to a detector's output."""
    if criteria.or_refused is not None and output.exit_code == 2:
        matches = re.search(criteria.or_refused, output.message) is not None
        required = f"refused with exit code 2 and /{criteria.or_refused}/, or read rightly"
        return Verdict([Check(required, f"refused: {last_line(output.message)}", matches)])
    if output.exit_code:
        measured = f"{output.exit_code}: {last_line(output.message)}"
        return Verdict([Check("exit code 0", measured, False)], 0, len(scene.must_alarm))
    by_entity: dict[str, list[Alert]] = {}
    for alert in output.alerts:
        by_entity.setdefault(alert.entity, []).append(alert)
    timelines = {entity: _Timeline(alerts) for entity, alerts in by_entity.items()}
    verdict = Verdict([], incidents=len(scene.must_alarm))
    _check_incidents(scene, criteria, timelines, verdict)
    _check_false_alarms(scene, criteria, output, verdict)
    _check_quiet(scene, criteria, timelines, verdict)
    _check_words(criteria, output, verdict)
    _check_facts(scene, criteria, output, verdict)
    return verdict


def last_line(text: str) -> str:
    """Return the last line that is not empty, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:LONGEST_MESSAGE] if lines else ""


def _grace_s(scene: Scene, criteria: Criteria) -> float:
    return max(criteria.grace_min * MINUTE, 3 * scene.step_s)


def _is_near(must: MustAlarm, hits: list[Alert], criteria: Criteria) -> bool:
    """Whether the first expected value of an incident's alerts is near the true usual value."""
    expected = next((alert.expected for alert in hits if alert.expected is not None), None)
    if expected is None or must.usual is None:
        return False
    allowed = criteria.usual_within * abs(must.usual) + criteria.usual_absolute
    return abs(expected - must.usual) <= allowed


def _check_incidents(
    scene: Scene, criteria: Criteria, timelines: Mapping[str, _Timeline], verdict: Verdict
) -> None:
    repeated = near = compared = 0
    grace = _grace_s(scene, criteria)
    for must in scene.must_alarm:
        timeline = timelines.get(must.entity, _Timeline())
        hits = timeline.within(must.start, must.end + grace, must.kinds, must.metric)
        verdict.found += bool(hits)
        repeated += sum(alert.kind == "anomaly" for alert in hits) > criteria.repeats
        if must.usual is not None and hits:
            compared += 1
            near += _is_near(must, hits, criteria)
    total, found = len(scene.must_alarm), verdict.found
    if total:
        passed = found >= criteria.find * total - ROUNDING
        required = f"incidents found >= {criteria.find:.0%}"
        verdict.checks.append(Check(required, f"{found} of {total}", passed))
    if found:
        passed = found - repeated >= criteria.repeats_share * found - ROUNDING
        required = f"at most {criteria.repeats} alarms each"
        verdict.checks.append(Check(required, f"{found - repeated} of {found}", passed))
    if compared:
        absolute = f" + {criteria.usual_absolute:g}" if criteria.usual_absolute else ""
        required = f"usual value within {criteria.usual_within:.0%}{absolute}"
        passed = near >= criteria.usual * compared - ROUNDING
        verdict.checks.append(Check(required, f"{near} of {compared}", passed))


def _false_alarms(scene: Scene, criteria: Criteria, output: Output) -> list[Alert]:
    """Return the anomalies outside of incidents and excused stretches, after the learning days."""
    grace = _grace_s(scene, criteria)
    windows: dict[str, list[tuple[float, float]]] = {}
    for must in scene.must_alarm:
        windows.setdefault(must.entity, []).append((must.start, must.end + grace))
    for entity, start, end in scene.excused:
        windows.setdefault(entity, []).append((start, end))
    counted_from = _counted_from(scene, criteria)
    return [
        alert
        for alert in output.alerts
        if alert.kind == "anomaly"
        and alert.time >= counted_from.get(alert.entity, 0)
        and not any(start <= alert.time <= end for start, end in windows.get(alert.entity, ()))
    ]


def _counted_from(scene: Scene, criteria: Criteria) -> dict[str, float]:
    return {host.name: float(host.time[0]) + criteria.learn_days * DAY for host in scene.hosts}


def _check_false_alarms(scene: Scene, criteria: Criteria, output: Output, verdict: Verdict) -> None:
    false = _false_alarms(scene, criteria, output)
    counted_from = _counted_from(scene, criteria)
    counted_s = sum(
        max(0.0, float(host.time[-1]) - counted_from[host.name]) for host in scene.hosts
    )
    verdict.entity_days, verdict.false_alarms = counted_s / DAY, len(false)
    if verdict.entity_days:
        _check_rate(len(false), verdict.entity_days, criteria.false_per_day, verdict, "false")
    if criteria.late is not None:
        day, most = criteria.late
        begins = scene.at(day)
        days = sum(max(0.0, float(host.time[-1]) - begins) for host in scene.hosts) / DAY
        late = sum(alert.time >= begins for alert in false)
        _check_rate(late, days, most, verdict, f"from day {day:g} on false")


def _check_rate(count: int, days: float, most: float, verdict: Verdict, name: str) -> None:
    allowed = int(most * days) + 1
    required = f"{name} alarms <= {allowed} ({most:g} a day)"
    verdict.checks.append(Check(required, f"{count} ({count / days:.3f})", count <= allowed))


def _check_quiet(
    scene: Scene, criteria: Criteria, timelines: Mapping[str, _Timeline], verdict: Verdict
) -> None:
    quiet = 0
    for stretch in scene.must_be_quiet:
        timeline = timelines.get(stretch.entity, _Timeline())
        alerts = timeline.within(stretch.start, stretch.end, stretch.kinds, stretch.metric)
        quiet += len(alerts) <= stretch.at_most
    total = len(scene.must_be_quiet)
    if total:
        passed = quiet >= criteria.quiet * total - ROUNDING
        required = f"quiet where it must be >= {criteria.quiet:.0%}"
        verdict.checks.append(Check(required, f"{quiet} of {total}", passed))


def _check_words(criteria: Criteria, output: Output, verdict: Verdict) -> None:
    if not criteria.forbidden_words:
        return
    wrong = [
        alert.reason
        for alert in output.alerts
        if any(re.search(pattern, alert.reason) for pattern in criteria.forbidden_words)
    ]
    example = f": '{wrong[0][:90]}'" if wrong else ""
    verdict.checks.append(Check("says nothing false", f"{len(wrong)}{example}", not wrong))


def _check_facts(scene: Scene, criteria: Criteria, output: Output, verdict: Verdict) -> None:
    add = verdict.checks.append
    if criteria.ready:
        warming = output.facts.get("warming")
        add(Check("none warming up at the end", f"{warming}", warming == 0))
    if criteria.rejected is not None:
        rejected = output.count("rejected")
        required = f"records refused <= {criteria.rejected}"
        add(Check(required, f"{rejected} of {scene.rows}", rejected <= criteria.rejected))
    if criteria.late_rows is not None:
        share = output.count("late") / scene.rows
        required = f"called late <= {criteria.late_rows:.1%}"
        add(Check(required, f"{share:.1%}", share <= criteria.late_rows))
    if criteria.verdicts_per_day is not None:
        days = sum(float(host.time[-1] - host.time[0]) for host in scene.hosts) / DAY
        rate = sum(alert.kind != "anomaly" for alert in output.alerts) / days
        most = criteria.verdicts_per_day
        add(Check(f"data-quality verdicts <= {most:g} a day", f"{rate:.3f}", rate <= most))
    if criteria.times_right:
        first = min(float(host.time[0]) for host in scene.hosts)
        last = max(float(host.time[-1]) for host in scene.hosts)
        required = _span(scene.rows, *iso([first, last]))
        facts = output.facts
        measured = _span(output.count("records"), str(facts.get("first")), str(facts.get("last")))
        add(Check(required, measured, measured == required))


def _span(rows: int, first: str, last: str) -> str:
    return f"{rows} rows, {first[:16]} to {last[:16]}".replace("T", " ")
