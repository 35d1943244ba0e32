"""Checks that the loaded library lays its structures out in memory as they are declared.

Invariant: no client is created on a library that has not passed; the check needs no broker.
"""

from __future__ import annotations

import ctypes

from shared.kafka.engine.native.library import Library, Unavailable
from shared.kafka.engine.native.structs import (
    COPY_PAYLOAD,
    DESTROY_NO_CONSUMER_CLOSE,
    EVENT_DELIVERY,
    FLAGS_ARGUMENT,
    HEADER_ARGUMENT,
    KEY_ARGUMENT,
    NO_ERROR,
    PARTITION_ARGUMENT,
    PRODUCER,
    PURGE_QUEUE,
    PURGED_FROM_QUEUE,
    TEXT_BYTES,
    TOPIC_ARGUMENT,
    VALUE_ARGUMENT,
    Argument,
    address_of,
)

_TOPIC, _PARTITION, _OFFSET, _METADATA = b"layout", 3, 0x0123456789, b"some metadata"
_VALUE, _KEY, _NAME, _HEADER = b"a value", b"the key", b"name", b"a header"
_NO_OFFSET = -1001
_WAIT_MS = 5_000


def check_layout(library: Library) -> None:
    """Compare structures that the library has written with what they must contain.

    A record goes through a producer without a broker, and comes back as not delivered. A list of
    positions is copied by the library.

    raises : Unavailable that names the structure that differs
    """
    position = (_TOPIC, _PARTITION, _OFFSET, _METADATA, NO_ERROR)
    _compare("a list of positions", _copied_position(library), position)
    message = (PURGED_FROM_QUEUE, _TOPIC, _PARTITION, _VALUE, _KEY, _NO_OFFSET, (_NAME, _HEADER))
    _compare("a message", _returned_message(library), message)


def _compare(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise Unavailable(
            f"the memory of {name} is not laid out as declared: it reads {found} instead of"
            f" {expected}"
        )


def _copied_position(library: Library) -> tuple[object, ...]:
    """Return the fields of a position that the library has copied."""
    positions = library.topic_partition_list_new(1)
    position = library.topic_partition_list_add(positions, _TOPIC, _PARTITION).contents
    library.topic_partition_list_set_offset(positions, _TOPIC, _PARTITION, _OFFSET)
    position.metadata = library.copied(_METADATA)
    position.metadata_bytes = len(_METADATA)
    copy = library.topic_partition_list_copy(positions)
    library.topic_partition_list_destroy(positions)
    try:
        if copy.contents.count != 1:
            return (f"{copy.contents.count} elements",)
        found = copy.contents.elements[0]
        if found.metadata_bytes != len(_METADATA):
            return (f"{found.metadata_bytes} bytes of metadata",)
        metadata = ctypes.string_at(found.metadata, found.metadata_bytes)
        return (found.topic, found.partition, found.offset, metadata, found.err)
    finally:
        library.topic_partition_list_destroy(copy)


def _returned_message(library: Library) -> tuple[object, ...]:
    """Return the fields of a record that a producer without a broker gives back."""
    text = ctypes.create_string_buffer(TEXT_BYTES)
    config = library.conf_new()
    library.conf_set(config, b"log_level", b"0", text, TEXT_BYTES)
    library.conf_set_events(config, EVENT_DELIVERY)
    client = library.new(PRODUCER, config, text, TEXT_BYTES)
    if not client:
        library.conf_destroy(config)
        raise Unavailable(f"no client can be created: {text.value.decode()}")
    queue = library.queue_get_main(client)
    topic = library.topic_new(client, _TOPIC, None)
    try:
        error = library.produceva(client, _record(topic), _ARGUMENTS)
        if error:
            library.error_destroy(error)
            raise Unavailable("a record cannot be queued")
        library.purge(client, PURGE_QUEUE)
        return _first_report(library, queue)
    finally:
        library.topic_destroy(topic)
        library.queue_destroy(queue)
        library.destroy_flags(client, DESTROY_NO_CONSUMER_CLOSE)


_ARGUMENTS = 6


def _record(topic: int) -> ctypes.Array[Argument]:
    """Return the arguments of the record; they point to constants of this module."""
    arguments = (Argument * _ARGUMENTS)()
    arguments[0].kind = TOPIC_ARGUMENT
    arguments[0].value.handle = topic
    arguments[1].kind = PARTITION_ARGUMENT
    arguments[1].value.partition = _PARTITION
    for argument, kind, data in (
        (arguments[2], VALUE_ARGUMENT, _VALUE),
        (arguments[3], KEY_ARGUMENT, _KEY),
    ):
        argument.kind = kind
        argument.value.memory.address = address_of(data)
        argument.value.memory.size = len(data)
    arguments[4].kind = FLAGS_ARGUMENT
    arguments[4].value.number = COPY_PAYLOAD
    arguments[5].kind = HEADER_ARGUMENT
    arguments[5].value.header.name = _NAME
    arguments[5].value.header.value = address_of(_HEADER)
    arguments[5].value.header.size = len(_HEADER)
    return arguments


def _first_report(library: Library, queue: int) -> tuple[object, ...]:
    event = library.queue_poll(queue, _WAIT_MS)
    if not event:
        return ("no report",)
    try:
        message = library.event_message_next(event)
        if not message:
            return ("no message",)
        found = message.contents
        if (found.payload_bytes, found.key_bytes) != (len(_VALUE), len(_KEY)):
            return (f"{found.payload_bytes} bytes of payload, {found.key_bytes} of key",)
        return (
            found.err,
            library.topic_name(found.topic),
            found.partition,
            ctypes.string_at(found.payload, found.payload_bytes),
            ctypes.string_at(found.key, found.key_bytes),
            found.offset,
            library.headers_of(ctypes.addressof(found))[0],
        )
    finally:
        library.event_destroy(event)
