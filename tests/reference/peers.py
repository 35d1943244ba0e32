"""Slow and obviously right: how far a row lies from what is usual among its entity's peers."""

from __future__ import annotations

import math

import numpy as np

from shared.models.peers import Peers


def score_peers(peers: Peers, X: np.ndarray) -> list[tuple[float, int]]:
    """Return score and group of each row; group -1 = it was compared with none."""
    return [_score(peers, [float(x) for x in row]) for row in X]


def _score(peers: Peers, row: list[float]) -> tuple[float, int]:
    number, hour, *values = row
    parts = peers.center.shape[1]
    part = int(hour) // (24 // parts) if 0.0 <= hour < 24.0 else 0
    is_listed = 0.0 <= number < len(peers.group)
    own = int(peers.group[int(number)]) if is_listed else -1
    candidates = [own] if is_listed else range(len(peers.center))
    present = sum(not math.isnan(value) for value in values)
    found = []
    for group in candidates:
        if group < 0:
            continue
        distances = [
            min(abs(value - center) / spread, 1e6)
            for value, center, spread in zip(
                values, peers.center[group, part], peers.spread[group, part], strict=True
            )
            if not math.isnan(value) and not math.isnan(center)
        ]
        has_enough = is_listed or 2 * len(distances) >= present
        if distances and has_enough:
            found.append((max(distances), group))
    return min(found, default=(0.0, -1))
