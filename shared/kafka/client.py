"""What every Kafka client has in common: its configuration, and the one translation of its errors.

Invariant: a user's librdkafka setting wins over tuning, and never over what correctness needs;
whoever tries gets a ConfigError. No ClientError leaves this package.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Literal

from shared.errors import (
    ConfigError,
    HistoryGone,
    LapwingError,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Flags
from shared.kafka.engine.properties import CONSUMER_ONLY, PRODUCER_ONLY
from shared.settings import Settings

Role = Literal["consumer", "producer", "admin"]
LOG = logging.getLogger("lapwing.kafka")

CALL_TIMEOUT_S = 9.0
"""Longest wait for one answer, so that an unreachable broker is reported within 10 s."""

CONSUMER_TUNING = {
    "fetch.wait.max.ms": "10",
    "fetch.queue.backoff.ms": "5",
    "fetch.error.backoff.ms": "50",
    "queued.min.messages": "10000",
    "queued.max.messages.kbytes": "32768",
}
"""What readers want unless the user says otherwise: low latency, and a queue that a small process
can hold.
"""

CONSUMER_REQUIRED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
}
"""What readers need to be right."""

_COMMON_TUNING = {
    "socket.timeout.ms": "10000",
    "socket.keepalive.enable": "true",
    "reconnect.backoff.max.ms": "1000",
    "log.connection.close": "false",
    # With "rebootstrap", the default, one broken connection to the only known broker makes the
    # client forget its transaction coordinator, and a call on the open transaction then waits for
    # ever, whatever its timeout (librdkafka 2.16).
    "metadata.recovery.strategy": "none",
}

_ALIASES = {
    "request.required.acks": "acks",
    "metadata.broker.list": "bootstrap.servers",
    "auto.commit.enable": "enable.auto.commit",
}
_SAME = {"-1": "all", "1": "true", "t": "true", "0": "false", "f": "false"}


def client_config(
    settings: Settings,
    role: Role = "admin",
    *,
    tuning: Mapping[str, str] | None = None,
    required: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Join ``settings.kafka`` with what a client of this role needs.

    tuning   : defaults that the user may override
    required : what correctness needs
    returns  : a configuration by librdkafka's names; no client of it makes a broker create a topic
               by asking about it, as librdkafka's producers and admin clients do unless told
               otherwise
    raises   : ConfigError when the user set a required name to another value, or an alias of a name
               that is ours
    """
    foreign = {
        "consumer": PRODUCER_ONLY,
        "producer": CONSUMER_ONLY,
        "admin": PRODUCER_ONLY | CONSUMER_ONLY,
    }[role]
    given = {name: value for name, value in settings.kafka.items() if name not in foreign}
    wanted = dict(required or {})
    for name, value in given.items():
        if name in _ALIASES:
            raise ConfigError(f"{_setting(name)}: write {_ALIASES[name]!r} instead of its alias")
        if name in wanted and _plain(value) != _plain(wanted[name]):
            raise ConfigError(
                f"{_setting(name)}: must be {wanted[name]!r}, results would be wrong otherwise; got"
                f" {value!r}"
            )
    asking = {} if role == "consumer" else {"allow.auto.create.topics": "false"}
    return _COMMON_TUNING | asking | dict(tuning or {}) | given | wanted


class ClientErrors:
    """The last thing that a client complained about by itself, and when it last missed a broker."""

    latest: ClientError | None = None
    outage_s: float = -math.inf

    def __call__(self, error: ClientError) -> None:
        """Take note of an error."""
        self.latest = error
        if error.code in (Code.LOCAL_TRANSPORT, Code.LOCAL_ALL_BROKERS_DOWN):
            self.outage_s = time.monotonic()


def log_complaint(error: ClientError) -> None:
    """Take note of what a client complains about by itself, where whoever calls it is told anyway.

    Without a callback the client would write each complaint to its log once more.
    """
    LOG.debug("%s", error.text)


def place_of(error: ClientError, topic: str) -> str:
    """Return the topic that an error is about, with the partition where there is one."""
    return topic if error.partition is None else f"{topic}[{error.partition}]"


def translate(error: ClientError, doing: str) -> LapwingError:
    """Turn an error of a client into the tree of ``shared.errors``; the one place that does.

    doing : what was being done and where, e.g. "reading the topics of localhost:9092"; the message
            starts with it
    """
    code = error.code
    message = f"{doing}: {error.text}"
    if code in _FENCED:
        return ProducerFenced(f"{message}; another process uses the same slot or transactional.id")
    if Flags.ABORT in error.flags:
        return TransactionAborted(message)
    if code in _CONFIG:
        return ConfigError(message)
    if code in _TOPIC:
        return TopicMismatch(f"{message}; `lapwing topics ensure` makes what is missing")
    if code in _HISTORY:
        return HistoryGone(
            f"{message}; records that were asked for are gone from the topic, docs/guards.md says"
            " how to go on"
        )
    again = Flags.RETRIABLE in error.flags or code in _RETRIABLE
    return TransportError(message, retriable=again and Flags.FATAL not in error.flags)


def _setting(name: str) -> str:
    return f"kafka.{name} (LAPWING_KAFKA__{name.upper().replace('.', '_')})"


def _plain(value: str) -> str:
    lowered = value.strip().lower()
    return _SAME.get(lowered, lowered)


_FENCED = frozenset({Code.LOCAL_FENCED, Code.PRODUCER_FENCED, Code.FENCED_INSTANCE_ID})
_CONFIG = frozenset(
    {
        Code.LOCAL_INVALID_ARG,
        Code.INVALID_CONFIG,
        Code.INVALID_REPLICATION_FACTOR,
        Code.INVALID_PARTITIONS,
    }
)
_TOPIC = frozenset({Code.UNKNOWN_TOPIC_OR_PART, Code.LOCAL_UNKNOWN_TOPIC})
_HISTORY = frozenset(
    {Code.OFFSET_OUT_OF_RANGE, Code.LOCAL_AUTO_OFFSET_RESET, Code.LOCAL_LOG_TRUNCATION}
)
_RETRIABLE = frozenset(
    {
        Code.LOCAL_TRANSPORT,
        Code.LOCAL_DESTROY_BROKER,
        Code.LOCAL_UNKNOWN_PARTITION,
        Code.LOCAL_ALL_BROKERS_DOWN,
        Code.LOCAL_RESOLVE,
        Code.LOCAL_TIMED_OUT,
        Code.LOCAL_TIMED_OUT_QUEUE,
        Code.LOCAL_MSG_TIMED_OUT,
        Code.LOCAL_QUEUE_FULL,
        Code.LOCAL_WAIT_COORD,
        Code.LOCAL_ISR_INSUFF,
        Code.LOCAL_MAX_POLL_EXCEEDED,
        Code.LOCAL_ASSIGNMENT_LOST,
        Code.LOCAL_NODE_UPDATE,
        Code.UNKNOWN,
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER_FOR_PARTITION,
        Code.REPLICA_NOT_AVAILABLE,
        Code.BROKER_NOT_AVAILABLE,
        Code.REQUEST_TIMED_OUT,
        Code.NETWORK_EXCEPTION,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
        Code.NOT_CONTROLLER,
        Code.NOT_ENOUGH_REPLICAS,
        Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code.KAFKA_STORAGE_ERROR,
        Code.FENCED_LEADER_EPOCH,
        Code.UNKNOWN_LEADER_EPOCH,
        Code.OFFSET_NOT_AVAILABLE,
        Code.UNSTABLE_OFFSET_COMMIT,
        Code.CONCURRENT_TRANSACTIONS,
        Code.ILLEGAL_GENERATION,
        Code.UNKNOWN_MEMBER_ID,
        Code.REBALANCE_IN_PROGRESS,
        Code.STALE_MEMBER_EPOCH,
        Code.THROTTLING_QUOTA_EXCEEDED,
    }
)
