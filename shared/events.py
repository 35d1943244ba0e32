"""The vocabulary of records: detectors, states, reasons, severity classes, events.

Invariant: plain values, computed from a record and its offset alone, never from a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256

from shared.kernels.severity import CRITICAL, MAJOR, MINOR

STATE_VERSION = 7
"""Changes whenever the computed bytes change; part of every activation and snapshot."""

DEFAULT_MIN_TIME_MS = 946_684_800_000
DEFAULT_MAX_TIME_MS = 4_102_444_800_000
"""2000-01-01 and 2100-01-01 UTC: event times outside are rejected."""


class Detector(StrEnum):
    """The detector: the ensemble, a trained model, or one view; its name is in every verdict."""

    ENSEMBLE = "ensemble"
    ISOLATION_FOREST = "isolation_forest"
    ONE_CLASS_SVM = "one_class_svm"
    PEER_GROUPS = "peer_groups"
    RECONSTRUCTION = "reconstruction"
    TIME_OF_DAY = "time_of_day"
    JUMP = "jump"
    COURSE = "course"
    COMBINATION = "combination"

    @property
    def is_trained(self) -> bool:
        """Whether it is a trained model alone."""
        return self in _TRAINED

    @property
    def sees_values(self) -> bool:
        """Whether it is a trained model of the metrics' values, not of the fold's views."""
        return self in _OF_VALUES


_OF_VALUES = (Detector.PEER_GROUPS, Detector.RECONSTRUCTION)
_TRAINED = (Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM, *_OF_VALUES)

REPLACED_DETECTORS = {"novelty": "course", "neighbours": "course", "burst": "jump"}
"""Former names of detectors, and their replacements."""


def present_detector(name: object) -> object:
    """Refuse a former name of a detector, naming its replacement.

    raises : ValueError
    """
    if present := REPLACED_DETECTORS.get(str(name)):
        raise ValueError(f"{name} was removed: use {present}")
    return name


class Phase(StrEnum):
    """Where an episode stands when a record is written about it."""

    OPEN = "open"
    WORSE = "worse"
    CLOSED = "closed"


class ClosedBecause(StrEnum):
    """Why an episode ended; only ``recovered`` may be shown as resolved."""

    RECOVERED = "recovered"
    ACCEPTED = "accepted"
    SILENT = "silent"
    RESTARTED = "restarted"


class Kind(StrEnum):
    """The kind of an anomaly event: an alarm, an episode's end, or a data-quality verdict."""

    ANOMALY = "anomaly"
    EPISODE_CLOSED = "episode_closed"
    MISSING = "missing"
    GAP = "gap"
    LATE = "late"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    REPEATED_TIME = "repeated_time"
    FLAT_LINE = "flat_line"
    STOPPED = "stopped"
    EVICTED = "evicted"
    TOO_MANY_METRICS = "too_many_metrics"


class State(IntEnum):
    """Whether an entity is ready to be scored; records contain the name."""

    WARMING = 0
    READY = 1
    STALE = 2


class SeverityClass(StrEnum):
    """The class of a severity; an alarm has at least .5."""

    INFO = "info"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


def severity_class(severity: float) -> SeverityClass:
    """Return the class of a severity in 0..1."""
    if severity >= CRITICAL:
        return SeverityClass.CRITICAL
    if severity >= MAJOR:
        return SeverityClass.MAJOR
    return SeverityClass.MINOR if severity >= MINOR else SeverityClass.INFO


class Reason(IntEnum):
    """Why a record was rejected; the lower-case name is the reason code in headers."""

    ACCEPTED = 0
    EMPTY = 1
    TOO_LARGE = 2
    NOT_AVRO = 3
    UNKNOWN_SCHEMA = 4
    SCHEMA_UNFIT = 5
    TRUNCATED = 6
    TRAILING_BYTES = 7
    MALFORMED = 8
    NOT_FINITE = 9
    TIME_OUT_OF_RANGE = 10
    ENTITY_INVALID = 11
    TOO_MANY_ENTITIES = 12
    TIME_INVALID = 13
    NOT_JSON = 14
    RECORD_UNFIT = 15
    TOO_MANY_NAMES = 16
    METRIC_INVALID = 17

    @property
    def code(self) -> str:
        """The reason code in headers and metrics."""
        return self.name.lower()

    @property
    def sentence(self) -> str:
        """One sentence for a person who reads the dead letter."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.ACCEPTED: "the record was accepted",
    Reason.EMPTY: "the record has no value; null is a tombstone, which deletes its key",
    Reason.TOO_LARGE: "the record is larger than input.max_record_bytes",
    Reason.NOT_AVRO: "the record does not start with the magic byte 0 and a 4-byte schema id",
    Reason.UNKNOWN_SCHEMA: "the registry does not know the record's schema id",
    Reason.SCHEMA_UNFIT: (
        "the writer schema does not say which fields are the entity, the event time and metrics"
    ),
    Reason.TRUNCATED: "the bytes end before the last field",
    Reason.TRAILING_BYTES: "bytes are left over after the last field",
    Reason.MALFORMED: "the bytes are not a valid encoding of the writer schema",
    Reason.NOT_FINITE: "a metric is NaN or infinite",
    Reason.TIME_OUT_OF_RANGE: "the event time lies outside input.min_time..input.max_time",
    Reason.ENTITY_INVALID: (
        "the entity is empty, longer than 256 bytes, not UTF-8 or holds control characters"
    ),
    Reason.TIME_INVALID: (
        "the event time is no time: not ISO 8601 (input.time_unit=iso), or a number that is not"
        " finite"
    ),
    Reason.NOT_JSON: "the record is not one JSON object whose names are unique",
    Reason.RECORD_UNFIT: (
        "the record does not hold the entity, the event time and at least one metric"
    ),
    Reason.TOO_MANY_NAMES: (
        "the partition has 4,096 names of metrics, and the record brings further ones"
    ),
    Reason.METRIC_INVALID: (
        "the metric's name (input.metric_field) is empty, longer than 256 bytes, not UTF-8 or holds"
        " unprintable characters"
    ),
    Reason.TOO_MANY_ENTITIES: (
        "the partition held predict.max_entities entities; since then the longest silent gives way"
    ),
}


@dataclass(frozen=True, slots=True)
class Activation:
    """The model and settings that score a partition from an offset on.

    model_sha256 : 64 hex digits, the artefact's folder; empty = no trained model
    offset       : first input offset that they score
    settings     : the configuration, see ``configuration.Configuration.text``; empty where only its
                   id is known
    settings_id  : first 16 digits of its SHA-256
    """

    model_sha256: str
    offset: int
    model_version: str = ""
    state_version: int = STATE_VERSION
    settings: str = field(default="", compare=False)
    settings_id: str = ""

    def __post_init__(self) -> None:
        if self.settings and not self.settings_id:
            object.__setattr__(self, "settings_id", sha256(self.settings.encode()).hexdigest()[:16])

    @property
    def model_id(self) -> str:
        """First 16 digits of the model's SHA-256, as in results; empty = no trained model."""
        return self.model_sha256[:16]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One alarm, end of an episode or data-quality verdict; what most leave out has a default.

    The fields are those of ``schemas/anomaly_event.avsc``. ``anomalies.event_of`` creates the event
    for a row of a batch.
    """

    event_id: str
    detector_id: str
    kind: Kind
    entity: str
    metric: str | None
    event_time: int
    state: State
    reason: str
    source_topic: str
    source_partition: int
    source_offset: int
    is_anomaly: bool = True
    imputed: bool = False
    late_by_ms: int | None = None
    traceparent: bytes | None = None
    since: int | None = None
    model_id: str | None = None
    model_version: str | None = None
    value: float | None = None
    expected: float | None = None
    lower: float | None = None
    upper: float | None = None
    direction: str | None = None
    score: float | None = None
    severity: float | None = None
    threshold: float | None = None
    top_feature: str | None = None
    attributions: Mapping[str, float] = field(default_factory=dict)
    cold_start: bool = False
    episode_id: str | None = None
    phase: Phase | None = None
    episode_start: int | None = None
    peak_time: int | None = None
    peak_value: float | None = None
    peak_severity: float | None = None
    closed_because: ClosedBecause | None = None
