"""Views are one table: arrays, levels, episodes and names follow from a row more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    METRIC_DTYPE,
    VIEW_NAMES,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.view_levels import least_level
from shared.ensemble.kernels.views import FAST, SLOW, TABLE

ROOT = Path(__file__).parents[3]

TOY = """
from shared.ensemble.kernels import views

views.TABLE.append(views.View("toy", views.FAST, "floor_value"))

from shared.ensemble.kernels import layout
from shared.ensemble.kernels.metric import sample

TOY = layout.ALL_VIEWS - 1
others = sample.judge_sample


def judge_sample(m, t, x, value, hour, near, turned, dt, iv, params, v, tmp):
    others(m, t, x, value, hour, near, turned, dt, iv, params, v, tmp)
    v[TOY] = 100.0 if value == 77.0 else 0.1


sample.judge_sample = judge_sample

from tests.support.episodes import judge, series

time_ms, values = series(6, 3600)
values[130] = 77.0
judged = judge(time_ms, values, views=1 << TOY)
assert layout.METRIC_DTYPE["ratio"].shape == (len(views.TABLE),)
assert judged.alarms["view"].tolist() == [TOY]
assert judged.alarms["row"].tolist() == [130]
assert judged.alarms["direction"].tolist() == [1]
print(layout.VIEW_NAMES[TOY])
"""


def test_a_view_from_outside_takes_a_row_and_what_it_sees():
    """Kernels are compiled whole, so that this runs them as plain Python."""
    environment = dict(os.environ, NUMBA_DISABLE_JIT="1", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", TOY],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "toy"


def test_every_array_with_a_place_for_each_view_has_all_of_them():
    for name in ("ratio", "daily_maximum", "return_level", "maxima"):
        assert METRIC_DTYPE[name].shape[0] == ALL_VIEWS == len(TABLE)


def test_fields_of_a_record_do_not_overlap():
    """But for the course, whose warm-up lies where its memory will be."""
    fields = sorted((offset, dtype.itemsize) for dtype, offset in METRIC_DTYPE.fields.values())
    ends = np.array([offset + size for offset, size in fields])
    assert (ends[:-1] <= np.array([offset for offset, _ in fields])[1:]).all()


def test_a_view_whose_sign_is_the_direction_says_so():
    unsigned = {view.name for view in TABLE if not view.signed}
    assert unsigned == {"spread", "often", "stuck", "course", "combination"}
    assert {view.name for view in TABLE if view.kind in (FAST, SLOW)}.isdisjoint(unsigned)


def test_names_are_unique_and_every_least_level_is_a_parameter():
    assert len(set(VIEW_NAMES)) == len(VIEW_NAMES) == ALL_VIEWS + 2
    for place, view in enumerate(TABLE):
        assert VIEW_NAMES[place] == view.name
        assert least_level(EnsembleParams(), place) == getattr(EnsembleParams(), view.least)
