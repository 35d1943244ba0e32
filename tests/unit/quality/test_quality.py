"""Data-quality verdicts: each kind where it belongs, and silence everywhere else."""

from __future__ import annotations

import math
import os
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.quality.checks import HOUR_MS, KINDS, QualityState, limits_of, watch
from shared.settings import QualitySettings
from tests.reference import quality as reference
from tests.reference.quality_logs import START, STEP, Log, by_time, regular

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
EXAMPLES = 5 if SLOW else 60
ROWS = 200
NAN = math.nan
SHARP = QualitySettings(flat_hours=0.05, repeat_hours=1.0)
OFTEN = QualitySettings(flat_hours=0.05, repeat_hours=0.0)


def run(log, asked=SHARP, cuts=(), restart=False):
    """Signals as tuples, marks per row, the state, and its bytes."""
    state, signals, stale, used = QualityState(), [], [], 0
    for a, b in pairwise([0, *sorted(cuts), len(log)]):
        slots, used = log.slots(b)
        state.reserve(len(slots), used)
        out = watch(state, log.given(slice(a, b), slots), asked)
        columns = (
            out.row + a,
            out.kind,
            out.entity,
            out.metric,
            out.since_ms,
            out.amount,
            out.usual_ms,
            out.others,
        )
        signals += [
            (row, KINDS[kind].value, *rest)
            for row, kind, *rest in zip(*(c.tolist() for c in columns), strict=True)
        ]
        stale += out.stale.tolist()
        if restart:
            state = QualityState.from_arrays(state.to_arrays(len(slots), used))
    return (
        signals,
        stale,
        state,
        {name: array.tobytes() for name, array in state.to_arrays(len(slots), used).items()},
    )


def reported(log, asked=SHARP):
    """(row, kind, entity) of every signal."""
    return [signal[:3] for signal in run(log, asked)[0]]


def log_of(seed, entities=4, metrics=2, rows=ROWS):
    """A log with all that goes wrong, each often."""
    random = np.random.default_rng(seed)
    now, value, out = np.full(entities, START), np.zeros((entities, metrics)), []
    frozen, absent = np.zeros((2, entities, metrics), bool)
    while len(out) < rows:
        e = int(random.integers(0, entities)) if random.random() < 0.9 else 0
        for _ in range(int(random.integers(1, 9))):
            now[e] += random.choice(
                [STEP, 0, 7 * STEP, 90 * STEP, 13 * HOUR_MS], p=[0.88, 0.05, 0.04, 0.02, 0.01]
            )
            frozen[e] ^= random.random(metrics) < 0.06
            value[e] = np.where(frozen[e], value[e], random.integers(0, 4, metrics))
            absent[e] ^= random.random(metrics) < np.where(absent[e], 0.12, 0.03)
            row = np.where(absent[e], NAN, value[e])
            t = now[e] - int(random.choice([STEP, 20 * STEP])) if random.random() < 0.03 else now[e]
            out.append((e, int(t), row))
            if random.random() < 0.03:
                out.append(out[-1])
        if random.random() < 0.5:
            now = np.maximum(now, now.max() - 30 * STEP)
    return Log(out[:rows], metrics)


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS, st.sampled_from([SHARP, OFTEN, QualitySettings()]))
def test_the_kernel_equals_its_twin(seed, asked):
    log = log_of(seed)
    got, stale, _, _ = run(log, asked)
    want, want_stale = reference.watch(
        log.entity,
        log.time_ms,
        log.values,
        log.late_by_ms,
        log.ahead,
        log.duplicate,
        log.forgotten,
        *limits_of(asked),
    )
    assert [rounded(signal) for signal in got] == [rounded(signal) for signal in want]
    assert stale == want_stale


def rounded(signal):
    """A signal without the last bits of its usual interval, which are those of exp and log."""
    *exact, usual_ms, others = signal
    return (*exact, f"{usual_ms:.9g}", others)


def test_the_generated_logs_hold_every_kind():
    counts = Counter(kind for seed in range(12) for _, kind, _ in reported(log_of(seed)))
    assert set(counts) == {kind.value for kind in KINDS}
    assert min(counts.values()) >= 3, counts


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS, st.lists(st.integers(0, ROWS), max_size=6), st.booleans())
def test_cuts_and_restarts_change_nothing(seed, cuts, restart):
    log = log_of(seed)
    whole, pieces = run(log), run(log, cuts=cuts, restart=restart)
    assert repr(whole[:2]) == repr(pieces[:2])
    assert whole[3] == pieces[3]


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS)
def test_entities_touch_each_other_only_by_stopping(seed):
    log = log_of(seed)
    together = [signal for signal in run(log)[0] if signal[1] != "stopped"]
    alone = []
    for e in range(4):
        mine, rows = log.only(e)
        alone += (
            [(int(rows[row]), kind, e, *rest) for row, kind, _, *rest in run(mine)[0]]
            if len(mine)
            else []
        )
    order = {kind.value: place for place, kind in enumerate(KINDS)}
    for signals in (together, alone):
        signals.sort(key=lambda signal: (signal[0], order[signal[1]]))
    assert repr(together) == repr(alone)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS)
def test_a_kind_comes_at_most_once_in_the_repeat_time(seed):
    log = log_of(seed)
    last: dict[tuple[str, int], int] = {}
    for row, kind, e, _, since_ms, amount, *_ in run(log)[0]:
        seen = log.time_ms[: row + 1][log.entity[: row + 1] == e]
        now_ms = since_ms + int(amount) if kind == "stopped" else int(seen.max())
        assert now_ms - last.get((kind, e), -HOUR_MS) >= HOUR_MS
        last[kind, e] = now_ms


@settings(max_examples=EXAMPLES, deadline=None)
@given(SEEDS)
def test_late_and_duplicate_rows_leave_only_report_times(seed):
    log = log_of(seed)
    kept = np.flatnonzero(log.moved)
    clean = Log([(int(log.entity[row]), int(log.time_ms[row]), log.values[row]) for row in kept], 2)
    mine = [
        signal for signal in run(log)[0] if signal[1] not in ("late", "out_of_order", "duplicate")
    ]
    assert repr(mine) == repr([(int(kept[row]), *rest) for row, *rest in run(clean)[0]])


@pytest.mark.parametrize("asked", [SHARP, OFTEN, QualitySettings()])
def test_a_plain_stream_is_silent(asked):
    assert (
        reported(
            Log(
                sorted(
                    regular(300) + regular(300, entity=1, start=START + 7), key=lambda row: row[1]
                ),
                1,
            ),
            asked,
        )
        == []
    )


def test_a_missing_metric_is_reported_once_after_five_intervals():
    rows = [
        (0, START + k * STEP, [float(k), NAN if 20 <= k < 60 else float(k % 3), 1.0])
        for k in range(80)
    ]
    (signal,), _, _, _ = run(Log(rows, 3), OFTEN)
    assert signal == (25, "missing", 0, 1, START + 19 * STEP, 1.0, float(STEP), 0)


def test_metrics_that_go_together_are_one_verdict_and_an_empty_row_counts():
    rows = [
        (0, START + k * STEP, [float(k), NAN, 2.0 * k] if k < 20 else [NAN] * 3) for k in range(40)
    ]
    (signal,), _, _, _ = run(Log(rows, 3), OFTEN)
    assert (signal[:4], signal[5], signal[7]) == ((25, "missing", 0, 0), 2.0, 1)


def test_a_metric_that_is_usually_absent_is_not_missing():
    """Some writers send each metric in its own row; some metrics come only with every third row."""
    split = [
        (0, START + k // 2 * STEP, [float(k), NAN] if k % 2 else [NAN, float(k)])
        for k in range(120)
    ]
    third = [(0, START + k * STEP, [float(k), NAN if k % 3 else float(k)]) for k in range(120)]
    assert reported(Log(split, 2), OFTEN) == []
    assert reported(Log(third, 2), OFTEN) == []


def missing_at(*stretches, rows):
    absent = {k for a, b in stretches for k in range(a, b)}
    log = Log(
        [(0, START + k * STEP, [float(k), NAN if k in absent else float(k)]) for k in range(rows)],
        2,
    )
    return [row for row, _, _ in reported(log, OFTEN)]


def test_what_was_missing_once_in_four_days_is_not_usual():
    """An absence counts at most as what is allowed; twice as much is allowed the next time."""
    day = 24 * 60
    assert missing_at((20, 22), (60, 68), (80, 90), rows=100) == [66]
    assert missing_at((20, 28), (3 * day, 3 * day + 8), rows=3 * day + 20) == [25]
    again = [25, 6 * day + 5]
    assert missing_at((20, 28), (6 * day, 6 * day + 8), rows=6 * day + 20) == again


def test_rows_of_one_time_cover_no_time_twice():
    def rows(absent):
        times = [k // 2 for k in range(160)]
        return [
            (0, START + k * STEP, [float(n), NAN if 20 <= k < absent else float(n)])
            for n, k in enumerate(times)
        ]

    kinds = [kind for _, kind, _ in reported(Log(rows(25), 2), SHARP)]
    assert "missing" not in kinds
    found = reported(Log(rows(26), 2), SHARP)
    assert [signal for signal in found if signal[1] == "missing"] == [(50, "missing", 0)]


def test_a_gap_is_longer_than_usual_pauses():
    rows = regular(40) + regular(20, start=START + 50 * STEP)
    (signal,), _, _, _ = run(Log(rows, 1), OFTEN)
    assert signal == (40, "gap", 0, -1, START + 39 * STEP, 11.0 * STEP, float(STEP), 0)
    bursts = [(0, START + k // 10 * 600_000 + k % 10 * 1000, [float(k)]) for k in range(300)]
    assert reported(Log(bursts, 1), OFTEN) == []


@pytest.mark.parametrize(("between", "expected"), [(100, [40]), (8000, [40, 8040])])
def test_a_pause_of_one_day_in_four_is_not_usual(between, expected):
    rows = regular(40) + regular(between, start=START + 50 * STEP)
    rows += regular(5, start=rows[-1][1] + 9 * STEP)
    assert [row for row, _, _ in reported(Log(rows, 1), OFTEN)] == expected


def test_an_entity_that_starts_anew_has_a_gap_and_nothing_is_missing():
    rows = [(0, START + k * STEP, [1.0, float(k)]) for k in range(30)]
    rows += [(0, START + 14 * HOUR_MS + k * STEP, [float(k), NAN]) for k in range(30)]
    assert reported(Log(rows, 2), OFTEN) == [(30, "gap", 0)]


def test_disorder_by_how_far():
    rows = regular(30)
    rows[20:20] = [(0, START + 17 * STEP, [9.0]), (0, START + 2 * STEP, [9.0])]
    rows[15:15] = [rows[14]]
    assert reported(Log(rows, 1)) == [
        (15, "duplicate", 0),
        (21, "out_of_order", 0),
        (22, "late", 0),
    ]
    by_five, by_six = ([*regular(30), (0, START + k * STEP, [9.0])] for k in (24, 23))
    assert [reported(Log(rows, 1)) for rows in (by_five, by_six)] == [
        [(30, "out_of_order", 0)],
        [(30, "late", 0)],
    ]


def test_equal_times_are_reported_from_the_second_contradiction_on():
    rows = regular(30)
    once = [*rows[:21], (0, rows[20][1], [99.0]), *rows[21:]]
    assert reported(Log(once, 1), OFTEN) == []
    twelve = [*rows[:21], *((0, rows[20][1], [100.0 + k]) for k in range(11)), *rows[21:]]
    assert reported(Log(twelve, 1)) == [(22, "repeated_time", 0)]
    writers = [(0, START + k // 2 * STEP, [float(k)]) for k in range(60)]
    assert Counter(kind for _, kind, _ in reported(Log(writers, 1))) == {"repeated_time": 1}


@pytest.mark.parametrize("level", [0.0, 7.5])
def test_a_flat_line_needs_a_metric_that_varied(level):
    asked = QualitySettings(flat_hours=2)
    varied = [*regular(60), *regular(200, start=START + 60 * STEP, value=level)]
    (signal,), _, _, _ = run(Log(varied, 1), asked)
    assert signal[:6] == (60 + 121, "flat_line", 0, 0, START + 60 * STEP, level)
    constant = [*regular(5), *regular(300, start=START + 5 * STEP, value=level)]
    assert reported(Log(constant, 1), asked) == []


def test_a_second_flat_line_is_reported_again():
    flat = dict.fromkeys((*range(60, 260), *range(300, 750)), 7.0)
    rows = [(0, START + k * STEP, [flat.get(k, float(k))]) for k in range(760)]
    asked = QualitySettings(flat_hours=2, repeat_hours=0)
    assert reported(Log(rows, 1), asked) == [
        (60 + 121, "flat_line", 0),
        (300 + 2 * 120, "flat_line", 0),
    ]


def test_a_flat_line_is_longer_than_those_before_and_has_no_holes():
    nights = [(0, START + k * STEP, [0.0 if k % 200 < 100 else float(k)]) for k in range(1600)]
    assert reported(Log(nights, 1), QualitySettings(flat_hours=1.2)) == []
    hole = [*regular(60), *regular(100, start=START + 60 * STEP, value=7.0)]
    hole += regular(100, start=START + 160 * STEP + HOUR_MS, value=7.0)
    assert reported(Log(hole, 1), QualitySettings(flat_hours=2)) == [(160, "gap", 0)]


def test_an_entity_that_stopped_is_reported_once_and_marked_when_it_returns():
    back = START + 200 * STEP
    rows = by_time(
        regular(300),
        regular(300, entity=1),
        [*regular(50, entity=2), *regular(50, entity=2, start=back)],
    )
    signals, stale, state, _ = run(Log(rows, 1), OFTEN)
    stopped, gap, again = signals
    assert again[1:3] == ("stopped", 2)
    assert stopped[1:6] == ("stopped", 2, -1, START + 49 * STEP, 13.0 * STEP)
    assert rows[stopped[0]][:2] == (1, START + 62 * STEP)
    assert (gap[1:3], [row for row, mark in enumerate(stale) if mark]) == (("gap", 2), [gap[0]])
    assert state.clock_ms == START + 299 * STEP
    assert state.stopped(OFTEN).sum() == 1


def test_a_wrong_clock_stops_nobody():
    rows = by_time(regular(100), regular(100, entity=1, start=START + 7))
    rows += [(1, START + 10**12, [1.0]), *regular(30, start=START + 100 * STEP)]
    state = run(Log(rows, 1), OFTEN)[2]
    assert "stopped" not in {kind for _, kind, _ in reported(Log(rows, 1), OFTEN)}
    assert state.clock_ms == START + 129 * STEP
    assert run(Log(regular(100), 1))[2].clock_ms == -1


def test_an_entity_that_lags_behind_the_others_has_not_stopped():
    """A file that is replayed after two others, or a host whose clock is a day behind."""
    rows = [
        *regular(300),
        *regular(300, entity=1),
        *regular(300, entity=2, start=START - 24 * HOUR_MS),
    ]
    assert [(kind, e) for _, kind, e in reported(Log(rows, 1), OFTEN)] == []


def test_silence_of_an_unknown_interval_is_no_stop():
    rows = by_time(regular(300), regular(300, entity=1), regular(10, entity=2))
    assert reported(Log(rows, 1), OFTEN) == []


def test_a_stop_comes_again_only_after_the_repeat_time():
    back = START + 200 * STEP
    rows = by_time(
        regular(600),
        regular(600, entity=1),
        [*regular(50, entity=2), *regular(50, entity=2, start=back)],
    )
    for hours, times in ((1.0, 2), (5.0, 2), (24.0, 1)):
        asked = QualitySettings(repeat_hours=hours)
        assert sum(kind == "stopped" for _, kind, _ in reported(Log(rows, 1), asked)) == times


def test_other_settings_take_hold_at_once():
    rows = by_time(regular(100), regular(100, entity=1), regular(40, entity=2))
    log = Log(rows, 1)
    state, (slots, used) = QualityState(), log.slots(len(log))
    state.reserve(3, used)
    found = []
    for part, asked in (
        (slice(0, 210), QualitySettings(stopped_intervals=500)),
        (slice(210, 240), QualitySettings()),
    ):
        out = watch(state, log.given(part, slots), asked)
        found.append([KINDS[kind].value for kind in out.kind])
    assert found == [[], ["stopped"]]


def test_many_stops_at_once_are_all_reported():
    rows = by_time(*(regular(20 if e > 1 else 60, entity=e, start=START + e) for e in range(100)))
    assert sorted(e for _, kind, e in reported(Log(rows, 1)) if kind == "stopped") == list(
        range(2, 100)
    )


def test_what_stops_a_row_later_is_reported_a_row_later():
    rows = by_time(regular(90), regular(90, entity=1), regular(50, entity=2), regular(51, entity=3))
    stopped = [(e, rows[row][1]) for row, kind, e in reported(Log(rows, 1)) if kind == "stopped"]
    assert stopped == [(2, START + 62 * STEP), (3, START + 63 * STEP)]


def test_the_state_of_another_shape_is_refused_by_name():
    arrays = run(log_of(1))[2].to_arrays(4, 8)
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(
        ("quality_entities", "quality_presence", "quality_series", "quality_clock"),
        np.dtype(np.uint8),
    )
    for name in arrays:
        with pytest.raises(ValueError, match=name):
            QualityState.from_arrays(arrays | {name: arrays[name][:, :-1]})
        with pytest.raises(ValueError, match=name):
            QualityState.from_arrays(
                {other: array for other, array in arrays.items() if other != name}
            )
    with pytest.raises(ValueError, match="quality_presence does not fit 4 entities"):
        QualityState.from_arrays(arrays | {"quality_presence": arrays["quality_presence"][:1]})
    with pytest.raises(ValueError, match="quality_clock does not fit 1 entities"):
        QualityState.from_arrays(arrays | {"quality_entities": arrays["quality_entities"][:1]})


def test_an_empty_batch_is_nothing():
    state = QualityState()
    before = {name: array.tobytes() for name, array in state.to_arrays(0, 0).items()}
    signals, stale, state, after = run(Log([], 2))
    assert (signals, stale) == ([], [])
    assert after["quality_clock"] == before["quality_clock"]
