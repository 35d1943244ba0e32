"""Encodes columns to the records that the producer and the predictors send.

Invariant: the bytes are a function of the columns alone, and equal to those that fastavro writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from shared.batch import Blob
from shared.directory import Directory
from shared.encode.kernels import avro_values as kernels
from shared.encode.records import HEADER_BYTES, decode_records, encode_records, wire_header
from shared.events import State

__all__ = [
    "SCORE_KIND",
    "Scores",
    "check_shapes",
    "decode_records",
    "encode_flat",
    "encode_metric_events",
    "encode_records",
    "encode_scores",
    "flat_schema",
    "index_rows",
    "score_rows",
    "select",
    "select_names",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]
Number = TypeVar("Number", bound=np.generic)

SCORE_KIND = "score"
"""The kind in a score event's id; that of an alarm is ``anomaly``."""

_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LONG_BYTES, _OPTIONAL_BYTES = 10, 9


@dataclass(frozen=True, slots=True)
class Scores:
    """The verdicts on n records of one partition, as columns; NaN = null in every float.

    entity              : int32 (n,)    index into the partition's Directory
    time_ms             : int64 (n,)    event time
    score               : float64 (n,)  the detector's own unit, higher = more anomalous
    severity            : float64 (n,)  0..1
    threshold           : float64 (n,)  threshold for the record, same unit as score
    is_anomaly          : bool (n,)
    cold_start          : bool (n,)     an alarm of the robust band during the warm-up
    state               : uint8 (n,)    events.State
    warmup_percent      : float64 (n,)  0..100
    warmup_minutes_left : float64 (n,)
    top_metric          : int32 (n,)    index into metrics, -1 = null
    late, duplicate, imputed, ahead : bool (n,)
    episode_id          : str (n,)      32 hex digits, "" = null
    offsets             : int64 (n,)    of the input records
    listed              : int32 (n, M)  the metrics that the record has, in their order, then -1
    metric_value, metric_expected, metric_lower, metric_upper, metric_severity : float64 (n, M)
    metrics             : M names
    model_id            : 16 hex digits, None where no trained model is involved
    """

    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    score: Floats
    severity: Floats
    threshold: Floats
    is_anomaly: Bools
    cold_start: Bools
    state: npt.NDArray[np.uint8]
    warmup_percent: Floats
    warmup_minutes_left: Floats
    top_metric: npt.NDArray[np.int32]
    late: Bools
    duplicate: Bools
    imputed: Bools
    ahead: Bools
    episode_id: npt.NDArray[np.str_]
    offsets: npt.NDArray[np.int64]
    listed: npt.NDArray[np.int32]
    metric_value: Floats
    metric_expected: Floats
    metric_lower: Floats
    metric_upper: Floats
    metric_severity: Floats
    metrics: Sequence[str]
    detector_id: str
    model_id: str | None
    source_topic: str
    source_partition: int

    def __len__(self) -> int:
        return len(self.entity)


def select(names: Blob, index: Ints) -> Blob:
    """Return the names at ``index`` (n,), e.g. as record keys."""
    rows = index_rows(index, len(names), "index")
    return select_names(_bytes(names.data), names.bounds, rows)


def flat_schema(name: str, entity_field: str, metrics: Sequence[str]) -> str:
    """Return the Avro schema of the records that ``encode_flat`` writes.

    name         : full name of the record, e.g. lapwing.Reading
    entity_field : its string field; the event-time field is called timestamp
    raises       : ValueError that names a field that is duplicate or not a valid Avro name
    """
    for field in (entity_field, *metrics, *name.split(".")):
        if not _AVRO_NAME.match(field):
            raise ValueError(
                f"{field!r} is not a valid Avro name: letters, digits and _, not starting with a"
                " digit"
            )
    names = [entity_field, "timestamp", *metrics]
    duplicates = sorted({field for field in names if names.count(field) > 1})
    if duplicates:
        raise ValueError(f"duplicate fields: {', '.join(duplicates)}")
    fields = [
        {
            "name": entity_field,
            "type": "string",
            "doc": "Entity: who reports. UTF-8, 1 to 256 bytes, never null.",
        },
        {
            "name": "timestamp",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "doc": "Event time, ms since 1970 UTC, never null.",
        },
    ]
    optional = {
        "type": ["null", "double"],
        "default": None,
        "doc": "Measured value in the metric's own unit. Null = not measured.",
    }
    fields += [{"name": metric, **optional} for metric in metrics]
    namespace, _, short = name.rpartition(".")
    record: dict[str, object] = {"type": "record", "name": short}
    if namespace:
        record["namespace"] = namespace
    record["doc"] = "One sample of an entity's metrics."
    record["fields"] = fields
    return json.dumps(record)


def encode_flat(
    schema_id: int, names: Blob | Sequence[str], index: Ints, time_ms: Ints, values: Floats
) -> Blob:
    """Encode rows of a schema from ``flat_schema``.

    names   : the entities
    index   : (n,)            each row's entity
    time_ms : (n,)            event time
    values  : float64 (n, M)  in the schema's order; NaN = null; infinite values are kept
    raises  : ValueError where the shapes do not fit, IndexError where an entity does not exist
    """
    joined = names if isinstance(names, Blob) else Blob.join([name.encode() for name in names])
    rows = index_rows(index, len(joined), "index")
    times = _column(time_ms)
    matrix = np.ascontiguousarray(values, np.float64)
    if matrix.ndim != 2 or not len(rows) == len(times) == len(matrix):
        raise ValueError(
            f"index {rows.shape}, time_ms {times.shape} and values {matrix.shape} must be (n,),"
            " (n,) and (n, M)"
        )
    name_bytes = int(_sizes(joined.bounds, rows).sum())
    row_bytes = HEADER_BYTES + 2 * _LONG_BYTES + matrix.shape[1] * _OPTIONAL_BYTES
    out = np.empty(name_bytes + len(rows) * row_bytes, np.uint8)
    bounds = np.empty(len(rows) + 1, np.int64)
    kernels.encode_flat_rows(
        _bytes(wire_header(schema_id)),
        _bytes(joined.data),
        joined.bounds,
        rows,
        times,
        matrix.view(np.uint64),
        out,
        bounds,
    )
    return Blob(out[: bounds[-1]].tobytes(), bounds)


def encode_metric_events(
    schema_id: int, names: Blob | Sequence[str], time_ms: Ints, values: Floats
) -> Blob:
    """Encode rows of ``schemas/metric_event.avsc``, or of its kind with other metrics.

    names : the entity of each row; for the rest see ``encode_flat``
    """
    return encode_flat(schema_id, names, np.arange(len(names)), time_ms, values)


def encode_scores(scores: Scores, entities: Directory, schema_id: int) -> tuple[Blob, Blob]:
    """Encode score events (``schemas/score_event.avsc``).

    returns : their values; their keys, which are the entities' names
    raises  : ValueError, IndexError that name the column of the wrong shape or range

    Cost: ~0.3 us a row of three metrics.
    """
    check_shapes(scores)
    entity = index_rows(scores.entity, len(entities), "entity")
    constants = _constants(
        schema_id,
        scores.detector_id,
        scores.model_id,
        scores.source_topic,
        scores.source_partition,
        tuple(scores.metrics),
    )
    name_sizes = _sizes(entities.bounds, entity)
    most_bytes = int(name_sizes.sum()) + len(scores) * constants.most_row_bytes
    out = np.empty(most_bytes, np.uint8)
    bounds = np.empty(len(scores) + 1, np.int64)
    id_bytes = len(constants.texts.data) + int(name_sizes.max(initial=0)) + 2 * _LONG_BYTES
    kernels.encode_score_rows(
        constants.texts,
        kernels.Texts(entities.arena, entities.bounds),
        score_rows(scores, entity),
        np.empty(id_bytes, np.uint8),
        out,
        bounds,
    )
    keys = select_names(entities.arena, entities.bounds, entity)
    return Blob(out[: bounds[-1]].tobytes(), bounds), keys


def score_rows(scores: Scores, entity: npt.NDArray[np.int64]) -> kernels.ScoreRows:
    """Return the columns in the kernel's form; raises IndexError."""
    return kernels.ScoreRows(
        entity=entity,
        time_ms=_column(scores.time_ms),
        offsets=_column(scores.offsets),
        state=index_rows(scores.state, len(State), "state"),
        top_metric=index_rows(scores.top_metric, len(scores.metrics), "top_metric", lowest=-1),
        numbers=_bits(
            scores.score,
            scores.severity,
            scores.threshold,
            scores.warmup_percent,
            scores.warmup_minutes_left,
        ),
        flags=_side_by_side(_flags(scores), np.uint8),
        metric_numbers=_bits(
            scores.metric_value,
            scores.metric_expected,
            scores.metric_lower,
            scores.metric_upper,
            scores.metric_severity,
        ),
        listed=_listed(scores),
        episodes=_digits(scores.episode_id),
    )


def _most_row_bytes(pieces: list[bytes]) -> int:
    """Return an upper bound of the size of a score event without its entity's name."""
    metric_sizes = [len(piece) for piece in pieces[kernels.METRICS :]]
    names_bytes = (len(metric_sizes) + 1) * max(metric_sizes, default=0)
    constant_bytes = sum(map(len, pieces[: kernels.METRICS])) + names_bytes
    numbers = kernels.ROW_NUMBERS + kernels.METRIC_NUMBERS * len(metric_sizes)
    ids_bytes = 2 * (kernels.ID_DIGITS + 2)
    return constant_bytes + ids_bytes + 9 * _LONG_BYTES + numbers * _OPTIONAL_BYTES


class _Constants(NamedTuple):
    """What the score events of a partition have in common.

    texts          : their constant bytes, by ``kernels.HEADER`` ... ``METRICS``
    most_row_bytes : as ``_most_row_bytes``
    """

    texts: kernels.Texts
    most_row_bytes: int


@lru_cache(256)
def _constants(
    schema_id: int,
    detector_id: str,
    model_id: str | None,
    topic: str,
    partition: int,
    metrics: tuple[str, ...],
) -> _Constants:
    pieces = [
        wire_header(schema_id),
        _string(detector_id),
        b"\0" if model_id is None else b"\x02" + _string(model_id),
        _string(topic) + _long(partition),
        f"{topic}\0{partition}\0".encode(),
        f"\0{detector_id}\0{SCORE_KIND}\0".encode(),
        b"\0",
        *(_string(state.name) for state in State),
        *(_string(metric) for metric in metrics),
    ]
    joined = Blob.join(pieces)
    data = np.frombuffer(bytearray(joined.data), np.uint8)
    return _Constants(kernels.Texts(data, joined.bounds), _most_row_bytes(pieces))


def _string(text: str) -> bytes:
    data = text.encode()
    return _long(len(data)) + data


def _long(value: int) -> bytes:
    word = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while word > 127:
        out.append(word & 127 | 128)
        word >>= 7
    return bytes([*out, word])


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _digits(ids: npt.NDArray[np.str_]) -> npt.NDArray[np.uint8]:
    """Return ids as uint8 (n, 32); the row of an empty one is 0.

    Their code points are cut to bytes: numpy's conversion of text takes 30 times as long.
    """
    fixed = np.ascontiguousarray(ids, f"U{kernels.ID_DIGITS}")
    return fixed.view(np.uint32).reshape(len(ids), kernels.ID_DIGITS).astype(np.uint8)


_FLAGS = ("is_anomaly", "cold_start", "late", "duplicate", "imputed", "ahead")
_ROW_COLUMNS = (
    "entity", "time_ms", "score", "severity", "threshold", "state", "warmup_percent",
    "warmup_minutes_left", "top_metric",
    "offsets", "episode_id", *_FLAGS,
)  # fmt: skip
_METRIC_COLUMNS = (
    "listed",
    "metric_value",
    "metric_expected",
    "metric_lower",
    "metric_upper",
    "metric_severity",
)
_row_columns, _metric_columns = attrgetter(*_ROW_COLUMNS), attrgetter(*_METRIC_COLUMNS)
_flags = attrgetter(*_FLAGS)


def check_shapes(scores: Scores) -> None:
    """Check the shapes of all columns, which the kernel relies on."""
    row_shape = (len(scores),)
    metric_shape = (len(scores), len(scores.metrics))
    if all(column.shape == row_shape for column in _row_columns(scores)) and all(
        column.shape == metric_shape for column in _metric_columns(scores)
    ):
        return
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_ROW_COLUMNS, row_shape)
    shapes |= dict.fromkeys(_METRIC_COLUMNS, metric_shape)
    for name, shape in shapes.items():
        found = getattr(scores, name).shape
        if found != shape:
            raise ValueError(f"scores.{name} has the shape {found}, not {shape}")


def _listed(scores: Scores) -> npt.NDArray[np.int64]:
    """Return the metrics of each record; raises IndexError."""
    shape = scores.listed.shape
    return index_rows(scores.listed.reshape(-1), len(scores.metrics), "listed", lowest=-1).reshape(
        shape
    )


def index_rows(values: Ints, count: int, name: str, lowest: int = 0) -> npt.NDArray[np.int64]:
    """Return a column of indices in lowest..count - 1; raises IndexError."""
    rows = _column(values)
    above = rows if lowest == 0 else rows - lowest
    # As an unsigned number, one below the lowest is larger than all others.
    if len(rows) and above.view(np.uint64).max() >= count - lowest:
        raise IndexError(
            f"{name} contains {rows.min()} to {rows.max()}; allowed is {lowest} to {count - 1}"
        )
    return rows


def select_names(
    data: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> Blob:
    """Return the texts at ``rows`` (n,) of joined ones."""
    out = np.empty(int(_sizes(bounds, rows).sum()), np.uint8)
    out_bounds = np.empty(len(rows) + 1, np.int64)
    kernels.select_names(data, bounds, rows, out, out_bounds)
    return Blob(out.tobytes(), out_bounds)


def _column(values: Ints) -> npt.NDArray[np.int64]:
    """Return a column as a kernel's tuple takes it: numba refuses a read-only array there."""
    column = np.ascontiguousarray(values, np.int64)
    return column if column.flags.writeable else column.copy()


def _bits(*columns: Floats) -> npt.NDArray[np.uint64]:
    return _side_by_side(columns, np.float64).view(np.uint64)


def _side_by_side(columns: Sequence[npt.NDArray[Any]], dtype: type[Number]) -> npt.NDArray[Number]:
    """Stack columns along a new last axis; np.stack takes ten times as long for a few rows."""
    stacked = np.empty((*columns[0].shape, len(columns)), dtype)
    for place, column in enumerate(columns):
        stacked[..., place] = column
    return stacked


def _sizes(bounds: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sizes of these names, whatever the number of all names."""
    sizes: npt.NDArray[np.int64] = bounds[rows + 1] - bounds[rows]
    return sizes
