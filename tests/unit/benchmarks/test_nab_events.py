"""Events as an operator counts them: against the twin and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from benchmarks.nab.events import count_events, false_starts, judged_days, sweep_events
from tests.reference import nab as reference
from tests.support.nab_corpora import as_files, judged_corpora, make_series


def alarms_at(rows, length=100):
    scores = np.zeros(length)
    scores[rows] = 1.0
    return scores


@given(judged_corpora())
def test_every_threshold_counts_what_the_twin_counts(made):
    corpus, scores = made
    files, swept = as_files(corpus, scores), sweep_events(corpus, scores)
    for place, threshold in enumerate(swept.thresholds.tolist()):
        counted = count_events(corpus, scores, threshold)
        slow = reference.count_events(files, threshold)
        assert (counted.windows, counted.hits, counted.false_events) == slow
        assert (swept.windows, swept.hits[place], swept.false_events[place]) == slow
        assert counted.f1 == pytest.approx(swept.f1[place])
        assert counted.precision == pytest.approx(swept.precision[place])
        assert counted.recall == pytest.approx(swept.recall[place])
        assert counted.days == swept.days == sum(map(judged_days, corpus))
        assert sum(counted.false_events_by_series) == counted.false_events <= counted.false_rows
        assert counted.days_by_series == tuple(map(judged_days, corpus))


def test_alarms_in_a_row_are_one_event_and_a_window_is_one_hit():
    one = make_series(100, [(40, 49), (70, 79)])
    counted = count_events([one], [alarms_at([20, 21, 22, 30, 41, 43, 44])], 0.5)
    assert (counted.hits, counted.windows, counted.false_events, counted.false_rows) == (1, 2, 2, 4)
    assert counted.precision == pytest.approx(1 / 3)
    assert counted.recall == 0.5
    assert counted.f1 == pytest.approx(0.4)
    assert [outcome.alarm_row for outcome in counted.outcomes] == [41, None]
    assert counted.false_events_by_series == (2,)
    assert false_starts(one, alarms_at([20, 21, 22, 30, 41, 43, 44]) > 0).tolist() == [20, 30]


def test_a_run_is_cut_at_the_edges_of_a_window():
    one = make_series(100, [(40, 49)])
    assert count_events([one], [alarms_at(range(35, 45))], 1.0).false_events == 1
    always = count_events([one], [np.ones(100)], 1.0)
    assert (always.hits, always.false_events, always.false_rows) == (1, 2, 75)


def test_rows_of_different_series_are_never_neighbours():
    corpus = [make_series(100, file="a.csv"), make_series(100, file="b.csv")]
    scores = [alarms_at([99]), alarms_at([15])]
    assert count_events(corpus, scores, 1.0).false_events == 2
    assert sweep_events(corpus, scores).false_events.tolist() == [0, 2, 2]


def test_false_events_are_counted_per_day_and_series():
    one = make_series(100)
    assert one.probation == 15
    assert judged_days(one) == pytest.approx(84 * 5 / 1440)
    counted = count_events([one, one], [alarms_at([20, 30, 50]), alarms_at([])], 1.0)
    assert counted.false_events_per_day == pytest.approx(3 / (2 * 84 * 5 / 1440))


def test_the_delay_is_from_the_label_and_the_wait_from_the_window():
    one = make_series(100, [(40, 49), (60, 69), (80, 89), (95, 97)], labels=[45, 62, 64, 72, 74])
    counted = count_events([one], [alarms_at([42, 69, 85, 96])], 1.0)
    # the third lies after its label
    assert [outcome.delay_min for outcome in counted.outcomes[:3]] == [-15.0, 35.0, 55.0]
    assert math.isnan(counted.outcomes[3].delay_min)
    assert [outcome.wait_min for outcome in counted.outcomes] == [10.0, 45.0, 25.0, 5.0]
    assert counted.median_delay_min == 35.0
    assert counted.median_wait_min == 17.5


def test_a_window_that_begins_in_the_probation_is_waited_for_from_there():
    counted = count_events([make_series(100, [(10, 30)])], [alarms_at([12, 18])], 1.0)
    assert counted.outcomes[0].alarm_row == 18
    assert counted.outcomes[0].wait_min == 15.0


def test_silence_has_figures_too():
    silent = count_events([make_series(100, [(40, 49)])], [np.zeros(100)], 1.0)
    assert (silent.precision, silent.recall, silent.f1, silent.false_events_per_day) == (
        0.0,
        0.0,
        0.0,
        0.0,
    )
    assert math.isnan(silent.median_delay_min)
    assert count_events([make_series(100)], [np.zeros(100)], 1.0).recall == 0.0


def test_the_best_threshold_stays_within_the_budget_and_is_the_highest_of_equals():
    one = make_series(300, [(100, 109), (200, 209)])
    scores = np.zeros(300)
    scores[[100, 105, 150, 201]] = (0.9, 0.8, 0.7, 0.6)
    swept = sweep_events([one], [scores])
    assert swept.best_threshold() == 0.6
    assert swept.best_threshold(max_false_per_day=0.5) == 0.9
    assert (
        sweep_events([one], [np.where(one.window_of < 0, 1.0, 0.0)]).best_threshold(0.0) == math.inf
    )
