"""Hours of the week by the clock of a time zone, such as business hours.

Invariant: only the local clock decides. A time that a clock change skips does not occur on that
day; one that it repeats occurs twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.settings import HoursSettings
from shared.settings.notifying import WEEK

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the week.

    days                 : 0 = Monday; a night belongs to the day it begins on
    start_min, end_min   : minutes after midnight; an end at or before the start is on the next day
    inverted             : all other times instead
    """

    zone: ZoneInfo
    days: frozenset[int]
    start_min: int
    end_min: int
    inverted: bool = False

    @classmethod
    def of(cls, settings: HoursSettings, *, inverted: bool = False) -> Hours:
        """Return the hours of a setting."""
        start_min, end_min = (_minutes(text) for text in (settings.start, settings.end))
        days = frozenset(WEEK.index(day) for day in settings.days)
        return cls(ZoneInfo(settings.zone), days, start_min, end_min, inverted)

    def contains(self, now_s: float) -> bool:
        """Return whether a moment lies within the hours; seconds since 1970 UTC."""
        local = datetime.fromtimestamp(now_s, self.zone)
        minute, today = local.hour * 60 + local.minute, local.weekday()
        yesterday = (local.date() - timedelta(days=1)).weekday()
        end_min = self.end_min + (DAY_MINUTES if self.end_min <= self.start_min else 0)
        inside = today in self.days and self.start_min <= minute < end_min
        inside |= yesterday in self.days and minute + DAY_MINUTES < end_min
        return inside is not self.inverted


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return 60 * int(hours) + int(minutes)
