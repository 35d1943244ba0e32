"""Runs trainings, once or on a schedule: read the input, wait for enough data, fit, publish.

Invariant: ``training`` computes the model; this module holds the I/O, the waiting and the clock. A
           model is published before its report is drawn, and a failed run keeps the last model.
"""

from __future__ import annotations

import hashlib
import io
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import structlog

from consumer_training import pictures
from consumer_training.evaluation import evaluate
from consumer_training.outside import Dependencies, Options
from consumer_training.progress import ReadProgress
from consumer_training.reading.ahead import reading
from consumer_training.reading.checkpoints import Checkpoints
from consumer_training.reading.history import MAX_SERIES, History
from consumer_training.reading.topic import KafkaTopic, input_decoder
from consumer_training.report import (
    MAX_PICTURES,
    choose_entities,
    entities_csv,
    file_names,
    report_json,
    views,
)
from consumer_training.retained_models import retained_models
from consumer_training.schedule import Schedule
from consumer_training.training import TooFewRows, Trained, check_enough, train
from shared import artifacts
from shared.errors import ArtifactMissing, ArtifactRefused, DataError, HistoryGone, LapwingError
from shared.labels import Windows, find, read_labels
from shared.models.model import Model
from shared.models.origin import other_topic
from shared.operations.counters import EVENTS_CONSUMED, FIT_SECONDS, MODEL_INFO, Counters
from shared.operations.health import Health
from shared.operations.retry import Outage, Retry
from shared.operations.telemetry import TelemetryServer
from shared.operations.workers import Workers
from shared.settings import Settings

log = structlog.get_logger()

POLL_S = 2.0
LOG_WAITING_EVERY_S = 30.0
LONGEST_WAIT_S = 30.0
"""Longer than any call waits for an answer: a run that fails later did get answers meanwhile."""

GROWING = 0.02
"""The first model waits while the topic grows by more than this share between two checks."""

OF_FIT = ("peers", "reconstruction")
"""Facts of a fit that manifest and report have, where the detector has them."""

_LIBRARIES = ("lapwing", "numpy", "scikit-learn", "numba")


def run(
    settings: Settings, options: Options, counters: Counters, stopping: Callable[[], bool]
) -> None:
    """Train once or on the schedule, until stopping() returns True.

    raises : LapwingError; the supervisor restarts the process
    """
    topic = KafkaTopic(settings)
    dependencies = Dependencies(
        topic,
        lambda: input_decoder(settings),
        time.time,
        time.monotonic,
        time.sleep,
        lambda: retained_models(settings),
    )
    try:
        health = Health()
        with TelemetryServer(settings.telemetry, counters, health):
            TrainingService(settings, options, dependencies, counters, stopping, health).run()
    finally:
        topic.close()


class TrainingService:
    """Runs trainings, once or on a schedule."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        dependencies: Dependencies,
        counters: Counters,
        stopping: Callable[[], bool],
        health: Health | None = None,
    ) -> None:
        self.settings = settings
        self.options = options
        self.dependencies = dependencies
        self.counters = counters
        self.stopping = stopping
        self.workers = Workers(settings.train.threads, "fold")
        self.schedule = None if options.once else Schedule.from_settings(settings.train)
        self.labels = _read_labels(options.labels)
        self.health = health or Health()
        outage = Outage(
            settings.outage_deadline_s,
            counters,
            clock=dependencies.monotonic,
            health=self.health,
            settle_s=LONGEST_WAIT_S,
        )
        self.retry = Retry(outage, stopping, dependencies.sleep, longest_wait_s=LONGEST_WAIT_S)

    def run(self) -> None:
        """Train now, then on the schedule; without a schedule, return.

        With a cron line and a model in place, the first run is scheduled as well. A failure of the
        first run is raised; a later failure is logged, and the next run begins as scheduled.
        """
        first_s = self.dependencies.now_s()
        if self.schedule is None or self.schedule.cron is None or not self._has_model():
            self.train_with_retries()
        else:
            self.health.ready()
        while self.schedule is not None and not self.stopping():
            next_s = self.schedule.next_s(first_s, self.dependencies.now_s())
            log.info("next training", in_s=round(next_s - self.dependencies.now_s(), 1))
            while not self.stopping() and self.dependencies.now_s() < next_s:
                self.dependencies.sleep(min(1.0, max(next_s - self.dependencies.now_s(), 0.0)))
            if not self.stopping():
                try:
                    self.train_with_retries()
                except Exception as error:
                    self.health.waiting(f"the last training failed: {error}")
                    log.error(
                        "training failed, keeping the last model",
                        because=str(error),
                        exc_info=not isinstance(error, LapwingError),
                    )

    def train_with_retries(self) -> Model | None:
        """Train, and retry during an outage of broker or registry, up to outage_deadline_s.

        returns : None after a request to stop
        """
        return self.retry(self.train_once, "the broker or the registry")

    def train_once(self) -> Model | None:
        """Read the input, wait for enough data, train, publish and write the report.

        returns : None after a request to stop
        raises  : LapwingError
        """
        artifacts.check_writable(self.settings.models_dir)
        key = artifacts.signing_key(self.settings.models)
        secret = b"" if key is None else hashlib.sha256(key.private_bytes_raw()).digest()
        checkpoints = Checkpoints(
            self.settings, secret, self.dependencies.topic, self.dependencies.monotonic
        )
        empty = History(self.dependencies.decoder(), self.settings, self.labels)
        collected = self._collect(empty, checkpoints)
        if collected is None:
            return None
        history, trained = collected
        figures = evaluate(trained, self.labels) | {
            "sampling": history.sampling(),
            "seeds": trained.facts["seeds"],
        }
        figures |= {name: trained.facts[name] for name in OF_FIT if name in trained.facts}
        labels, entities = self.labels, figures["per_entity"]
        if labels is not None and not any(find(labels, name) for name in entities):
            log.warning(
                "no label matches an entity of the input",
                labels=str(self.options.labels),
                keys=list(labels)[:3],
                entities=list(entities)[:3],
            )
        summary = {
            name: value
            for name, value in figures.items()
            if name not in ("per_entity", "sampling", *OF_FIT)
        }
        facts = trained.facts | {
            "input": {
                "topic": self.settings.topics.input,
                "partitions": history.facts(),
                "schema_sha256": history.schema_sha256(),
            },
            "libraries": _libraries(),
            "evaluation": summary,
        }
        self._warn_of_another_topic()
        model = artifacts.publish(
            self.settings.models_dir,
            trained.model,
            facts,
            trained.canary,
            {"estimator.joblib": _joblib(trained.estimator)},
            max_bytes=self.settings.models.max_bytes,
            key=key,
        )
        checkpoints.remove()
        self.counters.forget(MODEL_INFO)
        self.counters.set(MODEL_INFO, 1, model.version, model.model_id, model.detector.value)
        log.info(
            "model published",
            model=model.model_id,
            version=model.version,
            detector=model.detector.value,
            threshold=model.threshold,
            flagged_test_share=figures["flagged_share"]["test"],
            left_out=len(trained.left_out),
            signed=key is not None,
        )
        self._prune()
        self._report(model.sha256, trained, figures)
        return model

    def _prune(self) -> None:
        """Remove old models, but none that has scored a record that the input still has."""
        try:
            in_use = self.dependencies.retained_models()
        except LapwingError as error:
            log.warning("old models are kept: which are in use is not known", because=str(error))
            return
        removed = artifacts.prune(self.settings.models_dir, self.settings.train.keep, in_use)
        if removed:
            log.info("old models removed", count=len(removed))

    def _warn_of_another_topic(self) -> None:
        """Warn if the model to be replaced was trained on another input."""
        folder = self.settings.models_dir
        topic = self.settings.topics.input
        try:
            sha256 = artifacts.current(folder)
            facts = {} if sha256 is None else artifacts.manifest(folder, sha256)
        except (ArtifactMissing, ArtifactRefused):
            return
        if why := other_topic(facts, topic):
            log.warning(
                "replacing a model that was trained on another topic",
                models_dir=str(folder),
                because=why,
                remedy="predictors of that topic would use the new model: use a separate models_dir"
                " (LAPWING_MODELS_DIR) for each input",
            )

    def _has_model(self) -> bool:
        try:
            return artifacts.current(self.settings.models_dir) is not None
        except ArtifactRefused:
            return False

    def _collect(
        self, history: History, checkpoints: Checkpoints
    ) -> tuple[History, Trained] | None:
        """Read to the current end of the topic; wait and continue while there is too little."""
        began_s = self.dependencies.monotonic()
        logged_s = float("-inf")
        position: Mapping[int, int] | None = None
        filling = not self.options.once and not self._has_model()
        resumed = checkpoints.resume(history)
        while not self.stopping():
            ends = self.dependencies.topic.ends()
            self.retry.outage.succeeded()
            if ends != position:
                if position is None:
                    self.health.ready()  # waiting for data is not waiting for the broker
                read = None
                if resumed is not None:
                    read, ends = self._read_on(*resumed, history, checkpoints)
                    resumed = None
                else:
                    read = self._read(history, position, ends, checkpoints)
                if read is None:
                    return None
                history, position = read, ends
                if filling and self._still_growing(ends):
                    continue
                try:
                    trained = self._fit(history)
                except TooFewRows as few:
                    rows, needed = few.rows, few.needed
                else:
                    self.health.ready()
                    return history, trained
            self.health.waiting(
                f"waiting for data: {needed - rows} of the {needed} training rows needed are"
                " missing"
            )
            waited_s = self.dependencies.monotonic() - began_s
            if self.options.wait_s is not None and waited_s >= self.options.wait_s:
                raise LapwingError(
                    f"{self.settings.topics.input} has {rows} training rows after {waited_s:.0f} s,"
                    f" train.min_rows requires {needed}: {needed - rows} are missing"
                )
            if self.dependencies.monotonic() - logged_s >= LOG_WAITING_EVERY_S:
                logged_s = self.dependencies.monotonic()
                log.info(
                    "waiting for data",
                    missing_training_rows=needed - rows,
                    training_rows=rows,
                    needed=needed,
                    events_read=len(history),
                )
            self.dependencies.sleep(POLL_S)
        return None

    def _read_on(
        self, kept: History, end: Mapping[int, int], empty: History, checkpoints: Checkpoints
    ) -> tuple[History | None, Mapping[int, int]]:
        """Read on from a checkpoint to the end that it names; from the start if it is no use."""
        try:
            return self._read(kept, kept.position, end, checkpoints), end
        except HistoryGone as error:
            checkpoints.refuse(str(error))
        ends = self.dependencies.topic.ends()
        return self._read(empty, None, ends, checkpoints), ends

    def _read(
        self,
        history: History,
        start: Mapping[int, int] | None,
        end: Mapping[int, int],
        checkpoints: Checkpoints,
    ) -> History | None:
        """Read to an end position; return None after a request to stop.

        Where there are more entities than may be folded at once, the log is read again from its
        start, half of the entities at a time less.
        """
        began_s = self.dependencies.monotonic()
        progress = ReadProgress(
            self.dependencies.monotonic, history, start, end, self.options.watcher
        )
        with reading(iter(self.dependencies.topic.read(start, end))) as rounds:
            for batches in rounds:
                history.add_all(batches, self.workers)
                for batch in batches:
                    self.counters.add(EVENTS_CONSUMED, len(batch), batch.topic, batch.partition)
                if self.stopping():
                    return None
                if history.is_overfull:
                    break
                progress.count(sum(map(len, batches)))
                checkpoints.write_if_due(history, end)
        if history.is_overfull:
            history.halve()
            log.warning(
                "too many entities to fold at once, reading a part of them",
                series_limit=MAX_SERIES,
                entity_share=history.share,
            )
            return self._read(history, None, end, checkpoints)
        log.info(
            "input read",
            records=progress.records,
            events_read=len(history),
            rejected=history.rejected,
            entity_share=history.share,
            seconds=round(self.dependencies.monotonic() - began_s, 2),
        )
        return history

    def _still_growing(self, ends: Mapping[int, int]) -> bool:
        """Check the end offsets twice: during a backfill, the first model would miss entities."""
        self.dependencies.sleep(POLL_S / 2)
        now = self.dependencies.topic.ends()
        grown = sum(now.values()) - sum(ends.values())
        if grown > GROWING * sum(ends.values()):
            log.info("input is still growing, continuing to read", new_records=grown)
            return True
        return False

    def _fit(self, history: History) -> Trained:
        began_s = self.dependencies.monotonic()
        rows = history.rows()
        check_enough(rows, self.settings.train)
        history.release()
        trained = train(
            rows,
            self.settings.trained_detector,
            self.settings.features,
            self.settings.train,
            None if self.options.watcher is None else self.options.watcher.epoch,
        )
        seconds = self.dependencies.monotonic() - began_s
        self.counters.observe(FIT_SECONDS, seconds)
        facts = trained.facts["training"]
        log.info(
            "model trained",
            detector=self.settings.trained_detector.value,
            rows=facts["rows"],
            entities=facts["entities"],
            metrics=len(trained.model.metrics),
            alarmed_rows_left_out=facts["alarmed_rows"],
            labelled_rows_left_out=facts["labelled_rows"],
            seconds=round(seconds, 2),
        )
        seeds = trained.facts["seeds"]
        if not seeds["agree"]:
            log.warning(
                "models of several seeds do not agree: train on more rows",
                least_rank_correlation=seeds["least_rank_correlation"],
                seeds=seeds["seeds"],
            )
        if peers := trained.facts.get("peers"):
            log.info(
                "peer groups",
                sizes=[group["entities"] for group in peers["groups"]][:20],
                entities_without_peers=peers["entities_without_peers"],
            )
        if facts["entities"] == 1:
            log.warning("the model was trained on one entity only")
        return trained

    def _report(self, sha256: str, trained: Trained, figures: Mapping[str, Any]) -> None:
        """Draw the report and attach it to the artefact."""
        began_s = self.dependencies.monotonic()
        chosen = choose_entities(figures, MAX_PICTURES)
        drawn: dict[str, bytes] = {}
        for view in views(trained, chosen, self.labels):
            if self.stopping():
                return
            drawn[view.title] = pictures.picture(view)
        names = file_names(list(drawn))
        without = len(figures["per_entity"]) - len(chosen)
        files = {names[title]: picture for title, picture in drawn.items()}
        files["report.json"] = report_json(figures, names, without)
        files["entities.csv"] = entities_csv(figures)
        artifacts.attach(self.settings.models_dir, sha256, "report", files)
        log.info(
            "report written",
            folder=str(self.settings.models_dir / sha256 / "report"),
            pictures=len(drawn),
            entities_without_picture=without,
            seconds=round(self.dependencies.monotonic() - began_s, 2),
        )


def _read_labels(path: Path | None) -> Windows | None:
    if path is None:
        return None
    try:
        return read_labels(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--labels {path}: it cannot be read: {error}") from error


def _joblib(estimator: Any) -> bytes:
    target = io.BytesIO()
    joblib.dump(estimator, target, compress=3)
    return target.getvalue()


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
