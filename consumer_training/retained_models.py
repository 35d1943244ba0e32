"""Models that verdicts on retained records were computed with, by the activations topic.

Invariant: without an answer of the broker nothing is known, and no model may be removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.encode.results import decode_result
from shared.errors import LapwingError
from shared.kafka import Reader, topic_bounds
from shared.registry import Registry
from shared.settings import Settings


def retained_models(settings: Settings) -> set[str]:
    """Return the models of all groups that scored records which the input topic still has.

    returns : SHA-256
    raises  : LapwingError where it cannot be known
    """
    topic, registry = settings.topics.activations, Registry(settings.registry)
    values = [
        batch.values[row] for batch in Reader(settings).read(topic) for row in range(len(batch))
    ]
    first, _ = topic_bounds(settings, settings.topics.input)
    try:
        records = [decode_result(value, registry.schema) for value in values]
    except ValueError as error:
        raise LapwingError(f"{topic}: {error}") from error
    return models_of(records, settings.topics.input, first)


def models_of(
    activations: Iterable[Mapping[str, Any]], topic: str, first: Mapping[int, int]
) -> set[str]:
    """Return the models of activations that apply to a record at or after a partition's start.

    An activation applies until the next one of its group and partition.

    activations : records by schemas/model_activation.avsc, in any order
    first       : offset of the oldest record of each partition
    """
    offsets: dict[tuple[str, int], dict[int, str]] = {}
    for one in activations:
        if one["source_topic"] == topic:
            of_partition = offsets.setdefault((one["group"], one["source_partition"]), {})
            of_partition[one["source_offset"]] = one["model_sha256"]
    found = set()
    for (_, partition), by_offset in offsets.items():
        begins = sorted(by_offset)
        for begin, end in zip(begins, [*begins[1:], None], strict=True):
            if end is None or end > first.get(partition, 0):
                found.add(by_offset[begin])
    return found - {""}
