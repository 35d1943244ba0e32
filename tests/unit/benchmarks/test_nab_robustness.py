"""Perturbed params and omitted categories: fixed draws, no category affects its own threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.nab import robustness
from benchmarks.nab.detection import Scored, Warmup, default_params
from benchmarks.nab.figures import GRID, Figures
from benchmarks.nab.robustness import (
    VARIANTS,
    draws,
    leave_one_out,
    perturb,
    show_left_out,
    show_spread,
    spread_of,
)
from benchmarks.nab.scoring import measure
from tests.support.nab_corpora import make_series


def silent(_):
    pass


def test_draws_are_fixed_and_stay_within_a_quarter():
    base = default_params()
    few, many = list(draws(base, 3)), list(draws(base, 5))
    assert few == many[:3]
    assert len(set(many)) == 5
    ratio = np.array(many) / np.array(base)
    assert (ratio >= 0.75).all()
    assert (ratio <= 1.25).all()
    assert ratio.min() < 0.8
    assert ratio.max() > 1.2
    assert (np.ptp(ratio, axis=0) > 0).all(), "every parameter is perturbed"


def test_a_draw_runs_with_the_threshold_kept_with_its_own_and_with_its_best(monkeypatch):
    seen = []

    def run(corpus, ruler, params, warmup):
        seen.append((params, warmup))
        return Figures(
            {"standard": params.threshold}, {"a": {"standard": 2 * params.threshold}}, 0.5, 0.25
        )

    monkeypatch.setattr(robustness, "run", run)
    base, message = default_params(), []
    found = perturb((), None, base, 4, Warmup.PRODUCT, message.append)
    drawn = list(draws(base, 4))
    runs = [params for params, _ in seen]
    each = 2 + len(GRID)
    assert runs[1::each] == drawn
    assert runs[::each] == [params._replace(threshold=base.threshold) for params in drawn]
    assert runs[2:each] == [drawn[0]._replace(threshold=at) for at in GRID]
    assert {warmup for _, warmup in seen} == {Warmup.PRODUCT}
    assert len(message) == 4
    spread = spread_of(found)
    own = [params.threshold for params in drawn]
    assert spread[VARIANTS[0]]["all"] == {
        "mean": base.threshold,
        "lowest": base.threshold,
        "highest": base.threshold,
    }
    assert spread[VARIANTS[1]]["all"] == {
        "mean": pytest.approx(np.mean(own)),
        "lowest": min(own),
        "highest": max(own),
    }
    assert spread[VARIANTS[1]]["a"]["highest"] == 2 * max(own)
    assert spread[VARIANTS[2]]["all"]["lowest"] == max(GRID), "a score grows with its threshold"
    shown = show_spread(spread, 4, base.threshold, Warmup.PRODUCT)
    assert f"{max(own):.1f}" in shown
    assert "0.250" in shown


@pytest.fixture
def three_categories(monkeypatch):
    """Make three categories; a hits its window up to threshold 1.0, b up to 1.5, c has no window.

    At thresholds lower by 0.1 or more, a and b also have a false alarm.
    """
    corpus = [make_series(200, [(80, 99)], category=name) for name in "ab"] + [
        make_series(200, category="c")
    ]

    def score_corpus(corpus, params, warmup):
        scores = []
        for one in corpus:
            highest = {"a": 1.0, "b": 1.5, "c": 9.0}[one.category]
            mine = np.zeros(len(one))
            mine[80] = params.threshold <= highest
            mine[40] = params.threshold <= highest - 0.1
            scores.append(mine)
        return Scored(scores, scores, 0.0)

    monkeypatch.setattr(robustness, "score_corpus", score_corpus)
    return corpus


def test_a_category_has_no_say_in_its_threshold(three_categories):
    found = {
        one.category: one
        for one in leave_one_out(
            three_categories, measure(three_categories), default_params(), Warmup.PROBATION, silent
        )
    }
    assert found["a"].threshold == 1.5
    assert found["a"].standard == 0.0, "at b's threshold nothing of a is found"
    assert found["b"].threshold == 1.0
    assert found["b"].standard == found["b"].at_default == pytest.approx(94.5), (
        "the window hit, a false alarm before it"
    )
    assert math.isnan(found["c"].standard)
    assert found["c"].false_per_day == pytest.approx(2 / (169 * 5 / 1440))
    shown = show_left_out(list(found.values()), Warmup.PROBATION)
    assert [text.split()[0] for text in shown.splitlines()[2:]] == ["a", "b", "c"]


def test_one_category_cannot_be_left_out(three_categories):
    alone = three_categories[:1]
    assert leave_one_out(alone, measure(alone), default_params(), Warmup.PROBATION, silent) == []
    assert "no second category" in show_left_out([], Warmup.PROBATION)
