"""Rows of many columns: the room for events follows what an entity reports, not the columns."""

from __future__ import annotations

import tracemalloc

import numpy as np

from shared.ensemble.fold import Rows, fold, limits_for
from tests.support.episodes import SLOW, new_state
from tests.support.noise import DAY_MS, MONDAY_MS

COLUMNS = 400 if SLOW else 3_000
MOST_BYTES = 30_000_000
HOUR_MS = DAY_MS // 24


def rows_of(reported, columns, values):
    """Return hourly rows of one entity, whose first columns are reported."""
    n = len(values)
    wide = np.full((n, columns), np.nan)
    wide[:, :reported] = values
    slots = np.full((n, columns), -1, np.int32)
    slots[:, :reported] = np.arange(reported)
    time_ms = MONDAY_MS + HOUR_MS * np.arange(n)
    return Rows(np.zeros(n, np.int32), time_ms, wide, slots)


def test_columns_that_an_entity_does_not_report_take_no_room_for_events():
    given = rows_of(3, COLUMNS, np.ones((8, 3)))
    state = new_state(1, 3)
    fold(state, given, limits_for(COLUMNS))
    tracemalloc.start()
    fold(state, given, limits_for(COLUMNS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 4 KEYS COLUMNS events of COLUMNS ratios each would take 1.9 GB
    assert peak < MOST_BYTES


def test_a_row_of_many_metrics_is_folded_as_among_few_columns():
    """A row that may write more events than there is room for makes the room."""
    reported = 9 if SLOW else 256
    values = np.random.default_rng(3).normal(50.0, 2.0, (100, reported))
    values[-1] = 900.0
    narrow = fold(new_state(1, reported), rows_of(reported, reported, values), limits_for(reported))
    wide = fold(
        new_state(1, reported), rows_of(reported, reported + 40, values), limits_for(reported + 40)
    )
    assert len(narrow.events) == len(wide.events) > 0
    assert narrow.events.tobytes() == wide.events.tobytes()
    assert narrow.rows.tobytes() == wide.rows.tobytes()
