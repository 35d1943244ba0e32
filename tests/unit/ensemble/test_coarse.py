"""Coarse data: a row stands for an hour, and what lasts some rows elsewhere lasts hours.

Each property holds for all noise families.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.episodes import judge, needs_speed, series
from tests.support.noise import FAMILIES, HOUR_MS

pytestmark = needs_speed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clock_two_days_ahead_leaves_the_hours_after_it_in_order(family):
    time_ms, values = series(20, 3600, family)
    with_ahead = np.insert(time_ms, 300, time_ms[300] + 48 * HOUR_MS)
    judged = judge(with_ahead, np.insert(values, 300, values[300]))
    assert np.flatnonzero(judged.rows["ahead"]).tolist() == [300]
    assert judged.rows["late"].sum() == 0
