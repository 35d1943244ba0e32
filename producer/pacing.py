"""Limits the replay's lead over its consumers, and detects a silent broker.

Invariant: no clock and no broker here; callers pass the time and the current counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.errors import ConfigError

CHECK_EVERY_S = 0.02


def parse_groups(given: Sequence[str], input_topic: str) -> list[tuple[str, str]]:
    """Read ``GROUP`` (of the input topic) and ``GROUP@TOPIC``; return (group, topic) pairs.

    raises : ConfigError
    """
    pairs = []
    for text in given:
        group, at, topic = text.partition("@")
        if not group or (at and not topic):
            raise ConfigError(
                f"--pace-group {text!r}: write GROUP, or GROUP@TOPIC for a group of another topic"
            )
        pairs.append((group, topic or input_topic))
    return pairs


@dataclass(slots=True)
class ConsumerPace:
    """Limits the total lag of consumer groups to ``records``.

    groups : (group, topic); their lags are added up, so a group of predictors and a group that
             reads their results bound the whole pipeline
    lag    : returns the lag of a group in a topic, over all partitions; called at most every 20 ms
    lags   : lag of each group when last checked
    """

    groups: Sequence[tuple[str, str]]
    records: int
    lag: Callable[[str, str], int]
    lags: dict[tuple[str, str], int] = field(default_factory=dict)
    _allowed_until: int = 0
    _checked_s: float = float("-inf")

    def allowed(self, sent: int, waiting: int, now_s: float) -> int:
        """Return how many more records may be sent now.

        sent    : number of records sent so far
        waiting : how many of these are not acknowledged yet, so that no lag includes them
        """
        if not self.groups:
            return 2**62
        if self._allowed_until <= sent and now_s - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = now_s
            self.lags = {pair: self.lag(*pair) for pair in self.groups}
            self._allowed_until = sent + self.records - waiting - sum(self.lags.values())
        return max(0, self._allowed_until - sent)


@dataclass(slots=True)
class Silence:
    """Detects that waiting records are not being acknowledged."""

    _acknowledged: int = 0
    _alive_s: float | None = None

    def since(self, acknowledged: int, waiting: int, now_s: float) -> float:
        """Return the time since which waiting records got no acknowledgement, now_s if none."""
        if acknowledged > self._acknowledged or not waiting or self._alive_s is None:
            self._acknowledged = acknowledged
            self._alive_s = now_s
        return self._alive_s
