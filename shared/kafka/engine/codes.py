"""The error codes that decisions depend on.

Invariant: codes of brokers are those of the Kafka protocol. Codes of errors that a client detects
itself (LOCAL_) are librdkafka's, all negative; every engine uses the same ones.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Codes of ``ClientError``; errors with other codes occur and are not retriable by code."""

    LOCAL_FAIL = -196
    LOCAL_TRANSPORT = -195
    LOCAL_RESOLVE = -193
    LOCAL_MSG_TIMED_OUT = -192
    LOCAL_UNKNOWN_PARTITION = -190
    LOCAL_UNKNOWN_TOPIC = -188
    LOCAL_ALL_BROKERS_DOWN = -187
    LOCAL_INVALID_ARG = -186
    LOCAL_TIMED_OUT = -185
    LOCAL_QUEUE_FULL = -184
    LOCAL_ISR_INSUFF = -183
    LOCAL_NODE_UPDATE = -182
    LOCAL_SSL = -181
    LOCAL_WAIT_COORD = -180
    LOCAL_STATE = -172
    LOCAL_AUTHENTICATION = -169
    LOCAL_TIMED_OUT_QUEUE = -166
    LOCAL_FATAL = -150
    LOCAL_MAX_POLL_EXCEEDED = -147
    LOCAL_FENCED = -144
    LOCAL_ASSIGNMENT_LOST = -142
    LOCAL_AUTO_OFFSET_RESET = -140
    LOCAL_LOG_TRUNCATION = -139
    LOCAL_DESTROY_BROKER = -137

    UNKNOWN = -1
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PART = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_FOR_PARTITION = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MSG_SIZE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    UNSUPPORTED_SASL_MECHANISM = 33
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    GROUP_ID_NOT_FOUND = 69
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    FENCED_INSTANCE_ID = 82
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    UNRELEASED_INSTANCE_ID = 111
    STALE_MEMBER_EPOCH = 113


_REFUSALS = frozenset(
    {
        Code.LOCAL_AUTHENTICATION,
        Code.SASL_AUTHENTICATION_FAILED,
        Code.UNSUPPORTED_SASL_MECHANISM,
    }
)
_BROKEN = ("Disconnected", "Connection reset", "timed out")
_ALERT = "SSL alert number"
"""A broker that refuses a client's certificate says so after the client's handshake."""


def is_refusal(code: int, text: str) -> bool:
    """Return whether one side does not accept the other's certificate, password or token.

    A connection that breaks during the handshake is none, but an outage.

    text : the client's message
    """
    if code == Code.LOCAL_SSL:
        return not any(broken in text for broken in _BROKEN)
    if code == Code.LOCAL_TRANSPORT:
        return _ALERT in text
    return code in _REFUSALS
