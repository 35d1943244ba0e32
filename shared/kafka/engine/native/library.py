"""librdkafka as the confluent-kafka wheel bundles it, called through ctypes.

Invariant: a library of another version, or with a function missing, is refused by name.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

from shared.kafka.engine.native.structs import (
    NO_ERROR,
    VERSION,
    Argument,
    Message,
    TopicPartition,
    TopicPartitions,
)

_ADDRESS, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_TEXT, _PARTITION, _OFFSET = ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64
_PARTITIONS = ctypes.POINTER(TopicPartitions)
_BYTES = ctypes.POINTER(ctypes.c_char)
_to = ctypes.POINTER

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "version": (_INT,),
    "err2str": (_TEXT, _INT),
    "err2name": (_TEXT, _INT),
    "last_error": (_INT,),
    "fatal_error": (_INT, _ADDRESS, _BYTES, _SIZE),
    "error_code": (_INT, _ADDRESS),
    "error_string": (_TEXT, _ADDRESS),
    "error_is_fatal": (_INT, _ADDRESS),
    "error_is_retriable": (_INT, _ADDRESS),
    "error_txn_requires_abort": (_INT, _ADDRESS),
    "error_destroy": (None, _ADDRESS),
    "conf_new": (_ADDRESS,),
    "conf_destroy": (None, _ADDRESS),
    "conf_set": (_INT, _ADDRESS, _TEXT, _TEXT, _BYTES, _SIZE),
    "conf_set_error_cb": (None, _ADDRESS, _ADDRESS),
    "conf_set_log_cb": (None, _ADDRESS, _ADDRESS),
    "conf_set_stats_cb": (None, _ADDRESS, _ADDRESS),
    "conf_set_rebalance_cb": (None, _ADDRESS, _ADDRESS),
    "conf_set_dr_msg_cb": (None, _ADDRESS, _ADDRESS),
    "conf_set_events": (None, _ADDRESS, _INT),
    "new": (_ADDRESS, _INT, _ADDRESS, _BYTES, _SIZE),
    "destroy_flags": (None, _ADDRESS, _INT),
    "name": (_TEXT, _ADDRESS),
    "set_log_queue": (_INT, _ADDRESS, _ADDRESS),
    "mem_malloc": (_ADDRESS, _ADDRESS, _SIZE),
    "mem_free": (None, _ADDRESS, _ADDRESS),
    "poll": (_INT, _ADDRESS, _INT),
    "flush": (_INT, _ADDRESS, _INT),
    "purge": (_INT, _ADDRESS, _INT),
    "outq_len": (_INT, _ADDRESS),
    "topic_new": (_ADDRESS, _ADDRESS, _TEXT, _ADDRESS),
    "topic_name": (_TEXT, _ADDRESS),
    "topic_destroy": (None, _ADDRESS),
    "metadata": (_INT, _ADDRESS, _INT, _ADDRESS, _to(_ADDRESS), _INT),
    "metadata_destroy": (None, _ADDRESS),
    "topic_partition_list_new": (_PARTITIONS, _INT),
    "topic_partition_list_add": (_to(TopicPartition), _PARTITIONS, _TEXT, _PARTITION),
    "topic_partition_list_set_offset": (_INT, _PARTITIONS, _TEXT, _PARTITION, _OFFSET),
    "topic_partition_list_copy": (_PARTITIONS, _PARTITIONS),
    "topic_partition_list_destroy": (None, _PARTITIONS),
    "subscribe": (_INT, _ADDRESS, _PARTITIONS),
    "assign": (_INT, _ADDRESS, _PARTITIONS),
    "incremental_assign": (_ADDRESS, _ADDRESS, _PARTITIONS),
    "incremental_unassign": (_ADDRESS, _ADDRESS, _PARTITIONS),
    "assignment_lost": (_INT, _ADDRESS),
    "pause_partitions": (_INT, _ADDRESS, _PARTITIONS),
    "resume_partitions": (_INT, _ADDRESS, _PARTITIONS),
    "committed": (_INT, _ADDRESS, _PARTITIONS, _INT),
    "commit_queue": (_INT, _ADDRESS, _PARTITIONS, _ADDRESS, _ADDRESS, _ADDRESS),
    "query_watermark_offsets": (
        _INT, _ADDRESS, _TEXT, _PARTITION, _to(_OFFSET), _to(_OFFSET), _INT,
    ),
    "get_watermark_offsets": (_INT, _ADDRESS, _TEXT, _PARTITION, _to(_OFFSET), _to(_OFFSET)),
    "poll_set_consumer": (_INT, _ADDRESS),
    "consumer_close": (_INT, _ADDRESS),
    "consumer_group_metadata": (_ADDRESS, _ADDRESS),
    "consumer_group_metadata_write": (_ADDRESS, _ADDRESS, _to(_ADDRESS), _to(_SIZE)),
    "consumer_group_metadata_read": (_ADDRESS, _to(_ADDRESS), _TEXT, _SIZE),
    "consumer_group_metadata_destroy": (None, _ADDRESS),
    "queue_new": (_ADDRESS, _ADDRESS),
    "queue_get_consumer": (_ADDRESS, _ADDRESS),
    "queue_get_main": (_ADDRESS, _ADDRESS),
    "queue_destroy": (None, _ADDRESS),
    "queue_poll": (_ADDRESS, _ADDRESS, _INT),
    "queue_poll_callback": (_INT, _ADDRESS, _INT),
    "event_message_next": (_to(Message), _ADDRESS),
    "event_destroy": (None, _ADDRESS),
    "consume_batch_queue": (ctypes.c_ssize_t, _ADDRESS, _INT, _ADDRESS, _SIZE),
    "message_destroy": (None, _ADDRESS),
    "message_errstr": (_TEXT, _ADDRESS),
    "message_timestamp": (_OFFSET, _ADDRESS, _to(_INT)),
    "message_headers": (_INT, _ADDRESS, _to(_ADDRESS)),
    "header_get_all": (_INT, _ADDRESS, _SIZE, _to(_TEXT), _to(_ADDRESS), _to(_SIZE)),
    "produce": (
        _INT, _ADDRESS, _PARTITION, _INT, _ADDRESS, _SIZE, _ADDRESS, _SIZE, _ADDRESS,
    ),
    "produceva": (_ADDRESS, _ADDRESS, _to(Argument), _SIZE),
    "init_transactions": (_ADDRESS, _ADDRESS, _INT),
    "begin_transaction": (_ADDRESS, _ADDRESS),
    "send_offsets_to_transaction": (_ADDRESS, _ADDRESS, _PARTITIONS, _ADDRESS, _INT),
    "commit_transaction": (_ADDRESS, _ADDRESS, _INT),
    "abort_transaction": (_ADDRESS, _ADDRESS, _INT),
}  # fmt: skip
"""Functions without their prefix: type of the result, then those of the arguments."""


class Unavailable(Exception):
    """The native engine cannot run here; the message says why and what it needs."""


class Library:
    """The functions of a loaded librdkafka, without their prefix ``rd_kafka_``.

    Calls release the GIL; callbacks take it again.
    """

    def __init__(self, path: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(path))
            for name, (result, *arguments) in _FUNCTIONS.items():
                function = getattr(loaded, f"rd_kafka_{name}")
                function.restype = result
                function.argtypes = arguments
                setattr(self, name, function)
        except (OSError, AttributeError) as error:
            raise Unavailable(f"{path.name} cannot be used: {error}") from error

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"rd_kafka_{name} is not declared")

    def address(self, name: str) -> int:
        """Return where a function lies, for compiled callers; valid as long as the process runs."""
        return int(ctypes.cast(getattr(self, name), _ADDRESS).value or 0)

    def copied(self, data: bytes) -> int:
        """Return a copy of some bytes that the library may free; it ends with a 0."""
        address = int(self.mem_malloc(None, len(data) + 1))
        ctypes.memmove(address, data + b"\0", len(data) + 1)
        return address

    def headers_of(self, message: int) -> tuple[tuple[bytes, bytes], ...]:
        """Return names and values of a message's headers; a null value is empty.

        message : its address; it must not have been destroyed
        """
        headers = _ADDRESS()
        if self.message_headers(message, ctypes.byref(headers)) != NO_ERROR:
            return ()
        name, value, size = _TEXT(), _ADDRESS(), _SIZE()
        found: list[tuple[bytes, bytes]] = []
        while not self.header_get_all(
            headers, len(found), ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)
        ):
            data = ctypes.string_at(value, size.value) if value else b""
            found.append((name.value or b"", data))
        return tuple(found)


def load() -> Library:
    """Load the library and check its version.

    raises : Unavailable
    """
    library = Library(_bundled())
    check_version(library.version())
    return library


def check_version(found: int) -> None:
    """Refuse a librdkafka of another version than the structures are declared for.

    raises : Unavailable that names both
    """
    if found != VERSION:
        raise Unavailable(
            f"it needs librdkafka {_version_text(VERSION)}, and confluent-kafka"
            f" {confluent_kafka.__version__} has librdkafka {_version_text(found)}"
        )


def _version_text(version: int) -> str:
    """Return a version as text; its last byte is 0xff for a release."""
    return ".".join(str(version >> shift & 0xFF) for shift in (24, 16, 8))


def _bundled() -> Path:
    """Return the library that the wheel brought along.

    raises : Unavailable
    """
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if len(found) != 1:
        raise Unavailable(
            "it needs confluent-kafka from its wheel for Linux, which brings librdkafka along; "
            f"found {len(found)} in {folder}"
        )
    return found[0]
