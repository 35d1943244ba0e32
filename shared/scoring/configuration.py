"""The settings that decide verdicts; every activation holds them, so replays score as before.

Invariant: equal configurations have equal texts, and a text is complete.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from pydantic import ValidationError

from shared.errors import LapwingError
from shared.events import Detector
from shared.features.vectors import Calendar
from shared.kernels.clock import Zone
from shared.settings import DetectionSettings, FeatureSettings, QualitySettings, Settings


@dataclass(frozen=True)
class Configuration:
    """The detector and its settings.

    window   : samples in the band of an entity that is warming up
    timezone : IANA name; times of day are local
    zone     : its table, (UTC seconds from which on, shift in seconds) of every change since 2000,
               so that a replay does not depend on the host's time-zone data; empty = UTC
    max_entities : entities that a partition remembers
    """

    detector: Detector
    window: int
    detection: DetectionSettings
    quality: QualitySettings
    timezone: str = "UTC"
    zone: tuple[tuple[int, int], ...] = ()
    max_entities: int = 100_000

    @classmethod
    def from_settings(cls, settings: Settings) -> Configuration:
        """Take what matters from the settings."""
        timezone = settings.features.timezone
        return cls(
            settings.detector,
            settings.features.window,
            settings.detection,
            settings.quality,
            timezone,
            _zone_table(timezone),
            settings.predict.max_entities,
        )

    @classmethod
    def from_text(cls, text: str) -> Configuration:
        """Rebuild a configuration from ``text``.

        raises : LapwingError when the text is of another version
        """
        try:
            content = json.loads(text)
            return cls(
                Detector(content["detector"]),
                int(content["window"]),
                DetectionSettings.model_validate(content["detection"]),
                QualitySettings.model_validate(content["quality"]),
                str(content["timezone"]),
                tuple((int(since), int(shift)) for since, shift in content["zone"]),
                int(content["max_entities"]),
            )
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise LapwingError(
                f"an activation's settings are not understood by this version ({error}):"
                f" {text[:200]}"
            ) from error

    def takes(self, detector: Detector) -> bool:
        """Whether a model of this detector affects scores.

        The ensemble takes any model, a trained detector only its own.
        """
        return detector is self.detector or self.detector is Detector.ENSEMBLE

    @cached_property
    def text(self) -> str:
        """Canonical JSON."""
        content = self._detection | {
            "window": self.window,
            "quality": self.quality.model_dump(mode="json"),
            "max_entities": self.max_entities,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @property
    def detection_digest(self) -> bytes:
        """Eight bytes that change with whatever decides about alarms, never all zero."""
        text = json.dumps(self._detection, sort_keys=True)
        return hashlib.sha256(text.encode()).digest()[:7] + b"\1"

    @property
    def zone_arrays(self) -> Zone:
        """The zone as the kernels take it."""
        first = np.iinfo(np.int64).min
        table = self.zone or ((0, 0),)
        changes = np.array([first, *(since * 1000 for since, _ in table[1:])], np.int64)
        return Zone(changes, np.array([shift * 1000 for _, shift in table], np.int64))

    @property
    def _detection(self) -> dict[str, Any]:
        return {
            "detector": self.detector.value,
            "detection": self.detection.model_dump(mode="json"),
            "timezone": self.timezone,
            "zone": self.zone,
        }


@lru_cache(maxsize=8)
def _zone_table(timezone: str) -> tuple[tuple[int, int], ...]:
    """Return the changes of a zone; the first holds from ever."""
    calendar = Calendar.from_settings(FeatureSettings(timezone=timezone))
    seconds = [0, *(int(change) // 1000 for change in calendar.transitions_ms[1:])]
    shifts = [int(shift) // 1000 for shift in calendar.offsets_ms]
    return () if shifts == [0] else tuple(zip(seconds, shifts, strict=True))
