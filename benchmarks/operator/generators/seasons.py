"""Seasons: jobs of every night or week, office weeks, holidays, disks, machines that are off.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import (
    DAY,
    GAUSSIAN,
    HOUR,
    Noise,
    between,
    cycle,
    draw_noise,
    hour_of,
    office,
    weekday_of,
)


def nightly_job(
    seed: int,
    jobs: Sequence[tuple[float, float]] = ((2.0, 15), (2 + 1 / 6, 20), (2.0, 60)),
    each: int = 3,
    days: int = 42,
    learn_days: int = 14,
    low: float = 5.0,
    height: float = 60.0,
    busy_hour: float = 14.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job at the same minute every night; anomalies are its load at two other hours.

    jobs : (hour, minutes)
    """
    scene = Scene(seed, days, step_s)
    for number, (hour, minutes) in enumerate(cycle(jobs, each)):
        name, time = f"host-{number:02d}", scene.clock()
        values = low + 0.3 * draw_noise(scene.rng(number), len(time), noise)
        end = hour + minutes / 60
        values[(hour_of(time) >= hour - 1e-6) & (hour_of(time) < end - 1e-6)] += height
        for day, start in ((days - 12, busy_hour), (days - 4, end + 0.5)):
            scene.incident(name, time, values, day, start, 0.5, plus=height, usual=low)
        for day in range(learn_days, days):
            if day != days - 4:
                scene.quiet(name, scene.at(day, hour - 0.5), scene.at(day, end + 1.5))
        scene.add(name, time, value=values)
    return scene


def missing_job(
    seed: int,
    hosts: int = 8,
    days: int = 44,
    hour: float = 2.0,
    minutes: float = 60,
    missed_days: Sequence[int] = (36, 41),
    height: float = 60.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job that has run every night for five weeks does not run."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = 5 + 0.5 * draw_noise(scene.rng(number), len(time), noise)
        begins = hour + number % 4
        ends = begins + minutes / 60
        runs = (hour_of(time) >= begins) & (hour_of(time) < ends)
        for day in missed_days:
            runs &= ~between(time, scene.at(day, begins - 1), scene.at(day, begins + 2))
            scene.expect(name, scene.at(day, begins), scene.at(day, ends), usual=5 + height)
        values[runs] += height
        scene.add(name, time, value=values)
    return scene


def weekly_job(
    seed: int,
    hosts: int = 5,
    weeks: int = 10,
    weekday: int = 6,
    hour: float = 3.0,
    minutes: float = 30,
    learn_days: int = 28,
    height: float = 60.0,
    wrong_day: int = 65,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job once a week; the anomaly is the same load on another day."""
    scene = Scene(seed, weeks * 7, step_s)
    hours = minutes / 60
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = 5 + 0.3 * draw_noise(scene.rng(number), len(time), noise)
        is_hour = (hour_of(time) >= hour) & (hour_of(time) < hour + hours)
        values[(weekday_of(time) == weekday) & is_hour] += height
        scene.incident(name, time, values, wrong_day, hour, hours, plus=height)
        for day in range(weekday, weeks * 7, 7):
            if day >= learn_days:
                scene.quiet(name, scene.at(day, hour - 0.5), scene.at(day, hour + hours + 1.5))
        scene.add(name, time, value=values)
    return scene


def office_week(
    seed: int,
    hosts: int = 6,
    days: int = 56,
    weekend: float = 0.3,
    surge_day: int | None = 40,
    drop_day: int = 44,
    hour: float = 10.0,
    holiday: int | None = None,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """An office week; anomalies are a weekday's load at the weekend and the other way round.

    holiday : a day with the load of a weekend, which may be said, but not for long
    """
    scene = Scene(seed, days, step_s)
    change = 65 * (1 - weekend)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        clean = office(time, weekend=weekend)
        if holiday is not None:
            rows = between(time, scene.at(holiday), scene.at(holiday + 1))
            clean[rows] = 15 + (clean[rows] - 15) * weekend
            _expect_holiday(scene, name, holiday)
        values = clean + 2.5 * draw_noise(scene.rng(number), len(time), noise)
        if surge_day is not None:
            scene.incident(name, time, values, surge_day, hour, 2, plus=change)
        scene.incident(name, time, values, drop_day, hour, 2, plus=-change)
        for monday in range(21, days // 7 * 7, 7):
            if monday != holiday:
                scene.quiet(name, scene.at(monday), scene.at(monday, 9.9))
        scene.add(name, time, value=np.clip(values, 0, None))
    return scene


def _expect_holiday(scene: Scene, name: str, holiday: int) -> None:
    """Allow two alarms on the day, none on the day after nor a week later."""
    start, end = scene.at(holiday), scene.at(holiday + 1)
    scene.quiet(name, start, end, at_most=2)
    scene.excuse(name, start, end)
    scene.quiet(name, end, scene.at(holiday + 2))
    scene.quiet(name, scene.at(holiday + 7), scene.at(holiday + 8))


def capped_cpu(
    seed: int,
    hosts: int = 5,
    days: int = 42,
    day: int = 36,
    hour: float = 1.0,
    hours: float = 5.0,
    cap: float = 100.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """CPU at its cap in office hours; the anomaly is the cap at night, although it is no record."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        busy = (hour_of(time) >= 8) & (hour_of(time) < 18) & (weekday_of(time) < 5)
        level = np.where(busy, 0.95 * cap, 0.2 * cap)
        values = level + 0.05 * cap * draw_noise(scene.rng(number), len(time), noise)
        scene.incident(name, time, values, day, hour, hours, to=cap)
        scene.must_alarm[-1].end = scene.at(day, hour + 1)
        scene.excuse(name, scene.at(day, hour), scene.at(day, hour + hours + 1))
        scene.add(name, time, cpu=np.clip(values, 0, cap))
    return scene


def sawtooth_disk(
    seed: int,
    hosts: int = 6,
    days: int = 32,
    day: int = 26,
    cleaned_hour: float = 3.0,
    low: float = 30.0,
    rise: float = 45.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A disk that is cleaned at the same hour every night; one night it is not."""
    scene = Scene(seed, days, step_s)
    start, end = scene.at(day, cleaned_hour), scene.at(day + 1, cleaned_hour)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        age_days = (time - scene.at(0, cleaned_hour)) / DAY
        values = low + rise * (age_days % 1)
        values[between(time, start, end)] += rise
        noisy = values + 0.4 * draw_noise(scene.rng(number), len(time), noise)
        scene.expect(name, start, start + 6 * HOUR)
        scene.quiet(name, start, end, at_most=3)
        scene.excuse(name, start, end + 2 * HOUR)
        scene.add(name, time, disk_percent=np.clip(noisy, 0, 100))
    return scene


def full_disk(
    seed: int,
    hosts: int = 5,
    days: int = 42,
    day: int = 30,
    hour: float = 3.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A disk with a weekly saw-tooth runs full and stays at exactly 100."""
    scene = Scene(seed, days, step_s)
    ends = scene.at(days)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        trend = (time - scene.start) / DAY % 7 * 2
        values = 60 + trend + 0.2 * draw_noise(scene.rng(number), len(time), noise)
        full = scene.at(day, hour + number)
        values[time >= full] = 100.0
        scene.expect(name, full, full + HOUR)
        later = full + 12 * HOUR
        scene.expect(name, later, later + DAY, None, ("flat_line", "anomaly"))
        scene.quiet(name, full, ends, at_most=4)
        scene.excuse(name, full, ends)
        scene.add(name, time, disk_percent=values)
    return scene


def nightly_shutdown(
    seed: int,
    hosts: int = 8,
    days: int = 32,
    day: int = 26,
    on_hour: float = 6.0,
    off_hour: float = 20.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Machines that are off at night: half of them send 0 then, the others nothing.

    Anomalies: of the first kind one morning each stays off, of the second each is overloaded.
    """
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, is_silent = f"host-{number:02d}", scene.clock(), number % 2 == 1
        is_on = (hour_of(time) >= on_hour) & (hour_of(time) < off_hour)
        busy = 40 + 3 * draw_noise(scene.rng(number), len(time), noise)
        values = np.where(is_on, busy, 0.0)
        if is_silent:
            scene.incident(name, time, values, day, on_hour + 4, 2, factor=1.9)
        else:
            scene.incident(name, time, values, day, on_hour, 6, to=0.0)
            scene.must_alarm[-1].end = scene.at(day, on_hour + 3)
            scene.excuse(name, scene.at(day, on_hour), scene.at(day, on_hour + 7))
        for quiet_day in range(10, days):
            if quiet_day == day:
                continue
            for hour in (on_hour, off_hour):
                end = scene.at(quiet_day, min(hour + 1.5, 24))
                scene.quiet(name, scene.at(quiet_day, hour - 0.5), end)
        rows = is_on if is_silent else slice(None)
        scene.add(name, time[rows], cpu=values[rows])
    return scene
