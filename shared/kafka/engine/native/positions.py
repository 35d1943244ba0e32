"""Lists of topic partitions: made for a call of the library, and read after it.

Invariant: a list is freed when its block ends; nothing of it is kept but Python's values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.batch import Position
from shared.kafka.engine.native.errors import of_code
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.structs import NO_ERROR

List = Any
"""A pointer to ``structs.TopicPartitions``."""


@contextmanager
def partition_list(library: Library, topic: str, partitions: Iterable[int]) -> Iterator[List]:
    """Yield a list of partitions without offsets."""
    with position_list(library, topic, dict.fromkeys(partitions)) as made:
        yield made


@contextmanager
def position_list(
    library: Library, topic: str, positions: Mapping[int, Position | None]
) -> Iterator[List]:
    """Yield a list of partitions, with offset and metadata where they are given."""
    made = library.topic_partition_list_new(len(positions))
    try:
        for partition, position in sorted(positions.items()):
            added = library.topic_partition_list_add(made, topic.encode(), partition).contents
            if position is not None:
                added.offset = position.offset
                _set_metadata(library, added, position.metadata.encode())
        yield made
    finally:
        library.topic_partition_list_destroy(made)


def numbers(found: List) -> list[int]:
    """Return the partitions of a list."""
    return [found.contents.elements[k].partition for k in range(found.contents.count)]


def positions(found: List) -> dict[int, Position | None]:
    """Return the positions of a list; None where the offset is not one of a record."""
    return {
        element.partition: Position(element.offset, _metadata(element))
        if element.offset >= 0
        else None
        for element in _elements(found)
    }


def check(library: Library, found: List) -> None:
    """Raise the error of the first partition that has one."""
    for element in _elements(found):
        if element.err != NO_ERROR:
            raise of_code(library, element.err, partition=element.partition)


def _elements(found: List) -> list[Any]:
    return [found.contents.elements[k] for k in range(found.contents.count)]


def _metadata(element: Any) -> str:
    """Return the metadata without the NUL with which confluent-kafka's Python client ends it."""
    if not element.metadata or not element.metadata_bytes:
        return ""
    metadata = ctypes.string_at(element.metadata, element.metadata_bytes)
    return metadata.removesuffix(b"\0").decode("utf-8", "replace")


def _set_metadata(library: Library, element: Any, metadata: bytes) -> None:
    """Give a copy to the element, whose list frees it.

    It ends with a NUL, as confluent-kafka's Python client writes it: that client reads up to one,
    and so beyond the end of metadata without it.
    """
    ended = metadata + b"\0" if metadata else b""
    element.metadata = library.copied(ended)
    element.metadata_bytes = len(ended)
