"""What every Kafka client has in common: its configuration, its log, and the one translation of its
errors.

Law: a user's librdkafka setting wins over tuning, and never over what correctness needs; whoever
     tries gets a ConfigError. No
KafkaError or KafkaException leaves this package.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from confluent_kafka import KafkaError, KafkaException

from shared.errors import (
    ConfigError,
    HistoryGone,
    LapwingError,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka.properties import CONSUMER_ONLY, PRODUCER_ONLY
from shared.settings import Settings

LOG = logging.getLogger("lapwing.kafka")
"""Where librdkafka's own log lines go."""

REPEAT_S = 30.0
"""A client that cannot connect says so several times a second; of each client's complaints one in
this time is logged.
"""


class _Sparse(logging.Filter):
    """Lets a client's complaints about its connections through once in REPEAT_S.

    Of what it tries again by itself it lets nothing through: a producer without an id asks again
    until it has one, a new cluster makes it wait for a second, and an outage is said by whoever
    waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[tuple[object, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one of librdkafka's lines, whose arguments are facility, client and text."""
        if (
            not isinstance(record.args, tuple)
            or len(record.args) != 3
            or record.args[0] not in ("FAIL", "ERROR", "GETPID")
        ):
            return True
        if record.args[0] == "GETPID" and str(record.args[2]).rstrip().endswith("retrying"):
            return LOG.isEnabledFor(logging.DEBUG)
        name = (record.args[0], record.args[1])
        self._said_s = {
            one: at_s for one, at_s in self._said_s.items() if 0 <= record.created - at_s < REPEAT_S
        }
        if name in self._said_s:
            return False
        self._said_s[name] = record.created
        return True


LOG.addFilter(_Sparse())

Role = Literal["consumer", "producer", "admin"]
Client = TypeVar("Client")

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
) -> dict[str, Any]:
    """Join ``settings.kafka`` with what a client of this role needs.

    tuning   : defaults that the user may override
    required : what correctness needs
    returns  : a configuration for confluent-kafka, log lines going to ``LOG``; no client of it
               makes a broker create a topic by asking about it, as librdkafka's producers and admin
               clients do unless told otherwise
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
    return _COMMON_TUNING | asking | dict(tuning or {}) | given | wanted | {"logger": LOG}


class ClientErrors:
    """The last thing that a client complained about through its error callback, and when it last
    missed a broker.
    """

    latest: KafkaError | None = None
    outage_s: float = -math.inf

    def __call__(self, error: KafkaError) -> None:
        """Take note of an error."""
        self.latest = error
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            self.outage_s = time.monotonic()


def open_client(make: Callable[[dict[str, Any]], Client], config: dict[str, Any]) -> Client:
    """Make a client.

    raises : ConfigError with librdkafka's sentence, which names the setting that is unknown or
             impossible
    """
    try:
        return make(config)
    except (KafkaException, ValueError, TypeError) as error:
        cause = error.args[0] if error.args else error
        reason = cause.str() if isinstance(cause, KafkaError) else str(cause)
        raise ConfigError(f"kafka settings: {reason}") from error


def translate(error: KafkaError | KafkaException, doing: str) -> LapwingError:
    """Turn an error of the client into the tree of ``shared.errors``; the one place that does.

    doing : what was being done and where, e.g. "reading the topics of localhost:9092"; the message
            starts with it
    """
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
    if not isinstance(cause, KafkaError):
        return TransportError(f"{doing}: {error}", retriable=False)
    code = cause.code()
    message = f"{doing}: {cause.str()} ({cause.name()})"
    if code in _FENCED or (code == KafkaError._FATAL and _TWIN in cause.str()):
        return ProducerFenced(f"{message}; another process uses the same slot or transactional.id")
    if cause.txn_requires_abort():
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
    return TransportError(
        message, retriable=not cause.fatal() and (cause.retriable() or code in _RETRIABLE)
    )


def _setting(name: str) -> str:
    return f"kafka.{name} (LAPWING_KAFKA__{name.upper().replace('.', '_')})"


def _plain(value: str) -> str:
    lowered = value.strip().lower()
    return _SAME.get(lowered, lowered)


_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.FENCED_INSTANCE_ID})
# A consumer's fatal error tells its cause in words only.
_TWIN = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
_CONFIG = frozenset(
    {
        KafkaError._INVALID_ARG,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
    }
)
_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_HISTORY = frozenset(
    {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION}
)
_RETRIABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._DESTROY_BROKER,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._QUEUE_FULL,
        KafkaError._WAIT_COORD,
        KafkaError._ISR_INSUFF,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._NODE_UPDATE,
        KafkaError.UNKNOWN,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)
