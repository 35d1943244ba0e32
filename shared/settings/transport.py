"""Settings of Kafka topics, the registry, and how services send, read, keep state and report."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from shared.settings.section import Section


class RegistrySettings(Section):
    """Where the Schema Registry is."""

    url: str = Field("http://localhost:8081", description="URL of the Schema Registry")
    basic_auth: str = Field("", description="user:password, or empty")
    ca_file: str = Field(
        "",
        description="PEM file of the authorities that may sign the registry's certificate; empty ="
        " those of the system",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="longest wait for one registry call")

    @field_validator("url")
    @classmethod
    def _urls(cls, value: str) -> str:
        for url in value.split(","):
            if not re.match(r"https?://[^/]", url.strip()):
                shown = url.strip().rpartition("@")[2]
                raise ValueError(f"{shown!r} is not a URL such as http://localhost:8081")
        return value


class OutputSettings(Section):
    """How results are written."""

    format: Literal["avro", "json"] = Field(
        "avro",
        description=(
            "format of scores, anomalies, incidents, activations and feedback; json needs no"
            " registry (docs/output.md)"
        ),
    )

    @property
    def is_json(self) -> bool:
        """Whether results are written as JSON."""
        return self.format == "json"


class TopicSettings(Section):
    """Topics; an empty name becomes ``<type>.<dataset>.<data>``."""

    dataset: str = Field(
        "cloudwatch", pattern=r"^[a-z0-9_-]+$", description="middle part of every topic name"
    )
    input: str = Field("", description="input topic; producers write it, predictors read it")
    scores: str = Field("", description="topic of scores, one per input record")
    anomalies: str = Field(
        "", description="topic of alarms and data-quality verdicts, with reasons"
    )
    incidents: str = Field("", description="topic of incidents, compacted; one record per change")
    feedback: str = Field("", description="topic of what people say about incidents, compacted")
    unsent: str = Field("", description="topic of notices that could not be sent, with reasons")
    activations: str = Field(
        "", description="topic with the model and settings of each partition, by offset"
    )
    dead_letters: str = Field(
        "", description="topic of records that could not be read, with reasons"
    )
    partitions: int = Field(
        6, ge=1, le=10_000, description="number of partitions of input, scores and dead letters"
    )
    replication: int = Field(
        1, ge=1, le=32_767, description="copies of each partition; at most as many as brokers"
    )
    input_retention_hours: float = Field(
        720,
        gt=0,
        description=(
            "retention of the input; predictors that were down for longer stop (HistoryGone)"
        ),
    )
    scores_retention_hours: float = Field(
        72, gt=0, description="retention of the scores; limits the range of charts"
    )

    @model_validator(mode="after")
    def _name(self) -> TopicSettings:
        for name, pattern in (
            ("input", "metrics.{}.raw"),
            ("scores", "metrics.{}.scores"),
            ("anomalies", "anomalies.{}.events"),
            ("incidents", "anomalies.{}.incidents"),
            ("feedback", "anomalies.{}.feedback"),
            ("unsent", "anomalies.{}.unsent"),
            ("activations", "models.{}.activations"),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, pattern.format(self.dataset))
        if not self.dead_letters:
            object.__setattr__(self, "dead_letters", self.input + ".dlq")
        return self


class PredictSettings(Section):
    """How predictors read, commit and keep state."""

    group: str = Field(
        "lapwing-prediction", min_length=1, description="consumer group of the predictors"
    )
    delivery: Literal["exactly-once", "at-least-once"] = Field(
        "exactly-once",
        description=(
            "of results and incidents; at-least-once loses nothing, but may repeat them (same id)"
        ),
    )
    commit_interval_ms: int = Field(
        100,
        ge=1,
        le=60_000,
        description="time between commits; adds half of it to the latency on average",
    )
    coalesce_ms: int = Field(
        95,
        ge=0,
        le=1_000,
        description=(
            "a poll waits for more records for this long after its first one, at most 95 % of"
            " `predict.commit_interval_ms` and less where records may have waited since the poll"
            " before, which takes less processor time; it is part of that interval. 0 = not at all,"
            " nor with at-least-once, whose results are visible at once"
        ),
    )
    max_batch_records: int = Field(5_000, ge=1, le=100_000, description="most records per batch")
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description="partitions that a predictor scores at the same time, each on a core of its"
        " own; results are the same",
    )
    session_timeout_ms: int = Field(
        6_000,
        ge=6_000,
        le=1_800_000,
        description="a predictor without heartbeats loses its partitions after this time; with"
        " `kafka.group.protocol=consumer` the broker decides instead",
    )
    transaction_timeout_ms: int = Field(
        5_000,
        ge=1_000,
        le=900_000,
        description="a dead predictor's transaction is aborted after this time plus the broker's"
        " sweep",
    )
    snapshot_interval_s: float = Field(
        5,
        gt=0,
        le=3600,
        description=(
            "least time between two snapshots of a partition; less if a restart would take long,"
            " up to twelve times as much while a restart would repeat a fifth of a second of work"
        ),
    )
    snapshots_kept: int = Field(
        3, ge=1, le=100, description="full snapshots kept per partition, each with its deltas"
    )
    checkpoint_days: int = Field(
        30,
        ge=0,
        le=3650,
        description=(
            "days for which one more full snapshot a day is kept, for `lapwing explain ID`; 32 KiB"
            " for each metric of an entity and day; 0 = none"
        ),
    )
    model_poll_s: float = Field(
        1.0, gt=0, le=3600, description="interval between checks for a new model"
    )
    max_entities: int = Field(
        100_000,
        ge=1,
        le=100_000_000,
        description="entities remembered per partition; beyond, the longest silent one gives way",
    )

    @property
    def gather_s(self) -> float:
        """Seconds for which a poll waits for more records after its first one."""
        if self.delivery == "at-least-once":
            return 0.0
        return min(self.coalesce_ms, 0.95 * self.commit_interval_ms) / 1000


class ProduceSettings(Section):
    """How the replay sends."""

    linger_ms: float = Field(5, ge=0, le=10_000, description="longest wait for a batch to fill")
    batch_bytes: int = Field(262_144, ge=1024, description="largest batch of records")
    queue_records: int = Field(
        100_000, ge=1, description="size of librdkafka's queue; the replay waits while it is full"
    )


class TelemetrySettings(Section):
    """Logs, metrics and health probes."""

    port: int = Field(0, ge=0, le=65_535, description="HTTP port of /metrics and /health; 0 = off")
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a container's probe comes from outside
        description="address to listen on",
    )
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="auto = human on a terminal, JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )


class DashboardSettings(Section):
    """The page and its API."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address of the page; other than loopback, set dashboard.token too",
    )
    port: int = Field(8000, ge=0, le=65_535, description="port of the page; 0 = any free one")
    token: str = Field(
        "",
        pattern=r"^([!-~]{16,256})?$",
        description="token that page and API ask for, 16 to 256 printable characters; empty = none",
    )
    read_only: bool = Field(
        False, description="refuse feedback on incidents; the page then only shows"
    )
    keep_days: float = Field(
        30, gt=0, le=3650, description="history of each entity, by its own event time"
    )
    max_mb: int = Field(
        1024,
        ge=16,
        le=1_000_000,
        description="size of the history's file in state_dir; the oldest part gives way",
    )
    max_clients: int = Field(
        200, ge=1, le=10_000, description="pages that follow live at the same time"
    )
