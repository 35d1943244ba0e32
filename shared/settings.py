"""Every setting, its default and what is allowed; flags > environment > file > default.

Law: ``load_settings`` is the one place where the environment is read, and only entry points call
     it; all else takes a frozen
``Settings``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shared.errors import ConfigError
from shared.events import DEFAULT_MAX_TIME_MS, DEFAULT_MIN_TIME_MS, Detector
from shared.setting_names import ALIASES, ENV_PREFIX, RENAMED, did_you_mean, variable_of


def _comma_list(value: Any) -> Any:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
"""Several names: a list in the file, ``a,b`` in the environment."""
NoneAllowed = BeforeValidator(_none)
"""Marks a setting that may be left out: ``none`` and an empty text say so, as TOML has no null."""
Fingerprint = Annotated[str, Field(pattern=r"^([0-9a-fA-F]{16}|[0-9a-fA-F]{64})$")]

DEFAULT_MODEL_BYTES = 33_554_432


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class InputSettings(Section):
    """How records of the input are read, and which are refused."""

    entity_fields: Names = Field(
        ("host",), min_length=1, description="field(s) that name the entity, joined by '/'"
    )
    time_field: str = Field(
        "", description="field that is the event time; empty = found by type and name"
    )
    time_unit: Literal["", "s", "ms", "us", "ns", "iso"] = Field(
        "",
        description=(
            "of a time that is a plain number, or iso for text; empty = only a logicalType says it"
        ),
    )
    include: Names = Field(
        (), description="metrics to use; empty = every numeric field that is no time"
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
            "stop at a key where Java (murmur2) or librdkafka (crc32) never put it; other"
            " producers may"
        ),
    )
    schema_fingerprints: Annotated[tuple[Fingerprint, ...], BeforeValidator(_comma_list)] = Field(
        (),
        description=(
            "stop at any other writer schema; CRC-64-AVRO or SHA-256 of its canonical form, empty ="
            " take all"
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

    @property
    def min_time_ms(self) -> int:
        """Earliest event time, ms since 1970 UTC."""
        return int(self.min_time.timestamp() * 1000)

    @property
    def max_time_ms(self) -> int:
        """Latest event time, ms since 1970 UTC."""
        return int(self.max_time.timestamp() * 1000)


class FeatureSettings(Section):
    """Features beyond the plain values."""

    window: int = Field(12, ge=2, le=64, description="samples in the rolling mean and spread")
    timezone: str = Field("UTC", description="IANA name; decides hour and business hour")
    business_start: float = Field(9, ge=0, lt=24, description="hour of day")
    business_end: float = Field(17, gt=0, le=24, description="hour of day, exclusive")
    business_days: Annotated[tuple[int, ...], BeforeValidator(_comma_list)] = Field(
        (0, 1, 2, 3, 4), description="0 = Monday ... 6 = Sunday"
    )

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

    @field_validator("business_days")
    @classmethod
    def _weekdays(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(day not in range(7) for day in value):
            raise ValueError("business_days are numbers from 0 (Monday) to 6 (Sunday)")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _ordered(self) -> FeatureSettings:
        if self.business_start >= self.business_end:
            raise ValueError("features.business_start must be before features.business_end")
        return self


class MetricRule(Section):
    """Which deviations of one metric matter; what is not given is taken from ``detection``."""

    direction: Literal["both", "up", "down"] | None = Field(
        None, description="deviations that matter"
    )
    min_absolute: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="least deviation, in the metric's unit"
    )
    min_relative: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="least deviation, as a share of the expected"
    )


class DetectionSettings(Section):
    """How the ensemble and its members decide."""

    threshold: float = Field(
        1.4,
        gt=0,
        le=10,
        description="score of an alarm; 1.4 = about one such score in 25 hours (10^1.4 h)",
    )
    alarms_per_day: Annotated[float | None, NoneAllowed] = Field(
        None,
        gt=0,
        le=1000,
        description=(
            "instead of the threshold: about so many alarms per entity and day in the long run"
        ),
    )
    warmup_samples: int = Field(
        0, ge=0, le=1024, description="before the first verdict; 0 = three days' worth, 150 to 1024"
    )
    cold_start: bool = Field(
        True, description="alarm on extreme values before the warm-up has ended"
    )
    direction: Literal["both", "up", "down"] = Field("both", description="deviations that matter")
    min_absolute: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="least deviation from the expected value, own unit",
    )
    min_relative: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="least deviation, as a share of the expected value",
    )
    metrics: dict[str, MetricRule] = Field(
        default_factory=dict,
        description='rules of single metrics, e.g. {"cpu": {"direction": "up"}}',
    )

    @field_validator("warmup_samples")
    @classmethod
    def _enough(cls, value: int) -> int:
        if 0 < value < 20:
            raise ValueError("warmup_samples must be 0 or 20 to 1024")
        return value


class QualitySettings(Section):
    """What is said about the data itself, apart from anomalies."""

    events: bool = Field(True, description="write data-quality verdicts to the anomaly topic")
    gap_intervals: float = Field(
        5, ge=2, le=1e6, description="a silence of so many usual intervals is a gap"
    )
    stopped_intervals: float = Field(
        12, ge=3, le=1e6, description="nothing for so many usual intervals: stopped reporting"
    )
    flat_hours: float = Field(
        24,
        gt=0,
        le=8760,
        description="a metric that varied has had one value for so long: flat line",
    )
    repeat_hours: float = Field(
        24, ge=0, le=8760, description="the same verdict on the same entity comes at most once in"
    )
    forget_days: float = Field(
        30, gt=0, le=3650, description="an entity that returns after so long starts anew"
    )


class ModelSettings(Section):
    """Which models are believed; the folder is ``models_dir``."""

    max_bytes: int = Field(
        DEFAULT_MODEL_BYTES,
        ge=65_536,
        le=536_870_912,
        description="a larger model is neither published nor loaded",
    )
    sign_key: str = Field(
        "",
        description=(
            "PEM file with the Ed25519 private key that training signs with; empty = unsigned"
        ),
    )
    trusted_keys: Names = Field(
        (),
        description=(
            "PEM files with Ed25519 public keys; if given, only models that one of them has signed"
            " are loaded"
        ),
    )


class TrainSettings(Section):
    """What training learns from, how, and when."""

    member: Literal["isolation_forest", "one_class_svm"] = Field(
        "one_class_svm",
        description=(
            "what is fitted as a member of the ensemble; a trained `detector` is fitted itself"
        ),
    )
    split: float = Field(
        0.6, gt=0, lt=1, description="first part of each entity's time that the model learns from"
    )
    contamination: float = Field(
        0.02, gt=0, le=0.5, description="share of training rows above the threshold"
    )
    threshold: Annotated[float | None, NoneAllowed] = Field(
        None, description="fixed score threshold instead of the contamination's"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="same data, settings and seed, same model")
    trees: int = Field(100, ge=1, le=1000, description="Isolation Forest: n_estimators")
    samples: int = Field(256, ge=2, le=65_536, description="Isolation Forest: max_samples")
    nu: float = Field(0.02, gt=0, le=1, description="One-Class SVM")
    gamma: float | Literal["scale", "auto"] = Field("scale", description="One-Class SVM: RBF width")
    svm_rows: int = Field(
        20_000, ge=100, description="One-Class SVM: at most this many seeded rows"
    )
    min_rows: int = Field(500, ge=10, description="training rows needed over all entities")
    window_days: Annotated[float | None, NoneAllowed] = Field(
        None, gt=0, description="use only the newest days of the input; none = all"
    )
    every: Annotated[str | None, NoneAllowed] = Field(
        None, pattern=r"^\d+(\.\d+)?[smhd]$", description="train again after, e.g. 24h"
    )
    cron: Annotated[str | None, NoneAllowed] = Field(
        None,
        description="train again by a cron line, UTC, e.g. 0 3 * * *",
    )
    keep: int = Field(10, ge=1, description="newest artefacts kept in the models folder")

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


class Settings(BaseSettings):
    """All settings of all services; environment names are ``LAPWING_<SECTION>__<NAME>``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )

    detector: Detector = Field(
        Detector.ENSEMBLE,
        description="what decides: all members, a trained model, or one member alone",
    )
    slot: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]*$",
        description=(
            "stable name of this predictor, another one for each; empty = host name and "
            "process id, and no static membership"
        ),
    )
    outage_deadline_s: float = Field(
        300,
        gt=0,
        description=(
            "a service without broker or registry for so long exits (a later run of a "
            "training schedule fails); so does a predictor whose loop hangs"
        ),
    )
    models_dir: Path = Field(Path("models"), description="shared by training and predictors")
    state_dir: Path = Field(Path("state"), description="snapshots of predictors; may be shared")
    kafka: dict[str, str] = Field(
        default_factory=dict, description="any librdkafka setting; '_' becomes '.'"
    )
    registry: RegistrySettings = RegistrySettings()
    topics: TopicSettings = TopicSettings()
    input: InputSettings = InputSettings()
    features: FeatureSettings = FeatureSettings()
    detection: DetectionSettings = DetectionSettings()
    quality: QualitySettings = QualitySettings()
    models: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    produce: ProduceSettings = ProduceSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @field_validator("kafka", mode="after")
    @classmethod
    def _dotted(cls, value: dict[str, str]) -> dict[str, str]:
        dotted = {name.lower().replace("_", "."): str(setting) for name, setting in value.items()}
        return {"bootstrap.servers": "localhost:9092"} | dotted

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed in and nothing else; ``load_settings`` adds environment and file."""
        return (init_settings,)

    @property
    def trained_detector(self) -> Detector:
        """What training fits."""
        return self.detector if self.detector.is_trained else Detector(self.train.member)

    @property
    def bootstrap(self) -> str:
        """Addresses of the brokers."""
        return self.kafka["bootstrap.servers"]


class _Environment(EnvSettingsSource):
    """pydantic's environment source, fed with a mapping instead of the process."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self.given = {name.lower(): value for name, value in environ.items()}
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self.given

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        if value.lstrip()[:1] not in ("[", "{"):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            names = [name for name, text in self.given.items() if text is value]
            raise ConfigError(
                f"{', '.join(names).upper() or field_name}: it begins as JSON and is none: {error}"
            ) from error


def load_settings(
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Join flags, environment, file and defaults into one Settings.

    flags   : nested mapping, e.g. {"slot": "1", "predict": {"group": "b"}}; wins over all else
    file    : TOML; None = the file that LAPWING_CONFIG names, if any
    environ : variables; None = the process's
    raises  : ConfigError that names every wrong setting and what is allowed
    """
    variables = dict(os.environ if environ is None else environ)
    if file is None and variables.get("LAPWING_CONFIG"):
        file = Path(variables["LAPWING_CONFIG"])
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist")
    for name, ours in ALIASES.items():
        if variables.get(name):
            variables.setdefault(ours, variables[name])
    _refuse_unknown(variables)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            *_: Any,
            **__: Any,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                _Environment(settings_cls, variables),
                TomlConfigSettingsSource(settings_cls, file),
            )

    try:
        return Loaded(**(flags or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(e) for e in error.errors())) from error
    except ValueError as error:
        raise ConfigError(f"{file or 'environment'}: {error}") from error


_NOT_SETTINGS = {"LAPWING_CONFIG", "LAPWING_NAB_DIR", "LAPWING_FAILPOINT"}


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in environ:
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS:
            top = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if top not in Settings.model_fields:
                asked = name.removeprefix(ENV_PREFIX).lower().replace("__", ".", 1)
                raise ConfigError(
                    f"{name}: no such setting{did_you_mean(asked, Settings)}; the first part is one of"
                    f" {', '.join(sorted(Settings.model_fields))}"
                )


def _sentence(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    name = ".".join(path) or "settings"
    variable = ENV_PREFIX + "__".join(path).upper()
    if error["type"] == "extra_forbidden":
        if present := RENAMED.get(name.lower()):
            return f"{name} ({variable}): it is called {present} ({variable_of(present)}) now"
        return f"{name} ({variable}): no such setting{did_you_mean(name, Settings)}"
    said = f"{name} ({variable}): {error['msg'].removeprefix('Value error, ')}"
    return said if path[:1] == ["registry"] else f"{said}; got {error['input']!r}"
