"""Encodes score events as JSON, for topics that are read without a schema registry.

Invariant: the bytes are a function of the columns alone, and equal to those that orjson writes for
           the same record. A number that JSON does not know (infinite) is written as null.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson

from shared.batch import Blob
from shared.directory import Directory
from shared.encode.avro_columns import (
    SCORE_KIND,
    Scores,
    check_shapes,
    index_rows,
    score_rows,
    select_names,
)
from shared.encode.kernels import avro_values, json_values
from shared.encode.kernels.avro_values import METRICS, Texts
from shared.events import State

_DIGITS = 20
"""Most digits of an int64, with its sign."""


def encode_json_scores(scores: Scores, entities: Directory) -> tuple[Blob, Blob]:
    """Encode score events (``schemas/score_event.avsc``) as JSON.

    returns : their values; their keys, which are the entities' names
    raises  : ValueError, IndexError that name the column of the wrong shape or range

    Cost: ~1.5 us a row of three metrics.
    """
    check_shapes(scores)
    entity = index_rows(scores.entity, len(entities), "entity")
    rows = score_rows(scores, entity)
    pieces, words = _pieces(scores), _texts(json_values.WORDS)
    is_listed = rows.listed >= 0
    of_row = np.nonzero(is_listed)[0]
    of_metrics = rows.metric_numbers[of_row, rows.listed[is_listed]]
    numbers = _number_texts(np.concatenate([rows.numbers.ravel(), of_metrics.ravel()]))
    name_sizes = np.diff(entities.bounds)[entity]
    names_bytes = np.diff(pieces.bounds)[METRICS:]
    longest_name = int(names_bytes.max(initial=0))
    constant_bytes = int(pieces.bounds[METRICS] + words.bounds[-1]) + longest_name
    constant_bytes += 2 * _DIGITS + 2 * (avro_values.ID_DIGITS + 2) + len(json_values.WORDS) * 5
    metric_bytes = int(words.bounds[-1]) + longest_name + 2
    most_bytes = (
        len(scores) * constant_bytes
        + len(of_row) * metric_bytes
        + json_values.LONGEST_ESCAPE * int(name_sizes.sum())
        + 2 * len(scores)
        + len(numbers.data)
    )
    out = np.empty(most_bytes, np.uint8)
    bounds = np.empty(len(scores) + 1, np.int64)
    id_bytes = int(pieces.bounds[METRICS]) + int(name_sizes.max(initial=0)) + _DIGITS
    json_values.encode_score_rows(
        words,
        pieces,
        Texts(entities.arena, entities.bounds),
        rows,
        numbers,
        np.empty(id_bytes, np.uint8),
        out,
        bounds,
    )
    keys = select_names(entities.arena, entities.bounds, entity)
    return Blob(out[: bounds[-1]].tobytes(), bounds), keys


def _pieces(scores: Scores) -> Texts:
    """Return the constant text of a partition's score events, in the places of Avro's pieces."""
    source = orjson.dumps(
        {"source_topic": scores.source_topic, "source_partition": scores.source_partition}
    )
    return _texts(
        (
            '{"event_id":"',
            b'","detector_id":' + orjson.dumps(scores.detector_id),
            b',"model_id":' + orjson.dumps(scores.model_id) + b',"entity":',
            b"," + source[1:-1] + b',"source_offset":',
            f"{scores.source_topic}\0{scores.source_partition}\0",
            f"\0{scores.detector_id}\0{SCORE_KIND}\0",
            "\0",
            *(b',"state":' + orjson.dumps(state.name) for state in State),
            *(orjson.dumps(metric) for metric in scores.metrics),
        )
    )


def _texts(pieces: tuple[str | bytes, ...]) -> Texts:
    joined = Blob.join([one.encode() if isinstance(one, str) else one for one in pieces])
    return Texts(np.frombuffer(bytearray(joined.data), np.uint8), joined.bounds)


def _number_texts(bits: npt.NDArray[np.uint64]) -> Texts:
    """Return the text of each of the doubles whose bits are given; null for NaN and infinity."""
    values = np.ascontiguousarray(bits).view(np.float64).reshape(-1)
    bounds = np.empty(len(values) + 1, np.int64)
    text = np.frombuffer(
        bytearray(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)), np.uint8
    )
    json_values.number_bounds(text, bounds)
    return Texts(text, bounds)
