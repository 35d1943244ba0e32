"""The judge of everyday situations: each criterion, met and not met."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.operator.criteria import Criteria
from benchmarks.operator.judging import Alert, Output, judge
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import DAY, HOUR, MINUTE

DAYS = 20
FACTS = {"records": DAYS * 288, "entities": 1, "rejected": 0, "warming": 0, "late": 0}


def scene(**changes):
    made = Scene(0, DAYS)
    time = made.clock()
    made.add("a", time, cpu=np.zeros(len(time)))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def verdict_on(made, alerts, criteria=None, **more):
    output = Output([Alert(*alert) for alert in alerts], facts=FACTS | more)
    return judge(made, criteria or Criteria(), output)


def failed(verdict):
    return [check.required for check in verdict.checks if not check.passed]


@pytest.mark.parametrize(
    ("after_min", "metric", "kind", "found"),
    [
        (0, "cpu", "anomaly", 1),
        (60 + 30, "cpu", "anomaly", 1),
        (60 + 31, "cpu", "anomaly", 0),
        (-1, "cpu", "anomaly", 0),
        (0, "disk", "anomaly", 0),
        (0, "cpu", "gap", 0),
    ],
)
def test_an_incident_is_found_within_its_grace_by_metric_and_kind(after_min, metric, kind, found):
    made = scene()
    start = made.at(10)
    made.expect("a", start, start + HOUR, "cpu")
    verdict = verdict_on(made, [(start + after_min * MINUTE, "a", kind, metric)])
    assert verdict.found == found
    assert ("incidents found >= 90%" in failed(verdict)) == (not found)


def test_grace_is_three_intervals_at_least():
    made = scene(step_s=3600)
    made.expect("a", made.at(10), made.at(10, 1))
    assert verdict_on(made, [(made.at(10, 4), "a")]).found == 1
    assert verdict_on(made, [(made.at(10, 4) + 1, "a")]).found == 0


def test_an_alarm_of_another_host_finds_nothing():
    made = scene()
    made.expect("a", made.at(10), made.at(11))
    assert verdict_on(made, [(made.at(10), "b")]).found == 0


def test_repeats_are_counted_within_the_incident():
    made = scene()
    made.expect("a", made.at(10), made.at(11))
    alerts = [(made.at(10) + k * HOUR, "a") for k in range(4)]
    assert failed(verdict_on(made, alerts[:3])) == []
    assert failed(verdict_on(made, alerts)) == ["at most 3 alarms each"]


def test_false_alarms_count_outside_incidents_and_after_the_learning_days():
    made = scene()
    made.expect("a", made.at(10), made.at(10, 1))
    made.excuse("a", made.at(15), made.at(16))
    inside = [(made.at(10), "a"), (made.at(15, 3), "a"), (made.at(6), "a")]
    verdict = verdict_on(made, inside)
    assert (verdict.false_alarms, verdict.passed) == (0, True)
    verdict = verdict_on(made, [*inside, (made.at(12), "a"), (made.at(17), "a")])
    assert verdict.false_alarms == 2
    assert failed(verdict) == ["false alarms <= 1 (0.05 a day)"]
    assert verdict.entity_days == pytest.approx(DAYS - 7, abs=0.01)


def test_late_false_alarms_have_a_limit_of_their_own():
    made = scene()
    alerts = [(made.at(day), "a") for day in (15, 16)]
    strict = Criteria(false_per_day=1, late=(14, 0.01))
    assert failed(verdict_on(made, alerts, strict)) == [
        "from day 14 on false alarms <= 1 (0.01 a day)"
    ]
    assert failed(verdict_on(made, alerts[:1], strict)) == []


def test_quiet_stretches_allow_what_they_say():
    made = scene()
    made.quiet("a", made.at(3), made.at(4), at_most=1)
    made.quiet("a", made.at(5), made.at(6), metric="cpu", kinds=("gap",))
    assert failed(verdict_on(made, [(made.at(3, 1), "a"), (made.at(5, 1), "a")])) == []
    quiet = "quiet where it must be >= 90%"
    assert failed(verdict_on(made, [(made.at(3, 1), "a"), (made.at(3, 2), "a")])) == [quiet]
    assert failed(verdict_on(made, [(made.at(5, 1), "a", "gap", "cpu")])) == [quiet]


@pytest.mark.parametrize(
    ("expected", "passes"), [(50, True), (57.5, True), (58, False), (None, False)]
)
def test_the_usual_value_of_the_first_alarm_is_near_the_truth(expected, passes):
    made = scene()
    made.expect("a", made.at(10), made.at(11), usual=50.0)
    alerts = [(made.at(10), "a", "anomaly", "cpu", expected), (made.at(10, 1), "a")]
    assert verdict_on(made, alerts).passed == passes


def test_an_absolute_tolerance_is_added():
    made = scene()
    made.expect("a", made.at(10), made.at(11), usual=0.0)
    alerts = [(made.at(10), "a", "anomaly", "cpu", 0.04)]
    assert not verdict_on(made, alerts).passed
    assert verdict_on(made, alerts, Criteria(usual_absolute=0.05)).passed


def test_words_are_matched_in_every_reason():
    made, criteria = scene(), Criteria(forbidden_words=(r"\de\+\d+x",))
    reasons = [
        (made.at(1), "a", "gap", None, None, "silent"),
        (made.at(2), "a", "gap", None, None, "1e+9x"),
    ]
    assert failed(verdict_on(made, reasons[:1], criteria)) == []
    assert failed(verdict_on(made, reasons, criteria)) == ["says nothing false"]


@pytest.mark.parametrize(
    ("criteria", "facts", "required"),
    [
        (Criteria(ready=True), {"warming": 1}, "none warming up at the end"),
        (Criteria(rejected=0), {"rejected": 1}, "records refused <= 0"),
        (Criteria(late_rows=0.01), {"late": 58}, "called late <= 1.0%"),
        (
            Criteria(times_right=True),
            {"first": "2025-01-06 00:00", "last": "2025-01-25 23:50"},
            "5760 rows, 2025-01-06 00:00 to 2025-01-25 23:55",
        ),
    ],
)
def test_facts(criteria, facts, required):
    right = {"first": "2025-01-06 00:00", "last": "2025-01-25 23:55"}
    assert failed(verdict_on(scene(), [], criteria, **right)) == []
    assert failed(verdict_on(scene(), [], criteria, **(right | facts))) == [required]


def test_verdicts_on_data_quality_are_counted_by_day():
    made, criteria = scene(), Criteria(verdicts_per_day=0.1)
    gaps = [(made.at(day), "a", "gap") for day in range(3)]
    assert failed(verdict_on(made, gaps[:1], criteria)) == []
    assert failed(verdict_on(made, gaps, criteria)) == ["data-quality verdicts <= 0.1 a day"]


@pytest.mark.parametrize(
    ("code", "message", "passes"),
    [
        (2, "lapwing: hosts.csv line 3: a time", True),
        (2, "lapwing: hosts.csv: a time", False),
        (1, "lapwing: hosts.csv line 3: a time", False),
    ],
)
def test_a_refusal_is_accepted_only_with_its_reason(code, message, passes):
    criteria = Criteria(or_refused=r"\.csv\W+(line |row )?\d+")
    assert judge(scene(), criteria, Output(exit_code=code, message=message)).passed == passes


def test_an_error_is_a_failure_and_finds_nothing():
    made = scene()
    made.expect("a", made.at(1), made.at(2))
    verdict = judge(made, Criteria(), Output(exit_code=1, message="first\nthe last line\n\n"))
    assert [check.measured for check in verdict.checks] == ["1: the last line"]
    assert (verdict.found, verdict.incidents, verdict.passed) == (0, 1, False)


def test_days_of_a_host_that_joins_late_count_from_its_own_start():
    made = scene()
    time = made.clock()
    made.add("late", time[time >= made.at(10)], cpu=np.zeros(int((time >= made.at(10)).sum())))
    verdict = verdict_on(made, [(made.at(10) + 6 * DAY, "late"), (made.at(10) + 8 * DAY, "late")])
    assert verdict.false_alarms == 1
