"""An alarm is an episode, local and joint, quiet about what is sparse, true in what it says.

Each property holds for all noise families.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    LEVEL,
    TRAINED,
    VIEW_NAMES,
    EnsembleParams,
)
from shared.ensemble.kernels.outputs import CLOSED, OPEN, WORSE
from tests.support.episodes import count, host, is_found, judge, needs_speed, series
from tests.support.noise import DAY_MS, FAMILIES, between, clock, daily, days_of, noise

pytestmark = needs_speed


def columns_of(metrics: int, family: str, days: float = 26):
    """A host's metrics: one daily curve, noise of their own."""
    time_ms = clock(days)
    return time_ms, np.column_stack(
        [daily(time_ms) + 2 * noise(family, len(time_ms), k) for k in range(metrics)]
    )


# --- an alarm is an episode -----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hours", [1, 4.8, 20])
def test_an_incident_is_said_once_however_long(family, hours):
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.2, hours)] += 80
    judged = judge(time_ms, values)
    assert 1 <= count(judged.alarm_days, 20.2, 20.2 + hours / 24 + 0.2) <= 2
    closed = days_of(judged.says(CLOSED)["time_ms"])
    assert is_found(closed, 20.2 + hours / 24, 12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_leak_is_one_episode_that_may_grow_worse(family):
    time_ms, values = series(36, family=family)
    values += 12 * np.clip(days_of(time_ms) - 25, 0, 10)
    days = judge(time_ms, values).alarm_days
    assert 1 <= count(days, 25, 36) <= 4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_burst_of_one_metric_hides_no_outage_of_another(family):
    time_ms, values = columns_of(2, family)
    values[between(time_ms, 20.4, 0.25), 0] += 40
    values[between(time_ms, 20.5, 3), 1] = 0
    judged = judge(time_ms, values)
    about = judged.alarms["metric"]
    assert is_found(judged.alarm_days[about == 0], 20.4, 1)
    assert is_found(judged.alarm_days[about == 1], 20.5, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_open_episode_hides_neither_the_other_direction_nor_a_worse_course(family):
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.4, 6)] += 35
    worse = values.copy()
    worse[between(time_ms, 20.5, 3.6)] += 800
    assert is_found(judge(time_ms, worse).alarm_days, 20.5, 1)
    dropped = values.copy()
    dropped[between(time_ms, 20.55, 2)] -= 200
    judged = judge(time_ms, dropped)
    assert is_found(judged.alarm_days[judged.alarms["direction"] < 0], 20.55, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_episodes_open_before_they_close_and_agree_about_their_peak(family):
    time_ms, values = host(5, days=26, family=family)
    judged = judge(time_ms, values)
    opened = {}
    assert len(judged.says(CLOSED)) >= 1
    for event in judged.events:
        name = (event["metric"], event["key"]) if event["key"] < 250 else event["key"]
        if event["phase"] == OPEN:
            opened[name] = event["time_ms"]
        assert event["episode_ms"] == opened[name]
        assert event["start_ms"] <= event["peak_ms"] <= event["time_ms"]
        assert event["peak_severity"] >= event["severity"] - 1e-6  # kept in single precision
        if event["phase"] == CLOSED:
            del opened[name]


# --- local and joint ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_jump_inside_the_range_of_the_day_is_found(family):
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.5, 0.5)] += 25
    assert values[between(time_ms, 20.5, 0.5)].max() < values.max()
    assert is_found(judge(time_ms, values).alarm_days, 20.5, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_metrics_that_move_a_little_are_more_than_one_that_does(family):
    time_ms, values = columns_of(8, family, 30)
    moved = between(time_ms, 25.5, 1)
    one, many = values.copy(), values.copy()
    one[moved, 3] += 7
    many[moved] += 7
    alone, together = judge(time_ms, one), judge(time_ms, many)
    assert is_found(together.alarm_days, 25.5, 1.5)
    top = [np.nanmax(j.rows["score"][moved]) for j in (alone, together)]
    assert top[1] > top[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_contradicts_the_other_metrics_is_found(family):
    time_ms = clock(26)
    load = np.exp(0.5 * noise(family, len(time_ms) // 12 + 1, 3).clip(-2, 2)).repeat(12)
    load = 30 * load[: len(time_ms)]
    values = np.column_stack(
        [(k + 1) * load + noise(family, len(time_ms), 10 + k) for k in range(4)]
    )
    values[between(time_ms, 20.4, 4), 2] = np.median(values[:, 2])
    judged = judge(time_ms, values)
    assert is_found(judged.alarm_days, 20.4, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_an_episode_of_the_others_accounts_for_joins_it(family):
    time_ms = clock(26)
    load = np.exp(0.3 * noise(family, len(time_ms) // 12 + 1, 3).clip(-2, 2)).repeat(12)
    load = np.convolve(load[: len(time_ms)], np.ones(36) / 36, "same")
    ramp = np.clip((time_ms - time_ms[0]) / DAY_MS - 20.4, 0, 0.25) * 8
    load *= 1 + np.where(between(time_ms, 20.4, 12), ramp, 0)
    values = np.column_stack(
        [100 * load + (1 + k) * noise(family, len(time_ms), 10 + k) for k in range(5)]
    )
    surge = judge(time_ms, values)
    values[between(time_ms, 20.6, 4), 2] = 0
    outage = judge(time_ms, values)
    fast = surge.alarms["view"] < LEVEL
    assert count(surge.alarm_days[fast], 20.4, 21) <= 1 <= count(surge.alarm_days, 20.4, 21)
    beside = outage.alarms[(outage.alarm_days >= 20.6) & (outage.alarm_days < 20.8)]
    assert 2 in beside["metric"]


# --- sparse is normal -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_usual_spikes_of_a_sparse_metric_are_quiet_and_unusual_ones_are_not(family):
    rng = np.random.default_rng(3)
    time_ms = clock(40)
    values = np.where(
        rng.random(len(time_ms)) < 0.005, 100 + 20 * noise(family, len(time_ms), 1), 0.0
    )
    values[between(time_ms, 35.5, 0.34)] = 900
    judged = judge(time_ms, values)
    assert count(judged.alarm_days, 5, 35) <= 2
    assert is_found(judged.alarm_days, 35.5, 1)
    assert np.nanmedian(judged.cells["expected"][:, 0]) == 0.0
    found = judged.alarms[judged.alarm_days >= 35.5][0]
    assert found["expected"] == 0.0
    assert found["value"] == 900


# --- a sentence is true ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_an_event_claims_can_be_recomputed_from_the_rows(family):
    time_ms, values = columns_of(3, family)
    values[between(time_ms, 20.5, 2), 1] += 60
    values[between(time_ms, 22.5, 2), 2] -= 45
    judged = judge(time_ms, values)
    about = judged.alarms[(judged.alarms["metric"] >= 0) & (judged.alarm_days > 20)]
    assert {1, 2} <= set(about["metric"].tolist())
    for event in about:
        row, column = event["row"], event["metric"]
        assert time_ms[row] == event["time_ms"]
        assert values[row, column] == event["value"]
        assert event["history_ms"] == event["time_ms"] - time_ms[0]
        assert event["lower"] <= event["expected"] <= event["upper"]
    first = about[about["metric"] == 1][0]
    usual = daily(time_ms[first["row"] : first["row"] + 1])[0]
    assert first["expected"] == pytest.approx(usual, abs=8.0)
    assert first["value"] > first["upper"] or first["view"] != 0


def test_a_peak_is_a_value_of_that_time():
    time_ms, values = series(26)
    rng = np.random.default_rng(0)
    values[between(time_ms, 20.4, 4)] += rng.uniform(60, 120, 48)
    closed = judge(time_ms, values).says(CLOSED)
    big = closed[days_of(closed["peak_ms"]) > 20.3][0]
    assert values[np.searchsorted(time_ms, big["peak_ms"])] == big["peak_value"]
    assert big["peak_value"] >= 120


# --- one way to judge -----------------------------------------------------------------------------


def scene_for(view: str):
    """A series with something that the view is for."""
    time_ms, values = series(32)
    values = np.column_stack([values, daily(time_ms) + 2 * noise("gauss", len(time_ms), 9)])
    incident = between(time_ms, 28.4, 4)
    if view == "level":
        values[days_of(time_ms) >= 28.4, 0] += 60
    elif view == "spread":
        values[incident, 0] += 25 * noise("gauss", int(incident.sum()), 4)
    elif view == "often":
        values[:, 0] = np.where(np.arange(len(time_ms)) % 997 == 0, 10.0, 0.0)
        values[incident, 0] = np.where(np.arange(incident.sum()) % 2 == 0, 10.0, 0.0)
    elif view == "stuck":
        values[between(time_ms, 28.4, 20), 0] = 44.0
    elif view == "missed":
        values[:, 0] += np.where(time_ms % DAY_MS // 3_600_000 == 9, 60, 0)
        values[between(time_ms, 28 + 9 / 24, 1), 0] -= 60
    elif view == "combination":
        load = 20 * noise("ar1", len(time_ms) // 6 + 1, 2).repeat(6)[: len(time_ms)]
        values += load[:, None]
        values[incident, 0] -= 2 * load[incident]
    elif view == "course":
        values[:, 0] = daily(time_ms) + noise("gauss", len(time_ms), 1)
        values[between(time_ms, 28.2, 12), 0] = values[between(time_ms, 27.7, 12), 0]
    else:
        values[incident, 0] += 80
    return time_ms, values


@pytest.mark.parametrize("view", [v for v in VIEW_NAMES[:ALL_VIEWS] if v != "course"])
def test_each_view_alone_goes_the_same_way(view):
    """Score, level, episode, record: what opens says so, once, with its own view."""
    place = VIEW_NAMES.index(view)
    time_ms, values = scene_for(view)
    judged = judge(time_ms, values, views=1 << place)
    assert set(judged.alarms["view"].tolist()) == {place}
    assert count(judged.alarm_days, 28, 30) >= 1
    assert len(judged.alarms) <= 6
    assert (judged.alarms["score"] >= 1.0).all()
    assert (judged.alarms["severity"] >= 0.5).all()
    said = np.zeros(len(time_ms), np.uint8)
    said[judged.alarms["row"]] = 1
    assert judged.rows["is_anomaly"].tolist() == said.tolist()


def test_a_trained_model_alone_goes_the_same_way():
    time_ms, values = series(32)
    rarity = -np.log10(1 - np.random.default_rng(2).random(len(time_ms)))
    rarity[between(time_ms, 28.4, 4)] = 6.0
    judged = judge(time_ms, values, trained=rarity, views=1 << TRAINED)
    assert set(judged.alarms["view"].tolist()) == {TRAINED}
    assert is_found(judged.alarm_days, 28.4, 1)
    assert len(judged.alarms) <= 4


def test_a_trained_model_has_a_higher_level_among_other_views():
    time_ms, values = series(32)
    rarity = -np.log10(1 - np.random.default_rng(2).random(len(time_ms)))
    alone, among = (
        judge(time_ms, values, trained=rarity, **only).state.entities[0]
        for only in ({"views": 1 << TRAINED}, {})
    )
    assert alone["trained_ratio"] > 0.0
    assert alone["trained_level"] == among["trained_level"]
    assert math.isclose(
        alone["trained_ratio"], EnsembleParams().among_others * among["trained_ratio"]
    )


def test_a_score_reaches_the_threshold_where_an_episode_opens():
    time_ms, values = host(7, days=26)
    judged = judge(time_ms, values)
    opened = judged.alarms[judged.alarms["view"] != VIEW_NAMES.index("course")]
    rows = judged.rows[opened["row"]]
    assert len(opened) >= 1
    assert (rows["score"] >= rows["threshold"] * (1 - 1e-9)).all()
    assert (judged.alarms["phase"] <= WORSE).all()
