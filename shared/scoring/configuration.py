"""All that decides verdicts beside the log and the model; it stands in every activation, so a
replay judges as before.

Law: equal configurations have equal texts, and a text says everything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import ValidationError

from shared.errors import LapwingError
from shared.events import Detector
from shared.settings import DetectionSettings, QualitySettings, Settings


@dataclass(frozen=True)
class Configuration:
    """What judges, and how.

    window : samples in the rolling features while no model says otherwise
    """

    detector: Detector
    window: int
    detection: DetectionSettings
    quality: QualitySettings

    @classmethod
    def from_settings(cls, settings: Settings) -> Configuration:
        """Take what matters from the settings."""
        return cls(
            settings.detector, settings.features.window, settings.detection, settings.quality
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
            )
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise LapwingError(
                f"an activation's settings are not understood by this version ({error}):"
                f" {text[:200]}"
            ) from error

    def takes(self, detector: Detector) -> bool:
        """Whether a model of this detector has a say: any in the ensemble, only its own in a
        trained one.
        """
        return detector is self.detector or self.detector is Detector.ENSEMBLE

    @property
    def text(self) -> str:
        """Canonical JSON."""
        content = {
            "detector": self.detector.value,
            "window": self.window,
            "detection": self.detection.model_dump(mode="json"),
            "quality": self.quality.model_dump(mode="json"),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))
