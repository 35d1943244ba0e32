"""The fold: rows of one partition in log order to verdicts and episodes.

Invariant: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever
the cuts of the log.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit, types

from shared.ensemble.kernels.array_types import Array, Floats, Ints, Record
from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.course.members import CourseWork
from shared.ensemble.kernels.entity.alarm_budget import follow_budget
from shared.ensemble.kernels.entity.entity_clock import begin, follow_clock, is_ahead, is_repeated
from shared.ensemble.kernels.entity.episodes import follow_episodes
from shared.ensemble.kernels.entity.evidence import describe_row
from shared.ensemble.kernels.entity.late_row import judge_late_row
from shared.ensemble.kernels.entity.row import Reported, Row
from shared.ensemble.kernels.entity.together import (
    CombinationWork,
    close_day,
    combine,
    follow_trained,
    join,
)
from shared.ensemble.kernels.entity.verdict import (
    apply_limits,
    clear_row,
    excuse_new_kind,
    largest_ratio,
    mark_anomalies,
    name_episode,
    write_cells,
    write_score,
)
from shared.ensemble.kernels.fetching import Ahead, fetch_entity, fetch_head
from shared.ensemble.kernels.fold_arguments import (
    CONFIG,
    INPUTS,
    OUTPUTS,
    SCRATCHES,
    STATE,
    Config,
    Inputs,
    Outputs,
    Scratch,
    State,
)
from shared.ensemble.kernels.layout import (
    AHEAD,
    CROSS,
    DECIDE,
    DUPLICATE,
    KEYS,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.sample import MetricWork
from shared.ensemble.kernels.metric.value import fold_value
from shared.ensemble.kernels.return_levels import bound
from shared.kernels.borrowing import borrowed
from shared.kernels.clock import ZONE, Zone, local_of
from shared.kernels.steps import step
from shared.kernels.trained.trained_rows import NO_MODEL, rarity_of
from shared.kernels.units import DAY_MS

WATCHED_MS = 1.5 * DAY_MS
"""Time of an entity that is watched before a day's largest ratios count."""

EVENTS_OF_ENTITY = 8
"""Most events that an entity's own episodes write at a row."""


class Work(NamedTuple):
    """Scratch of a row: of one metric, of ``combine``, and what ``Scratch`` has."""

    metric: MetricWork
    combination: CombinationWork
    largest: Floats
    slots: Ints
    columns: Ints
    judged: Array
    relevant: Array
    ratios: Floats
    views: Array


class Ratios(NamedTuple):
    """How the views of a row stand to their levels."""

    judged: bool  # whether a metric was judged
    known: bool  # whether a trained model knows the row
    ready: bool  # whether a metric's warm-up is over
    joint: float  # of many metrics at once
    top: float  # largest of the metrics
    place: int  # of the metric that has it; -1 = none


@step
def _work(given: Scratch) -> Work:
    """Return the scratch of a row."""
    scratch = given.records[0]
    course = CourseWork(
        scratch["shape"], scratch["distances"], scratch["windows"], scratch["known"]
    )
    metric = MetricWork(scratch["tmp"], scratch["seen"], scratch["fades"], course)
    combination = CombinationWork(scratch["z"], scratch["a"], scratch["b"], scratch["c"])
    return Work(
        metric,
        combination,
        borrowed(given.largest),
        borrowed(given.slots),
        borrowed(given.columns),
        borrowed(given.judged),
        borrowed(given.relevant),
        borrowed(given.ratios),
        borrowed(given.views),
    )


@step
def _inputs(given: Inputs) -> Inputs:
    """Return the rows as arrays whose references are not counted."""
    return Inputs(
        borrowed(given.entity),
        borrowed(given.time_ms),
        borrowed(given.values),
        borrowed(given.slots),
        borrowed(given.order),
        borrowed(given.marks),
        borrowed(given.trained),
        borrowed(given.offsets),
    )


@step
def _outputs(out: Outputs) -> Outputs:
    """Return what is written as arrays whose references are not counted."""
    return Outputs(
        borrowed(out.rows),
        borrowed(out.cells),
        borrowed(out.events),
        borrowed(out.ratios),
        borrowed(out.views),
        borrowed(out.features),
        borrowed(out.sources),
    )


@step
def _reported(slots: Array, order: Array, metrics: Record, work: Work) -> Reported:
    """Return the metrics that an entity has, in order.

    slots : int32 (M,)  of the entity's metrics, -1 = not reported
    """
    n = 0
    for k in range(order.shape[0]):
        column = order[k]
        if slots[column] >= 0:
            work.slots[n] = slots[column]
            work.columns[n] = column
            n += 1
    return Reported(metrics, work.slots, work.columns, work.judged, work.ratios, n)


@step
def _most_events(slots: Array) -> int:
    """Return the events that a row writes at most.

    slots : int32 (M,)  of the entity's metrics, -1 = not reported: of many columns, few may be its
    """
    metrics = 0
    for column in range(slots.shape[0]):
        metrics += 1 if slots[column] >= 0 else 0
    return 2 * KEYS * metrics + EVENTS_OF_ENTITY


@step
def _fold_late_row(
    e: Record,
    reported: Reported,
    values: Floats,
    row: Row,
    config: Config,
    out: Outputs,
    at: int,
    tmp: Floats,
) -> int:
    """Judge a row that is older than its entity's newest; return the events written so far.

    Later ones than ``lateness_ms`` are only marked.
    """
    params, verdict = config.params, out.rows[row.place]
    verdict["late"] = 1
    if e["newest_ms"] - row.time_ms > config.settings.lateness_ms:
        return at
    end = judge_late_row(e, reported, values, row, params, out, at, tmp)
    verdict["threshold"] = params.threshold * e["threshold"]
    verdict["score"] *= e["threshold"]
    verdict["is_anomaly"] = 1 if end > at else 0
    return end


@step
def _next_slot(given: Inputs, place: int) -> int:
    """Return the slot of the first metric of the next row, -1 where there is none."""
    if place + 1 >= given.slots.shape[0] or given.slots.shape[1] == 0:
        return -1
    slot: int = given.slots[place + 1, given.order[0]]
    return slot


@step
def _fold_values(
    reported: Reported, values: Floats, row: Row, config: Config, work: Work, next_slot: int
) -> bool:
    """Fold the values of a row, each into its metric; return whether any was judged.

    values    : float64 (M,)
    work      : judged and relevant are written
    next_slot : of the first metric of the row that comes next, -1 = none
    """
    judged = False
    for j in range(reported.n):
        column = reported.columns[j]
        m, x = reported.metrics[reported.slots[j]], values[column]
        following = reported.slots[j + 1] if j + 1 < reported.n else next_slot
        ahead = Ahead(reported.metrics, following)
        fetch_head(ahead, row.local_ms)
        work.judged[j] = work.relevant[j] = False
        if math.isnan(x):
            continue
        work.judged[j] = fold_value(
            m,
            row.time_ms,
            row.local_ms,
            bounded(x),
            config.settings,
            config.params,
            work.metric,
            ahead,
        )
        work.relevant[j] = work.judged[j] and apply_limits(m, config.limits[column])
        judged = judged or work.judged[j]
    return judged


@step
def _close_day(
    e: Record, local_ms: int, watched: bool, metrics: int, params: EnsembleParams, tmp: Floats
) -> None:
    """End the entity's day where a row is the first of another one."""
    day = local_ms // DAY_MS
    if day != e["day"]:
        close_day(e, params, e["day"] >= 0 and watched, metrics, tmp)
        e["day"] = day


@step
def _combine(
    e: Record, reported: Reported, row: Row, watched: bool, config: Config, work: Work
) -> float:
    """Judge an entity's metrics by one another; return the ratio of many at once."""
    params = config.params
    combine(e, reported, row, params, config.settings.use, work.combination)
    for j in range(reported.n):
        if work.judged[j] and not work.relevant[j]:
            reported.metrics[reported.slots[j]]["ratio"][CROSS] = 0.0
    return join(e, reported, work.relevant, watched, params, work.largest)


@step
def _follow_budget(e: Record, row: Row, ratios: Ratios, config: Config) -> None:
    """Move the threshold by the alarm budget."""
    settings = config.settings
    if settings.per_day > 0.0 and ((ratios.judged and ratios.ready) or ratios.known):
        joint = ratios.joint if settings.joint else 0.0
        most = max(max(ratios.top / e["return_level"], joint), e["trained_ratio"])
        follow_budget(e, row.time_ms, row.passed_ms, most, settings)


@step
def _write_event_ratios(
    e: Record, reported: Reported, work: Work, out: Outputs, first: int, end: int
) -> None:
    """Write the largest ratio of each metric, and its view, to a row's events."""
    for k in range(first, end):
        for j in range(reported.n):
            out.ratios[k, reported.columns[j]] = reported.ratios[j] / e["return_level"]
            out.views[k, reported.columns[j]] = work.views[j]


@step
def _write_verdict(
    e: Record,
    reported: Reported,
    row: Row,
    ratios: Ratios,
    own_score: float,
    config: Config,
    out: Outputs,
    work: Work,
) -> None:
    """Write a row's verdict.

    own_score : largest score of the row's own anomalies, 0 = none
    """
    params, verdict = config.params, out.rows[row.place]
    name_episode(e, reported, verdict)
    write_cells(e, reported, params, verdict, out.cells[row.place])
    if ratios.ready or ratios.joint > 0.0 or ratios.known:
        joint = ratios.joint if config.settings.joint else 0.0
        write_score(verdict, e, ratios.top, joint, own_score, params)
        verdict["top_metric"] = reported.columns[ratios.place] if ratios.place >= 0 else -1
    verdict["threshold"] = params.threshold * e["threshold"]


@step
def _rarity(
    e: Record, reported: Reported, place: int, given: Inputs, config: Config, out: Outputs
) -> float:
    """Write what a trained model sees of a row; return its rarity, NaN where it is not known."""
    rarity: float = given.trained[place]
    if out.features.shape[0] > 0:
        features = out.features[place]
        has_any = describe_row(e, reported, config.params, features, out.sources[place])
        if has_any and config.model.kind != NO_MODEL:
            rarity = rarity_of(config.model, features)
    return rarity


@step
def _fold_new_row(
    e: Record,
    reported: Reported,
    given: Inputs,
    row: Row,
    config: Config,
    out: Outputs,
    at: int,
    work: Work,
) -> int:
    """Fold a row that is newer than its entity's others; return the events written so far."""
    settings, params = config.settings, config.params
    now = follow_clock(e, row)
    next_slot = _next_slot(given, row.place)
    judged = _fold_values(reported, given.values[row.place], now, config, work, next_slot)
    watched = e["live_ms"] > WATCHED_MS
    _close_day(e, now.local_ms, watched, reported.n, params, work.metric.tmp)
    joint = 0.0
    if judged and reported.n >= 2:
        joint = _combine(e, reported, now, watched, config, work)
    rarity = _rarity(e, reported, row.place, given, config, out)
    known = follow_trained(e, rarity, now, params, settings.use)
    top, place, ready = largest_ratio(reported, params, work.views)
    if judged and watched:
        today = bound(top, e["return_level"], e["maxima_n"])
        e["daily_maximum"] = max(e["daily_maximum"], today)
    if judged and excuse_new_kind(reported, now.local_ms // DAY_MS, now.local_ms - now.time_ms):
        top, place, ready = largest_ratio(reported, params, work.views)
        joint = 0.0
    ratios = Ratios(judged, known, ready, joint, top, place)
    _follow_budget(e, now, ratios, config)
    end = at
    if judged or known:
        end = follow_episodes(e, reported, now, joint, settings, params, out.events, at)
    _write_event_ratios(e, reported, work, out, at, end)
    own_score = mark_anomalies(out.rows[row.place], out.events[at:end])
    _write_verdict(e, reported, now, ratios, own_score, config, out, work)
    return end


@step
def _fold_row(
    place: int,
    given: Inputs,
    zone: Zone,
    config: Config,
    state: State,
    out: Outputs,
    at: int,
    work: Work,
) -> int:
    """Fold one row and judge it; return the events written so far."""
    if place + 1 < given.entity.shape[0]:
        fetch_entity(state.entities, int(given.entity[place + 1]), given.slots.shape[1])
    t, values, mark = given.time_ms[place], given.values[place], given.marks[place]
    entity = int(given.entity[place])
    e, verdict = state.entities[entity], out.rows[place]
    clear_row(verdict, out.cells[place], config.params)
    reported = _reported(given.slots[place], given.order, state.metrics, work)
    if e["rows"] == 0:
        begin(e, t)
    if mark == AHEAD or (mark == DECIDE and is_ahead(e, t)):
        verdict["ahead"] = 1
        return at
    e["ahead_n"] = 0
    interval_ms = max(e["interval_ms"], 1.0)
    row = Row(place, given.offsets[place], entity, t, local_of(t, zone), 0.0, interval_ms)
    if t < e["newest_ms"]:
        return _fold_late_row(e, reported, values, row, config, out, at, work.metric.tmp)
    if mark == DUPLICATE or is_repeated(e, reported, values, t):
        verdict["duplicate"] = 1
        return at
    return _fold_new_row(e, reported, given, row, config, out, at, work)


@njit(  # type: ignore[call-overload]
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        INPUTS, ZONE, CONFIG, STATE, OUTPUTS, types.int64, types.int64, SCRATCHES
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def fold_rows(
    given: Inputs,
    zone: Zone,
    config: Config,
    state: State,
    out: Outputs,
    start: int,
    stop: int,
    scratch: Scratch,
) -> tuple[int, int]:
    """Fold rows and judge them.

    start, stop : rows to fold
    scratch     : what an earlier call left, or that of ``Scratch.of``
    returns     : first row that was not folded because ``out.events`` has no room, events written
    """
    work, rows, written = _work(scratch), _inputs(given), _outputs(out)
    memory = State(borrowed(state.entities), borrowed(state.metrics))
    asked = Config(borrowed(config.limits), config.settings, config.params, config.model)
    at = 0
    for place in range(start, stop):
        if out.events.shape[0] - at < _most_events(given.slots[place]):
            return place, at
        at = _fold_row(place, rows, zone, asked, memory, written, at, work)
    return stop, at
