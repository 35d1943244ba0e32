"""The benchmark on generated hosts: planted anomalies, hits, threshold of the comparison."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.budget import Given
from benchmarks.fleet.comparing import Variant, run, settle, variants
from benchmarks.fleet.hosts import (
    APART_ROWS,
    COMBINATIONS,
    CPU,
    KINDS,
    NETWORK,
    ROWS,
    STEP_MS,
    Event,
    Fleet,
    generate,
)
from benchmarks.fleet.judging import AFTER_ROWS, each_row, judge, row_threshold, sweep
from benchmarks.others.cost_child import Series, rows_of, state_of
from shared.ensemble.fold import EnsembleParams
from shared.events import Detector
from tests.support.episodes import needs_speed


@pytest.fixture(scope="module")
def fleet():
    return generate(40, 28, 3)


def flat_fleet(*events: Event, hosts: int = 2, rows: int = 576) -> Fleet:
    return Fleet(STEP_MS * np.arange(rows), np.zeros((hosts, rows, 3)), events, rows // 2)


def alarms_at(fleet: Fleet, *places: tuple[int, int]) -> list[np.ndarray]:
    alarms = np.zeros(fleet.values.shape[:2], np.bool_)
    for host, row in places:
        alarms[host, row] = True
    return list(alarms)


def test_enough_events_of_every_kind_far_enough_apart_and_only_later(fleet):
    counts = {kind: sum(event.kind == kind for event in fleet.events) for kind in KINDS}
    assert set(counts) == set(ROWS)
    assert min(counts.values()) >= 20
    for event in fleet.events:
        assert fleet.border < event.first <= event.last < len(fleet.time_ms)
        assert event.last - event.first + 1 == ROWS[event.kind]
    for host in range(40):
        own = [event for event in fleet.events if event.host == host]
        assert all(after.first - before.last >= APART_ROWS for before, after in pairwise(own))


def test_a_fleet_is_the_same_again_and_a_host_does_not_depend_on_the_others(fleet):
    again = generate(2, 28, 3)
    np.testing.assert_array_equal(again.values, fleet.values[:2])
    assert again.events == tuple(event for event in fleet.events if event.host < 2)
    assert not np.array_equal(generate(2, 28, 4).values, again.values)


def test_anomalies_change_their_own_rows_alone(fleet):
    healthy = generate(40, 28, 3, anomalies=False)
    assert healthy.events == ()
    for host in range(40):
        inside = np.zeros(len(fleet.time_ms), np.bool_)
        for event in fleet.events:
            if event.host == host:
                inside[event.first : event.last + 1] = True
                rows = slice(event.first, event.last + 1)
                assert not np.array_equal(
                    fleet.values[host, rows], healthy.values[host, rows], equal_nan=True
                ), event
        both = ~(np.isnan(fleet.values[host]) | np.isnan(healthy.values[host])).any(axis=1)
        np.testing.assert_array_equal(
            fleet.values[host][both & ~inside], healthy.values[host][both & ~inside]
        )


def test_in_a_combination_the_metric_by_itself_is_usual(fleet):
    for event in fleet.events:
        if event.kind in COMBINATIONS:
            changed = fleet.values[
                event.host, :, CPU if event.kind == "cpu_up_load_low" else NETWORK
            ]
            before, during = changed[: fleet.border], changed[event.first : event.last + 1]
            assert np.nanmax(during) < np.nanmax(before)
            assert np.nanmin(during) > np.nanmin(before)


def test_too_few_days_are_refused():
    with pytest.raises(ValueError, match="14 days have no room for 5 anomalies"):
        generate(2, 14, 0)


def test_a_hit_lies_between_the_first_row_and_an_hour_after_the_last():
    event = Event(0, "drift", 400, 409)
    fleet = flat_fleet(event)
    for row, hit in (
        (399, False),
        (400, True),
        (409 + AFTER_ROWS, True),
        (410 + AFTER_ROWS, False),
    ):
        judged = judge(fleet, alarms_at(fleet, (0, row)), 1.0)
        assert (judged.hits["drift"], judged.events["drift"]) == (int(hit), 1)
        assert judged.false_per_day == (0.0 if hit else 0.5)  # one alarm in a day of two hosts
    other = judge(fleet, alarms_at(fleet, (1, 400)), 1.0)
    assert (other.recall(), other.false_per_day) == (0.0, 0.5)
    # row 10 lies before the border
    several = judge(fleet, alarms_at(fleet, (0, 403), (0, 405), (0, 10)), 1.0)
    assert (several.recall("drift"), several.false_per_day, several.delay_min) == (1.0, 0.0, 15.0)


def test_thresholds_are_as_low_as_the_false_alarms_allow():
    event = Event(0, "spike", 400, 401)
    fleet = flat_fleet(event)
    scores = list(np.random.default_rng(0).permutation(np.arange(2 * 576.0)).reshape(2, 576))
    scores[0][400] = 5000.0
    at = row_threshold(fleet, scores, allowed=2.0)
    judged = judge(fleet, each_row(scores)(at), at)
    assert judged.false_per_day == 2.0
    assert judged.recall("spike") == 1.0
    assert judge(fleet, each_row(scores)(np.nextafter(at, 0)), at).false_per_day > 2.0
    grid = np.arange(0.0, 6000.0)
    swept = sweep(fleet, each_row(scores), grid, allowed=2.0)
    assert swept == replace(judged, threshold=swept.threshold)
    assert swept.threshold == at


def test_everything_is_compared():
    found = {variant.name: variant for variant in variants()}
    trained = [detector for detector in Detector if detector.is_trained]
    assert len(found) == len(variants()) == len(Detector) + len(trained)
    assert {variant.detector for variant in found.values()} == set(Detector)
    in_ensemble = [one.trained for one in found.values() if one.detector is Detector.ENSEMBLE]
    assert in_ensemble == [None, *trained]
    for variant in found.values():
        if variant.detector is not Detector.ENSEMBLE:
            assert variant.trained is (variant.detector if variant.detector.is_trained else None)


@needs_speed
def test_a_threshold_is_sought_until_false_alarms_are_rare_enough():
    fleet = generate(2, 28, 1)
    variant = Variant("jump", Detector.JUMP)
    found = settle(fleet, variant, None, 0.2)
    assert found.false_per_day <= 0.2
    again = judge(fleet, run(fleet, variant, found.threshold, None), found.threshold)
    assert again == found
    assert found.threshold < 4.0
    shipped = EnsembleParams().threshold
    assert sum(map(sum, run(fleet, variant, shipped, None))) > 0


def test_a_budget_is_kept_within_a_factor_overall_and_later():
    given = Given(0.5, 300.0, 0.7, 0.6, 0.4, (0.5,) * 4, 0.1, 1.0)
    assert given.within
    for wrong in (
        {"overall": 0.76},
        {"overall": 0.33},
        {"first": 0.76},
        {"first": 0.33},
        {"second_half": 0.76},
        {"second_half": 0.33},
    ):
        assert not replace(given, **wrong).within


def test_rows_of_hosts_come_in_turn():
    fleet = generate(3, 2, 0, anomalies=False)
    series = Series(fleet.time_ms, fleet.values)
    rows = rows_of(series, 4, 2, 10, 12)
    assert rows.entity.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert rows.time_ms.tolist() == [int(fleet.time_ms[10])] * 4 + [int(fleet.time_ms[11])] * 4
    assert rows.slots.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]] * 2
    np.testing.assert_array_equal(rows.values[5], fleet.values[1, 11, :2])
    np.testing.assert_array_equal(rows.values[3], fleet.values[0, 10, :2])


def test_entities_beyond_the_hosts_are_copies_of_them():
    fleet = generate(3, 1, 0, anomalies=False)
    series = Series(fleet.time_ms, fleet.values)
    few = state_of(series, 3, 2, 40).to_arrays(3, 6)
    many = state_of(series, 7, 2, 40).to_arrays(7, 14)
    entities, metrics = [0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5] * 2 + [0, 1]
    np.testing.assert_array_equal(many["ensemble_entities"], few["ensemble_entities"][entities])
    np.testing.assert_array_equal(many["ensemble_metrics"], few["ensemble_metrics"][metrics])
