"""Views are one table: arrays, levels, episodes and names follow from a row more."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from shared.ensemble.kernels.codes import shorten
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    DAYS,
    FIRST_LEVEL,
    METRIC_DTYPE,
    SIDES,
    VIEW_NAMES,
    EnsembleParams,
    as_record,
)
from shared.ensemble.kernels.metric.view_levels import calibrate, least_level
from shared.ensemble.kernels.views import FAST, SLOW, TABLE
from tests.support.programs import run_code

TOY = """
from shared.ensemble.kernels import views

views.TABLE.append(views.View("toy", views.FAST, "floor_value"))

from shared.ensemble.kernels import layout
from shared.ensemble.kernels.metric import sample

TOY = layout.ALL_VIEWS - 1
others = sample.judge_sample


def judge_sample(m, judged, fades, use, params, v, tmp):
    others(m, judged, fades, use, params, v, tmp)
    v[TOY] = 100.0 if judged.value == 77.0 else 0.1


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
    assert run_code(TOY, NUMBA_DISABLE_JIT="1").stdout.strip() == "toy"


def test_every_array_with_a_place_for_each_view_has_all_of_them():
    for name in ("ratio", "daily_maximum", "return_level"):
        assert METRIC_DTYPE[name].shape[0] == ALL_VIEWS == len(TABLE)
    assert METRIC_DTYPE["maxima"].shape == (sum(view.sides for view in TABLE), DAYS)
    with_level = {view.name for view in TABLE if view.sides}
    assert with_level == {view.name for view in TABLE if view.owned and view.name != "course"}


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
        assert least_level(as_record(EnsembleParams()), place) == getattr(
            EnsembleParams(), view.least
        )


@njit
def calibrate_first(metrics, params, tmp):
    """A record of overlapping fields enters compiled code only inside its array."""
    calibrate(metrics[0], params, tmp)


def levels_after(maxima: list[float]) -> dict[str, float]:
    """Level of each view whose daily maxima, in least levels, are these."""
    metrics, params = np.zeros(1, METRIC_DTYPE), as_record(EnsembleParams())
    m = metrics[0]
    for view in np.flatnonzero(SIDES):
        m["maxima"][FIRST_LEVEL[view], : len(maxima)] = [
            shorten(size * least_level(params, view)) for size in maxima
        ]
    m["maxima_n"] = len(maxima)
    calibrate_first(metrics, params, np.zeros(DAYS))
    return {
        view.name: float(m["return_level"][n, 0]) / least_level(params, n)
        for n, view in enumerate(TABLE)
        if view.sides
    }


def test_every_weight_of_a_measured_slope_is_a_parameter():
    assert {view.trust for view in TABLE} <= set(EnsembleParams._fields)


def test_what_is_missed_on_a_day_in_four_is_no_habit_but_one_that_is_missed_once_still_is():
    often = levels_after([0.3, 0.3, 0.3, 1.0] * 7)
    once = levels_after([0.3] * 27 + [1.0])
    assert often["missed"] > 2 * often["jump"] > 2.0
    assert once["missed"] == pytest.approx(once["jump"])
    assert once["missed"] < 1.1


def test_of_two_days_the_larger_counts_and_of_three_it_is_the_exception():
    """A metric with a spike a day does not alarm at each of them until its first week has ended."""
    assert levels_after([1.0, 9.0])["value"] > 5.0
    assert levels_after([1.0, 1.0, 9.0])["value"] < 3.0
