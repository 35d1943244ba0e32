"""Slow and obviously right: block shapes of the whole history, nearest by brute force."""

from __future__ import annotations

import math

import numpy as np


def shape(history, block, back=0):
    """Return mean, maximum and minimum of each of four blocks that end ``back`` samples ago.

    history : (mean, high, low) of each sample
    """
    newest = len(history) - 1 - back
    means, highs, lows = [], [], []
    for k in (3, 2, 1, 0):
        end = max(0, newest - k * block)
        part = history[max(0, end - block + 1) : end + 1]
        means.append(float(np.float32(sum(float(np.float32(p[0])) for p in part) / len(part))))
        highs.append(max(float(np.float32(p[1])) for p in part))
        lows.append(min(float(np.float32(p[2])) for p in part))
    return means + highs + lows


def scores(history, block, stride, room):
    """Return the distance to the nearest older shape; no shape is ever evicted from the library.

    room : upper limit of the library's size, checked
    """
    library, out = [], []
    for i in range(len(history)):
        seen = history[: i + 1]
        if i - 4 * block >= 0 and (i - 4 * block) % stride == 0:
            old = shape(seen, block, 4 * block)
            if old not in library:
                library.append(old)
        assert len(library) <= room
        new = shape(seen, block)
        out.append(min((math.dist(new, old) for old in library), default=0.0))
    return out
