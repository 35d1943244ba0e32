"""The engine on confluent-kafka, which wraps librdkafka.

Invariant: only this package knows the library's objects; it makes no decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError

from shared.kafka.engine.confluent.admin import ConfluentAdmin
from shared.kafka.engine.confluent.consumer import ConfluentConsumer
from shared.kafka.engine.confluent.errors import client_error
from shared.kafka.engine.confluent.producer import ConfluentProducer
from shared.kafka.engine.port import ClientError

__all__ = ["ConfluentEngine"]


class ConfluentEngine:
    """``shared.kafka.engine.port.Engine`` on confluent-kafka."""

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> ConfluentConsumer:
        """Create a consumer; see Engine."""
        return ConfluentConsumer({**config, "error_cb": _error_callback(on_error)})

    def producer(
        self,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        on_failed: Callable[[ClientError], None] | None,
    ) -> ConfluentProducer:
        """Create a producer; see Engine."""
        return ConfluentProducer({**config, "error_cb": _error_callback(on_error)}, on_failed)

    def admin(self, config: Mapping[str, str]) -> ConfluentAdmin:
        """Create an admin client; see Engine."""
        return ConfluentAdmin(config)


def _error_callback(on_error: Callable[[ClientError], None]) -> Callable[[KafkaError], None]:
    return lambda error: on_error(client_error(error))
