"""Series of unit noise in four families, and the daily curve that they lie on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MONDAY_MS = 1_736_121_600_000
"""2025-01-06 00:00 UTC, a Monday."""

FAMILIES = ("gauss", "laplace", "lognormal", "ar1")


def noise(family: str, rows: int, seed: int) -> Floats:
    """Return noise of mean 0 and standard deviation 1: Gaussian, Laplace, lognormal or AR(1)."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    if family == "laplace":
        return rng.laplace(0.0, 0.5**0.5, rows)
    normal = rng.normal(size=rows)
    if family == "lognormal":
        sigma = 0.6
        mean = np.exp(0.5 * sigma**2)
        return (np.exp(sigma * normal) - mean) / (mean * np.sqrt(np.exp(sigma**2) - 1.0))
    if family == "ar1":
        out = np.empty(rows)
        value = normal[0] if rows else 0.0
        for i, innovation in enumerate(normal):
            value = 0.9 * value + (1.0 - 0.9**2) ** 0.5 * innovation
            out[i] = value
        return out
    return normal


def clock(days: float, step_s: float = 300, start_ms: int = MONDAY_MS) -> Times:
    """Return event times in ms, ``step_s`` apart."""
    return start_ms + np.arange(0, round(days * DAY_MS), round(step_s * 1000), dtype=np.int64)


def daily(time_ms: Times, base: float = 50.0, swing: float = 20.0) -> Floats:
    """Return a curve with one period a day."""
    return base + swing * np.cos(2 * np.pi * (time_ms % DAY_MS) / DAY_MS)


def days_of(time_ms: Times) -> Floats:
    """Return days since the first Monday."""
    return (time_ms - MONDAY_MS) / DAY_MS


def between(time_ms: Times, day: float, hours: float) -> npt.NDArray[np.bool_]:
    """Mark the rows of a number of hours from a day on."""
    since = days_of(time_ms) - day
    return (since >= -1e-9) & (since < hours / 24 - 1e-9)
