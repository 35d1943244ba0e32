"""A broker inside this process, for ``lapwing demo`` and for tests that need no real Kafka.

Invariant: this is librdkafka's mock cluster, and never evidence for exactly-once.

It keeps data in memory only, has no transactions, and silently drops the oldest records beyond
5 MiB or 100,000 batches per partition. Other processes reach it over TCP on the loopback; it ends
with the process that created it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.errors import ConfigError

RETENTION_BYTES = 5 * 1024 * 1024


def find_library() -> Path:
    """Return the librdkafka of the installed confluent-kafka wheel.

    raises : ConfigError if that is not a Linux wheel (built from source, other systems)
    """
    spec = find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the embedded broker needs the package confluent-kafka, which is not installed"
        )
    package = Path(spec.origin).parent
    found = sorted(package.with_name("confluent_kafka.libs").glob("librdkafka*.so*"))
    if not found:
        raise ConfigError(
            "the embedded broker needs the librdkafka bundled in confluent-kafka's Linux wheels,"
            f" and {package.parent} has none: install confluent-kafka from a wheel on Linux, or"
            " set KAFKA_BOOTSTRAP_SERVERS to a real Kafka"
        )
    return found[0]


class EmbeddedBroker:
    """A one-node cluster with the given topics, in memory.

    topics : {name: partitions}; topics cannot be created later
    raises : ConfigError if the library is missing or refuses a topic
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._library = _declare(ctypes.CDLL(str(find_library())))
        reason = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        # The handle only carries the cluster; without this it warns on stderr that it has no
        # bootstrap.servers of its own.
        self._library.rd_kafka_conf_set(conf, b"log_level", b"4", reason, len(reason))
        self._handle = self._library.rd_kafka_new(0, conf, reason, len(reason))
        if not self._handle:
            self._library.rd_kafka_conf_destroy(conf)
            raise ConfigError(f"the embedded broker did not start: {reason.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._handle)
            raise ConfigError("the embedded broker did not start: no free port on the loopback")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """host:port, for ``bootstrap.servers``."""
        for name, partitions in topics.items():
            code = self._library.rd_kafka_mock_topic_create(
                self._cluster, name.encode(), partitions, 1
            )
            if code or partitions < 1:
                self.close()
                raise ConfigError(
                    f"the embedded broker refused topic {name!r} with {partitions} partitions"
                    f" (librdkafka error {code})"
                )

    @property
    def client_settings(self) -> dict[str, str]:
        """The ``Settings.kafka`` for clients of this broker.

        Its classic groups wait a whole session before they assign partitions, and an empty fetch
        always takes fetch.wait.max.ms.
        """
        return {
            "bootstrap.servers": self.bootstrap,
            "group.protocol": "consumer",
            "fetch.wait.max.ms": "2",
        }

    def close(self) -> None:
        """End the cluster and discard its data; a second call does nothing."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._handle:
            self._library.rd_kafka_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _declare(library: ctypes.CDLL) -> Any:
    """Declare the types of the functions; ctypes would truncate pointers to 32 bits."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    for name, result, *arguments in (
        ("rd_kafka_conf_new", pointer),
        (
            "rd_kafka_conf_set",
            integer,
            pointer,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ),
        ("rd_kafka_conf_destroy", None, pointer),
        ("rd_kafka_new", pointer, integer, pointer, ctypes.c_char_p, ctypes.c_size_t),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_mock_cluster_new", pointer, pointer, integer),
        ("rd_kafka_mock_cluster_destroy", None, pointer),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, pointer),
        ("rd_kafka_mock_topic_create", integer, pointer, ctypes.c_char_p, integer, integer),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, pointer, ctypes.c_int32),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
