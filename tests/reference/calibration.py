"""Slow and obviously right: decayed ranks from every score that ever was."""

from __future__ import annotations

import math

import numpy as np


def rank(older: list[float], score: float, memory: float) -> float:
    """-log10((weight above + half the ties + 1) / (weight + 1)); the newest older one weighs 1."""
    if not older:
        return 0.0
    value = np.float32(score)
    total = above = 0.0
    for age, other in enumerate(reversed(older)):
        weight = math.exp(-age / memory)
        total += weight
        if np.float32(other) > value:
            above += weight
        elif np.float32(other) == value:
            above += weight / 2
    return -math.log10((above + 1.0) / (total + 1.0))


def ranks(scores, memory):
    """Rank of each score among its own past, with arrays for speed."""
    values = np.asarray(scores, np.float32)
    out = np.zeros(len(values))
    for i in range(1, len(values)):
        weight = np.exp(-np.arange(i - 1, -1, -1) / memory)
        older = values[:i]
        above = weight[older > values[i]].sum() + 0.5 * weight[older == values[i]].sum()
        out[i] = -math.log10((above + 1.0) / (weight.sum() + 1.0))
    return out


def recalibrated(rarities, warmup):
    """Divide each rarity of a trained member by how far the mean rarity exceeds 1 / ln 10.

    Where the mean is below, a rarity is kept as it is.
    """
    out, usual = [], 0.0
    for row, rarity in enumerate(rarities, start=1):
        memory = min(row, warmup)
        usual = usual * (1 - 1 / memory) + rarity / memory
        out.append(rarity / max(usual / 0.4343, 1.0))
    return out
