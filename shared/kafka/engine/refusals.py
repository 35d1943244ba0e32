"""Which errors say that client and broker do not accept each other, by code and librdkafka's text.

Invariant: a connection that breaks during the handshake is no refusal but an outage.
"""

from __future__ import annotations

from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError

_CODES = frozenset(
    {
        Code.LOCAL_AUTHENTICATION,
        Code.SASL_AUTHENTICATION_FAILED,
        Code.UNSUPPORTED_SASL_MECHANISM,
    }
)
_BROKEN = ("Disconnected", "Connection reset", "timed out")
_ALERT = "SSL alert number"
"""A broker that refuses a client's certificate says so after the client's handshake."""


def is_refusal(error: ClientError) -> bool:
    """Return whether one side does not accept the other's certificate, password or token."""
    if error.code == Code.LOCAL_SSL:
        return not any(text in error.text for text in _BROKEN)
    if error.code == Code.LOCAL_TRANSPORT:
        return _ALERT in error.text
    return error.code in _CODES
