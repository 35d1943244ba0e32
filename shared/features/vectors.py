"""Names and version of what a trained model sees of a row, and the time zone as arrays.

Invariant: the fold computes the features of a row for training, backtest and prediction alike; a
           model of other features is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from shared.events import DEFAULT_MAX_TIME_MS, DEFAULT_MIN_TIME_MS
from shared.kernels.trained.trained_rows import FEATURE_NAMES, FEATURES
from shared.settings import FeatureSettings

__all__ = ["FEATURES", "FEATURE_NAMES", "FEATURE_VERSION", "Calendar"]

FEATURE_VERSION = 2
"""Changes whenever a feature's meaning or place changes; a model of another version is refused."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A time zone as arrays, so that no result depends on the host's time-zone data.

    transitions_ms : int64 (k,)   UTC instants from which offsets_ms[i] holds; the first is the
                     smallest int64
    offsets_ms     : int64 (k,)   local time minus UTC
    """

    transitions_ms: Ints
    offsets_ms: Ints

    @classmethod
    def from_settings(cls, settings: FeatureSettings) -> Calendar:
        """Read the zone's transitions between 2000 and 2100."""
        return cls(*_transitions(ZoneInfo(settings.timezone)))


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
