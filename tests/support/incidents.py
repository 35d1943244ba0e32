"""Scenes: a healthy series of a noise family, and one kind of incident in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support.episodes import series
from tests.support.noise import DAY_MS, HOUR_MS, between, clock, daily, days_of, noise


@dataclass(frozen=True)
class Scene:
    """Rows of one entity, in log order, and what happens in them.

    values : float64 (n, M)
    moved  : (first day, last day, columns) of what an operator would call an incident
    """

    time_ms: Any
    values: Any
    moved: tuple[tuple[float, float, tuple[int, ...]], ...] = ()
    timezone: str = "UTC"
    totals: tuple[int, ...] = ()
    detection: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(f"m{k}" for k in range(self.values.shape[1]))


def one(time_ms: Any, values: Any, first: float, last: float, **more: Any) -> Scene:
    """Return a scene of one metric."""
    return Scene(time_ms, np.asarray(values, float)[:, None], ((first, last, (0,)),), **more)


def spike(family: str) -> Scene:
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.4, 0.25)] += 80
    values[between(time_ms, 23.4, 5 / 60)] -= 90
    return one(time_ms, values, 20.4, 20.5, timezone="Europe/Berlin")


def summer_time(family: str) -> Scene:
    """The clocks of Berlin go forward on the 20th day."""
    time_ms, values = series(27, family=family)
    values[between(time_ms, 20.4, 0.25)] += 80
    values[between(time_ms, 23.0, 0.5)] -= 90
    values[between(time_ms, 26.4, 1)] += 25
    return Scene(time_ms + 63 * DAY_MS, values[:, None], timezone="Europe/Berlin")


def two_rows(family: str) -> Scene:
    time_ms, values = series(26, family=family, swing=0.0, spread=1.0)
    values[between(time_ms, 20.4, 10 / 60)] += 7.5 if family != "lognormal" else 12
    return one(time_ms, values, 20.4, 20.5)


def step_inside_the_day(family: str) -> Scene:
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.5, 0.5)] += 25
    values[between(time_ms, 22, 1)] -= 30
    return one(time_ms, values - 80, 20.5, 20.6)


def drift(family: str) -> Scene:
    time_ms, values = series(26, family=family, swing=5.0)
    since = (days_of(time_ms) - 20.3) * 24
    values += np.where((since >= 0) & (since < 10), 0.9 * since, 0)
    return one(time_ms, values, 20.3, 20.9, timezone="America/New_York")


def hours_above(family: str) -> Scene:
    time_ms, values = series(26, family=family, swing=0.0)
    values[between(time_ms, 20.4, 9)] += 2.8
    return Scene(time_ms, values[:, None])


def coarse(family: str) -> Scene:
    time_ms, values = series(30, 3600, family=family)
    values[between(time_ms, 24.4, 7)] += 9
    values[between(time_ms, 27.4, 2)] -= 30
    return one(time_ms, values, 27.4, 27.5)


def hour_above(family: str) -> Scene:
    time_ms, values = series(26, family=family)
    values[between(time_ms, 20.4, 2)] += 5.5
    values[between(time_ms, 23.4, 0.5)] += 10
    return one(time_ms, values, 20.4, 20.6)


def new_level(family: str) -> Scene:
    time_ms, values = series(34, family=family)
    values[days_of(time_ms) >= 20.2] += 45
    for day in (20.9, 21.5, 23.7, 25.4, 28.4):
        values[between(time_ms, day, 0.3)] += 90
    for day in (21.2, 24.2, 27.1):
        values[between(time_ms, day, 0.3)] -= 55
    return one(time_ms, values, 20.2, 20.3)


def small_level(family: str) -> Scene:
    time_ms, values = series(34, 3600, family=family, swing=0.0, seed=1)
    values[days_of(time_ms) >= 24] += 5
    return Scene(time_ms, values[:, None])


def new_unit(family: str) -> Scene:
    time_ms, values = series(32, family=family, seed=2)
    later = days_of(time_ms) >= 20
    values[later] *= 0.001
    for day in (21.4, 26.4):
        values[between(time_ms, day, 0.5)] += 0.3
    return one(time_ms, values, 20, 20.1)


def spread_change(family: str) -> Scene:
    time_ms, values = series(32, family=family)
    incident = between(time_ms, 28.4, 6)
    values[incident] += 7 * noise(family, int(incident.sum()), 4)
    return one(time_ms, values, 28.4, 28.7)


def frozen(family: str) -> Scene:
    time_ms, values = series(32, family=family)
    held = between(time_ms, 28.4, 20)
    values[held] = values[held][0]
    return one(time_ms, values, 28.4, 29.3)


def missed_job(family: str) -> Scene:
    time_ms, values = series(30, family=family, swing=0.0)
    for day in range(30):
        if day not in (24, 27):
            values[between(time_ms, day + 2 / 24, 1)] += 60
    return one(time_ms, values, 24.08, 24.3, timezone="Europe/Berlin")


def missed_dip(family: str) -> Scene:
    time_ms, values = series(30, 600, family=family, swing=0.0)
    for day in range(30):
        if day != 25:
            values[between(time_ms, day + 2 / 24, 1)] -= 45
    return one(time_ms, values, 25.08, 25.3)


def missed_by_the_minute(family: str) -> Scene:
    time_ms, values = series(14, 60, family=family, swing=0.0)
    for day in range(14):
        if day != 11:
            values[between(time_ms, day + 2 / 24, 1)] += 60
    values[between(time_ms, 12.5, 0.2)] += 50
    values[between(time_ms, 6.5, 0.02)] += 60  # as high as what comes on day 12, but for a minute
    return one(time_ms, values, 11.08, 11.3)


def sparse(family: str) -> Scene:
    time_ms = clock(34)
    values = np.where(
        np.arange(len(time_ms)) % 997 == 0, 100 + 20 * noise(family, len(time_ms), 1), 0.0
    )
    often = between(time_ms, 28.4, 4)
    values[often] = np.where(np.arange(often.sum()) % 2 == 0, 100.0, 0.0)
    values[between(time_ms, 31.5, 0.34)] = 900
    return one(time_ms, values, 28.4, 28.7)


def small_and_often(family: str) -> Scene:
    time_ms = clock(34)
    size = 10 + noise(family, len(time_ms), 1)
    values = np.where(np.arange(len(time_ms)) % 97 == 0, size, 0.0)
    incident = between(time_ms, 28.4, 6)
    values[incident] = 1 + 0.05 * noise(family, int(incident.sum()), 3)
    return one(time_ms, values, 28.4, 28.6)


def rare_event(family: str) -> Scene:
    """Something comes twice a day and then no more; nothing else ever moves."""
    time_ms = clock(34)
    values = 5 + 0.02 * noise(family, len(time_ms), 2)
    wander = np.random.default_rng(1)
    for half in range(48):
        values[between(time_ms, half / 2 + wander.random() / 24, 1)] += 40
    return one(time_ms, values, 24, 27)


def inverted_day(family: str) -> Scene:
    time_ms = clock(32)
    values = daily(time_ms) + 1.0 * noise(family, len(time_ms), 1)
    values[between(time_ms, 28.2, 12)] = values[between(time_ms, 27.7, 12)]
    return one(time_ms, values, 28.2, 28.8)


def contradiction(family: str) -> Scene:
    time_ms = clock(32)
    load = 20 * noise("ar1", len(time_ms) // 6 + 1, 2).repeat(6)[: len(time_ms)]
    values = np.column_stack(
        [daily(time_ms) + load + 2 * noise(family, len(time_ms), 9 + k) for k in range(4)]
    )
    incident = between(time_ms, 28.4, 5)
    values[incident, 2] -= 2 * load[incident]
    return Scene(time_ms, values, ((28.4, 28.6, (2,)),))


def one_freezes_of_four(family: str) -> Scene:
    time_ms = clock(26)
    load = np.exp(0.5 * noise(family, len(time_ms) // 12 + 1, 3).clip(-2, 2)).repeat(12)
    load = 30 * load[: len(time_ms)]
    values = np.column_stack(
        [(k + 1) * load + noise(family, len(time_ms), 10 + k) for k in range(4)]
    )
    values[between(time_ms, 20.4, 4), 2] = np.median(values[:, 2])
    return Scene(time_ms, values, ((20.4, 20.6, (2,)),))


def together(family: str) -> Scene:
    time_ms = clock(30)
    values = np.column_stack(
        [daily(time_ms) + 2 * noise(family, len(time_ms), k) for k in range(8)]
    )
    values[between(time_ms, 25.5, 1)] += 7
    values[between(time_ms, 28.5, 1), 3] += 60
    return Scene(time_ms, values, ((28.5, 28.54, (3,)),))


def cold_start(family: str) -> Scene:
    time_ms = clock(2.5)
    values = np.column_stack(
        [daily(time_ms) + 2 * noise(family, len(time_ms), 5), np.full(len(time_ms), 5.0)]
    )
    values[between(time_ms, 1.3, 0.2), 0] += 300
    values[between(time_ms, 1.9, 0.2), 1] = 97.0
    return Scene(time_ms, values, ((1.3, 1.4, (0,)), (1.9, 1.95, (1,))))


def weekdays(family: str) -> Scene:
    time_ms, values = series(40, 900, family=family, swing=5.0)
    is_weekend = days_of(time_ms).astype(int) % 7 >= 5
    office = (time_ms % DAY_MS >= 8 * HOUR_MS) & (time_ms % DAY_MS < 18 * HOUR_MS)
    values += np.where(~is_weekend & office, 60, 0)
    values[between(time_ms, 33.5, 1)] += 60  # on a Saturday, as high as a weekday
    values[between(time_ms, 36.5, 1)] -= 60  # on a Tuesday, as low as a Saturday
    return one(time_ms, values, 33.5, 33.6)


def by_the_second(family: str) -> Scene:
    time_ms, values = series(4, 10, family=family)
    values[between(time_ms, 1.4, 0.05)] += 400
    values[between(time_ms, 3.4, 0.2)] += 60
    return one(time_ms, values, 3.4, 3.5)


def total(family: str) -> Scene:
    time_ms = clock(20)
    rate = np.clip(daily(time_ms, 40, 15) + 3 * noise(family, len(time_ms), 3), 0, None)
    rate[between(time_ms, 16.4, 1)] += 200
    values = np.cumsum(rate * 300)
    values[days_of(time_ms) >= 12.3] -= values[days_of(time_ms) >= 12.3][0]
    return one(time_ms, values, 16.4, 16.5, totals=(0,))


def two_scrapers(family: str) -> Scene:
    time_ms, values = series(20, family=family)
    shift = np.random.default_rng(0).integers(-40_000, 40_000, len(time_ms))
    values[between(time_ms, 12.4, 5 / 60)] += 200
    values[between(time_ms, 16.4, 0.25)] += 90
    both = np.concatenate([time_ms + shift, time_ms + shift + 3000])
    order = np.argsort(both)
    return one(both[order], np.concatenate([values, values + 0.25])[order], 16.4, 16.5)


def backlog(family: str) -> Scene:
    """Six hours arrive newest first, with a spike in them."""
    time_ms, values = series(24, family=family)
    values[between(time_ms, 20.4, 0.3)] += 120
    log = np.arange(len(time_ms))
    behind = between(time_ms, 20.3, 6)
    log[behind] = log[behind][::-1]
    return one(time_ms[log], values[log], 20.4, 20.5)


SCENES = (
    spike, summer_time, two_rows, step_inside_the_day, drift, hours_above, coarse, hour_above,
    new_level, small_level, new_unit, spread_change, frozen, missed_job, missed_dip,
    missed_by_the_minute, sparse, small_and_often, rare_event, inverted_day, contradiction,
    one_freezes_of_four, together, cold_start, weekdays, by_the_second, total, two_scrapers,
    backlog,
)  # fmt: skip
