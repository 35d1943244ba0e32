"""Pass criteria of a situation, and their defaults.

Invariant: criteria are data; ``judging`` alone applies them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Criteria:
    """The pass criteria of one situation.

    find             : share of the incidents that must be found
    grace_min        : minutes after an incident that still count, at least three intervals
    repeats          : alarms per incident at most, in ``repeats_share`` of the incidents found
    false_per_day    : false alarms per entity and day at most, rounded down, plus one
    learn_days       : days of an entity before which its false alarms are not counted
    quiet            : share of the stretches that must be quiet
    usual            : share of the alarms whose ``expected`` must be near the truth: within
                       ``usual_within`` of it plus ``usual_absolute`` in the metric's unit
    late             : (day, most) false alarms per entity and day at most from this day on
    forbidden_words  : patterns that no reason may match
    ready            : no entity may be warming up at the end
    rejected         : records refused at most
    late_rows        : share of the records called late at most
    verdicts_per_day : data-quality verdicts per entity and day at most
    times_right      : first and last event time, and the number of records, must be right
    or_refused       : accept, instead of all else, exit code 2 and a message that matches
    """

    find: float = 0.9
    grace_min: float = 30
    repeats: int = 3
    repeats_share: float = 0.9
    false_per_day: float = 0.05
    learn_days: float = 7
    quiet: float = 0.9
    usual: float = 0.8
    usual_within: float = 0.15
    usual_absolute: float = 0.0
    late: tuple[float, float] | None = None
    forbidden_words: tuple[str, ...] = ()
    ready: bool = False
    rejected: int | None = None
    late_rows: float | None = None
    verdicts_per_day: float | None = None
    times_right: bool = False
    or_refused: str | None = None

    def changed(self) -> dict[str, object]:
        """Return the criteria that differ from the defaults."""
        default = Criteria()
        return {
            name: value for name, value in vars(self).items() if value != getattr(default, name)
        }


DEFAULTS = Criteria()
