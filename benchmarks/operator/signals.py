"""Times, daily and weekly shapes, and noise, of which the generators put series together.

Invariant: pure; times are seconds since 1970 UTC, and the same generator state gives the same
           values.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86_400, 604_800
MONDAY = int(datetime(2025, 1, 6, tzinfo=UTC).timestamp())


class Noise(StrEnum):
    """A family of noise, each with mean 0 and deviation 1."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"
    LOGNORMAL = "lognormal"
    AUTOCORRELATED = "autocorrelated"


GAUSSIAN = Noise.GAUSSIAN
AUTOCORRELATED = Noise.AUTOCORRELATED

_SIGMA = 0.6
"""Of the lognormal noise, which is skewed to the right."""

_MEMORY = 0.8
"""Correlation of the autocorrelated noise from one row to the next."""

_MEMORY_ROWS = 60
_SHARE_OF_NEW = 0.6
"""``sqrt(1 - _MEMORY**2)``, so that the deviation is 1."""


def draw_noise(rng: np.random.Generator, n: int, family: Noise = GAUSSIAN) -> Floats:
    """Draw n values of mean 0 and deviation 1, float64 (n,)."""
    if family == Noise.LAPLACE:
        return rng.laplace(0, np.sqrt(0.5), n)
    if family == Noise.LOGNORMAL:
        variance = _SIGMA**2
        mean = np.exp(variance / 2)
        deviation = np.sqrt((np.exp(variance) - 1) * np.exp(variance))
        return np.asarray((np.exp(_SIGMA * rng.normal(size=n)) - mean) / deviation)
    if family == Noise.AUTOCORRELATED:
        weights = _SHARE_OF_NEW * _MEMORY ** np.arange(_MEMORY_ROWS + 1)
        drawn = rng.normal(size=2 * n + _MEMORY_ROWS)[n:]  # the first n are the Gaussian noise
        return np.convolve(drawn, weights, "valid")[:n]
    return rng.normal(size=n)


def daily(time: Times, base: float = 50.0, swing: float = 30.0, peak: float = 14.0) -> Floats:
    """Return a smooth day: base + swing at the peak's hour, base - swing twelve hours later."""
    return np.asarray(base + swing * np.cos(2 * np.pi * (hour_of(time) - peak) / 24))


def daily_at(moment: float, base: float = 50.0, swing: float = 30.0) -> float:
    """Return the value of ``daily`` at one time."""
    return float(daily(np.array([moment]), base, swing)[0])


def office(time: Times, low: float = 15.0, high: float = 80.0, weekend: float = 0.3) -> Floats:
    """Return working days from about 8 to 18 h; at the weekend a share of the day's rise."""
    hour = hour_of(time)
    rise = 1 / (1 + np.exp(-(hour - 8) * 2.5)) - 1 / (1 + np.exp(-(hour - 18) * 2.5))
    return np.asarray(low + (high - low) * rise * np.where(weekday_of(time) < 5, 1.0, weekend))


def between(time: Times, start: float, end: float) -> Flags:
    """Return the rows from start to before end."""
    return np.asarray((time >= start) & (time < end))


def hour_of(time: Times) -> Floats:
    """Return hours since midnight."""
    return np.asarray(time % DAY / HOUR)


def weekday_of(time: Times) -> Times:
    """Return 0 for Monday to 6 for Sunday."""
    return np.asarray((time - MONDAY) // DAY % 7)


def iso(time: npt.ArrayLike | Sequence[float]) -> list[str]:
    """Write times as ISO 8601 without a zone, to the second."""
    seconds = np.asarray(time, dtype=np.int64).astype("datetime64[s]")
    texts: list[str] = np.datetime_as_string(seconds).tolist()
    return texts


def cycle(items: Sequence[Any], each: int) -> list[Any]:
    """Return every item ``each`` times, one after the other."""
    return [item for item in items for _ in range(each)]
