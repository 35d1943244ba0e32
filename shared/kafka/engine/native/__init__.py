"""The engine on librdkafka's C API, as the confluent-kafka wheel ships it.

Invariant: records pass between librdkafka and columns in compiled code, without a Python object for
each; all else is as in the other engine. This package makes no decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.kafka.engine.native.compiled import check_compiler
from shared.kafka.engine.native.consumer import NativeConsumer
from shared.kafka.engine.native.layout import check_layout
from shared.kafka.engine.native.library import Unavailable, load
from shared.kafka.engine.native.producer import NativeProducer
from shared.kafka.engine.port import AdminClient, ClientError

__all__ = ["NativeEngine", "Unavailable"]


class NativeEngine:
    """``shared.kafka.engine.port.Engine`` on the library that is bundled with confluent-kafka.

    admin  : creates admin clients, whose requests are few
    raises : Unavailable, which says why it cannot run here
    """

    def __init__(self, admin: Callable[[Mapping[str, str]], AdminClient]) -> None:
        check_compiler()
        self._library = load()
        check_layout(self._library)
        self._admin = admin

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> NativeConsumer:
        """Create a consumer; see Engine."""
        return NativeConsumer(self._library, config, on_error)

    def producer(
        self,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        on_failed: Callable[[ClientError], None] | None,
    ) -> NativeProducer:
        """Create a producer; see Engine."""
        return NativeProducer(self._library, config, on_error, on_failed)

    def admin(self, config: Mapping[str, str]) -> AdminClient:
        """Create an admin client; see Engine."""
        return self._admin(config)
