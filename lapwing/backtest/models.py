"""The trained model of a backtest: a published one, or one fitted to the first part of the data.

Invariant: a model fitted here is never published, and no row that it scores is used to fit it.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lapwing.backtest.feeds import Feed
from lapwing.backtest.run import BacktestResult
from shared.errors import ArtifactMissing, ConfigError, DataError
from shared.events import Detector
from shared.models.model import Model
from shared.models.origin import no_metric_in_common, other_topic
from shared.scoring.configuration import Configuration
from shared.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from consumer_training.reading.history import History

_DIGITS = re.compile(r"[0-9a-f]{8,64}")


def find_model(
    models_dir: Path, requested: str | None, settings: ModelSettings | None = None
) -> Model | None:
    """Load the requested model.

    requested : CURRENT, 64 hex digits, or the first 8 or more of them; None or ``none`` = no model
    settings  : which models are trusted; None = the defaults
    raises    : ConfigError, ArtifactMissing, ArtifactRefused
    """
    from shared.artifacts import current, load, trust

    if requested is None or requested == "none":
        return None
    if requested == "CURRENT":
        sha256 = current(models_dir)
        if sha256 is None:
            raise ArtifactMissing(
                f"--model CURRENT: {models_dir} contains no model; `lapwing train --once`"
                " publishes one"
            )
        return load(models_dir, sha256, trust(settings or ModelSettings()))
    if not _DIGITS.fullmatch(requested):
        raise ConfigError(
            f"--model {requested}: CURRENT, or the SHA-256 of an artefact (or its first 8 digits or"
            " more)"
        )
    matches = sorted(path.name for path in models_dir.glob(f"{requested}*") if path.is_dir())
    if len(matches) != 1:
        raise ConfigError(
            f"--model {requested}: {len(matches) or 'no'} artefacts in {models_dir} match"
        )
    return load(models_dir, matches[0], trust(settings or ModelSettings()))


def check_fit(
    configuration: Configuration,
    model: Model | None,
) -> None:
    """Refuse a detector without its model.

    raises : ConfigError
    """
    detector = configuration.detector
    if not detector.is_trained:
        return
    if model is None:
        raise ConfigError(
            f"detector {detector.value} needs a model: --model SHA256, --model CURRENT or --train"
        )
    if model.detector is not detector:
        raise ConfigError(
            f"detector is {detector.value}, but the model was trained for {model.detector.value}"
        )


def notes_on(models_dir: Path, model: Model, result: BacktestResult, topic: str) -> list[str]:
    """Return what makes the figures of a published model better or worse than they will be.

    topic  : that the records come from; empty = from files
    raises : ArtifactMissing, ArtifactRefused
    """
    from shared.artifacts import manifest

    facts, notes = manifest(models_dir, model.sha256), []
    metrics = {name for series in result.series for name in series.metrics}
    why = no_metric_in_common(facts, sorted(metrics)) or (
        other_topic(facts, topic) if topic else ""
    )
    if why:
        notes.append(f"model {model.model_id}: {why}")
    trained_to = round(datetime.fromisoformat(model.version).timestamp() * 1000)
    seen = sum(int((series.time_ms <= trained_to).sum()) for series in result.series)
    if seen:
        notes.append(
            f"model {model.model_id} was trained up to {model.version}: {seen:,} of the"
            f" {result.rows:,} records scored are not later, and are counted although it may have"
            " been trained on them; --train counts only what comes after"
        )
    return notes


def _read(history: History, feed: Feed) -> bool:
    """Read all batches; return False once they have more entities than may be folded at once."""
    for batch in feed.batches():
        history.add(batch)
        if history.is_overfull:
            return False
    return True


class Trainer:
    """Fits models to the first ``train.split`` of each entity's time.

    since : {(entity, partition): event time} at which the rest begins
    """

    def __init__(self, feed: Feed, settings: Settings) -> None:
        from consumer_training.packages import require_packages
        from consumer_training.reading.history import History

        require_packages("--train")
        history = History(feed.decoder, settings)
        while not _read(history, feed):
            history.halve()
        self._rows = history.rows()
        self._fitted: dict[Detector, Model] = {}
        self.since: dict[tuple[str, int], int] = {}

    def fit(self, settings: Settings) -> Model:
        """Fit what the settings ask for.

        raises : DataError when there is too little to learn from
        """
        from consumer_training.training import TEST, TRAIN, TooFewRows, train

        if settings.trained_detector not in self._fitted:
            try:
                trained = train(
                    self._rows, settings.trained_detector, settings.features, settings.train
                )
            except TooFewRows as error:
                raise DataError(f"--train: {error}") from error
            self._fitted[settings.trained_detector] = trained.model
            for key, low, high in zip(
                self._rows.series, self._rows.bounds[:-1], self._rows.bounds[1:], strict=True
            ):
                times, part = self._rows.time_ms[low:high], trained.part[low:high]
                if (part == TRAIN).any():
                    evaluated = times[part == TEST]
                    self.since[key] = (
                        int(evaluated.min()) if len(evaluated) else int(times.max()) + 1
                    )
        return self._fitted[settings.trained_detector]
