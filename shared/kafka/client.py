"""The configuration that all Kafka clients share, and the only translation of their errors.

Invariant: a user's librdkafka setting overrides tuning, but never what correctness requires: that
is a ConfigError. No ClientError leaves this package.
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
    NotAuthenticated,
    NotAuthorized,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka.engine.codes import Code, is_refusal
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
"""Defaults of consumers, which the user may override: low latency, and a queue of limited size."""

CONSUMER_REQUIRED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
}
"""What correctness requires of consumers."""

_COMMON_TUNING = {
    "socket.timeout.ms": "10000",
    "socket.keepalive.enable": "true",
    "reconnect.backoff.max.ms": "1000",
    "log.connection.close": "false",
    # With "rebootstrap", the default, one broken connection to the only known broker makes the
    # client forget its transaction coordinator; a call on the open transaction then never returns,
    # whatever its timeout (librdkafka 2.16).
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
    """Merge ``settings.kafka`` with what a client of this role needs.

    tuning   : defaults that the user may override
    required : what correctness requires
    returns  : a configuration by librdkafka's names; it disables the creation of topics by metadata
               requests, which producers and admin clients do by default
    raises   : ConfigError when the user sets a required name to another value, or an alias of a
               name that is set here
    """
    ignored = {
        "consumer": PRODUCER_ONLY,
        "producer": CONSUMER_ONLY,
        "admin": PRODUCER_ONLY | CONSUMER_ONLY,
    }[role]
    given = {name: value for name, value in settings.kafka.items() if name not in ignored}
    required = dict(required or {})
    for name, value in given.items():
        if name in _ALIASES:
            raise ConfigError(f"{_setting(name)}: use the name {_ALIASES[name]!r}, not its alias")
        if name in required and _normalised(value) != _normalised(required[name]):
            raise ConfigError(
                f"{_setting(name)}: must be {required[name]!r}, results would be wrong otherwise;"
                f" got {value!r}"
            )
    creation = {} if role == "consumer" else {"allow.auto.create.topics": "false"}
    return _COMMON_TUNING | creation | dict(tuning or {}) | given | required


def is_secured(settings: Settings) -> bool:
    """Return whether brokers may refuse this client: security.protocol is not plaintext."""
    return settings.kafka.get("security.protocol", "plaintext").lower() != "plaintext"


class ClientErrors:
    """The last error that a client has reported by itself, and when it last lost a broker."""

    latest: ClientError | None = None
    outage_s: float = -math.inf

    def __call__(self, error: ClientError) -> None:
        """Record an error."""
        self.latest = error
        if error.code in (Code.LOCAL_TRANSPORT, Code.LOCAL_ALL_BROKERS_DOWN):
            self.outage_s = time.monotonic()


def log_client_error(error: ClientError) -> None:
    """Log an error that a client reports by itself, for clients whose calls fail as well.

    Without this callback librdkafka would log each such error itself.
    """
    LOG.debug("%s", error.text)


def topic_partition_of(error: ClientError, topic: str) -> str:
    """Return the topic, with the partition if the error is about one."""
    return topic if error.partition is None else f"{topic}[{error.partition}]"


def translate(error: ClientError, action: str) -> LapwingError:
    """Translate a client's error into an error of ``shared.errors``.

    action : what failed and where, e.g. "reading the topics of localhost:9092"; the message starts
             with it
    """
    code = error.code
    message = f"{action}: {error.text}"
    if code in _FENCED:
        return ProducerFenced(f"{message}; another process uses the same slot or transactional.id")
    if code in _UNAUTHORIZED:
        return NotAuthorized(f"{message}; `lapwing topics acls` lists the rights of each service")
    if is_refusal(code, error.text):
        return NotAuthenticated(
            f"{message}; see docs/security.md", retriable=_is_outage_of_issuer(error)
        )
    if Flags.ABORT in error.flags:
        return TransactionAborted(message)
    if code in _CONFIG:
        return ConfigError(message)
    if code in _TOPIC:
        return TopicMismatch(f"{message}; `lapwing topics ensure` creates missing topics")
    if code in _HISTORY:
        return HistoryGone(
            f"{message}; requested records are no longer in the topic, see docs/guards.md for the"
            " remedy"
        )
    is_retriable = Flags.RETRIABLE in error.flags or code in _RETRIABLE
    return TransportError(message, retriable=is_retriable and Flags.FATAL not in error.flags)


def _is_outage_of_issuer(error: ClientError) -> bool:
    """Return whether a token could not be fetched for a reason that may pass."""
    return _NO_TOKEN in error.text and any(text in error.text for text in _NO_ANSWER)


def _setting(name: str) -> str:
    return f"kafka.{name} (LAPWING_KAFKA__{name.upper().replace('.', '_')})"


def _normalised(value: str) -> str:
    lowered = value.strip().lower()
    return _SAME.get(lowered, lowered)


_UNAUTHORIZED = frozenset(
    {
        Code.TOPIC_AUTHORIZATION_FAILED,
        Code.GROUP_AUTHORIZATION_FAILED,
        Code.CLUSTER_AUTHORIZATION_FAILED,
        Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_NO_TOKEN = "Failed to acquire SASL OAUTHBEARER token"  # noqa: S105 - librdkafka's message
_NO_ANSWER = ("connect", "resolve", "timed out", "timeout", "HTTP 5")

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
        Code.LOCAL_SSL,
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
