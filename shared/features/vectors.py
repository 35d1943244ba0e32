"""Feature vectors, which training and scoring compute by the same kernels.

Invariant: a vector depends only on the row's rolling features, its event time, and arrays of the
           model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from shared.events import DEFAULT_MAX_TIME_MS, DEFAULT_MIN_TIME_MS
from shared.features.kernels.rolling import LocalTime, Scales, build_vectors
from shared.settings import FeatureSettings

FEATURE_VERSION = 1
"""Changes whenever a feature's meaning or place changes; a model of another version is refused."""

ROLLING = ("value", "mean", "spread", "difference")
TIME_FEATURES = ("hour_sin", "hour_cos", "business_hour")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int32]


def feature_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """Name the columns of a feature vector, in order."""
    rolling = [f"{metric}.{feature}" for metric in metrics for feature in ROLLING]
    return (*rolling, *(f"{metric}.missing" for metric in metrics), *TIME_FEATURES)


@dataclass(frozen=True, slots=True)
class Calendar:
    """A time zone and the business hours as arrays.

    A model thus does not depend on the host's time-zone data.

    transitions_ms   : int64 (k,)   UTC instants from which offsets_ms[i] holds; the first is the
                       smallest int64
    offsets_ms       : int64 (k,)   local time minus UTC
    business_minutes : int64 (2,)   start and exclusive end in minutes of the local day
    business_days    : bool (7,)    Monday first
    """

    transitions_ms: Ints
    offsets_ms: Ints
    business_minutes: Ints
    business_days: npt.NDArray[np.bool_]

    @classmethod
    def from_settings(cls, settings: FeatureSettings) -> Calendar:
        """Read the zone's transitions between 2000 and 2100."""
        transitions, offsets = _transitions(ZoneInfo(settings.timezone))
        days = np.zeros(7, np.bool_)
        days[list(settings.business_days)] = True
        minutes = np.array([settings.business_start * 60, settings.business_end * 60], np.float64)
        return cls(transitions, offsets, np.round(minutes).astype(np.int64), days)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays by name, as a model stores them."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Calendar:
        """Rebuild a calendar from ``to_arrays``."""
        return cls(
            np.ascontiguousarray(arrays["transitions_ms"], np.int64),
            np.ascontiguousarray(arrays["offsets_ms"], np.int64),
            np.ascontiguousarray(arrays["business_minutes"], np.int64),
            np.ascontiguousarray(arrays["business_days"], np.bool_),
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """Centre and spread of every rolling feature of every entity, learnt on the training part.

    entities       : (E,)
    centre, spread : float64 (E, M, 4); NaN where the entity never reported the metric; spread > 0
    """

    entities: tuple[str, ...]
    centre: Floats
    spread: Floats


def fit_scale(rolling: Floats, entity_row: Indices, entities: Sequence[str]) -> Scale:
    """Learn each entity's scale.

    rolling    : float64 (n, M, 4), NaN = missing
    entity_row : int32 (n,), index into entities
    returns    : centre = median; spread = max((q90 - q10) / 2.56, .1 std, 1 % of |median|), and 1
                 where all of that is 0
    """
    metrics = rolling.shape[1]
    centre = np.full((len(entities), metrics, len(ROLLING)), np.nan)
    spread = np.full_like(centre, np.nan)
    order = np.argsort(entity_row, kind="stable")
    bounds = np.searchsorted(entity_row[order], np.arange(len(entities) + 1))
    for e in range(len(entities)):
        of_entity = rolling[order[bounds[e] : bounds[e + 1]]]
        for metric in range(metrics):
            present = of_entity[~np.isnan(of_entity[:, metric, 0]), metric]
            if len(present):
                centre[e, metric], spread[e, metric] = _centre_and_spread(present)
    return Scale(tuple(entities), centre, spread)


def vectors(
    rolling: Floats, entity_row: Indices, time_ms: Ints, scale: Scale, calendar: Calendar
) -> Floats:
    """Build feature vectors.

    rolling    : float64 (n, M, 4) in the model's metric order, NaN = missing
    entity_row : int32 (n,), row in scale, >= 0
    time_ms    : int64 (n,)
    returns    : float64 (n, 5M + 3) as feature_names; missing = scaled 0 and its flag 1; never NaN
    """
    n, metrics = rolling.shape[:2]
    X = np.empty((n, 5 * metrics + len(TIME_FEATURES)))
    build_vectors(
        np.ascontiguousarray(rolling),
        np.ascontiguousarray(entity_row),
        np.ascontiguousarray(time_ms),
        Scales(np.ascontiguousarray(scale.centre), np.ascontiguousarray(scale.spread)),
        LocalTime(
            calendar.transitions_ms,
            calendar.offsets_ms,
            calendar.business_minutes,
            calendar.business_days,
        ),
        X,
    )
    return X


def _centre_and_spread(present: Floats) -> tuple[Floats, Floats]:
    low, centre, high = np.quantile(present, (0.1, 0.5, 0.9), axis=0)
    wide = np.maximum((high - low) / 2.56, 0.1 * present.std(axis=0))
    wide = np.maximum(wide, 0.01 * np.abs(centre))
    return centre, np.where(wide > 0, wide, 1.0)


def _transitions(zone: ZoneInfo) -> tuple[Ints, Ints]:
    """Find every change of the zone's offset by stepping through the years and halving."""

    def offset_ms(time_ms: int) -> int:
        offset = datetime.fromtimestamp(time_ms / 1000, zone).utcoffset() or timedelta()
        return int(offset.total_seconds() * 1000)

    step_ms = 21_600_000
    instants, offsets = [np.iinfo(np.int64).min], [offset_ms(DEFAULT_MIN_TIME_MS)]
    if zone.key != "UTC":
        for low in range(DEFAULT_MIN_TIME_MS, DEFAULT_MAX_TIME_MS, step_ms):
            high = low + step_ms
            if (after := offset_ms(high)) != offsets[-1]:
                while high - low > 1000:
                    middle = (low + high) // 2000 * 1000
                    low, high = (
                        (middle, high) if offset_ms(middle) == offsets[-1] else (low, middle)
                    )
                instants.append(high)
                offsets.append(after)
    return np.array(instants, np.int64), np.array(offsets, np.int64)
