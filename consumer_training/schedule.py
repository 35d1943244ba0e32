"""When to train again.

Invariant: pure; the next run follows from the wall clock passed in, so setting the clock moves it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from croniter import CroniterError, croniter

from shared.errors import ConfigError
from shared.settings import TrainSettings

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Schedule:
    """A fixed interval from the start of the first run, or a cron line (UTC).

    raises : ConfigError that names the setting
    """

    every_s: float | None = None
    cron: str | None = None

    def __post_init__(self) -> None:
        if self.every_s is not None and not self.every_s > 0:
            raise ConfigError(
                f"train.every: {self.every_s:g} s; the interval must be above 0, e.g. 24h"
            )
        if self.cron is not None and not croniter.is_valid(self.cron):
            raise ConfigError(f"train.cron: {self.cron!r} is not a cron line such as '0 3 * * *'")

    @classmethod
    def from_settings(cls, settings: TrainSettings) -> Schedule | None:
        """Read the schedule; None where none is set."""
        if settings.cron is not None:
            return cls(cron=settings.cron)
        if settings.every is not None:
            return cls(every_s=float(settings.every[:-1]) * _SECONDS[settings.every[-1]])
        return None

    def next_s(self, first_s: float, now_s: float) -> float:
        """Return when the next run begins; missed runs are skipped.

        first_s, now_s : start of the first run and now, seconds since 1970 UTC
        returns        : > now_s
        raises         : ConfigError when the cron line matches no date
        """
        if self.cron is not None:
            try:
                return float(
                    croniter(self.cron, datetime.fromtimestamp(now_s, UTC)).get_next(float)
                )
            except CroniterError as error:
                raise ConfigError(f"train.cron: {self.cron!r} matches no date") from error
        assert self.every_s is not None  # noqa: S101 - one of the two is always set
        if now_s < first_s:
            return now_s + self.every_s
        return first_s + (math.floor((now_s - first_s) / self.every_s) + 1) * self.every_s
