"""Helpers of the ensemble tests: logs of entities, runs in pieces, and one series by itself."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

from shared.ensemble.fold import EnsembleState, fold, limits_for

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
EXAMPLES = 2 if SLOW else 8
ROWS = 130 if SLOW else 700
WARMUP = 40 if SLOW else 100
START = 1_700_000_000_000
STEP = 300_000
needs_speed = pytest.mark.skipif(SLOW, reason="long series, compiled only")


def one_slot_each(entities, metrics):
    return np.arange(entities * metrics, dtype=np.int32).reshape(entities, metrics)


def new_state(entities, metrics):
    state = EnsembleState()
    state.reserve(entities, entities * metrics)
    return state


def log_of(seed, rows=ROWS, entities=3, metrics=2):
    """A log of several entities with season, spikes, missing values, late and repeated rows."""
    random = np.random.default_rng(seed)
    entity = random.integers(0, entities, rows).astype(np.int32)
    time_ms = START + np.arange(rows) * (STEP // entities) + random.integers(0, 1000, rows)
    phase = 2 * np.pi * (time_ms % 86_400_000) / 86_400_000
    values = np.sin(phase)[:, None] * random.uniform(0, 5, metrics) + random.normal(
        0, 0.3, (rows, metrics)
    )
    values[random.random(rows) < 0.01] *= 30
    values[random.random((rows, metrics)) < 0.02] = np.nan
    counts = random.random(rows) > 0.03
    return entity, time_ms.astype(np.int64), values, counts


def run(log, cuts=(), entities=3, restart=False, limits=None):
    entity, time_ms, values, counts = log
    metrics = values.shape[1]
    state, slots = new_state(entities, metrics), one_slot_each(entities, metrics)
    limits = limits or limits_for(metrics, WARMUP, per_day=1.0)
    parts = []
    edges = [0, *sorted(cuts), len(entity)]
    for a, b in pairwise(edges):
        parts.append(
            fold(state, slots, entity[a:b], time_ms[a:b], values[a:b], limits, counts=counts[a:b])
        )
        if restart:
            state = EnsembleState.from_arrays(state.to_arrays(entities, entities * metrics))
    joined = [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]
    return joined, state


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


def day_series(days, seed=0, noise=0.1):
    rows = days * 288
    time_ms = START // 86_400_000 * 86_400_000 + STEP * np.arange(rows, dtype=np.int64)
    phase = 2 * np.pi * (np.arange(rows) % 288) / 288
    return time_ms, 10 + 4 * np.sin(phase) + np.random.default_rng(seed).normal(0, noise, rows)


def judge_one(time_ms, values, **asked):
    values = values[:, None] if values.ndim == 1 else values
    limits = limits_for(values.shape[1], **asked)
    state = new_state(1, values.shape[1])
    return (
        fold(
            state,
            one_slot_each(1, values.shape[1]),
            np.zeros(len(values), np.int32),
            time_ms,
            values,
            limits,
        ),
        state,
    )
