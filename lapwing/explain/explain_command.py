"""The command ``lapwing explain ID``: finds a record, recomputes its verdict, compares both.

Invariant: nothing is written to Kafka; the scorer is that of the predictors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import schemas
from consumer_prediction.outgoing import Encoder
from consumer_prediction.service import result_schemas
from lapwing.explain.explain_target import ExplainTarget
from lapwing.explain.explanation_picture import AFTER_MS, BEFORE_MS, explanation_picture
from lapwing.explain.explanation_text import to_json, to_text
from lapwing.explain.history_start import HistoryStart, history_start, model_loader
from lapwing.explain.model_evidence import model_evidence
from lapwing.explain.recomputation import Question, Recomputation, Recomputed, anomalies_of
from lapwing.explain.row_evidence import row_evidence
from lapwing.explain.source_records import ResultTopics, Source
from lapwing.explain.verdict_comparison import (
    Agreement,
    Compared,
    ResultRecord,
    compare,
    verdict_of,
)
from shared.batch import Batch
from shared.decode.formats import open_decoder
from shared.directory import Directory
from shared.encode.results import decode_result
from shared.errors import ConfigError, LapwingError
from shared.events import Reason
from shared.kafka import Reader, input_limit_bytes, topic_bounds
from shared.ports import Decoder
from shared.registry import Registry
from shared.settings import Settings
from shared.wording import moment

PROGRESS_S = 2.0
BATCH_RECORDS = 50_000


@dataclass(frozen=True, slots=True)
class _Record:
    """The input record: who it is about, and when."""

    entity: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class _Run:
    """One recomputation and what it found.

    why   : evidence on the record's own entity
    """

    recomputation: Recomputation
    start: HistoryStart
    from_offset: int
    result: Recomputed
    why: dict[str, Any]
    model: dict[str, Any] | None
    compared: list[Compared]
    seconds: float


def explain(
    settings: Settings,
    target: str,
    *,
    as_json: bool = False,
    picture: Path | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Explain a verdict; return 0 where it is identical or cannot be compared, 1 where it differs.

    target : event id, or PARTITION:OFFSET of an input record
    raises : ConfigError, HistoryGone, NotComparable, ArtifactMissing, ArtifactRefused,
             TransportError
    """
    wanted = ExplainTarget.parse(target, settings.topics.input)
    if picture is not None and picture.suffix.lower() != ".svg":
        raise ConfigError(f"--picture {picture}: pictures are SVG; write FILE.svg")
    explanation = Explanation(settings, err or sys.stderr)
    facts, svg = explanation.of(wanted, with_picture=picture is not None)
    if picture is not None:
        _write(picture, svg)
    (out or sys.stdout).write(to_json(facts) + "\n" if as_json else to_text(facts))
    return 1 if facts["verdict"] == "differs" else 0


class Explanation:
    """Explains verdicts on the input of one configuration."""

    def __init__(self, settings: Settings, err: TextIO) -> None:
        self.settings = settings
        self.registry = Registry(settings.registry)
        self.topics = ResultTopics(settings, self.registry.schema)
        self._err = err
        self._decoder: Decoder = open_decoder(settings.input, self.registry, time.monotonic)
        self._load_model = model_loader(settings)

    def of(
        self, target: ExplainTarget, *, with_picture: bool = False
    ) -> tuple[Mapping[str, Any], bytes]:
        """Return an explanation as plain values, and its picture, empty unless wanted."""
        source = self.topics.locate(target)
        record = self._record(source)
        source = replace(source, entity=source.entity or record.entity)
        # An event about another entity than the record's was decided by the partition's clock.
        own = source.entity == record.entity
        run = self._run(source, record, whole=not own, picture=with_picture)
        note = ""
        if verdict_of(run.compared) == "differs" and own:
            again = self._run(source, record, whole=True, picture=False)
            if verdict_of(again.compared) == "identical":
                run, note = (
                    again,
                    (
                        "identical only with the records of all entities: the partition's clock or"
                        " predict.max_entities had a part in it"
                    ),
                )
        facts = self._facts(source, record, run, note)
        if not with_picture:
            return facts, b""
        title = f"{source.entity} at {moment(record.time_ms)} UTC"
        rows = run.recomputation.rows
        return facts, explanation_picture(title, rows, record.time_ms, run.why["severity"])

    def _record(self, source: Source) -> _Record:
        """Read the input record.

        raises : ConfigError where it was rejected
        """
        batch = self.topics.input_record(source)
        self._decoder.prepare(batch)
        names = Directory()
        columns = self._decoder.decode(batch, names, [])
        if not len(columns):
            reason = Reason(int(columns.reasons[0]))
            raise ConfigError(
                f"{batch.topic}[{batch.partition}]@{source.offset} has no verdict: it became a dead"
                f" letter ({reason.code}: {reason.sentence}); `lapwing dlq list` shows it"
            )
        return _Record(names.name(int(columns.entity[0])), int(columns.time_ms[0]))

    def _run(self, source: Source, record: _Record, *, whole: bool, picture: bool) -> _Run:
        began_s = time.monotonic()
        start = history_start(self.settings, source, whole=picture)
        for why in start.refused:
            self._err.write(f"snapshot skipped: {why}\n")
        from_offset = start.state.next_offset
        evidence: list[Any] = []

        def keep_evidence(result: Recomputed) -> None:
            evidence.append(row_evidence(result))
            evidence.append(model_evidence(result.model, result.outcome.trained, 0))

        question = Question(source.offset, None if whole else record.entity)
        if picture:
            window = record.time_ms - BEFORE_MS, record.time_ms + AFTER_MS
            question = replace(question, from_ms=window[0], until_ms=window[1])
        recomputation = Recomputation(
            question,
            start.state,
            start.activations,
            self._load_model,
            self._decoder,
            self._encoder().outcome,
            keep_evidence,
        )
        self._feed(recomputation, source, from_offset, beyond=picture)
        result = recomputation.result
        if result is None:
            raise LapwingError(
                f"{self.settings.topics.input}[{source.partition}]@{source.offset} was not among"
                f" the records from offset {from_offset} on"
            )
        return _Run(
            recomputation,
            start,
            from_offset,
            result,
            evidence[0],
            evidence[1],
            self._compare(source, result, evidence[0]["entity"]),
            time.monotonic() - began_s,
        )

    def _encoder(self) -> Encoder:
        settings = self.settings
        return Encoder(
            settings.topics,
            result_schemas(settings),
            settings.predict.group,
            input_limit_bytes(settings),
        )

    def _feed(
        self, recomputation: Recomputation, source: Source, start: int, *, beyond: bool
    ) -> None:
        """Feed the records up to the target; beyond: and those after it, for a picture."""
        topic, partition = self.settings.topics.input, source.partition
        end = source.offset + 1
        if beyond:
            end = topic_bounds(self.settings, topic)[1][partition]
        shown_s = time.monotonic()
        reader = Reader(self.settings, max_records=BATCH_RECORDS)
        for batch in reader.read(topic, {partition: start}, {partition: end}):
            self._feed_one(recomputation, batch)
            if recomputation.is_past:
                return
            if time.monotonic() - shown_s >= PROGRESS_S:
                shown_s = time.monotonic()
                at = int(batch.offsets[-1]) + 1
                self._err.write(f"read to offset {at:,} of {end:,}\n")

    def _feed_one(self, recomputation: Recomputation, batch: Batch) -> None:
        self._decoder.prepare(batch)
        recomputation.feed(batch)

    def _compare(self, source: Source, result: Recomputed, scored: str) -> list[Compared]:
        """Compare the score and the entity's anomaly records with those of the topics.

        scored : the entity of the input record
        """
        topics, compared = self.settings.topics, []
        schema = self.registry.schema
        if source.entity == scored:
            for key, value, headers in anomalies_of(result.sent, topics.scores):
                score = decode_result(value, lambda _: schemas.text(schemas.SCORE_EVENT))
                written, may_be_gone = self.topics.score(source, key, score["event_id"])
                recomputed = ResultRecord(key, value, headers)
                compared.append(
                    compare(
                        "score", score["event_id"], recomputed, written, schema,
                        may_be_gone=may_be_gone,
                    )
                )  # fmt: skip
        return compared + self._compare_anomalies(source, result)

    def _compare_anomalies(self, source: Source, result: Recomputed) -> list[Compared]:
        topics, schema = self.settings.topics, self.registry.schema
        records, may_be_gone = self.topics.anomalies(source, source.entity)
        written = {event_id_of(record): record for record in records}
        compared = []
        for key, value, headers in anomalies_of(result.sent, topics.anomalies):
            event = decode_result(value, lambda _: schemas.text(schemas.ANOMALY_EVENT))
            if event["entity"] != source.entity:
                continue
            name = f"{event['kind']} {event['metric'] or ''}".strip()
            compared.append(
                compare(
                    name,
                    event["event_id"],
                    ResultRecord(key, value, headers),
                    written.pop(event["event_id"], None),
                    schema,
                    may_be_gone=may_be_gone,
                )
            )
        return compared + [
            Compared(
                "anomaly record", event_id, Agreement.UNEXPECTED, record.coordinates,
                len(record.value),
            )
            for event_id, record in sorted(written.items())
        ]  # fmt: skip

    def _facts(self, source: Source, record: _Record, run: _Run, note: str) -> Mapping[str, Any]:
        in_force, recomputation = run.start.in_force, run.recomputation
        reasons = [
            anomaly.reason
            for anomaly in run.result.outcome.anomalies
            if anomaly.entity == source.entity
        ]
        return {
            "verdict": verdict_of(run.compared),
            "event_id": source.event_id or None,
            "source": {
                "topic": self.settings.topics.input,
                "partition": source.partition,
                "offset": source.offset,
                "entity": source.entity,
                "event_time": record.time_ms,
            },
            "recomputed": {
                "detector": run.result.outcome.detector_id,
                "model_id": in_force.model_id or None,
                "settings_id": in_force.settings_id,
                "state_version": in_force.state_version,
                "activation_offset": in_force.offset,
                "from_snapshot": run.start.snapshot,
                "from_offset": run.from_offset,
                "whole_partition": recomputation.question.entity is None,
                "rows_folded": recomputation.rows_folded,
                "records_read": recomputation.records_read,
                "seconds": round(run.seconds, 3),
                "note": note,
            },
            "results": [asdict(one) for one in run.compared],
            "why": run.why | {"reasons": reasons},
            "model": run.model,
        }


def event_id_of(record: ResultRecord) -> str:
    """Return the id in the CloudEvents header of an anomaly record; empty if it has none."""
    return dict(record.headers).get("ce_id", b"").decode("utf-8", "replace")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--picture {path} cannot be written: {error}") from error
