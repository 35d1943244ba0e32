"""The ablation and the steps from the tutorial: each variant is what its name says, run through the
product's kernels.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nab import ablation
from benchmarks.nab.ablation import MEMBERS, OTHERS, ablate, measure_at, show, variants
from benchmarks.nab.detection import default_knobs
from benchmarks.nab.figures import Figures
from benchmarks.nab.scoring import measure
from benchmarks.nab.steps import (
    CONTAMINATION,
    calibrated,
    decide_rows,
    forest_scores,
    only,
    smooth_ranks,
    steps,
)
from shared.ensemble.fold import knobs_for
from shared.ensemble.kernels.layout import ENTITY_DTYPE, SKETCH_DTYPE
from tests.reference import policy as slow_policy
from tests.reference.calibration import ranks
from tests.support.nab_corpora import make_series


def figures(standard):
    return Figures(
        dict.fromkeys(("standard", "reward_low_FP_rate", "reward_low_FN_rate"), standard),
        {},
        0.5,
        0.1,
    )


def noisy(rows, seed=1, **named):
    one = make_series(rows, **named)
    one.values[:] = np.random.default_rng(seed).normal(size=rows)
    return one


def test_a_variant_lacks_what_its_name_says_and_nothing_else():
    base = default_knobs()
    found = variants(base)
    assert found.pop("default") == base
    for name, knob in {**MEMBERS, **{other: other for other in OTHERS}}.items():
        assert found.pop(f"without {name}") == base._replace(**{knob: 0.0})
    for name in MEMBERS:
        assert found.pop(f"{name} alone") == knobs_for(name, base.threshold)
    assert found == {}


def test_only_the_named_members_are_kept_at_their_weights():
    base = default_knobs()
    assert only(base, *MEMBERS) == base._replace(absence=0.0)
    mine = only(base, "novelty", "burst")
    assert [getattr(mine, knob) for knob in MEMBERS.values()] == [
        base.weight_long,
        0.0,
        0.0,
        base.weight_short,
    ]


def test_a_variant_is_judged_at_the_default_and_at_its_best():
    found = measure_at(
        "x", lambda threshold: figures(-abs(threshold - 2.2)), 1.3, (1.0, 2.0, 2.5, 3.0)
    )
    assert found.at_default.standard == pytest.approx(-0.9)
    assert (found.best_threshold, found.best.standard) == (2.0, pytest.approx(-0.2))
    assert (
        measure_at(
            "x", lambda threshold: figures(-abs(threshold - 1.3)), 1.3, (1.0, 2.0)
        ).best_threshold
        == 1.3
    )
    assert found.plain()["best"]["f1"] == 0.5
    said = show("parts", [found], "1.3", "threshold").splitlines()
    assert said[0] == "parts; standard / low-FP / low-FN"
    assert sum(text.startswith("x ") for text in said) == 2


def test_every_variant_is_run_at_every_threshold(monkeypatch):
    seen = []

    def run(corpus, ruler, knobs):
        seen.append(knobs)
        return figures(knobs.threshold)

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(ablation, "GRID", (1.0, 2.0))
    said = []
    found = ablate((), None, default_knobs(), said.append)
    assert [one.name for one in found] == list(variants(default_knobs()))
    assert len(said) == len(found)
    assert all(one.best_threshold == 2.0 for one in found)
    assert seen[:3] == [
        default_knobs()._replace(threshold=threshold)
        for threshold in sorted({1.0, default_knobs().threshold, 2.0})
    ]


def test_ranks_are_those_of_the_product_smoothed():
    scores = np.abs(np.random.default_rng(2).normal(size=120))
    found = smooth_ranks(scores, 500.0, 0.5, np.zeros(1, SKETCH_DTYPE)[0])
    rarity = np.where(np.arange(120) < 20, 0.0, ranks(scores, 500.0))
    mean = 0.0
    for row, one in enumerate(rarity):
        mean = 0.5 * (mean + one)
        assert found[row] == pytest.approx(0.5 * (one + mean), abs=0.05)


def test_rows_go_through_the_policy_of_the_product():
    knobs = default_knobs()._replace(threshold=1.0)
    z = np.random.default_rng(3).exponential(0.6, 300)
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    entity["warmup"], entity["threshold"] = 30, 1.0
    found = decide_rows(z, 40, entity, knobs)
    expected, _ = slow_policy.alarms(z[40:].tolist(), 30, 1.0, knobs)
    assert (40 + np.array(expected) - 1).tolist() == np.flatnonzero(found).tolist()
    assert len(expected) > 3


def test_the_forest_flags_its_share_of_what_it_was_fitted_on():
    one = noisy(400, seed=4)
    one.values[[10, 300]] = np.nan
    one.values[350] = 50.0
    found = forest_scores(one)
    flags = found.flags(0.0)
    assert len(found.fitted) == 59
    assert flags[:60].sum() == np.ceil(CONTAMINATION * 59)
    assert found.scores[300] == flags[300] == 0
    assert flags[350] == 1
    assert found.flags(10.0).sum() == 0
    z = calibrated(found, default_knobs())
    assert z.argmax() in (350, 351)


def test_a_series_too_short_for_a_forest_is_never_flagged():
    found = forest_scores(make_series(5))
    assert found.flags(0.0).tolist() == [0.0] * 5


def test_the_steps_lead_to_the_default(monkeypatch):
    from benchmarks.nab import steps as module

    monkeypatch.setattr(module, "GRID", (1.0,))
    seen = []

    def run(corpus, ruler, knobs):
        seen.append(knobs)
        return figures(50.0)

    monkeypatch.setattr(module, "run", run)
    corpus = [noisy(200, windows=[(120, 139)])]
    base = default_knobs()
    found = steps(corpus, measure(corpus), base, lambda _: None)
    assert seen[-1] == base
    assert len(found) == 8
    changed = [
        {
            knob
            for knob, before, after in zip(base._fields, first, second, strict=True)
            if before != after
        }
        for first, second in zip(seen[1::2], seen[3::2], strict=False)
    ]
    assert changed == [
        {"weight_neighbours", "weight_time"},
        {"weight_short"},
        {"habituation", "break_through"},
        {"absence"},
    ]
    assert "contamination" in found[0].name
    assert found[0].at_default.false_per_day >= found[1].at_default.false_per_day > 0
