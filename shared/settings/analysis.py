"""Settings of what is computed: how records are read, features, detection, training, models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from shared.events import DEFAULT_MAX_TIME_MS, DEFAULT_MIN_TIME_MS
from shared.settings.section import Names, NoneAllowed, Section, comma_list

Fingerprint = Annotated[str, Field(pattern=r"^([0-9a-fA-F]{16}|[0-9a-fA-F]{64})$")]

DEFAULT_MODEL_BYTES = 33_554_432


class InputSettings(Section):
    """How records of the input are read, and which are refused."""

    format: Literal["avro", "json"] = Field(
        "avro",
        description=(
            "format of the records; json = one object per record, without a registry; it needs"
            " input.time_field and input.time_unit"
        ),
    )
    schema_ids: Literal["auto", "confluent", "apicurio_global", "apicurio_content"] = Field(
        "auto",
        description=(
            "where Avro's schema id is: auto = in headers (Confluent's GUID, Apicurio's ids), else"
            " in front of the value; confluent = in front of the value, 4 bytes; apicurio_global,"
            " apicurio_content = as auto, and ids in front of the value are Apicurio's"
        ),
    )
    entity_fields: Names = Field(
        ("host",), min_length=1, description="field(s) that name the entity, joined by '/'"
    )
    time_field: str = Field(
        "", description="field with the event time; empty = found by type and name"
    )
    time_unit: Literal["", "s", "ms", "us", "ns", "iso"] = Field(
        "",
        description=(
            "unit of a time that is a plain number; iso for text; empty = a logicalType is required"
        ),
    )
    metric_field: str = Field(
        "",
        description=(
            "long form: field that names the metric of a record; empty = each number is a metric"
        ),
    )
    value_field: str = Field("", description="long form: field with the metric's value")
    include: Names = Field(
        (), description="metrics to use; empty = every numeric field that is not a time"
    )
    exclude: Names = Field((), description="metrics to leave out")
    min_time: datetime = Field(
        datetime.fromtimestamp(DEFAULT_MIN_TIME_MS / 1000, UTC), description="earliest event time"
    )
    max_time: datetime = Field(
        datetime.fromtimestamp(DEFAULT_MAX_TIME_MS / 1000, UTC), description="latest event time"
    )
    max_record_bytes: int = Field(
        65_536, ge=64, le=16_777_216, description="larger records become dead letters"
    )
    partitioner: Literal["murmur2", "crc32", "unchecked"] = Field(
        "unchecked",
        description=(
            "stop at a key in a partition that this partitioner would not choose: murmur2 ="
            " Java's, crc32 = librdkafka's"
        ),
    )
    schema_fingerprints: Annotated[tuple[Fingerprint, ...], BeforeValidator(comma_list)] = Field(
        (),
        description=(
            "stop at any other writer schema; CRC-64-AVRO or SHA-256 of the canonical form; empty ="
            " accept all"
        ),
    )

    @field_validator("min_time", "max_time")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        return value if value.tzinfo else value.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _ordered(self) -> InputSettings:
        if self.min_time >= self.max_time:
            raise ValueError("input.min_time must be before input.max_time")
        return self

    @model_validator(mode="after")
    def _long_form_is_whole(self) -> InputSettings:
        if bool(self.metric_field) != bool(self.value_field):
            raise ValueError(
                "input.metric_field and input.value_field belong together: the field with the"
                " metric's name, and the field with its value"
            )
        used = [*self.entity_fields, self.time_field, self.metric_field, self.value_field]
        named = [name.lower() for name in used if name]
        if self.metric_field and len(set(named)) < len(named):
            raise ValueError(
                "input.entity_fields, input.time_field, input.metric_field and input.value_field"
                " name different fields"
            )
        return self

    @model_validator(mode="after")
    def _json_says_its_time(self) -> InputSettings:
        if self.format != "json":
            return self
        missing = [name for name in ("time_field", "time_unit") if not getattr(self, name)]
        if missing:
            raise ValueError(
                f"input.format=json needs input.{' and input.'.join(missing)}: JSON has no type for"
                " times; input.time_unit is one of s, ms, us, ns, iso"
            )
        if self.schema_fingerprints:
            raise ValueError(
                "input.schema_fingerprints is for Avro: records of input.format=json have no schema"
            )
        return self

    @property
    def min_time_ms(self) -> int:
        """Earliest event time, ms since 1970 UTC."""
        return int(self.min_time.timestamp() * 1000)

    @property
    def max_time_ms(self) -> int:
        """Latest event time, ms since 1970 UTC."""
        return int(self.max_time.timestamp() * 1000)


class FeatureSettings(Section):
    """Time zone, and the band of an entity that is warming up."""

    window: int = Field(
        12, ge=2, le=64, description="samples in the band of an entity that is warming up"
    )
    timezone: str = Field("UTC", description="IANA time zone of times of day and weekends")

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"{value!r} is not an IANA time zone such as 'Europe/Berlin'"
            ) from error
        return value


class MetricRule(Section):
    """Deviations of one metric that raise alarms; defaults are those of ``detection``."""

    direction: Literal["both", "up", "down"] | None = Field(
        None, description="deviations that raise alarms"
    )
    min_absolute: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="smallest deviation that raises an alarm, in the metric's unit",
    )
    min_relative: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="smallest deviation that raises an alarm, as a share of the expected value",
    )


class DetectionSettings(Section):
    """How the ensemble and its members decide."""

    threshold: float = Field(
        1.0,
        gt=0,
        le=10,
        description="score that raises an alarm; 1 = about once in two months in a healthy metric",
    )
    alarms_per_day: Annotated[float | None, NoneAllowed] = Field(
        None,
        gt=0,
        le=1000,
        description=("alarm budget per entity and day in the long run; replaces the threshold"),
    )
    warmup_days: float = Field(
        2, ge=0.01, le=365, description="days before the first verdict; at least 14 values"
    )
    max_lateness_h: float = Field(
        24, ge=0, le=720, description="rows later than this are marked and change nothing"
    )
    cold_start: bool = Field(
        True, description="raise alarms on extreme values before the end of the warm-up"
    )
    direction: Literal["both", "up", "down"] = Field(
        "both", description="deviations that raise alarms"
    )
    min_absolute: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="smallest deviation from the expected value that raises an alarm, in the"
        " metric's unit",
    )
    min_relative: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="smallest deviation that raises an alarm, as a share of the expected value",
    )
    metrics: dict[str, MetricRule] = Field(
        default_factory=dict,
        description='rules for single metrics, e.g. {"cpu": {"direction": "up"}}',
    )


class QualitySettings(Section):
    """Data-quality verdicts."""

    events: bool = Field(True, description="write data-quality verdicts to the anomaly topic")
    gap_intervals: float = Field(
        5, ge=2, le=1e6, description="a silence of this many usual intervals is a gap"
    )
    stopped_intervals: float = Field(
        12,
        ge=3,
        le=1e6,
        description="an entity silent for this many usual intervals has stopped reporting",
    )
    flat_hours: float = Field(
        24,
        gt=0,
        le=8760,
        description="a varying metric with one constant value for this long is a flat line",
    )
    repeat_hours: float = Field(
        24, ge=0, le=8760, description="least time between two equal verdicts on an entity"
    )
    forget_days: float = Field(
        30,
        gt=0,
        le=3650,
        description="longest silence, in days, after which a returning entity starts over; a"
        " shorter life is forgotten sooner: after 3 times its length, at least 36 hours",
    )


class ModelSettings(Section):
    """Which models are trusted; the folder is ``models_dir``."""

    max_bytes: int = Field(
        DEFAULT_MODEL_BYTES,
        ge=65_536,
        le=536_870_912,
        description="largest model that is published or loaded",
    )
    sign_key: str = Field(
        "",
        description=("PEM file with the Ed25519 private key that signs models; empty = unsigned"),
    )
    trusted_keys: Names = Field(
        (),
        description=(
            "PEM files with Ed25519 public keys; if set, only models signed with one of them are"
            " loaded"
        ),
    )


class TrainSettings(Section):
    """Training data, model parameters and schedule."""

    member: Literal["isolation_forest", "one_class_svm", "peer_groups", "reconstruction"] = Field(
        "one_class_svm",
        description=(
            "model that joins the ensemble; ignored if `detector` is a trained model itself"
        ),
    )
    split: float = Field(
        0.6, gt=0, lt=1, description="first share of each entity's time, used for training"
    )
    contamination: float = Field(
        0.02, gt=0, le=0.5, description="share of training rows above the threshold"
    )
    threshold: Annotated[float | None, NoneAllowed] = Field(
        None, description="fixed score threshold; replaces the one from contamination"
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="random seed; same data, settings and seed give the same model",
    )
    trees: int = Field(100, ge=1, le=1000, description="Isolation Forest: n_estimators")
    samples: int = Field(4096, ge=2, le=65_536, description="Isolation Forest: max_samples")
    nu: float = Field(0.01, gt=0, le=1, description="One-Class SVM: nu")
    gamma: float | Literal["scale", "auto"] = Field("scale", description="One-Class SVM: RBF width")
    svm_rows: int = Field(
        8_000,
        ge=100,
        description="One-Class SVM: most training rows; more are sampled with the seed",
    )
    reconstruction: Literal["autoencoder", "pca"] = Field(
        "autoencoder",
        description="reconstruction: an autoencoder, or principal components, its linear form",
    )
    threads: int = Field(
        2,
        ge=1,
        le=64,
        description="partitions that training folds at the same time, each on a core of its own;"
        " models are the same",
    )
    checkpoint_s: float = Field(
        60,
        ge=0,
        le=86_400,
        description="save how far training has read at this interval, in the models folder; after"
        " a kill, the next training continues from there; 0 = never",
    )
    min_rows: int = Field(500, ge=10, description="fewest training rows over all entities")
    window_days: Annotated[float | None, NoneAllowed] = Field(
        None, gt=0, description="train on the newest days of the input only; none = all"
    )
    every: Annotated[str | None, NoneAllowed] = Field(
        None, pattern=r"^\d+(\.\d+)?[smhd]$", description="retrain at this interval, e.g. 24h"
    )
    cron: Annotated[str | None, NoneAllowed] = Field(
        None,
        description="retrain on this cron schedule, UTC, e.g. 0 3 * * *",
    )
    keep: int = Field(
        10,
        ge=1,
        description=(
            "number of newest models kept in the models folder, beside those that have scored"
            " records which the input topic still has"
        ),
    )

    @field_validator("gamma")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value <= 0:
            raise ValueError("gamma must be > 0, 'scale' or 'auto'")
        return value

    @model_validator(mode="after")
    def _one_schedule(self) -> TrainSettings:
        if self.every and self.cron:
            raise ValueError("train.every and train.cron exclude each other")
        return self
