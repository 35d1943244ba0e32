"""librdkafka's C structures that cross its interface, and its constants, as of 2.16.0.

Invariant: ``library.check_layout`` compares these with what the loaded library really writes,
before anything else reads memory by them.
"""

from __future__ import annotations

import ctypes

VERSION = 0x021000FF
"""The only version that is used: 2.16.0, as in confluent-kafka 2.16."""

PRODUCER, CONSUMER = 0, 1
"""``rd_kafka_type_t``"""

UNASSIGNED_PARTITION = -1
COPY_PAYLOAD = 0x2
PURGE_QUEUE, PURGE_IN_FLIGHT = 0x1, 0x2
DESTROY_NO_CONSUMER_CLOSE = 0x8

NO_ERROR = 0
ASSIGN_PARTITIONS, REVOKE_PARTITIONS = -175, -174
PARTITION_EOF = -191
PURGED_FROM_QUEUE = -152
QUEUE_FULL = -184

EVENT_DELIVERY = 0x1
TEXT_BYTES = 512


class Message(ctypes.Structure):
    """``rd_kafka_message_t``; payload and key belong to the message until it is destroyed."""

    _fields_ = (
        ("err", ctypes.c_int),
        ("topic", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_void_p),
        ("payload_bytes", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_bytes", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", ctypes.c_void_p),
    )


class TopicPartition(ctypes.Structure):
    """``rd_kafka_topic_partition_t``; metadata belongs to the list, which frees it."""

    _fields_ = (
        ("topic", ctypes.c_char_p),
        ("partition", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("metadata", ctypes.c_void_p),
        ("metadata_bytes", ctypes.c_size_t),
        ("opaque", ctypes.c_void_p),
        ("err", ctypes.c_int),
        ("private", ctypes.c_void_p),
    )


class TopicPartitions(ctypes.Structure):
    """``rd_kafka_topic_partition_list_t``."""

    _fields_ = (
        ("count", ctypes.c_int),
        ("size", ctypes.c_int),
        ("elements", ctypes.POINTER(TopicPartition)),
    )


class _Bytes(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
    )


class _Value(ctypes.Union):
    _fields_ = (
        ("handle", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("partition", ctypes.c_int32),
        ("memory", _Bytes),
        ("header", _Header),
        ("padding", ctypes.c_char * 64),
    )


class Argument(ctypes.Structure):
    """``rd_kafka_vu_t``: one argument of ``rd_kafka_produceva``."""

    _fields_ = (("kind", ctypes.c_int), ("value", _Value))


TOPIC_ARGUMENT, PARTITION_ARGUMENT, VALUE_ARGUMENT, KEY_ARGUMENT = 2, 3, 4, 5
FLAGS_ARGUMENT, HEADER_ARGUMENT = 7, 9
"""``rd_kafka_vtype_t``; the topic is given by its handle."""

RebalanceCallback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(TopicPartitions), ctypes.c_void_p
)
CommitCallback = RebalanceCallback
ErrorCallback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
)
LogCallback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p
)
StatisticsCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
)
DeliveryCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Message), ctypes.c_void_p)


def address_of(data: bytes) -> int:
    """Return where bytes lie in memory, which is valid as long as they are referred to."""
    return int(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0)
