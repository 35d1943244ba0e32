"""What the fold remembers, byte by byte: one record per (entity, metric), one per entity.

Invariant: a record has a fixed size, whatever the length of the history; all zero bytes is the
state before the first row. Kernels widen its float32 with np.float64(), because float() leaves a
float32 as it is once compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.ensemble.kernels.array_types import Floats, Ints, Record  # noqa: F401
from shared.ensemble.kernels.course.course_layout import COURSE_DTYPE
from shared.ensemble.kernels.views import TABLE, column
from shared.kernels.units import DAY_MS

BINS = 288
"""Five-minute bins of a local day."""

BIN_MS = DAY_MS // BINS
DAYS = 28
"""Days of memory: four of each weekday."""

NEAR = 3
"""Bins on either side that count as about the same time: a quarter of an hour."""

RING = 2 * NEAR + 1
HOURS = 36
SEASONS = 4
ALL, KIND, WEEK, RECENT = range(SEASONS)
"""What a time of day is compared with.

The last 14 days, days of its kind (working day, weekend), its weekday, the last 4 days.
"""

BACK = 6
"""Newest values that a jump is measured from."""

VALUE, TWO, QUARTER, HOUR, HOURS4, JUMP, MISSED, LEVEL, SPREAD, OFTEN, STUCK, COURSE, CROSS = range(
    13
)
"""Numbers of the views in ``views.TABLE``."""

ALL_VIEWS = len(TABLE)
SIDES = column("sides")
LEVELS = int(SIDES.sum())
"""Levels of a metric: one of each view and direction."""

FIRST_LEVEL = np.cumsum(SIDES) - SIDES
"""Place of a view's first level among all of them."""

TRAINED, JOINED = ALL_VIEWS, ALL_VIEWS + 1
"""Views of the entity: the rarity by a trained model, and many metrics at once."""

VIEW_NAMES = (*(view.name for view in TABLE), "trained", "joint")

KEYS = 6
FAST_UP, FAST_DOWN, LEVEL_UP, LEVEL_DOWN, SHAPE, HOURLY = range(KEYS)
"""Episodes of a metric: its values, its level, what has no direction, and the course of hours."""

TRAINED_KEY, NO_METRIC = 254, 255
"""Episodes of the entity: of the trained view and of the joint one."""

DECIDE, IN_ORDER, LATE, DUPLICATE, AHEAD = 0, 1, 2, 3, 4
"""Marks of a row: DECIDE leaves it to the fold."""

DIRECTION, MIN_ABSOLUTE, MIN_RELATIVE = range(3)
"""Columns of the limits of a metric."""

AS_IT_IS, MINUTE_MEAN, RATE, MINUTE_RATE = range(4)
"""What is judged: the value, the mean of a minute, the rate of a total per second.

Or that over a minute.
"""

COMBINED = 24
"""Metrics of an entity that enter the combination, at most."""

JOINT = 3
BUCKETS = 96

EPISODE_DTYPE = np.dtype(
    [
        ("start_ms", "i8"),
        ("seen_ms", "i8"),  # newest evidence
        ("opened_ms", "i8"),  # of the record that opened it
        ("opened_at", "i8"),  # its offset in the log
        ("peak_ms", "i8"),
        ("peak_value", "f8"),
        ("peak_expected", "f8"),
        ("habit", "f4"),  # openings lately
        ("peak", "f4"),  # largest ratio
        ("recent", "f4"),  # ratio lately, decays within an hour
        ("state", "u1"),  # 0 closed, 1 open, 2 open and part of another one
        ("records", "u1"),  # anomaly records in the last ten days
        ("view", "u1"),  # that opened it
        ("peak_view", "u1"),
        ("level", "u1"),  # severity class at the opening
    ],
    align=True,
)

METRIC_DTYPE = np.dtype(
    [
        # --- every row
        ("seen", "i8"),  # values folded
        ("origin_ms", "i8"),  # first value
        ("last_ms", "i8"),  # newest value
        ("sample_ms", "i8"),  # newest sample; a fast metric's samples are means of a minute
        ("last", "f8"),
        ("newest", "f8"),  # value as it came
        ("interval_ms", "f8"),  # robust usual interval, 0 = not known
        ("live_ms", "f8"),  # time watched; of a gap, four intervals at most
        ("centre", "f8"),  # memory holds (value - centre) / scale
        ("scale", "f8"),  # 0 = all values so far were equal
        ("old_centre", "f8"),  # the unit before a change that was accepted
        ("old_scale", "f8"),
        ("old_until_ms", "i8"),
        ("minute", "i8"),  # of the open minute of a fast metric
        ("minute_sum", "f8"),
        ("minute_ms", "i8"),
        ("minute_n", "i4"),
        ("samples", "i4"),
        ("day", "i4"),
        ("bin", "i4"),
        ("width", "i4"),  # bins per sample
        ("bin_n", "i4"),
        ("bin_mean", "f8"),  # coded
        ("hour", "i4"),
        ("hour_n", "i4"),
        ("hour_r", "f8", (SEASONS,)),
        ("hour_c", "i4", (SEASONS,)),
        ("hour_x", "f8"),  # as hour_r of the season that is believed, but what stays is not bounded
        ("hour_u", "f8"),
        ("hour_z", "f8"),
        (
            "baselines",
            "f4",
            (SEASONS, RING),
        ),  # each season's values in the bins around now
        ("median_spread", "f4", (RING,)),  # spread by the median
        ("quantile_spread", "f4", (RING,)),  # spread by the 80 % quantile
        ("level", "f8", (SEASONS,)),
        ("error", "f4", (SEASONS,)),  # running error of each season
        ("season", "i4"),  # that is believed
        ("maxima_n", "i4"),  # days with maxima
        ("typical", "f8"),  # typical spread
        ("range_low", "f8"),
        ("range_high", "f8"),
        ("step", "f8"),  # typical size of a change
        ("size", "f8"),  # typical size of a deviation that is not zero
        ("share", "f8"),  # share of values that deviate
        ("steps", "i4"),
        ("sizes", "i4"),
        ("stretch", "f8"),  # spread of today against the remembered one
        ("daily", "f8"),  # spread of the level from day to day
        ("means", "f8", (3,)),  # decayed means of the deviation
        ("fresh", "i4"),  # values since the last gap
        ("newest_n", "i4"),
        ("newest_values", "f8", (BACK,)),
        ("newest_residuals", "f4", (SEASONS + 1, BACK)),
        ("before", "f8"),  # deviation one sample ago
        ("before_r", "f8"),
        ("jump", "f4", (25,)),  # 80 % quantile of jumps by hour of day, and over all
        ("jumps", "i4"),
        ("tail", "f4", (2, 2)),  # 80 % and 99 % quantile of the deviations up and down
        ("spread_now", "f8"),
        ("spread_usual", "f8"),
        ("spread_least", "f8"),
        ("spread_ms", "f8"),
        ("often", "f8"),
        ("run_ms", "i8"),  # start of the stretch of equal values
        ("run_n", "i4"),
        ("flat", "i4"),
        ("run_longest", "f8"),
        ("varied", "f8"),
        ("ups", "i4"),
        ("downs", "i4"),
        ("equals", "i4"),
        ("counter", "i4"),  # 1 = judged by its rate
        ("total", "f8"),  # newest total of a counter
        ("total_ms", "i8"),
        ("up_since_ms", "i8"),
        ("shift_ms", "i8"),  # since when the level is away
        ("expected", "f8"),  # coded
        ("spread", "f8"),  # coded, in force
        ("deviation", "f8"),  # newest value, in spreads
        ("plain", "f8"),  # the same without excuses
        ("near_jump", "f8"),
        ("missed", "f8"),
        ("missed_usual", "f8"),  # coded: what usually comes
        ("missed_most", "f8"),  # coded: the nearest to it that came
        ("jump_from", "f8"),  # median of the values before the newest one
        ("ratio", "f4", (ALL_VIEWS,)),  # ratio of each view to its level, signed
        ("daily_maximum", "f4", (ALL_VIEWS, 2)),  # today's largest of each view
        ("return_level", "f4", (ALL_VIEWS, 2)),  # level of each view
        ("window", "i2", (2, RING)),  # mean of today's newest bins, coded, and samples in each
        ("window_bin", "i4", (RING,)),
        ("levels_n", "i4"),  # days with levels
        ("fast_ms", "i8", (2,)),  # newest fast alarm up and down
        ("stuck_ms", "i8"),
        ("late_ms", "i8"),
        ("late_ew", "f8"),
        ("low", "f8"),  # range of the first days, coded
        ("high", "f8"),
        ("cold", "i4"),  # direction of a value far outside of it
        ("crowded", "i4"),  # newest day with a bin of several values, + 1: bins hold means
        ("episodes", EPISODE_DTYPE, (KEYS,)),
        # --- every hour and day
        ("hours", "i4", (HOURS,)),
        ("hours_r", "f4", (SEASONS, HOURS)),
        ("hours_x", "f4", (HOURS,)),
        ("hours_u", "f4", (HOURS,)),
        ("hours_z", "f4", (HOURS,)),
        ("levels", "f4", (DAYS,)),
        ("maxima", "i2", (LEVELS, DAYS)),  # halves
        # --- one bin at a time
        ("written", "u2", (BINS,)),  # day that the bin was last written: season.newest_day
        ("memory", "i2", (BINS, DAYS)),
        ("course", COURSE_DTYPE),
    ],
    align=True,
)

ENTITY_DTYPE = np.dtype(
    [
        ("rows", "i8"),
        ("newest_ms", "i8"),
        ("interval_ms", "f8"),
        ("usual_gap_ms", "f8"),  # longest usual gap between rows
        ("ahead_n", "i4"),
        ("ahead_ms", "i8"),
        ("live_ms", "f8"),
        ("day", "i4"),
        ("maxima_n", "i4"),
        ("daily_maximum", "f8"),  # today's largest ratio
        ("return_level", "f8"),  # what once in a return period is reached
        ("threshold", "f8"),
        ("maxima", "f4", (DAYS,)),
        ("joint_daily_maxima", "f4", (JOINT,)),
        ("joint_levels", "f4", (JOINT,)),
        ("joint_maxima", "f4", (JOINT, DAYS)),
        ("joint_ratio", "f8"),
        ("joint_daily_ratio", "f8"),  # today's largest
        ("joint_ratios", "f4", (DAYS,)),
        ("joint_return_level", "f8"),
        ("joint_n", "i4"),  # days with joint figures
        ("joint", EPISODE_DTYPE),
        ("trained_ratio", "f8"),
        ("trained_mean", "f8"),  # of a quarter of an hour of the rarity by the trained model
        ("trained_daily_maximum", "f8"),  # today's largest
        ("trained_level", "f8"),
        ("trained_live_ms", "f8"),
        ("trained_days", "i4"),
        ("trained_maxima", "f4", (DAYS,)),
        ("trained", EPISODE_DTYPE),
        ("opened_ms", "i8"),  # newest opening
        ("opened_level", "i4"),
        ("block", "i8"),  # of the budget
        ("block_maximum", "f8"),
        ("blocks", "f4", (BUCKETS,)),
        ("blocks_n", "f8"),
        ("surplus", "f8"),
        ("pairs_w", "f8"),
        ("pairs_ms", "i8"),
        ("pairs_ok", "i4"),
        ("combined", "i4"),  # metrics that the inverse is of
        ("residual", "f4", (COMBINED,)),
        ("explained", "f4", (COMBINED,)),
        ("pairs", "f4", (COMBINED, COMBINED)),
        ("inverse", "f4", (COMBINED, COMBINED)),
    ],
    align=True,
)


class EnsembleParams(NamedTuple):
    """What is tuned on labelled series; floats, so that all can be perturbed alike.

    Constants of modules are chosen by reasoning and stay fixed: sizes of the memory (here), days of
    a season (``season``), memories of running means (``fades``), ALIKE and OLD_UNIT_MS
    (``metric/relearning``), LEVEL_DEAD_ZONE, USUAL_HIGH and USUAL_LOW (``metric/deviation``),
    READY_SAMPLES and COLD_SAMPLES (``metric/warm_up``), FASTEST_MS (``metric/interval``), steps of
    a tail's quantiles (``metric/view_levels``), MEAN_Z (``metric/day_end``), LEAST_SLOPE and
    FIRST_WEEK (``return_levels``), LEFT_OVER and PAIRS_MS (``entity/together``), what is reported
    again and when (``entity/episode``, ``entity/episodes``, ``entity/metric_episodes``), and the
    budget's blocks (``entity/alarm_budget``).
    """

    threshold: float = 1.0  # ratio that opens an episode
    hysteresis: float = 0.5  # share of it that keeps one open
    worse: float = 2.5  # times the ratio lately: reported again
    ready_days: float = 2.0
    return_view: float = 60.0  # days: level of a view by its own past
    return_entity: float = 9.0  # days: level of all views of an entity together
    floor_value: float = 8.0  # least levels, in spreads
    floor_two: float = 4.0
    floor_quarter: float = 3.0
    floor_hour: float = 1.2
    floor_hours4: float = 1.1
    return_joint: float = 45.0
    floor_jump: float = 7.0
    floor_missed: float = 6.0
    floor_level: float = 4.0
    early: float = 1.5  # by which least levels are higher after n days: 1 + early / n
    coarse: float = 0.8  # by which the least levels of means are higher at hourly data
    floor_spread: float = 2.2
    floor_often: float = 0.4
    floor_stuck: float = 1.0
    floor_course: float = 1.0
    floor_cross: float = 2.0
    floor_trained: float = 2.0  # -log10 of the share of training rows
    return_trained: float = 45.0
    among_others: float = 1.25  # by which a trained model's level is higher in the ensemble
    joint_jump: float = 2.4
    joint_value: float = 3.0
    joint_quarter: float = 2.4
    slope: float = 0.15  # of the logarithms of daily maxima, where little is known
    heavy: float = 0.6  # power of the weight of a tail by which its least levels are higher
    trust_view: float = 0.3  # weight of the slope that was measured
    trust_mean: float = 0.4  # of means
    trust_missed: float = 1.0  # of missing peaks: what is often missed is no habit
    trust_early: float = 0.3  # more in the first week, where no other days hold a level up
    trust_entity: float = 0.4
    entity_power: float = 0.4  # of the number of metrics, by which return_entity is longer
    trust_joint: float = 0.25
    joint_days: float = 15.0
    habit: float = 0.35  # by which each opening beyond the first raises its level
    habit_days: float = 8.0
    quiet_hours: float = 3.0
    level_days: float = 3.0  # a level that stays so long becomes the memory
    # the course of hours (kernels/course)
    course: float = 2.2  # Z that opens an episode
    course_penalty: float = 1.6  # taken off for each tenfold number of metrics
    gate: float = 0.8  # ratio that another view must have reached in the last hours
    gate_hours: float = 5.0
    long_blocks: float = 50.0
    short_block: float = 12.0
    short_stride: float = 3.0
    season_blocks: float = 200.0
    slack: float = 2.0
    season_days: float = 14.0
    time_memory: float = 200.0
    deadband_long: float = 0.08
    deadband: float = 0.05
    weight_long: float = 1.0
    weight_neighbours: float = 0.5
    weight_time: float = 1.0
    weight_short: float = 0.5
    smoothing: float = 0.5
    interval_weight: float = 0.5
    habituation: float = 0.1
    habituation_memory: float = 3.0
    habit_often: float = 3.0
    refractory: float = 0.2
    break_through: float = 2.0
    rank_memory: float = 20.0
    range_memory: float = 20.0
    median_memory: float = 8.0
    floor: float = 0.025
    absence: float = 0.7
    absence_slope: float = 2.0
    excuse: float = 2.0  # spreads left of a deviation that recurs about this time


PARAMS_DTYPE = np.dtype(
    (
        np.record,
        [
            *((name, "f8") for name in EnsembleParams._fields),
            ("least", "f8", (ALL_VIEWS,)),  # least level of each view
            ("trust", "f8", (ALL_VIEWS,)),  # weight of each view's measured slope
        ],
    )
)
"""The parameters as kernels read them: a tuple of that size is copied whenever it is passed on."""


def as_record(params: EnsembleParams) -> Record:
    """Return the parameters as kernels read them: PARAMS_DTYPE."""
    record = np.zeros(1, PARAMS_DTYPE)
    for name, value in params._asdict().items():
        record[name] = value
    record["least"] = [getattr(params, view.least) for view in TABLE]
    record["trust"] = [getattr(params, view.trust) for view in TABLE]
    return record[0]


class Settings(NamedTuple):
    """What a user asks for."""

    per_day: float = 0.0  # alarm budget, 0 = none
    cold_start: bool = True
    lateness_ms: int = DAY_MS
    use: int = (1 << (ALL_VIEWS + 1)) - 1  # bit per view
    joint: bool = True
    season: bool = True
    warmup: int = 0  # samples of the course's warm-up; 0 = three days, 150 to 896
