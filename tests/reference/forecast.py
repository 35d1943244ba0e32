"""Slow and obviously right: four forecasts from dictionaries, and the one that has been nearest
lately.
"""

from __future__ import annotations

import math

import numpy as np

HALF_HOUR_MS = 1_800_000
DAY, WEEK = 48, 7 * 48
"""Half hours in a day and in a week."""


class Levels:
    """Level of each half hour of a cycle: the mean of its last values, as float32."""

    def __init__(self, size, memory):
        self.size, self.memory = size, memory
        self.level, self.seen = {}, {}

    def expect(self, half_hour):
        around = [
            ((half_hour - 1) % self.size, 1.0),
            (half_hour % self.size, 2.0),
            ((half_hour + 1) % self.size, 1.0),
        ]
        known = [
            (place, weight * self.seen[place]) for place, weight in around if place in self.seen
        ]
        if not known:
            return math.nan
        return sum(weight * self.level[place] for place, weight in known) / sum(
            weight for _, weight in known
        )

    def learn(self, half_hour, x, most, start):
        place = half_hour % self.size
        self.seen[place] = float(np.float32(min(self.seen.get(place, 0.0) + 1.0, self.memory)))
        level = self.level.get(place, start)
        self.level[place] = float(
            np.float32(level + min(max(x - level, -most), most) / self.seen[place])
        )


class Forecast:
    """The kernels ``forecast`` and ``follow`` over one series; recent, day, shifted and week are
    the four.
    """

    def __init__(self, origin_ms, interval_ms):
        self.origin_ms = origin_ms
        per_half_hour = HALF_HOUR_MS / interval_ms
        self.day = Levels(DAY, max(10 * per_half_hour, 10))
        self.week = Levels(WEEK, max(5 * per_half_hour, 5))
        self.error = {"recent": 0.0, "day": 0.0, "shifted": 0.0, "week": 0.0}
        self.learned = self.week_learned = 0
        self.level = self.offset = 0.0

    def candidates(self, time_ms):
        day, week = (
            self.day.expect(time_ms // HALF_HOUR_MS),
            self.week.expect(time_ms // HALF_HOUR_MS - 4 * DAY),
        )
        return {"recent": self.level, "day": day, "shifted": day + self.offset, "week": week}

    def expect(self, time_ms):
        """Return (expected, half width, level of the season, weekly, nearer season)."""
        found = self.candidates(time_ms)
        if math.isnan(found["day"]):
            return math.nan, math.nan, math.nan, False, math.nan
        trusted = (
            time_ms - self.origin_ms >= 21 * 86_400_000
            and self.week_learned > 20
            and not math.isnan(found["week"])
        )
        names = ["recent", "day", "shifted", *(["week"] if trusted else [])]
        best = min(names, key=lambda name: self.error[name])
        nearer = (
            found["week"] if trusted and self.error["week"] < self.error["day"] else found["day"]
        )
        weekly = best == "week"
        return found[best], 5 * self.error[best], found["week" if weekly else "day"], weekly, nearer

    def learn(self, time_ms, x):
        found = self.candidates(time_ms)
        first = math.isnan(found["day"])
        if not first:
            self.learned += 1
            for name in ("recent", "day", "shifted"):
                self._miss(name, abs(x - found[name]), self.learned)
            self.offset += 0.05 * self._clip(x - found["day"] - self.offset)
        if not math.isnan(found["week"]):
            self.week_learned += 1
            self._miss("week", abs(x - found["week"]), self.week_learned)
        self.level = x if first else self.level + 0.3 * (x - self.level)
        most = self._most()
        self.day.learn(time_ms // HALF_HOUR_MS, x, most, 0.0)
        self.week.learn(
            time_ms // HALF_HOUR_MS - 4 * DAY, x, max(most, 2.5), x if first else found["day"]
        )

    def _miss(self, name, miss, count):
        if count > 20:
            miss = min(miss, 4 * self.error[name] + 1e-9)
        self.error[name] += max(0.005, 1 / count) * (miss - self.error[name])

    def _most(self):
        return 4 * max(self.error["day"], 0.01) if self.learned > 20 else math.inf

    def _clip(self, miss):
        return min(max(miss, -self._most()), self._most())
