"""The ablation: each variant is what its name says, computed by the product's kernels."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nab import ablation
from benchmarks.nab.ablation import ablate, measure_at, show, variants
from benchmarks.nab.detection import default_params
from benchmarks.nab.figures import Figures
from shared.ensemble.fold import VIEW_NAMES, views_of
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
    base = default_params()
    found = variants(base)
    params, whole = found.pop("default")
    assert params == base
    for view, name in enumerate(VIEW_NAMES[:12]):
        assert found.pop(f"without {name}") == (base, whole & ~(1 << view))
    for name in ("time_of_day", "jump", "course"):
        _, use = found.pop(f"{name} alone")
        assert use == views_of(name)
    assert found == {}


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
    message = show("parts", [found], "1.3", "threshold").splitlines()
    assert message[0] == "parts; standard / low-FP / low-FN"
    assert sum(text.startswith("x ") for text in message) == 2


def test_every_variant_is_run_at_every_threshold(monkeypatch):
    seen = []

    def run(corpus, ruler, params, use):
        seen.append((params, use))
        return figures(params.threshold)

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(ablation, "GRID", (1.0, 2.0))
    message = []
    found = ablate((), None, default_params(), message.append)
    assert [one.name for one in found] == list(variants(default_params()))
    assert len(message) == len(found)
    assert all(one.best_threshold == 2.0 for one in found)
    assert seen[:2] == [
        (default_params()._replace(threshold=threshold), views_of("ensemble"))
        for threshold in (1.0, 2.0)
    ]
