"""Silences that recur are learned like any season: no verdict for them, one for their break."""

from __future__ import annotations

import os

import numpy as np
import pytest

from shared.kernels.clock import UTC
from shared.kernels.units import DAY_MS, HOUR_MS
from shared.quality.checks import KINDS, QualityState, limits_of, watch
from shared.settings import QualitySettings
from tests.reference import quality as reference
from tests.reference.quality_logs import Log, by_time

MONDAY_MS = 1_736_121_600_000
ASKED = QualitySettings(repeat_hours=1)


def office(days, step_ms, entity=0, skip=(), first=8, last=18):
    """Rows from 8 to 18 h on working days, but for the hours (day, from, to) of skip."""
    rows = []
    for t in range(MONDAY_MS, MONDAY_MS + days * DAY_MS, step_ms):
        day, hour = (t - MONDAY_MS) // DAY_MS, (t % DAY_MS) / HOUR_MS
        gone = any(day == d and low <= hour < high for d, low, high in skip)
        if day % 7 < 5 and first <= hour < last and not gone:
            rows.append((entity, t, [float(t // step_ms % 7)]))
    return rows


def always(days, step_ms, entity):
    times = range(MONDAY_MS, MONDAY_MS + days * DAY_MS, step_ms)
    return [(entity, t, [float(t // step_ms % 5)]) for t in times]


def reported(rows, asked=ASKED, zone=UTC):
    log = Log(rows, 1)
    log.forgotten[:] = False
    state, (slots, used) = QualityState(), log.slots(len(log))
    state.reserve(len(slots), used)
    out = watch(state, log.given(slice(None), slots), asked, zone)
    return [
        (KINDS[kind].value, int(entity), (int(log.time_ms[row]) - MONDAY_MS) / DAY_MS)
        for kind, entity, row in zip(out.kind, out.entity, out.row, strict=True)
    ]


@pytest.mark.parametrize("step_ms", [60_000, 300_000, 900_000, 1_800_000, 3_600_000])
def test_office_hours_are_learned_and_their_break_is_reported(step_ms):
    rows = office(28, step_ms, skip=[(23, 10, 15)])
    found = [day for kind, _, day in reported(rows) if kind == "gap"]
    assert [day for day in found if day >= 14] == [pytest.approx(23 + 15 / 24)]
    assert len([day for day in found if day < 14]) <= 3


def test_office_hours_are_reported_as_stopped_only_where_they_are_broken():
    other = by_time(always(28, 300_000, 1), always(28, 300_000, 2))
    rows = by_time(other, office(28, 300_000, skip=[(23, 10, 18)]))
    stopped = [day for kind, entity, day in reported(rows) if kind == "stopped" and entity == 0]
    late = [day for day in stopped if day >= 14]
    assert len(late) == 1
    assert 23 + 10 / 24 < late[0] < 23 + 13 / 24


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="many rows")
def test_an_office_of_fast_rows_has_not_stopped_in_the_evening():
    """What is allowed is shorter than a bin of the memory."""
    other = by_time(always(16, 60_000, 1), always(16, 60_000, 2))
    found = reported(by_time(other, office(16, 10_000)))
    assert [day for _, _, day in found if day >= 8] == []


def test_a_zone_moves_with_daylight_saving():
    saving = MONDAY_MS + 17 * DAY_MS
    zone = (
        np.array([np.iinfo(np.int64).min, saving]),
        np.array([0, HOUR_MS], np.int64),
    )
    before = [row for row in office(28, 300_000) if row[1] < saving]
    after = [(e, t - HOUR_MS, v) for e, t, v in office(28, 300_000) if t - HOUR_MS >= saving]
    late = [
        day for kind, _, day in reported(before + after, zone=zone) if kind == "gap" and day > 14
    ]
    assert late == []


def by_kernel_and_twin(log):
    """Return the kernel's signals, and the twin's signals and stale rows."""
    log.forgotten[:] = False
    slots, used = log.slots(len(log))
    state = QualityState()
    state.reserve(len(slots), used)
    out = watch(state, log.given(slice(None), slots), ASKED)
    want, stale = reference.watch(
        log.entity, log.time_ms, log.values, log.late_by_ms, log.ahead, log.duplicate,
        log.forgotten, *limits_of(ASKED)
    )  # fmt: skip
    return out, want, stale


def test_the_kernel_equals_its_twin_on_recurring_silences():
    rows = by_time(
        office(16, HOUR_MS, skip=[(14, 10, 14)]),
        always(16, 2 * HOUR_MS, 1),
        office(16, HOUR_MS, entity=2, first=2, last=23),
    )
    out, want, stale = by_kernel_and_twin(Log(rows, 1))
    got = [
        (int(row), KINDS[kind].value, int(entity))
        for row, kind, entity in zip(out.row, out.kind, out.entity, strict=True)
    ]
    assert got == [signal[:3] for signal in want]
    assert out.stale.tolist() == stale
    assert {kind for _, kind, _ in got} >= {"gap"}


def test_the_kernel_equals_its_twin_on_recurring_absences_of_a_metric():
    rows = []
    for entity, t, value in always(17, HOUR_MS // 2, 0):
        day, hour = (t - MONDAY_MS) // DAY_MS, (t % DAY_MS) / HOUR_MS
        there = 8 <= hour < 18 and day not in (14, 15)
        rows.append((entity, t, [value[0], value[0] if there else float("nan")]))
    out, want, _ = by_kernel_and_twin(Log(rows, 2))
    got = [(int(row), KINDS[kind].value) for row, kind in zip(out.row, out.kind, strict=True)]
    assert got == [signal[:2] for signal in want]
    assert [(kind, row // 48) for row, kind in got if row > 10 * 48] == [("missing", 15)]
