"""Absence: silences against the list of all that ended, and when nothing may be said."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.absence import watch_silence
from shared.ensemble.kernels.layout import METRIC_DTYPE, Knobs
from tests.reference import absence

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
START = 1_700_000_000_000
HOUR_MS = 3_600_000


@njit
def watch_all(states, active, times, shortest, knobs, out):
    for row in range(active.shape[0]):
        watch_silence(states[0], active[row], times[row], shortest, knobs)
        out[row] = states[0]["absence"]


def watch(active, step_ms=HOUR_MS, shortest=3, warmup=100):
    states, out = np.zeros(1, METRIC_DTYPE), np.zeros(len(active))
    states[0]["origin_ms"], states[0]["warmup"], states[0]["fold"] = START, warmup, 1
    states[0]["interval_ms"] = step_ms
    watch_all(
        states,
        np.array(active, bool),
        START + step_ms * np.arange(len(active)),
        shortest,
        Knobs(),
        out,
    )
    return out, states[0]


def expected(active, step_ms=HOUR_MS, shortest=3, warmup=100):
    times = [START + row * step_ms for row in range(len(active))]
    return absence.silences(
        active, times, shortest, 1 - 1 / (2 * Knobs().rank_memory * warmup), Knobs(), step_ms
    )


@settings(max_examples=5 if SLOW else 40, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 12), min_size=5, max_size=60),
    burst=st.integers(1, 4),
    last=st.integers(0, 60),
    step_ms=st.sampled_from([HOUR_MS // 2, HOUR_MS, 3 * HOUR_MS]),
)
def test_silences_equal_the_list_of_all_silences(gaps, burst, last, step_ms):
    active = [flag for gap in gaps for flag in [False] * gap + [True] * burst] + [False] * last
    np.testing.assert_allclose(
        watch(active, step_ms)[0], expected(active, step_ms), rtol=1e-9, atol=1e-9
    )


def nightly(nights):
    return ([False] * 23 + [True]) * nights


def test_a_usual_event_that_does_not_come_is_missed_soon_after_it_was_due():
    found, state = watch(nightly(12) + [False] * 40)
    assert not found[: 12 * 24 + 25].any()
    missed = found[12 * 24 :]
    assert np.flatnonzero(missed)[0] == int(1.1 * 23)
    assert missed[30] > 1.3
    assert (np.diff(missed[missed > 0]) > 0).all()
    assert state["gaps"] == 11


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("never active", [False] * 400),
        ("always active", [True] * 400),
        ("active once", [False] * 50 + [True] + [False] * 400),
        ("within the first week", nightly(4) + [False] * 60),
        (
            "few silences, all unlike",
            [flag for gap in (3, 30, 7, 60, 12, 45) for flag in [False] * gap + [True]]
            + [False] * 99,
        ),
        ("pauses inside a burst", [True, False, False] * 100 + [False] * 99),
    ],
)
def test_nothing_is_said(name, active):
    found, _ = watch(active)
    assert not found.any(), name


def test_a_longer_silence_that_has_ended_is_remembered_and_fades():
    active = nightly(10) + [False] * 70 + nightly(3)
    found, state = watch(active + [False] * 60)
    again = found[len(active) :]
    assert not again.any()
    assert 60 < state["longest"] < 93
    faded = expected(active + nightly(60) + [False] * 60, warmup=10)
    found, _ = watch(active + nightly(60) + [False] * 60, warmup=10)
    np.testing.assert_allclose(found, faded, rtol=1e-9, atol=1e-9)
    assert found[-1] > 0
