"""Settings of what lies outside, and of how services send, read, remember and report."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from shared.settings.section import Section


class RegistrySettings(Section):
    """Where the Schema Registry is."""

    url: str = Field("http://localhost:8081", description="Schema Registry")
    basic_auth: str = Field("", description="user:password, or empty")
    timeout_s: float = Field(5.0, gt=0, le=60, description="longest wait for one registry call")

    @field_validator("url")
    @classmethod
    def _urls(cls, value: str) -> str:
        for url in value.split(","):
            if not re.match(r"https?://[^/]", url.strip()):
                shown = url.strip().rpartition("@")[2]
                raise ValueError(f"{shown!r} is not a URL such as http://localhost:8081")
        return value


class TopicSettings(Section):
    """Names default to the contract's ``<type>.<dataset>.<data>``; an empty name is filled from
    ``dataset``.
    """

    dataset: str = Field(
        "cloudwatch", pattern=r"^[a-z0-9_-]+$", description="middle part of every topic name"
    )
    input: str = Field("", description="what producers write and predictors read")
    scores: str = Field("", description="a verdict per input record")
    anomalies: str = Field("", description="alarms and data-quality verdicts, with reasons")
    activations: str = Field("", description="which model scores which partition from where on")
    dead_letters: str = Field("", description="records that could not be read, with reasons")
    partitions: int = Field(
        6, ge=1, le=10_000, description="of the input, the scores and the dead letters"
    )
    replication: int = Field(
        1, ge=1, le=32_767, description="copies of each partition; at most as many as brokers"
    )
    input_retention_hours: float = Field(
        720,
        gt=0,
        description=(
            "how long records stay; predictors that were away for longer stop (HistoryGone)"
        ),
    )
    scores_retention_hours: float = Field(72, gt=0, description="how far back charts can look")

    @model_validator(mode="after")
    def _name(self) -> TopicSettings:
        for name, pattern in (
            ("input", "metrics.{}.raw"),
            ("scores", "metrics.{}.scores"),
            ("anomalies", "anomalies.{}.events"),
            ("activations", "models.{}.activations"),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, pattern.format(self.dataset))
        if not self.dead_letters:
            object.__setattr__(self, "dead_letters", self.input + ".dlq")
        return self


class PredictSettings(Section):
    """How predictors read, commit and remember."""

    group: str = Field("lapwing-prediction", min_length=1, description="consumer group")
    delivery: Literal["exactly-once", "at-least-once"] = Field(
        "exactly-once",
        description="at-least-once loses nothing either; what comes twice has the same event_id",
    )
    commit_interval_ms: int = Field(
        100, ge=1, le=60_000, description="how often results become visible; half of it is latency"
    )
    max_batch_records: int = Field(
        5_000, ge=1, le=100_000, description="most records scored in one go"
    )
    session_timeout_ms: int = Field(
        6_000, ge=6_000, le=1_800_000, description="a silent predictor loses its partitions after"
    )
    transaction_timeout_ms: int = Field(
        5_000,
        ge=1_000,
        le=900_000,
        description="a dead predictor's open transaction is aborted after, plus the broker's sweep",
    )
    snapshot_interval_s: float = Field(
        5,
        gt=0,
        le=3600,
        description=(
            "least time between two snapshots of a partition, unless a restart would take long"
        ),
    )
    snapshots_kept: int = Field(
        3, ge=1, le=100, description="whole ones per partition, each with its deltas"
    )
    model_poll_s: float = Field(1.0, gt=0, le=3600, description="how often CURRENT is looked at")
    max_entities: int = Field(100_000, ge=1, description="per partition")


class ProduceSettings(Section):
    """How the replay sends."""

    linger_ms: float = Field(5, ge=0, le=10_000, description="longest wait for a batch to fill")
    batch_bytes: int = Field(262_144, ge=1024, description="largest batch of records")
    queue_records: int = Field(
        100_000, ge=1, description="librdkafka's buffer; the replay waits when it is full"
    )


class TelemetrySettings(Section):
    """Logs, metrics and health probes."""

    port: int = Field(0, ge=0, le=65_535, description="HTTP for /metrics and /health; 0 = none")
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a container's probe comes from outside
        description="address to listen on",
    )
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="auto = human on a terminal, JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="smallest level that is logged"
    )
