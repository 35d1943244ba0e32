"""Figures of a run: those of the judges, and tables and JSON that can be read."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks.detecting import fold_entity
from benchmarks.nab.detection import (
    ALARM,
    QUIET,
    Scored,
    Warmup,
    as_scores,
    default_params,
    score_corpus,
)
from benchmarks.nab.events import count_events
from benchmarks.nab.figures import (
    Figures,
    best_of,
    cells,
    columns,
    figures_of,
    line,
    plain,
    summarise,
    table,
)
from benchmarks.nab.scoring import LOW_FN, LOW_FP, STANDARD, measure, tally
from shared.ensemble.fold import limits_for
from shared.settings import DetectionSettings
from tests.support.nab_corpora import make_series


def two_categories():
    corpus = [
        make_series(100, [(40, 49)], category="a"),
        make_series(100, [(60, 69)], category="b"),
        make_series(60, category="c"),
    ]
    scores = [np.zeros(100), np.zeros(100), np.zeros(60)]
    scores[0][[40, 90]] = 0.7
    scores[2][30] = 0.5
    return corpus, scores


def figures(standard, f1=0.0):
    return Figures({"standard": standard}, {}, f1, 0.0)


def test_the_default_is_what_the_product_ships():
    assert default_params().threshold == DetectionSettings().threshold
    short, long = make_series(10), make_series(6_000)
    assert [Warmup.PROBATION.samples(one) for one in (short, long)] == [2, 750]
    assert [Warmup.PRODUCT.samples(one) for one in (short, long)] == [0, 0]


def test_scores_reach_the_alarm_only_where_there_is_one():
    scores = as_scores(np.array([False, True, False, True]), np.array([0.2, 0.3, 0.9, 0.8]))
    assert scores.tolist() == [0.2, ALARM, QUIET, 0.8]


def test_a_series_is_scored_as_the_product_folds_it():
    rng = np.random.default_rng(5)
    params = default_params()._replace(threshold=0.5)
    one = make_series(900)
    one.values[:] = rng.normal(size=900)
    one.values[[3, 870]] = np.nan, 4000.0
    scored = score_corpus([one, one], params)
    limits = limits_for(1, warmup=Warmup.PROBATION.samples(one))
    verdicts = fold_entity(
        one.time_ms,
        one.values[:, None],
        limits,
        params._replace(ready_days=Warmup.PROBATION.days(one, params.ready_days)),
    )
    assert scored.severities[1].tobytes() == np.nan_to_num(verdicts.severity).tobytes()
    assert ((scored.scores[0] >= ALARM) == verdicts.is_anomaly).all()
    assert verdicts.is_anomaly.any()


def test_figures_are_those_of_the_judges():
    corpus, scores = two_categories()
    ruler = measure(corpus)
    found = figures_of(corpus, ruler, scores)
    counted, events = tally(ruler, scores, ALARM), count_events(corpus, scores, ALARM)
    assert found.profiles == {
        profile.name: counted.normalised(profile) for profile in (STANDARD, LOW_FP, LOW_FN)
    }
    assert list(found.by_category) == ["a", "b"], "a category without windows cannot be judged"
    assert found.by_category["a"]["standard"] == counted.by_category(STANDARD)["a"]
    assert (found.f1, found.false_per_day) == (events.f1, events.false_events_per_day)
    assert found.standard == found.profiles["standard"]
    assert figures(math.nan).standard == -math.inf


def test_the_best_run_has_the_highest_standard_score_and_of_equals_the_highest_threshold():
    runs = [
        (1.0, figures(70.0)),
        (1.5, figures(80.0, 0.5)),
        (2.0, figures(80.0, 0.9)),
        (3.0, figures(math.nan)),
    ]
    assert best_of(runs) == runs[2]


def test_a_summary_says_all_of_a_run():
    corpus, scores = two_categories()
    ruler = measure(corpus)
    summary = summarise(
        corpus, ruler, Scored(scores, scores, 0.26), default_params(), Warmup.PROBATION
    )
    assert summary["threshold"] == summary["settings"]["threshold"] == default_params().threshold
    assert summary["microseconds_per_value"] == pytest.approx(1000.0)
    assert summary["events"]["recall"] == 0.5
    assert summary["events"]["false_events"] == 2
    assert set(summary["vus_pr"]) == {"2022", "revised"}
    at_best = tally(ruler, scores, summary["optimised"]["standard"]["threshold"])
    assert summary["optimised"]["standard"]["score"] == pytest.approx(at_best.normalised(STANDARD))
    assert summary["optimised"]["standard"]["score"] >= summary["profiles"]["standard"]
    json.dumps(plain(summary), allow_nan=False)
    message = line(summary)
    assert f"a {summary['by_category']['standard']['a']:.1f}, b 0.0)" in message
    assert "probation warm-up" in message


def test_a_corpus_without_windows_has_figures_too():
    corpus = [make_series(40)]
    ruler, scored = measure(corpus), Scored([np.zeros(40)], [np.zeros(40)], 0.0)
    summary = plain(summarise(corpus, ruler, scored, default_params(), Warmup.PRODUCT))
    assert summary["profiles"] == {
        "standard": None,
        "reward_low_FP_rate": None,
        "reward_low_FN_rate": None,
    }
    assert summary["optimised"] == {}
    assert figures_of(corpus, ruler, scored.scores).by_category == {}
    assert "no windows" in line(summarise(corpus, ruler, scored, default_params(), Warmup.PRODUCT))


def test_a_table_is_aligned_and_its_cells_fit_their_heads():
    corpus, scores = two_categories()
    found = figures_of(corpus, measure(corpus), scores)
    assert columns(found) == ["all", "a", "b", "F1", "false/day"]
    assert len(cells(found)) == 5
    assert table(["name", "F1"], [["x", "0.5"], ["longer", "10"]]).splitlines() == [
        "name     F1",
        "------  ---",
        "x       0.5",
        "longer   10",
    ]


def test_what_json_cannot_say_becomes_null():
    assert plain({"a": [math.nan, 1.0], "b": {"c": math.inf}, "d": (2,), "e": None}) == {
        "a": [None, 1.0],
        "b": {"c": None},
        "d": [2],
        "e": None,
    }
