"""The situations: a question, a generator with its parameters, and its criteria.

Invariant: a list of data; a name is unique and is never given to another question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.operator.criteria import DEFAULTS, Criteria
from benchmarks.operator.generators import fleets, formats, memory, rhythm, seasons, values
from benchmarks.operator.generators.rhythm import Incidents, Sampling
from benchmarks.operator.scene import Change, Scene


@dataclass(frozen=True)
class Situation:
    """One everyday situation.

    make           : generator, called with seed and parameters; None = a script instead
    seed           : to which that of the command line is added, in thousands
    criteria       : what an operator requires
    environment    : settings, as environment variables
    by_arrival     : rows are judged in their order in the file
    fixed_interval : the situation is about its interval and has no variants of it
    script         : run with the build's interpreter; prints its checks
    """

    name: str
    question: str
    make: Callable[..., Scene] | None = None
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    criteria: Criteria = DEFAULTS
    environment: Mapping[str, str] = field(default_factory=dict)
    by_arrival: bool = False
    fixed_interval: bool = False
    script: str | None = None


SENSELESS_RATIOS = (
    r"\de\+\d+x",
    r"\d{1,3}(,\d{3})+x its usual",
    r"usual(ly)? -?[\d.]+e-\d+",
)
COMPACT = Criteria(times_right=True, or_refused=r"\.csv\W+(line |row )?\d+", learn_days=14)

HISTORY = [
    Situation(
        "bogus-reading",
        "one impossible reading (65535, 10000, 2000): later incidents are found as before",
        memory.bogus_reading,
        1,
    ),
    Situation(
        "small-then-outage",
        "a 15-minute burst of disk must not hide a total outage of requests two hours later",
        memory.small_then_outage,
        2,
        criteria=Criteria(learn_days=7),
    ),
    Situation(
        "slow-leak",
        "a leak of 1.5 or 6 points a day: found in two days, at most three alarms in ten",
        memory.slow_leak,
        3,
        criteria=Criteria(grace_min=0),
    ),
    Situation(
        "level-shift",
        "a level 60 % higher that stays: alarmed, accepted after a week, then the usual",
        memory.level_shift,
        4,
    ),
    Situation(
        "deploy-30-percent",
        "a deploy moves the level by 30 %: alarmed, accepted, then the usual",
        memory.level_shift,
        5,
        {"factor": 1.3, "swing": 8.0},
    ),
    Situation(
        "long-quiet",
        "four months of nothing: false alarms do not grow",
        memory.long_quiet,
        6,
        criteria=Criteria(late=(60, 0.05)),
    ),
    Situation(
        "first-change", "a metric that never moved changes for the first time", memory.constant, 7
    ),
    Situation(
        "growing-traffic",
        "+3 % a week for twelve weeks is no anomaly; surges are, against today's level",
        memory.growth,
        8,
        criteria=Criteria(late=(42, 0.05), learn_days=14),
    ),
    Situation(
        "return-after-ten-days",
        "a host that was off for ten days comes back",
        rhythm.return_after_absence,
        9,
    ),
]

RHYTHM = [
    Situation(
        "clock-ahead",
        "one row from a clock a year or two days ahead: the host is watched on, its neighbour is"
        " not reported as stopped",
        rhythm.clock_ahead,
        10,
        by_arrival=True,
        criteria=Criteria(
            forbidden_words=(r"no data for \d{2,} d", r"healthy.* stopped reporting"),
            late_rows=0.01,
        ),
    ),
    Situation(
        "odd-rhythm",
        "two scrapers, two rows per time, a fast start: warm in time, the outage is found",
        rhythm.rhythm,
        11,
        criteria=Criteria(ready=True),
    ),
    Situation(
        "one-second",
        "a row a second: judged from the fourth day on",
        rhythm.plain,
        12,
        {
            "step_s": 1,
            "hosts": 2,
            "days": 4.6,
            "deviation": 2.0,
            "incidents": Incidents(first_day=3.4, every_days=0.3, hour=3.0, hours=0.25),
        },
        Criteria(find=0.85, ready=True, learn_days=3, grace_min=15),
        fixed_interval=True,
    ),
    Situation(
        "hourly",
        "a row an hour: ready within two weeks, incidents found",
        rhythm.plain,
        13,
        {
            "step_s": 3600,
            "hosts": 16,
            "days": 50,
            "incidents": Incidents(first_day=16, every_days=10.0, hours=3.0, hop_h=1.0),
        },
        Criteria(ready=True, learn_days=14),
        fixed_interval=True,
    ),
    Situation(
        "jitter-and-missing",
        "times off by a quarter of the interval, one row in ten missing",
        rhythm.plain,
        14,
        {"sampling": Sampling(jitter=0.25, missing=0.1)},
        Criteria(verdicts_per_day=0.1),
    ),
    Situation(
        "two-hour-gap",
        "two hours without rows: reported as a gap, the return is no anomaly",
        rhythm.gaps,
        15,
        {"hosts": 12},
        Criteria(quiet=0.95),
    ),
    Situation(
        "business-hours",
        "rows only on working days from 8 to 18 h: neither evenings nor mornings are news",
        rhythm.business_hours,
        16,
        criteria=Criteria(learn_days=14),
    ),
]

SEASONS = [
    Situation(
        "nightly-job",
        "a job of 15, 20 or 60 minutes every night is usual; the same load at another hour is not",
        seasons.nightly_job,
        17,
        criteria=Criteria(learn_days=14, quiet=0.97, usual_within=0.3, usual_absolute=1.0),
    ),
    Situation(
        "weekly-job",
        "a job every Sunday is usual from the fifth week on; on another day it is not",
        seasons.weekly_job,
        18,
        criteria=Criteria(learn_days=28),
    ),
    Situation(
        "missing-job",
        "a job that has run every night for five weeks does not run",
        seasons.missing_job,
        46,
        criteria=Criteria(learn_days=14, usual_within=0.3),
    ),
    Situation(
        "week",
        "working days and weekends; a weekday's load on a Saturday, a weekend's on a Thursday;"
        " Mondays are quiet",
        seasons.office_week,
        19,
        criteria=Criteria(learn_days=21),
    ),
    Situation(
        "holiday",
        "a Wednesday off like a Sunday: two alarms at most, not the day after nor a week later",
        seasons.office_week,
        20,
        {"holiday": 44, "drop_day": 51, "surge_day": None},
        Criteria(learn_days=21, quiet=0.85),
    ),
    Situation(
        "outage-any-hour",
        "an hour at zero, at every hour of the day, at night too",
        rhythm.plain,
        21,
        {
            "hosts": 12,
            "incidents": Incidents(
                first_day=12,
                every_days=7.0,
                hour=0.0,
                hours=1.0,
                hop_h=2.0,
                change=Change(to=0.0),
            ),
        },
    ),
    Situation(
        "capped-cpu",
        "CPU at its cap of 100 at night, as every day in office hours",
        seasons.capped_cpu,
        22,
        criteria=Criteria(learn_days=14),
    ),
    Situation(
        "full-disk",
        "a disk with a weekly saw-tooth runs full and stays full",
        seasons.full_disk,
        23,
        criteria=Criteria(learn_days=21),
    ),
    Situation(
        "sawtooth-disk",
        "a disk that is cleaned every night; one night it is not",
        seasons.sawtooth_disk,
        24,
    ),
    Situation(
        "nightly-shutdown",
        "a machine that is off at night, as zeros or as silence; one morning it stays off",
        seasons.nightly_shutdown,
        25,
        criteria=Criteria(learn_days=10, quiet=0.95),
    ),
]

VALUES = [
    Situation(
        "blips",
        "one high row a day is usual; half an hour as high is not",
        values.blips,
        26,
        criteria=Criteria(false_per_day=0.1),
    ),
    Situation(
        "scales",
        "the same wave in units of 1e-9 to 1e12, and on top of 100,000: the unit does not matter",
        values.scales,
        47,
    ),
    Situation(
        "noise-up",
        "the spread is four times as large for six hours",
        values.noise_up,
        27,
        criteria=Criteria(find=0.8),
    ),
    Situation(
        "frozen-sensor",
        "a sensor repeats its last value: reported within a day; a true constant beside it is not",
        values.frozen_sensor,
        28,
    ),
    Situation(
        "counter-total",
        "a total that grows for ever and restarts at 0; it stands still for six busy hours",
        values.counter_total,
        29,
        criteria=Criteria(false_per_day=0.1, find=0.8),
    ),
    Situation(
        "latency",
        "p99 with heavy tails; the median doubles for three hours",
        values.latency,
        30,
        criteria=Criteria(find=0.8),
    ),
    Situation(
        "sparse-counts",
        "errors with a mean of 0.3 per row; an hour with 6",
        values.sparse_counts,
        31,
    ),
    Situation(
        "zero-counters",
        "errors that are 0 nearly always: 'usually 0', no ratios of millions",
        values.zero_counters,
        32,
        criteria=Criteria(forbidden_words=SENSELESS_RATIOS, usual_absolute=0.05, false_per_day=0.1),
    ),
    Situation(
        "small-integers",
        "a queue of 0 to 5; half an hour at 15, a night at 5",
        values.small_integers,
        33,
    ),
    Situation(
        "sparse-errors",
        "rows or cells only when there are errors; a storm of an hour, no spam of gaps",
        values.sparse_errors,
        34,
        criteria=Criteria(verdicts_per_day=0.3, find=0.8, false_per_day=0.1),
    ),
    Situation(
        "negative-values",
        "dBm and Celsius below zero: found, no ratio",
        values.negative_values,
        35,
        criteria=Criteria(forbidden_words=(r"x its usual -", r" of its usual -")),
    ),
    Situation(
        "flapping",
        "a health flag flaps for two hours: one alarm or two, not one per flap",
        values.flapping,
        36,
        criteria=Criteria(repeats=2, false_per_day=0.1),
    ),
]

FLEETS = [
    Situation(
        "new-metric",
        "a metric is added on day 20: no anomaly, and watched two weeks later",
        fleets.new_metric,
        37,
    ),
    Situation(
        "mixed-intervals",
        "one metric in every row, one once an hour: no word about the empty cells, both are"
        " watched",
        fleets.mixed_intervals,
        48,
        criteria=Criteria(verdicts_per_day=0.05),
    ),
    Situation(
        "metric-gone",
        "one metric of three is no longer sent: reported within a day, the others are watched on",
        fleets.metric_gone,
        38,
    ),
    Situation(
        "decoupled",
        "one of five metrics does not follow the load any more: found and named",
        fleets.decoupled,
        39,
        criteria=Criteria(find=0.7),
    ),
    Situation(
        "twenty-metrics", "one of twenty metrics breaks: found and named", fleets.twenty_metrics, 40
    ),
    Situation(
        "one-host-differs",
        "a fleet under one load; single hosts lose 45 % of theirs",
        fleets.one_differs,
        41,
        criteria=Criteria(false_per_day=0.1),
    ),
    Situation(
        "pod-churn",
        "pods of six hours for weeks, room for 100: no live pod is refused, a host that joins late"
        " is watched",
        fleets.pod_churn,
        42,
        environment={
            "LAPWING_PREDICT__MAX_ENTITIES": "100",
            "LAPWING_QUALITY__FORGET_DAYS": "1",
        },
        criteria=Criteria(rejected=0),
    ),
]

FORMATS = [
    Situation(
        "compact-hours",
        "times as YYYYMMDDHH: read rightly, or refused with file and line",
        formats.compact_times,
        43,
        criteria=COMPACT,
    ),
    Situation(
        "compact-minutes",
        "times as YYYYMMDDHHMM: read rightly, or refused with file and line",
        formats.compact_times,
        44,
        {"form": "%Y%m%d%H%M"},
        COMPACT,
    ),
    Situation(
        "second-time-column",
        "the time of writing as a second column of milliseconds is no metric",
        formats.second_time,
        45,
        criteria=Criteria(or_refused="ingested_at"),
    ),
    Situation(
        "avro-event-time",
        "a plain `timestamp` beside a time of writing: the right one is taken, or both are named",
        script="avro_time.py",
    ),
]

SITUATIONS = [*HISTORY, *RHYTHM, *SEASONS, *VALUES, *FLEETS, *FORMATS]
