"""Equal logs give equal bytes: whatever the batches, restarts, neighbours and places of columns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for
from tests.support.episodes import SLOW, bytes_of, host, new_state, one_slot_each
from tests.support.noise import FAMILIES

DAYS = 2 if SLOW else 8
STEP_S = 1800 if SLOW else 300


def late_host(seed: int, family: str, metrics: int = 3):
    """Rows with missing cells, an incident, an absurd value and an hour that comes newest first."""
    time_ms, values = host(seed, DAYS, metrics, family, STEP_S)
    order = np.arange(len(time_ms))
    part = slice(len(order) // 2, len(order) // 2 + 12)
    order[part] = order[part][::-1]
    return time_ms[order], values[order]


def run(entity, time_ms, values, entities=1, cuts=(), restart=False):
    """Fold in pieces; returns what came out, and the state."""
    metrics = values.shape[1]
    state, slots = new_state(entities, metrics), one_slot_each(entities, metrics)
    limits, offsets = limits_for(metrics, per_day=1.0), np.arange(len(entity))
    parts = []
    for a, b in pairwise([0, *sorted(cuts), len(entity)]):
        rows = Rows(
            entity[a:b], time_ms[a:b], values[a:b], slots[entity[a:b]], offsets=offsets[a:b]
        )
        out = fold(state, rows, limits)
        out.events["row"] += a
        parts.append(out)
        if restart:
            state = EnsembleState.from_arrays(state.to_arrays(entities, entities * metrics))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)], state


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


@settings(max_examples=2 if SLOW else 10)
@given(
    st.integers(0, 9),
    st.sampled_from(FAMILIES),
    st.lists(st.integers(0, 2000), max_size=6),
    st.booleans(),
)
def test_cuts_and_restarts_change_no_byte(seed, family, cuts, restart):
    time_ms, values = late_host(seed, family)
    entity = np.zeros(len(time_ms), np.int32)
    whole, state = run(entity, time_ms, values)
    cuts = [min(cut, len(time_ms)) for cut in cuts]
    pieces, after = run(entity, time_ms, values, cuts=cuts, restart=restart)
    assert bytes_of(after) == bytes_of(state)
    assert_same(pieces, whole)


def test_a_batch_of_one_row_at_a_time_changes_no_byte():
    time_ms, values = late_host(1, "laplace")
    time_ms, values = time_ms[:300], values[:300]
    entity = np.zeros(len(time_ms), np.int32)
    whole, state = run(entity, time_ms, values)
    pieces, after = run(entity, time_ms, values, cuts=range(1, len(time_ms)))
    assert bytes_of(after) == bytes_of(state)
    assert_same(pieces, whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_change_no_byte(family):
    """But for the places in the log, which count the neighbours' rows too."""
    time_ms, values = late_host(1, family)
    _, others = late_host(2, "lognormal")
    alone, state = run(np.zeros(len(time_ms), np.int32), time_ms, values)
    entity = np.tile(np.array([1, 0], np.int32), len(time_ms))
    both = np.stack([others, values], 1).reshape(-1, values.shape[1])
    together, shared = run(entity, np.repeat(time_ms, 2), both, entities=2)
    rows = together[0][1::2].copy()
    rows["episode_at"] = alone[0]["episode_at"]
    assert rows.tobytes() == alone[0].tobytes()
    assert together[1][1::2].tobytes() == alone[1].tobytes()
    assert _without_offsets(shared, 1, 3) == _without_offsets(state, 1, 3)


def _without_offsets(state, entities, slots):
    e, m = (  # bytes, not records: padding too
        records.view(np.uint8).copy().view(records.dtype)
        for records in (state.entities[:entities], state.metrics[:slots])
    )
    e["joint"]["opened_at"] = e["trained"]["opened_at"] = 0
    m["episodes"]["opened_at"] = 0
    return e.tobytes() + m.tobytes()


def test_order_makes_verdicts_independent_of_the_places_of_columns():
    time_ms, values = late_host(3, "gauss", metrics=4)
    entity = np.zeros(len(time_ms), np.int32)
    names = np.array([2, 0, 3, 1])  # the metric that stands in each column
    sides = []
    for columns in (np.arange(4), names):
        state = new_state(1, 4)
        slots = np.ascontiguousarray(one_slot_each(1, 4)[:, columns])
        order = np.argsort(columns).astype(np.int32)
        given_values = np.ascontiguousarray(values[:, columns])
        rows = Rows(entity, time_ms, given_values, slots[entity], order=order)
        out = fold(state, rows, limits_for(4))
        sides.append((bytes_of(state), out))
    assert sides[0][0] == sides[1][0]
    assert sides[0][1].rows["score"].tobytes() == sides[1][1].rows["score"].tobytes()
    assert sides[0][1].cells[:, names].tobytes() == sides[1][1].cells.tobytes()


def test_a_place_that_is_used_again_starts_anew():
    time_ms, values = late_host(4, "ar1")
    entity = np.zeros(len(time_ms), np.int32)
    fresh, state = run(entity, time_ms, values)
    used, limits = new_state(1, 3), limits_for(3, per_day=1.0)
    rows = Rows(entity, time_ms, values, one_slot_each(1, 3)[entity])
    fold(used, rows._replace(time_ms=time_ms - 10**9, values=values * 7), limits)
    used.entities.view(np.uint8)[:] = 0
    used.metrics.view(np.uint8)[:] = 0
    out = fold(used, rows, limits)
    assert bytes_of(used) == bytes_of(state)
    assert_same(out, fresh)
