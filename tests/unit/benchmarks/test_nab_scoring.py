"""The NAB scorer against its twin, against sums by hand and against the published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from benchmarks.nab.corpus import read_corpus
from benchmarks.nab.scoring import (
    LOW_FN,
    LOW_FP,
    PROFILES,
    STANDARD,
    measure,
    rewards,
    scaled_sigmoid,
    sweep,
    tally,
)
from tests.reference import nab as reference
from tests.support.nab_corpora import as_files, judged_corpora, make_series


def at_rows(series, rows):
    scores = np.zeros(len(series))
    scores[rows] = 1.0
    return scores


def deviations(series):
    start = series.values[: series.probation]
    return np.abs(series.values - start.mean()) / (start.std() or 1.0)


DETECTORS = {
    "first": lambda one: at_rows(one, one.windows[:, 0]),
    "label": lambda one: at_rows(one, one.labels),
    "last": lambda one: at_rows(one, one.windows[:, 1]),
    "clock": lambda one: (np.arange(len(one)) % 200 == 0).astype(float),
    "z": deviations,
}
ALL, AWS = (
    ("artificialNoAnomaly", "artificialWithAnomaly", "realAWSCloudwatch"),
    ("realAWSCloudwatch",),
)
FIGURES = [
    ("first", ALL, (100, 100, 100), (1.0, 1.0, 1.0)),
    ("label", ALL, (90.4726, 90.3198, 92.7225), (1.0, 1.0, 1.0)),
    ("label", AWS, (89.9604, 89.7771, 92.1958), (1.0, 1.0, 1.0)),
    ("last", ALL, (50.6723, 50.6723, 67.1148), (1.0, 1.0, 1.0)),
    ("clock", ALL, (19.0631, -44.4371, 42.3384), None),
    ("clock", AWS, (34.4595, -10.4888, 51.8619), None),
    ("z", ALL, (10.9489, 9.4306, 12.8548), (32.292079, 35.404293, 32.292079)),
    ("z", AWS, (13.1387, 11.3167, 15.4258), (32.292079, 35.404293, 32.292079)),
]
"""Detector, categories, published score and best threshold of each profile (None: judged at 1)."""


@pytest.fixture(scope="module")
def nab(nab_dir):
    return read_corpus(nab_dir)


@pytest.mark.parametrize(("detector", "categories", "figures", "thresholds"), FIGURES)
def test_the_published_figures_come_out(nab, detector, categories, figures, thresholds):
    corpus = [one for one in nab if one.category in categories]
    if {one.category for one in corpus} != set(categories):
        pytest.skip("the artificial series are not there")
    ruler, scores = measure(corpus), [DETECTORS[detector](one) for one in corpus]
    swept = sweep(ruler, scores)
    for number, (profile, figure) in enumerate(zip(PROFILES, figures, strict=True)):
        if thresholds is None:
            found, threshold = swept.at(1.0, profile), 1.0
        else:
            best = swept.best(profile)
            found, threshold = best.score, best.threshold
            assert threshold == pytest.approx(thresholds[number], abs=5e-7)
        assert found == pytest.approx(figure, abs=5e-5)
        assert tally(ruler, scores, threshold).normalised(profile) == pytest.approx(found, abs=1e-9)


@given(judged_corpora())
def test_every_threshold_is_worth_what_the_twin_says(made):
    corpus, scores = made
    ruler, files = measure(corpus), as_files(corpus, scores)
    swept = sweep(ruler, scores)
    for profile in PROFILES:
        slow = reference.score_thresholds(files, profile.name)
        assert swept.thresholds.tolist() == [threshold for threshold, _ in slow]
        for threshold, score in slow:
            expected = math.nan if score is None else score
            assert swept.at(threshold, profile) == pytest.approx(expected, abs=1e-9, nan_ok=True)
            assert tally(ruler, scores, threshold).normalised(profile) == pytest.approx(
                expected, abs=1e-9, nan_ok=True
            )
        if swept.windows:
            top = max(score for _, score in slow)
            best = swept.best(profile)
            assert best.score == pytest.approx(top, abs=1e-9)
            assert best.threshold >= max(threshold for threshold, score in slow if score == top)


@given(judged_corpora())
def test_every_row_is_worth_what_the_twin_says(made):
    for one, (timestamps, limits, _) in zip(made[0], as_files(*made), strict=True):
        slow = reference.row_rewards(timestamps, limits)
        np.testing.assert_allclose(rewards(one), [worth for worth, _ in slow], atol=1e-12)
        assert one.window_of.tolist() == [-1 if window is None else window for _, window in slow]


@given(judged_corpora())
def test_a_tally_adds_up_and_its_categories_are_judged_alone(made):
    corpus, scores = made
    whole = tally(measure(corpus), scores, 0.5)
    for category, score in whole.by_category(STANDARD).items():
        mine = [place for place, one in enumerate(corpus) if one.category == category]
        alone = tally(
            measure([corpus[place] for place in mine]), [scores[place] for place in mine], 0.5
        )
        assert score == pytest.approx(alone.normalised(STANDARD), abs=1e-9, nan_ok=True)
        assert whole.hit[mine].tolist() == alone.hit.tolist()
        assert whole.false_rows[mine].tolist() == alone.false_rows.tolist()


@given(judged_corpora())
def test_the_probation_decides_nothing(made):
    corpus, scores = made
    noisy = [
        np.where(np.arange(len(one)) < one.probation, 9.0, mine)
        for one, mine in zip(corpus, scores, strict=True)
    ]
    calm, loud = sweep(measure(corpus), scores), sweep(measure(corpus), noisy)
    np.testing.assert_array_equal(calm.thresholds, loud.thresholds)
    np.testing.assert_array_equal(calm.normalised(LOW_FN), loud.normalised(LOW_FN))


def test_the_sigmoid_has_the_published_points():
    points = scaled_sigmoid(np.array([-1.0, -0.5, 0.0, 1.0, 2.999, 3.0, 50.0]))
    np.testing.assert_allclose(points[:4], [0.98661, 0.84828, 0.0, -0.98661], atol=5e-6)
    assert points[4] > -1.0
    assert points[5:].tolist() == [-1.0, -1.0]


def test_figures_by_hand():
    one = make_series(100, [(40, 49)])
    ruler = measure([one])

    def score(rows, profile):
        return sweep(ruler, [at_rows(one, rows)]).at(1.0, profile)

    late = scaled_sigmoid(np.array(-0.5)) / scaled_sigmoid(np.array(-1.0))
    near = scaled_sigmoid(np.array(1 / 9))
    assert score([40], STANDARD) == pytest.approx(100)
    assert score([45, 47], STANDARD) == pytest.approx(50 * (1 + late))
    assert score([45, 47], LOW_FN) == pytest.approx(100 / 3 * (2 + late))
    assert score([30, 40], STANDARD) == pytest.approx(100 - 50 * 0.11)
    assert score([30, 40], LOW_FP) == pytest.approx(100 - 50 * 0.22)
    assert score([40, 50], STANDARD) == pytest.approx(100 + 50 * 0.11 * near)
    assert score([40, 76], STANDARD) == pytest.approx(100 - 50 * 0.11)
    assert score([14, 40], STANDARD) == pytest.approx(100)
    assert score([15], STANDARD) == pytest.approx(-50 * 0.11)
    assert score([], STANDARD) == 0


def test_a_repeated_timestamp_means_its_first_row():
    one = make_series(
        40, [(20, 25)], minutes=[*range(0, 130, 5), 125, 125, *range(130, 190, 5)][:40]
    )
    assert one.timestamps[25] == one.timestamps[26] == one.timestamps[27]
    assert one.window_of[24:29].tolist() == [0, 0, -1, -1, -1]
    assert rewards(one)[26] == pytest.approx(float(scaled_sigmoid(np.array(1 / 5))))


def test_after_a_window_of_one_row_a_false_alarm_costs_all():
    one = make_series(40, [(20, 20)])
    assert rewards(one)[[19, 20, 21]].tolist() == [-1.0, 1.0, -1.0]


def test_a_window_that_ends_in_the_probation_counts_nowhere_but_softens_what_follows():
    one = make_series(100, [(2, 14), (60, 70)])
    counted = tally(measure([one]), [at_rows(one, [5, 60])], 1.0)
    assert counted.windows.tolist() == [1]
    assert counted.normalised(STANDARD) == 100
    assert rewards(one)[15] == pytest.approx(float(scaled_sigmoid(np.array(1 / 12))))


def test_a_window_that_begins_in_the_probation_can_still_be_hit_late():
    one = make_series(100, [(10, 19)])
    best = sweep(measure([one]), [np.ones(100)]).at(1.0, STANDARD)
    hit = scaled_sigmoid(np.array(-5 / 10)) / scaled_sigmoid(np.array(-1.0))
    false = scaled_sigmoid(np.arange(1, 81) / 9).sum()
    assert best == pytest.approx(50 * (1 + hit + 0.11 * false))


def test_of_equal_scores_the_highest_threshold_is_best():
    one = make_series(20, [(5, 10)])
    scores = np.zeros(20)
    scores[[5, 7, 9]] = (0.75, 0.5, 0.25)
    assert sweep(measure([one]), [scores]).best(STANDARD).threshold == 0.75


def test_where_every_alarm_is_wrong_it_is_best_not_to_alarm():
    one = make_series(20, [(5, 10)])
    best = sweep(measure([one]), [np.where(one.window_of < 0, 1.0, -1.0)]).best(LOW_FP)
    assert (best.threshold, best.score) == (math.inf, 0.0)


def test_without_a_window_nothing_is_best_and_scores_are_nan():
    ruler = measure([make_series(20)])
    swept = sweep(ruler, [np.zeros(20)])
    assert math.isnan(swept.at(0.0, STANDARD))
    assert math.isnan(tally(ruler, [np.zeros(20)], 0.0).by_category(STANDARD)["cloud"])
    with pytest.raises(ValueError, match="no window"):
        swept.best(STANDARD)


def test_a_threshold_between_two_scores_is_the_higher_one():
    one = make_series(20, [(5, 10)])
    scores = np.linspace(0, 1, 20)
    swept = sweep(measure([one]), [scores])
    assert swept.at(0.99, STANDARD) == swept.at(1.0, STANDARD) != swept.at(scores[18], STANDARD)
    assert swept.at(1.01, STANDARD) == swept.at(math.inf, STANDARD) == 0.0
    assert swept.at(-5.0, STANDARD) == swept.normalised(STANDARD)[-1]
