"""Several metrics together: what joins an episode of the others, and a metric that comes later."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.fold import Rows, fold, limits_for
from shared.ensemble.kernels.entity.episode import REPORTED
from shared.ensemble.kernels.entity.row import Reported
from shared.ensemble.kernels.entity.together import is_accounted_for
from shared.ensemble.kernels.layout import (
    CROSS,
    FAST_UP,
    HOUR,
    HOURS4,
    JOINED,
    JUMP,
    QUARTER,
    TWO,
    VALUE,
)
from shared.ensemble.kernels.outputs import WORSE
from tests.support.episodes import needs_speed, new_state, one_slot_each
from tests.support.noise import FAMILIES, clock, daily, days_of, noise

pytestmark = needs_speed


def surge(left_over: float, hour: float):
    """An entity whose first metric is in an episode, and its third one beside the others.

    left_over : what the others leave over of it in the row, in its own spreads
    hour      : the same of the last hour, as a ratio to its level
    """
    state = new_state(1, 3)
    entity, metrics = state.entities[0], state.metrics
    alike = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
    inverse = np.linalg.inv(alike)
    entity["pairs_ok"] = 1
    entity["explained"][:3] = 1 - 1 / np.diag(inverse)
    entity["inverse"][:3, :3] = inverse
    metrics["plain"][:2] = 4.0
    own = np.sqrt(inverse[2, 2])
    metrics["plain"][2] = (left_over * own - 4.0 * (inverse[2, 0] + inverse[2, 1])) / inverse[2, 2]
    metrics["ratio"][2, CROSS] = hour
    metrics["episodes"]["state"][0, FAST_UP] = REPORTED
    here = np.ones(3, np.bool_)
    of = Reported(metrics, np.arange(3), np.arange(3), here, np.zeros(3), 3)
    return entity, of


@pytest.mark.parametrize("view", [QUARTER, HOUR, HOURS4])
def test_a_mean_joins_by_the_last_hour_whatever_its_newest_row(view):
    """A mean crosses its level in a row that deviates more than its neighbours do."""
    for left_over in (0.0, 2.0, 3.5, -3.5):
        assert is_accounted_for(*surge(left_over, 0.1), 2, view)
    assert not is_accounted_for(*surge(0.0, 0.6), 2, view)
    assert not is_accounted_for(*surge(3.5, -0.6), 2, view)


@pytest.mark.parametrize("view", [VALUE, TWO, JUMP])
def test_a_value_joins_only_if_the_others_account_for_it(view):
    assert is_accounted_for(*surge(2.0, 0.1), 2, view)
    for left_over in (3.5, -3.5):
        assert not is_accounted_for(*surge(left_over, 0.1), 2, view)
    entity, of = surge(0.0, 0.1)
    of.metrics["episodes"]["state"] = 0
    assert not is_accounted_for(entity, of, 2, view)


def test_a_third_metric_is_no_reason_for_joint_alarms():
    """The entity is long known then, what its metrics reach together is not."""
    alarms = 0
    slots = one_slot_each(1, 3)
    two_of_them = slots.copy()
    two_of_them[0, 2] = -1
    for family in FAMILIES:
        for seed in range(6):
            time_ms = clock(26)
            values = np.column_stack(
                [daily(time_ms) + 3 * noise(family, len(time_ms), 10 * seed + k) for k in range(3)]
            )
            later = days_of(time_ms) >= 20
            values[~later, 2] = np.nan
            state, limits = new_state(1, 3), limits_for(3)
            for part, known in ((~later, two_of_them), (later, slots)):
                entity = np.zeros(int(part.sum()), np.int32)
                rows = Rows(entity, time_ms[part], values[part], known[entity])
                events = fold(state, rows, limits).events
            alarms += int(((events["view"] == JOINED) & (events["phase"] <= WORSE)).sum())
    assert alarms <= 8
