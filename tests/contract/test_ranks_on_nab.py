"""The sketch's ranks against exactly decayed ranks, for every member on every series of NAB."""

import numpy as np
from numba import njit

from benchmarks.nab.corpus import read_corpus
from shared.ensemble.kernels.calibration import add, rank
from shared.ensemble.kernels.layout import (
    LIBRARY,
    MEMBERS,
    METRIC_DTYPE,
    SHAPE,
    SKETCH_DTYPE,
    Knobs,
)
from shared.ensemble.kernels.members import fold_value

WITHIN = 0.05
EVERY = 7


@njit
def member_scores(time_ms, values, warmup, knobs):
    state, shape, distances = (
        np.zeros(1, METRIC_DTYPE),
        np.zeros(SHAPE, np.float32),
        np.zeros(LIBRARY, np.float32),
    )
    scores = np.zeros((values.size, MEMBERS))
    for row in range(values.size):
        fold_value(state[0], time_ms[row], values[row], warmup, knobs, shape, distances)
        for member in range(MEMBERS):
            scores[row, member] = np.float32(state[0]["raw"][member])
    return scores


@njit
def farthest_apart(scores, memory, every):
    """Largest difference of the sketch's rank from the one counted score by score, in -log10."""
    sketch, worst = np.zeros(1, SKETCH_DTYPE), 0.0
    for row in range(scores.size):
        if row >= 20 and row % every == 0:
            above, total = 0.0, 0.0
            for earlier in range(row):
                weight = np.exp(-(row - 1 - earlier) / memory)
                total += weight
                if scores[earlier] > scores[row]:
                    above += weight
                elif scores[earlier] == scores[row]:
                    above += weight / 2
            worst = max(
                worst, abs(rank(sketch[0], scores[row]) + np.log10((above + 1) / (total + 1)))
            )
        add(sketch[0], scores[row], memory)
    return worst


def test_ranks_of_the_sketch_are_those_of_all_scores(nab_dir):
    knobs, apart = Knobs(), {}
    for series in read_corpus(nab_dir):
        present = ~np.isnan(series.values)
        warmup = min(max(series.probation, 2), 1024)
        scores = member_scores(series.time_ms[present], series.values[present], warmup, knobs)[
            warmup:
        ]
        for member in range(MEMBERS):
            column = np.ascontiguousarray(scores[:, member])
            apart[series.key, member] = farthest_apart(column, knobs.rank_memory * warmup, EVERY)
    worst = max(apart, key=apart.get)
    print(f"largest difference {apart[worst]:.4f}, {worst}")
    assert len(apart) == 28 * MEMBERS
    assert apart[worst] <= WITHIN, worst
