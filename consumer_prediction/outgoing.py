"""Encodes the outcome of a batch: scores, anomalies, dead letters and activations.

Invariant: bodies, keys and ``ce_*`` headers are a function of the log prefix, the state version and
           the activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import schemas
from shared.batch import Blob, Headers, Outgoing
from shared.encode.avro_columns import Scores, encode_scores
from shared.encode.dead_letters import dead_letters
from shared.encode.json_columns import encode_json_scores
from shared.encode.results import encode_results
from shared.events import Activation, Anomaly, Kind, severity_class
from shared.scoring.scorer import Outcome
from shared.scoring.state import PartitionState
from shared.settings import TopicSettings
from shared.wording import iso

ALARM_TYPE, QUALITY_TYPE = "io.lapwing.anomaly.v1", "io.lapwing.data_quality.v1"
CLOSED_TYPE = "io.lapwing.episode_closed.v1"

_ANOMALY_FIELDS = tuple(one.name for one in fields(Anomaly) if one.name != "traceparent")


@dataclass(frozen=True, slots=True)
class SchemaIds:
    """Registry ids of the schemas that results are written with; None = as JSON."""

    score: int | None
    anomaly: int | None
    activation: int | None


AS_JSON = SchemaIds(None, None, None)
"""``output.format=json``: results need no registry."""


class Encoder:
    """Encodes outcomes for their topics."""

    def __init__(
        self, topics: TopicSettings, ids: SchemaIds, group: str, max_record_bytes: int
    ) -> None:
        self.topics = topics
        self.ids = ids
        self.group = group
        self.max_record_bytes = max_record_bytes
        self._anomaly_schema = schemas.text(schemas.ANOMALY_EVENT)
        self._activation_schema = schemas.text(schemas.MODEL_ACTIVATION)

    def outcome(self, outcome: Outcome, state: PartitionState) -> list[Outgoing]:
        """Encode the results of one batch; topics without records are omitted."""
        outgoing = []
        if len(outcome.columns.accepted):
            scores = self.scores(outcome, state)
            values, keys = (
                encode_json_scores(scores, state.entities)
                if self.ids.score is None
                else encode_scores(scores, state.entities, self.ids.score)
            )
            outgoing.append(Outgoing(self.topics.scores, values, keys))
        if outcome.anomalies:
            outgoing.append(self.anomalies(outcome.anomalies))
        if len(outcome.columns.rejected):
            outgoing.append(
                dead_letters(
                    self.topics.dead_letters,
                    outcome.batch,
                    outcome.columns.rejected,
                    outcome.columns.reasons,
                    outcome.decoder,
                    self.group,
                    self.max_record_bytes,
                )
            )
        return outgoing

    def scores(self, outcome: Outcome, state: PartitionState) -> Scores:
        """Lay an outcome out as the columns of schemas/score_event.avsc."""
        columns = outcome.columns
        folded = outcome.folded
        verdicts = outcome.verdicts
        model = outcome.model
        return Scores(
            detector_id=outcome.detector_id,
            model_id=model.model_id if model else None,
            source_topic=outcome.batch.topic,
            source_partition=outcome.batch.partition,
            threshold=verdicts.threshold,
            entity=columns.entity,
            time_ms=columns.time_ms,
            score=verdicts.score,
            severity=verdicts.severity,
            is_anomaly=verdicts.is_anomaly,
            state=verdicts.state,
            cold_start=verdicts.cold_start,
            warmup_percent=verdicts.warmup_percent,
            warmup_minutes_left=verdicts.warmup_minutes_left,
            top_metric=verdicts.top_metric,
            late=folded.late_by_ms > 0,
            duplicate=folded.duplicate,
            imputed=folded.imputed,
            ahead=folded.ahead,
            episode_id=verdicts.episode_id,
            offsets=outcome.batch.offsets[columns.accepted],
            metrics=tuple(state.metrics[: columns.values.shape[1]]),
            listed=folded.listed,
            metric_value=columns.values,
            metric_expected=verdicts.expected,
            metric_lower=verdicts.lower,
            metric_upper=verdicts.upper,
            metric_severity=verdicts.metric_severity,
        )

    def anomalies(self, anomalies: Sequence[Anomaly]) -> Outgoing:
        """Encode alarms and data-quality verdicts with their CloudEvents headers (binary mode)."""
        values = encode_results(
            self._anomaly_schema, self.ids.anomaly, [_record(anomaly) for anomaly in anomalies]
        )
        keys = Blob.join([anomaly.entity.encode() for anomaly in anomalies])
        content_type = "application/json" if self.ids.anomaly is None else "application/avro"
        return Outgoing(
            self.topics.anomalies,
            values,
            keys,
            {row: _headers(anomaly, content_type) for row, anomaly in enumerate(anomalies)},
        )

    def activation(self, partition: int, activation: Activation, detector_id: str) -> Outgoing:
        """Encode the record that says which model and settings apply from which offset on."""
        record = {
            "group": self.group,
            "source_topic": self.topics.input,
            "source_partition": partition,
            "source_offset": activation.offset,
            "detector_id": detector_id,
            "model_sha256": activation.model_sha256,
            "model_version": activation.model_version,
            "state_version": activation.state_version,
            "settings": activation.settings,
        }
        key = f"{self.group}/{partition}/{activation.offset}".encode()
        return Outgoing(
            self.topics.activations,
            encode_results(self._activation_schema, self.ids.activation, [record]),
            Blob.join([key]),
        )


def _record(anomaly: Anomaly) -> Mapping[str, Any]:
    # Not asdict, which copies all values deeply and takes most of the encoding's time.
    record = {name: getattr(anomaly, name) for name in _ANOMALY_FIELDS}
    return record | {
        "kind": anomaly.kind.value,
        "phase": anomaly.phase.value if anomaly.phase else None,
        "closed_because": anomaly.closed_because.value if anomaly.closed_because else None,
        "severity_class": (
            None if anomaly.severity is None else severity_class(anomaly.severity).value
        ),
        "state": anomaly.state.name,
    }


def _headers(anomaly: Anomaly, content_type: str) -> Headers:
    texts = {
        "ce_specversion": "1.0",
        "ce_id": anomaly.event_id,
        "ce_type": (
            ALARM_TYPE
            if anomaly.is_anomaly
            else CLOSED_TYPE
            if anomaly.kind is Kind.EPISODE_CLOSED
            else QUALITY_TYPE
        ),
        "ce_source": f"/kafka/{anomaly.source_topic}/{anomaly.source_partition}",
        "ce_subject": anomaly.entity,
        "ce_time": iso(anomaly.event_time),
        "content-type": content_type,
    }
    headers = [(name, text.encode()) for name, text in texts.items()]
    if anomaly.traceparent:
        headers.append(("traceparent", anomaly.traceparent))
    return headers
