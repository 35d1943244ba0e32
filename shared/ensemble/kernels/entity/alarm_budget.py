"""A threshold that gives about as many episodes a day as a user asks for.

Invariant: it follows from the entity's own past ratios and openings.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.codes import clip
from shared.ensemble.kernels.layout import (
    BUCKETS,
    Settings,
)
from shared.kernels.units import DAY_MS, HOUR_MS

BLOCK_MS = 4 * HOUR_MS


BLOCK_MEMORY = 0.995


CORRECTION = 0.25


SURPLUS = 8.0


@njit(cache=True, error_model="numpy")
def follow_budget(e: Record, t: int, dt: float, ratio: float, settings: Settings) -> None:
    """Move the threshold so that about ``per_day`` episodes a day open.

    ratio : largest ratio of the row, with the budget's threshold taken off

    The threshold is a quantile of four-hour maxima, kept in a decayed histogram of an eighth of an
    octave; the share asked for shrinks by exp(-CORRECTION surplus), surplus being the openings
    beyond
    what was asked so far.
    """
    days = dt / DAY_MS
    e["surplus"] = clip(e["surplus"] - settings.per_day * days, SURPLUS)
    block = t // BLOCK_MS
    if block != e["block"]:
        if e["block"] > 0 and e["block_maximum"] > 0.0:
            k = int(8.0 * math.log2(max(e["block_maximum"], 0.02) / 0.02))
            for b in range(BUCKETS):
                e["blocks"][b] = np.float64(e["blocks"][b]) * BLOCK_MEMORY
            e["blocks"][min(k, BUCKETS - 1)] = np.float64(e["blocks"][min(k, BUCKETS - 1)]) + 1.0
            e["blocks_n"] = e["blocks_n"] * BLOCK_MEMORY + 1.0
        e["block"] = block
        e["block_maximum"] = 0.0
        if e["blocks_n"] >= 6.0:
            share = settings.per_day * BLOCK_MS / DAY_MS * math.exp(-CORRECTION * e["surplus"])
            wanted = min(share, 0.9) * e["blocks_n"]
            above = 0.0
            k = BUCKETS - 1
            while k > 0 and above + np.float64(e["blocks"][k]) < wanted:
                above += np.float64(e["blocks"][k])
                k -= 1
            inside = (wanted - above) / max(np.float64(e["blocks"][k]), 1e-9)
            limit = 0.02 * 2.0 ** ((k + 1.0 - min(inside, 1.0)) / 8.0)
            if wanted < 1.0:
                limit *= min(max(1.0 / max(wanted, 1e-3), 1.0) ** 0.25, 3.0)
            e["threshold"] = min(max(limit, 0.1), 20.0)
    e["block_maximum"] = max(e["block_maximum"], ratio)
