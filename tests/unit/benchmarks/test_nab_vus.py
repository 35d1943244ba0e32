"""Volumes under the surface: against the twin and figures of the authors' packages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.nab.vus import BUFFER_ROWS, THRESHOLDS, blurred_labels, mean_vus, vus, vus_by_series
from tests.reference import nab as reference
from tests.support.nab_corpora import make_series

PUBLISHED = [
    (
        60,
        [(20, 29)],
        7,
        37,
        16,
        250,
        (0.5723628422517812, 0.7793144788004439),
        (0.6359915368005189, 0.8345669907321884),
    ),
    (
        80,
        [(15, 20), (27, 30)],
        11,
        37,
        20,
        40,
        (0.507237982255339, 0.7717094700146813),
        (0.583479169779678, 0.8625526412567323),
    ),
    (
        50,
        [(0, 3), (44, 49)],
        13,
        37,
        12,
        250,
        (0.45265599218274133, 0.6840367780032186),
        (0.49594032949239464, 0.7339837032443933),
    ),
    (
        70,
        [(30, 41)],
        5,
        4,
        30,
        100,
        (0.6215043790472504, 0.7702662919383753),
        (0.5730476392167982, 0.8429769481785923),
    ),
]
"""Rows, windows, factor and modulus of the scores, buffer, thresholds; expected volumes.

The volumes are VUS-PR and VUS-ROC of vus 0.0.5 and of vus 0.0.6.
"""


@pytest.mark.parametrize(
    ("rows", "windows", "factor", "modulus", "buffer", "thresholds", "first", "revised"), PUBLISHED
)
def test_the_authors_packages_give_the_same(
    rows, windows, factor, modulus, buffer, thresholds, first, revised
):
    scores = ((np.arange(rows) * factor) % modulus) / modulus
    for begin, end in windows:
        scores[begin : end + 1] += 0.25
    for edition, figures in (("2022", first), ("revised", revised)):
        found = vus(np.array(windows), scores, buffer, thresholds, edition)
        assert (found.pr, found.roc) == pytest.approx(figures, abs=1e-12)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from((0.0, 0.2, 0.4, 0.6, 0.8))),
        min_size=3,
        max_size=40,
    ),
    st.integers(0, 12),
    st.integers(2, 30),
    st.sampled_from(("2022", "revised")),
)
def test_the_twin_gives_the_same(rows, buffer, thresholds, edition):
    flags, scores = [flag for flag, _ in rows], [score for _, score in rows]
    if any(flags) and not all(flags):
        found = vus(np.array(reference.runs(flags)), np.array(scores), buffer, thresholds, edition)
        assert (found.pr, found.roc) == pytest.approx(
            reference.vus(flags, scores, buffer, thresholds, edition), abs=1e-12
        )


def test_windows_side_by_side_are_one():
    scores = np.linspace(0, 1, 30) % 0.37
    assert vus(np.array([[5, 9], [10, 14]]), scores) == vus(np.array([[5, 14]]), scores)


def test_the_order_of_scores_is_all_that_counts():
    scores = np.sin(np.arange(200.0) ** 2)
    windows = np.array([[40, 60], [150, 170]])
    assert vus(windows, scores) == vus(windows, np.exp(scores) * 1e6)


@pytest.mark.parametrize("edition", ["2022", "revised"])
def test_the_better_score_has_the_larger_volume(edition):
    windows, rows = np.array([[100, 149]]), np.arange(500)
    inside = (rows >= 100) & (rows <= 149)
    noise = np.sin(rows * 12.9898) * 0.4
    perfect, good, blind = (
        vus(windows, scores, edition=edition)
        for scores in (inside + noise, inside * 0.5 + noise, noise)
    )
    assert perfect.pr > good.pr > blind.pr
    assert perfect.roc > good.roc > blind.roc


def test_labels_fall_off_by_the_square_root():
    labels = blurred_labels(np.array([[4, 5]]), 10, 4)
    np.testing.assert_allclose(labels, [0, 0, 0.5**0.5, 0.75**0.5, 1, 1, 0.75**0.5, 0.5**0.5, 0, 0])
    assert blurred_labels(np.array([[0, 1], [4, 9]]), 10, 8).tolist() == [1.0] * 10


def test_the_mean_is_over_the_series_that_have_a_window_after_their_probation():
    corpus = [
        make_series(100, windows, file=f"{number}.csv")
        for number, windows in enumerate([[(40, 49)], [], [(2, 9)], [(70, 79)]])
    ]
    scores = [np.cos(np.arange(100.0) * (number + 1)) for number in range(4)]
    by_series = vus_by_series(corpus, scores)
    assert [one is None for one in by_series] == [False, True, True, False]
    first, last = (
        vus(np.array(window), scores[place][15:])
        for place, window in ((0, [[25, 34]]), (3, [[55, 64]]))
    )
    assert (by_series[0], by_series[3]) == (first, last)
    mean = mean_vus(corpus, scores)
    assert (mean.pr, mean.roc) == pytest.approx(
        ((first.pr + last.pr) / 2, (first.roc + last.roc) / 2)
    )
    assert math.isnan(mean_vus(corpus[1:3], scores[1:3]).pr)
    assert (BUFFER_ROWS, THRESHOLDS) == (100, 250)


def test_a_window_is_cut_at_the_end_of_the_probation():
    scores = np.cos(np.arange(100.0))
    found = vus_by_series([make_series(100, [(10, 30)])], [scores])
    assert found[0] == vus(np.array([[0, 15]]), scores[15:])
