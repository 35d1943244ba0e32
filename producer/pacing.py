"""How far the replay may run ahead of its readers, and since when a broker has been silent.

Law: no clock and no broker here; both are asked for with the time and the figures of the moment.
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
                f"--pace-group {text!r}: write GROUP, or GROUP@TOPIC for readers of another topic"
            )
        pairs.append((group, topic or input_topic))
    return pairs


@dataclass(slots=True)
class ReaderPace:
    """Lets the replay run at most ``records`` ahead of what all groups together have committed.

    groups : (group, topic); their backlogs are added up, so a group of predictors and one that
             reads their results bound the whole way from here to the last reader
    lag    : returns the offsets that a group is behind in a topic, summed; asked at most every 20
             ms
    """

    groups: Sequence[tuple[str, str]]
    records: int
    lag: Callable[[str, str], int]
    behind: dict[tuple[str, str], int] = field(default_factory=dict)
    _free_until: int = 0
    _checked_s: float = float("-inf")

    def room(self, sent: int, waiting: int, now_s: float) -> int:
        """Return how many more records may be sent now.

        sent    : records handed over so far
        waiting : of these, not yet acknowledged, so that no group can be behind in them yet
        """
        if not self.groups:
            return 2**62
        if self._free_until <= sent and now_s - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = now_s
            self.behind = {pair: self.lag(*pair) for pair in self.groups}
            self._free_until = sent + self.records - waiting - sum(self.behind.values())
        return max(0, self._free_until - sent)


@dataclass(slots=True)
class Silence:
    """Watches whether what waits is being acknowledged."""

    _acknowledged: int = 0
    _alive_s: float | None = None

    def since(self, acknowledged: int, waiting: int, now_s: float) -> float:
        """Return since when nothing was acknowledged although something waits; now_s when that is
        not so.
        """
        if acknowledged > self._acknowledged or not waiting or self._alive_s is None:
            self._acknowledged, self._alive_s = acknowledged, now_s
        return self._alive_s
