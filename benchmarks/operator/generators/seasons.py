"""Seasons: jobs of every night or week, office weeks, holidays, disks, machines that are off.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.operator.scene import Change, NewHost, Scene
from benchmarks.operator.signals import (
    DAY,
    GAUSSIAN,
    HOUR,
    Noise,
    between,
    cycle,
    hour_of,
    office,
    weekday_of,
)


def nightly_job(
    seed: int,
    jobs: Sequence[tuple[float, float]] = ((2.0, 15), (2 + 1 / 6, 20), (2.0, 60)),
    each: int = 3,
    days: int = 42,
    low: float = 5.0,
    height: float = 60.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job at the same minute every night; anomalies are its load at two other hours.

    jobs : (hour, minutes)
    """
    learn_days = 14
    busy_hour = 14.0
    scene = Scene(seed, days, step_s)
    for host, (hour, minutes) in scene.each_host_of(cycle(jobs, each)):
        values = low + 0.3 * host.draw_noise(noise)
        end = hour + minutes / 60
        values[(hour_of(host.time) >= hour - 1e-6) & (hour_of(host.time) < end - 1e-6)] += height
        for day, start in ((days - 12, busy_hour), (days - 4, end + 0.5)):
            host.incident(values, day, start, 0.5, Change(plus=height), usual=low)
        for day in range(learn_days, days):
            if day != days - 4:
                host.quiet(scene.at(day, hour - 0.5), scene.at(day, end + 1.5))
        host.add(value=values)
    return scene


def missing_job(
    seed: int,
    hosts: int = 8,
    days: int = 44,
    hour: float = 2.0,
    missed_days: Sequence[int] = (36, 41),
    height: float = 60.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job that has run every night for five weeks does not run."""
    minutes = 60
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = 5 + 0.5 * host.draw_noise(noise)
        begins = hour + host.number % 4
        ends = begins + minutes / 60
        runs = (hour_of(host.time) >= begins) & (hour_of(host.time) < ends)
        for day in missed_days:
            runs &= ~between(host.time, scene.at(day, begins - 1), scene.at(day, begins + 2))
            host.expect(scene.at(day, begins), scene.at(day, ends), usual=5 + height)
        values[runs] += height
        host.add(value=values)
    return scene


def weekly_job(
    seed: int,
    hosts: int = 5,
    weeks: int = 10,
    weekday: int = 6,
    height: float = 60.0,
    wrong_day: int = 65,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A job once a week; the anomaly is the same load on another day."""
    hour = 3.0
    minutes = 30
    learn_days = 28
    scene = Scene(seed, weeks * 7, step_s)
    hours = minutes / 60
    for host in scene.each_host(hosts):
        values = 5 + 0.3 * host.draw_noise(noise)
        is_hour = (hour_of(host.time) >= hour) & (hour_of(host.time) < hour + hours)
        values[(weekday_of(host.time) == weekday) & is_hour] += height
        host.incident(values, wrong_day, hour, hours, Change(plus=height))
        for day in range(weekday, weeks * 7, 7):
            if day >= learn_days:
                host.quiet(scene.at(day, hour - 0.5), scene.at(day, hour + hours + 1.5))
        host.add(value=values)
    return scene


def office_week(
    seed: int,
    hosts: int = 6,
    days: int = 56,
    surge_day: int | None = 40,
    drop_day: int = 44,
    holiday: int | None = None,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """An office week; anomalies are a weekday's load at the weekend and the other way round.

    holiday : a day with the load of a weekend, which may be alarmed, but not for long
    """
    hour = 10.0
    weekend = 0.3
    scene = Scene(seed, days, step_s)
    change = 65 * (1 - weekend)
    for host in scene.each_host(hosts):
        clean = office(host.time, weekend=weekend)
        if holiday is not None:
            rows = between(host.time, scene.at(holiday), scene.at(holiday + 1))
            clean[rows] = 15 + (clean[rows] - 15) * weekend
            _expect_holiday(host, holiday)
        values = clean + 2.5 * host.draw_noise(noise)
        if surge_day is not None:
            host.incident(values, surge_day, hour, 2, Change(plus=change))
        host.incident(values, drop_day, hour, 2, Change(plus=-change))
        for monday in range(21, days // 7 * 7, 7):
            if monday != holiday:
                host.quiet(scene.at(monday), scene.at(monday, 9.9))
        host.add(value=np.clip(values, 0, None))
    return scene


def _expect_holiday(host: NewHost, holiday: int) -> None:
    """Allow two alarms on the day, none on the day after nor a week later."""
    at = host.scene.at
    host.quiet(at(holiday), at(holiday + 1), at_most=2)
    host.excuse(at(holiday), at(holiday + 1))
    host.quiet(at(holiday + 1), at(holiday + 2))
    host.quiet(at(holiday + 7), at(holiday + 8))


def capped_cpu(
    seed: int,
    hosts: int = 5,
    days: int = 42,
    day: int = 36,
    hours: float = 5.0,
    cap: float = 100.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """CPU at its cap in office hours; the anomaly is the cap at night, although it is no record."""
    hour = 1.0
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        busy = (hour_of(host.time) >= 8) & (hour_of(host.time) < 18) & (weekday_of(host.time) < 5)
        level = np.where(busy, 0.95 * cap, 0.2 * cap)
        values = level + 0.05 * cap * host.draw_noise(noise)
        host.incident(values, day, hour, hours, Change(to=cap))
        scene.must_alarm[-1].end = scene.at(day, hour + 1)
        host.excuse(scene.at(day, hour), scene.at(day, hour + hours + 1))
        host.add(cpu=np.clip(values, 0, cap))
    return scene


def sawtooth_disk(
    seed: int,
    hosts: int = 6,
    days: int = 32,
    day: int = 26,
    low: float = 30.0,
    rise: float = 45.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A disk that is cleaned at the same hour every night; one night it is not."""
    cleaned_hour = 3.0
    scene = Scene(seed, days, step_s)
    start, end = scene.at(day, cleaned_hour), scene.at(day + 1, cleaned_hour)
    for host in scene.each_host(hosts):
        age_days = (host.time - scene.at(0, cleaned_hour)) / DAY
        values = low + rise * (age_days % 1)
        values[between(host.time, start, end)] += rise
        noisy = values + 0.4 * host.draw_noise(noise)
        host.expect(start, start + 6 * HOUR)
        host.quiet(start, end, at_most=3)
        host.excuse(start, end + 2 * HOUR)
        host.add(disk_percent=np.clip(noisy, 0, 100))
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
    for host in scene.each_host(hosts):
        trend = (host.time - scene.start) / DAY % 7 * 2
        values = 60 + trend + 0.2 * host.draw_noise(noise)
        full = scene.at(day, hour + host.number)
        values[host.time >= full] = 100.0
        host.expect(full, full + HOUR)
        later = full + 12 * HOUR
        host.expect(later, later + DAY, None, ("flat_line", "anomaly"))
        host.quiet(full, ends, at_most=4)
        host.excuse(full, ends)
        host.add(disk_percent=values)
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
    for host in scene.each_host(hosts):
        is_silent = host.number % 2 == 1
        is_on = (hour_of(host.time) >= on_hour) & (hour_of(host.time) < off_hour)
        busy = 40 + 3 * host.draw_noise(noise)
        values = np.where(is_on, busy, 0.0)
        if is_silent:
            host.incident(values, day, on_hour + 4, 2, Change(factor=1.9))
        else:
            host.incident(values, day, on_hour, 6, Change(to=0.0))
            scene.must_alarm[-1].end = scene.at(day, on_hour + 3)
            host.excuse(scene.at(day, on_hour), scene.at(day, on_hour + 7))
        for quiet_day in range(10, days):
            if quiet_day == day:
                continue
            for hour in (on_hour, off_hour):
                end = scene.at(quiet_day, min(hour + 1.5, 24))
                host.quiet(scene.at(quiet_day, hour - 0.5), end)
        host.add(is_on if is_silent else slice(None), cpu=values)
    return scene
