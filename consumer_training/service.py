"""Reads the input, waits until there is enough to learn from, trains, publishes; once or by a
schedule.

Law: what is learnt is decided in ``training``; here are the doors, the waiting and the clock. A
     model is published before its
report is drawn, and a failed run leaves the last model in place.
"""

from __future__ import annotations

import io
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import joblib
import structlog

from consumer_training import pictures
from consumer_training.evaluation import evaluate
from consumer_training.history import History
from consumer_training.report import (
    MAX_PICTURES,
    choose_entities,
    entities_csv,
    file_names,
    report_json,
    views,
)
from consumer_training.schedule import Schedule
from consumer_training.topic import KafkaTopic, input_decoder
from consumer_training.training import TooFewRows, Trained, train
from shared import artifacts
from shared.batch import Batch
from shared.counters import EVENTS_CONSUMED, FIT_SECONDS, MODEL_INFO, Counters
from shared.errors import ArtifactMissing, ArtifactRefused, DataError, LapwingError
from shared.health import Health
from shared.labels import Windows, find, read_labels
from shared.models.model import Model
from shared.models.origin import other_topic
from shared.ports import Decoder
from shared.retry import Outage, Retry
from shared.settings import Settings
from shared.telemetry import TelemetryServer

log = structlog.get_logger()

POLL_S = 2.0
SAY_AGAIN_S = 30.0
SAY_AFTER_S = 10.0
LONGEST_WAIT_S = 30.0
"""No call waits so long for an answer: a run that failed after a longer time had some meanwhile."""

GROWING = 0.02
"""A topic that grows by this share between two looks is still being filled: the first model waits
for it.
"""

_LIBRARIES = ("lapwing", "numpy", "scikit-learn", "numba")


class InputTopic(Protocol):
    """The topic that is learnt from."""

    def ends(self) -> Mapping[int, int]:
        """Offset behind the last record of each partition."""
        ...

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield what lies between; start None = where the log begins."""
        ...


@dataclass(frozen=True, slots=True)
class Doors:
    """What the service needs of the outside world.

    decoder   : opened anew for each run
    now_s     : wall clock, seconds since 1970 UTC; only the schedule looks at it
    monotonic : seconds, for durations
    """

    topic: InputTopic
    decoder: Callable[[], Decoder]
    now_s: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How one call of the service differs from another.

    once   : train once and end, on what lies in the topic at the start
    wait_s : give up when there is too little to learn from after so long; None = wait for ever
    labels : file with labelled anomalies, for the evaluation
    """

    once: bool = False
    wait_s: float | None = None
    labels: Path | None = None


def run(
    settings: Settings, options: Options, counters: Counters, stopping: Callable[[], bool]
) -> None:
    """Train once or by the schedule, until stopping() says so.

    raises : LapwingError; the supervisor starts the process again
    """
    topic = KafkaTopic(settings)
    doors = Doors(topic, lambda: input_decoder(settings), time.time, time.monotonic, time.sleep)
    try:
        health = Health()
        with TelemetryServer(settings.telemetry, counters, health):
            TrainingService(settings, options, doors, counters, stopping, health).run()
    finally:
        topic.close()


class TrainingService:
    """The loop of runs."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        doors: Doors,
        counters: Counters,
        stopping: Callable[[], bool],
        health: Health | None = None,
    ) -> None:
        self.settings = settings
        self.options = options
        self.doors = doors
        self.counters = counters
        self.stopping = stopping
        self.schedule = None if options.once else Schedule.from_settings(settings.train)
        self.labels = _read_labels(options.labels)
        self.health = health or Health()
        outage = Outage(
            settings.outage_deadline_s,
            counters,
            clock=doors.monotonic,
            health=self.health,
            settle_s=LONGEST_WAIT_S,
        )
        self.retry = Retry(outage, stopping, doors.sleep, longest_wait_s=LONGEST_WAIT_S)

    def run(self) -> None:
        """Train now, then as the schedule says; without one, end.

        With a cron line and a model in place the first run waits for its time as well. The first
        run's failure is raised; a later one's is logged, and the next run comes as planned.
        """
        first_s = self.doors.now_s()
        if self.schedule is None or self.schedule.cron is None or not self._has_model():
            self.train_patiently()
        else:
            self.health.ready()
        while self.schedule is not None and not self.stopping():
            next_s = self.schedule.next_s(first_s, self.doors.now_s())
            log.info("next training", in_s=round(next_s - self.doors.now_s(), 1))
            while not self.stopping() and self.doors.now_s() < next_s:
                self.doors.sleep(min(1.0, max(next_s - self.doors.now_s(), 0.0)))
            if not self.stopping():
                try:
                    self.train_patiently()
                except Exception as error:
                    self.health.waiting(f"the last training failed: {error}")
                    log.error(
                        "training failed, the last model stays",
                        why=str(error),
                        exc_info=not isinstance(error, LapwingError),
                    )

    def train_patiently(self) -> Model | None:
        """Train, and begin again while broker or registry are away, up to outage_deadline_s.

        returns : None when it was asked to stop
        """
        return self.retry(self.train_once, "the broker or the registry")

    def train_once(self) -> Model | None:
        """Read, wait for enough data, train, publish, report.

        returns : None when it was asked to stop
        raises  : LapwingError
        """
        artifacts.check_writable(self.settings.models_dir)
        key = artifacts.signing_key(self.settings.models)
        history = History(self.doors.decoder(), self.settings.predict.max_entities)
        trained = self._collect(history)
        if trained is None:
            return None
        figures = evaluate(trained, self.labels)
        labels, entities = self.labels, figures["per_entity"]
        if labels is not None and not any(find(labels, name) for name in entities):
            log.warning(
                "no label is about an entity of the input",
                labels=str(self.options.labels),
                keys=list(labels)[:3],
                entities=list(entities)[:3],
            )
        summary = {name: value for name, value in figures.items() if name != "per_entity"}
        facts = trained.facts | {
            "input": {
                "topic": self.settings.topics.input,
                "partitions": history.facts(),
                "schema_sha256": history.decoder.schema_sha256(),
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
        removed = artifacts.prune(self.settings.models_dir, self.settings.train.keep)
        if removed:
            log.info("old models removed", count=len(removed))
        self._report(model.sha256, trained, figures)
        return model

    def _warn_of_another_topic(self) -> None:
        """Say that the model which is about to be replaced belongs to another input."""
        folder, topic = self.settings.models_dir, self.settings.topics.input
        try:
            sha256 = artifacts.current(folder)
            facts = {} if sha256 is None else artifacts.manifest(folder, sha256)
        except (ArtifactMissing, ArtifactRefused):
            return
        if why := other_topic(facts, topic):
            log.warning(
                "the model that is replaced is of another topic",
                models_dir=str(folder),
                why=why,
                do="predictors of that topic would take this one: give each input a models_dir"
                " (LAPWING_MODELS_DIR) of its own",
            )

    def _has_model(self) -> bool:
        try:
            return artifacts.current(self.settings.models_dir) is not None
        except ArtifactRefused:
            return False

    def _collect(self, history: History) -> Trained | None:
        """Read up to the end as it is now; while that is too little, wait and read on."""
        began_s, said_s = self.doors.monotonic(), float("-inf")
        position: Mapping[int, int] | None = None
        filling = not self.options.once and not self._has_model()
        while not self.stopping():
            ends = self.doors.topic.ends()
            self.retry.outage.succeeded()
            if ends != position:
                if position is None:
                    self.health.ready()  # too little to learn from is another matter than no answer
                if not self._read(history, position, ends):
                    return None
                position = ends
                if filling and self._still_growing(ends):
                    continue
                try:
                    trained = self._fit(history)
                except TooFewRows as few:
                    rows, needed = few.rows, few.needed
                else:
                    self.health.ready()
                    return trained
            self.health.waiting(
                f"waiting for data: {needed - rows} of the {needed} training rows needed are"
                " missing"
            )
            waited_s = self.doors.monotonic() - began_s
            if self.options.wait_s is not None and waited_s >= self.options.wait_s:
                raise LapwingError(
                    f"{self.settings.topics.input} holds {rows} training rows after {waited_s:.0f}"
                    f" s, train.min_rows wants {needed}: {needed - rows} are missing"
                )
            if self.doors.monotonic() - said_s >= SAY_AGAIN_S:
                said_s = self.doors.monotonic()
                log.info(
                    "waiting for data",
                    missing_training_rows=needed - rows,
                    training_rows=rows,
                    needed=needed,
                    events_read=len(history),
                )
            self.doors.sleep(POLL_S)
        return None

    def _read(
        self,
        history: History,
        start: Mapping[int, int] | None,
        end: Mapping[int, int],
    ) -> bool:
        """Read up to an end; False when it was asked to stop."""
        began_s = said_s = self.doors.monotonic()
        count = 0
        for batch in self.doors.topic.read(start, end):
            history.add(batch)
            count += len(batch)
            self.counters.add(EVENTS_CONSUMED, len(batch), batch.topic, batch.partition)
            if self.stopping():
                return False
            if self.doors.monotonic() - said_s >= SAY_AFTER_S:
                said_s = self.doors.monotonic()
                log.info("reading", records=count, events_read=len(history))
        seconds = round(self.doors.monotonic() - began_s, 2)
        log.info(
            "input read",
            records=count,
            events_read=len(history),
            rejected=history.rejected,
            seconds=seconds,
        )
        return True

    def _still_growing(self, ends: Mapping[int, int]) -> bool:
        """Look again after a moment: a backfill under way would leave the first model without half
        of the entities.
        """
        self.doors.sleep(POLL_S / 2)
        now = self.doors.topic.ends()
        grown = sum(now.values()) - sum(ends.values())
        if grown > GROWING * sum(ends.values()):
            log.info("input is still being filled, reading on", new_records=grown)
            return True
        return False

    def _fit(self, history: History) -> Trained:
        began_s = self.doors.monotonic()
        trained = train(
            history.rows(),
            self.settings.trained_detector,
            self.settings.features,
            self.settings.train,
        )
        seconds = self.doors.monotonic() - began_s
        self.counters.observe(FIT_SECONDS, seconds)
        said = trained.facts["training"]
        log.info(
            "model trained",
            detector=self.settings.trained_detector.value,
            rows=said["rows"],
            entities=said["entities"],
            metrics=len(trained.model.metrics),
            seconds=round(seconds, 2),
        )
        return trained

    def _report(self, sha256: str, trained: Trained, figures: Mapping[str, Any]) -> None:
        """Draw and attach the report."""
        began_s = self.doors.monotonic()
        chosen = choose_entities(figures, MAX_PICTURES)
        drawn: dict[str, bytes] = {}
        for view in views(trained, chosen, self.labels):
            if self.stopping():
                return
            drawn[view.title] = pictures.draw(view)
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
            seconds=round(self.doors.monotonic() - began_s, 2),
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
