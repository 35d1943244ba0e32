"""Everything that talks to Kafka brokers.

Invariant: records are passed in and out as batches of columns; every error that leaves this package
is one of ``shared.errors``.
"""

from shared.kafka.admin import (
    Admin,
    ConfigDifference,
    TopicIdentity,
    TopicReport,
)
from shared.kafka.client import client_config, translate
from shared.kafka.engine import engine_name
from shared.kafka.member import group_protocol, unused_session_timeout
from shared.kafka.publisher import Counts, Publisher
from shared.kafka.reader import Reader, topic_bounds
from shared.kafka.sink import AtLeastOnceSink, TransactionalSink
from shared.kafka.source import GroupSource
from shared.settings.topic_specs import (
    TopicSpec,
    input_limit_bytes,
    source_limit_bytes,
    topic_specs,
    wrong_count,
)

__all__ = [
    "Admin",
    "AtLeastOnceSink",
    "ConfigDifference",
    "Counts",
    "GroupSource",
    "Publisher",
    "Reader",
    "TopicIdentity",
    "TopicReport",
    "TopicSpec",
    "TransactionalSink",
    "client_config",
    "engine_name",
    "group_protocol",
    "input_limit_bytes",
    "source_limit_bytes",
    "topic_bounds",
    "topic_specs",
    "translate",
    "unused_session_timeout",
    "wrong_count",
]
