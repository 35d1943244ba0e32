"""Entities come and go: their places are reused, and no other entity is affected."""

from __future__ import annotations

import hashlib
import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba import config

import schemas
from shared import snapshots
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import decode_records, flat_schema
from shared.events import ClosedBecause, Kind, State
from shared.features.kernels.places import (
    EVICTED,
    EVICTIONS_PER_STEP,
    EXPIRED,
    FORGOTTEN,
    LIVE,
    MAX_METRICS,
    NEWEST,
    OLDEST,
)
from shared.scoring.state import PartitionState
from shared.settings import InputSettings
from shared.snapshots.frames import ChangeMarks, Selection, overlay, parse, state_of
from tests.reference import places as reference
from tests.support.pods import (
    DAY_MS,
    DECODER,
    HOUR_MS,
    START_MS,
    Record,
    RunResult,
    batch_of,
    churn,
    run,
    scorer_for,
)

SLOW = bool(config.DISABLE_JIT)
EXAMPLES, ROWS = (3, 60) if SLOW else (25, 260)
SEEDS = range(1, 6 if "LAPWING_MACHINE_EXAMPLES" in os.environ else 3)
MINUTE_MS = 60_000


def steady(host: str, first_ms: int, last_ms: int, step_ms: int = HOUR_MS) -> list[Record]:
    """A host that reports two metrics at a fixed interval."""
    return [
        Record(host, t, {"cpu": 50.0 + (t // step_ms) % 7, "mem": 20.0 + (t // step_ms) % 3})
        for t in range(first_ms, last_ms, step_ms)
    ]


def by_time(*parts: list[Record]) -> list[Record]:
    return sorted((one for part in parts for one in part), key=lambda one: one.time_ms)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, ROWS - 1), max_size=8),
    restarts=st.lists(st.integers(1, ROWS - 1), max_size=4),
    max_entities=st.sampled_from([1, 3, 6, 100]),
)
def test_cuts_and_restarts_change_nothing(
    seed: int, cuts: list[int], restarts: list[int], max_entities: int
) -> None:
    batch = batch_of(churn(seed, ROWS))
    whole = run(batch, max_entities)
    assert run(batch, max_entities, cuts, restarts).bytes == whole.bytes


@pytest.mark.parametrize("seed", range(4))
def test_daily_rows_that_come_a_little_late_are_neither_ahead_nor_forgotten(seed: int) -> None:
    random = np.random.default_rng(seed)
    late_ms = random.integers(0, 5 * MINUTE_MS, 40)
    rows = [
        Record("host", START_MS + day * DAY_MS + int(late_ms[day]), {"cpu": random.normal(50, 5)})
        for day in range(40)
    ]
    out = run(batch_of(rows))
    assert out.dropped() == []
    assert not any(one.folded.ahead.any() for one in out.outcomes)


@pytest.mark.parametrize("max_entities", [1, 4, 100])
@pytest.mark.parametrize("seed", SEEDS)
def test_row_by_row_is_the_whole_log(seed: int, max_entities: int) -> None:
    batch = batch_of(churn(seed, ROWS))
    whole = run(batch, max_entities)
    assert run(batch, max_entities, range(ROWS)).bytes == whole.bytes
    every = range(1, ROWS)
    assert run(batch, max_entities, every, every).bytes == whole.bytes


@pytest.mark.parametrize("max_entities", [1, 3])
@pytest.mark.parametrize("seed", [2] if SLOW else [9, 10])
def test_names_and_metrics_dropped_meanwhile_change_nothing(
    seed: int, max_entities: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(churn(seed, ROWS, 40))
    whole = run(batch, max_entities)
    monkeypatch.setattr("shared.scoring.state._FORGOTTEN_NAMES", 0)
    renumbered: list[bool] = []
    tidy = PartitionState.tidy
    monkeypatch.setattr(
        PartitionState, "tidy", lambda state: renumbered.append(tidy(state)) or renumbered[-1]
    )
    assert run(batch, max_entities, range(ROWS)).bytes == whole.bytes
    assert any(renumbered)


@pytest.mark.parametrize("max_entities", [4, 100])
@pytest.mark.parametrize("seed", [1] if SLOW else [6, 7, 8])
def test_deltas_hold_what_came_and_went(seed: int, max_entities: int) -> None:
    batch, random = batch_of(churn(seed, ROWS)), np.random.default_rng(seed)
    scorer, arrays, marks, digest = scorer_for(max_entities), {}, None, ""
    cuts = np.unique([0, *random.integers(0, ROWS, 20), ROWS]).tolist()
    for start, stop in pairwise(cuts):
        scorer.process(batch.rows(start, stop), DECODER)
        state = scorer.state
        frame = Selection.of(state, marks).frame(digest)
        body = b"".join(bytes(piece) for piece in frame.pieces())
        parsed = parse(np.frombuffer(body + hashlib.sha256(body).digest(), np.uint8))
        arrays = {name: array.copy() for name, array in overlay(arrays, parsed).items()}
        assert snapshots.encode(state_of(parsed, arrays)) == snapshots.encode(state)
        marks, digest = ChangeMarks.of(state, state.to_arrays()), parsed.digest


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    max_entities=st.sampled_from([1, 2, 5, 100]),
    hosts=st.sampled_from([6, 14, 40]),
)
def test_who_is_dropped_equals_the_twin(seed: int, max_entities: int, hosts: int) -> None:
    log = churn(seed, ROWS, hosts)
    result = run(batch_of(log), max_entities)
    [outcome] = result.outcomes
    folded = outcome.folded
    rows = [
        (one.host, one.time_ms, bool(folded.counted[row]), bool(folded.ahead[row]))
        for row, one in enumerate(log)
    ]
    want, remembered = reference.dropped(rows, max_entities, 30 * DAY_MS)
    reasons = {EXPIRED: "expired", FORGOTTEN: "forgotten"}
    names, gone = result.state.entities, folded.releases
    got = [
        (int(gone.row[k]), names.name(int(gone.owner[k])), reasons.get(gone.reason[k], "evicted"))
        for k in range(len(gone.row))
    ]
    assert sorted(got) == sorted(want)
    owners = result.state.owners()
    assert {names.name(number) for number in owners[owners >= 0].tolist()} == remembered


@pytest.mark.parametrize("max_entities", [1, 3, 100])
@pytest.mark.parametrize("seed", [3] if SLOW else [3, 4, 5, 6])
def test_entities_are_in_the_order_of_their_newest_records(seed: int, max_entities: int) -> None:
    random = np.random.default_rng(seed)
    cuts = np.unique(random.integers(1, ROWS, 12)).tolist()
    state = run(batch_of(churn(seed, ROWS, 30)), max_entities, cuts, cuts[::3]).state
    places, ordered = state.places, []
    at = int(places.used[OLDEST])
    while at >= 0:
        assert places.older[at] == (ordered[-1] if ordered else -1)
        ordered.append(at)
        at = int(places.newer[at])
    assert places.used[NEWEST] == ordered[-1]
    taken = np.flatnonzero(places.owner >= 0)
    assert ordered == taken[np.argsort(places.seen_at[taken])].tolist()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a["slots"].__setitem__((0, 0), 10_000), "slots do not number"),
        (lambda a: a["slots"].__setitem__((0, 0), a["slots"].max()), "slots do not number"),
        (lambda a: a["rank"].__setitem__(slice(None), 7), "rank does not number"),
        (lambda a: a["rank"].__setitem__(slice(None), -1), "rank does not number"),
        (lambda a: a["reported"].__setitem__(0, 100), "reported does not count"),
        (lambda a: a["clock"].__setitem__(LIVE, 99), "other entities than there are"),
        (lambda a: a.update(bounds=np.stack([a["bounds"]] * 2, axis=1)), "dimensions"),
        (lambda a: a["bounds"].__setitem__(1, 10**6), "do not divide its arena"),
        (lambda a: a["clock"].resize(3, refcheck=False), "clock is int64"),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(change: Any, why: str) -> None:
    state = run(batch_of(churn(2, 60)), 6).state
    arrays = {name: array.copy() for name, array in state.to_arrays().items()}
    PartitionState.from_arrays(arrays, state.metric_names(), 0, 60, None)
    change(arrays)
    with pytest.raises(ValueError, match=why):
        PartitionState.from_arrays(arrays, state.metric_names(), 0, 60, None)


@pytest.mark.skipif(SLOW, reason="many rows")
def test_the_generated_logs_drop_entities_in_every_way() -> None:
    few = [why for seed in range(8) for why in run(batch_of(churn(seed, 700)), 4).dropped()]
    many = [why for seed in range(8) for why in run(batch_of(churn(seed, 700)), 100).dropped()]
    assert few.count(EVICTED) > 50
    assert min(many.count(EXPIRED), many.count(FORGOTTEN)) > 10
    assert EVICTED not in many


def test_an_evicted_entity_is_said_counted_and_starts_anew() -> None:
    hours = 30
    log = by_time(
        steady("old", START_MS, START_MS + hours * HOUR_MS),
        steady("live", START_MS, START_MS + 2 * hours * HOUR_MS),
    )
    end_ms = log[-1].time_ms
    log += [Record("new", end_ms + 1, {"cpu": 1.0, "mem": 2.0})]
    log += steady("old", end_ms + 2, end_ms + 3)
    result = run(batch_of(log), 2)
    reported = [a for one in result.outcomes for a in one.anomalies if a.kind is Kind.EVICTED]
    assert [a.entity for a in reported] == ["old", "live"]  # "live" has reported before "new" has
    assert reported[0].since == START_MS + (hours - 1) * HOUR_MS
    assert not reported[0].is_anomaly
    assert reported[0].state is State.STALE
    assert "predict.max_entities" in reported[0].reason
    [outcome] = result.outcomes
    assert len(outcome.columns.rejected) == 0
    assert outcome.verdicts.warmup_percent[-1] < 1.0
    assert sorted(result.state.entities.name(n) for n in result.state.owners()) == ["new", "old"]


def test_the_newest_live_entity_never_gives_way() -> None:
    """Whoever reports keeps its place, however many others pass by."""
    log = []
    for k in range(400):
        now_ms = START_MS + k * HOUR_MS
        log += steady("live", now_ms, now_ms + 1) + steady(f"pod-{k}", now_ms + 1, now_ms + 2)
    result = run(batch_of(log), 3)
    assert all(a.entity != "live" for one in result.outcomes for a in one.anomalies
        if a.kind is Kind.EVICTED)  # fmt: skip
    [outcome] = result.outcomes
    mine = np.array([one.host == "live" for one in log])
    assert outcome.verdicts.state[mine][-1] == State.READY
    assert len(outcome.columns.rejected) == 0


def test_a_flood_of_names_is_counted_and_said_a_hundred_times() -> None:
    log = [Record(f"pod-{k}", START_MS + k, {"cpu": 1.0}, 3) for k in range(1000)]
    result = run(batch_of(log), 10)
    reported = [a for one in result.outcomes for a in one.anomalies if a.kind is Kind.EVICTED]
    assert len(reported) == EVICTIONS_PER_STEP
    assert len(result.dropped()) == 990
    assert result.state.places.clock[LIVE] == 10


def test_forget_after_is_three_lifetimes_within_36_hours_and_thirty_days() -> None:
    """Its own rows decide; an entity that goes on reporting has no effect."""
    for lived_h, silent_h, forgotten in [
        (1, 35, False), (1, 38, True), (24, 70, False), (24, 74, True), (300, 700, False),
        (300, 730, True),
    ]:  # fmt: skip
        returns_ms = START_MS + (lived_h + silent_h) * HOUR_MS
        log = [
            *steady("pod", START_MS, START_MS + lived_h * HOUR_MS + 1),
            *steady("pod", returns_ms, returns_ms + 20 * HOUR_MS),
        ]
        result = run(batch_of(log), 100)
        assert (FORGOTTEN in result.dropped()) is forgotten, (lived_h, silent_h)


def test_memory_is_reclaimed_at_twice_that_by_the_partitions_clock() -> None:
    pod = steady("pod", START_MS, START_MS + 10 * HOUR_MS)
    for hours, reclaimed in [(70, False), (80, True)]:
        until_ms = START_MS + (10 + hours) * HOUR_MS
        others = [steady(f"host-{k}", START_MS + k, until_ms, HOUR_MS // 4) for k in range(2)]
        result = run(batch_of(by_time(pod, *others)), 100)
        assert (result.dropped() == [EXPIRED]) is reclaimed
        assert result.state.places.clock[LIVE] == (2 if reclaimed else 3)
        assert result.state.places_used == (3 if not reclaimed else result.state.places_used)


def test_wrong_clocks_drop_nobody() -> None:
    """Two hosts of the year 2090 among twenty that report every hour and one that is behind."""
    until_ms = START_MS + 4 * DAY_MS
    healthy = [steady(f"host-{k}", START_MS + k, until_ms) for k in range(20)]
    behind = [
        one._replace(time_ms=one.time_ms - 20 * DAY_MS)
        for one in steady("behind", START_MS, until_ms)
    ]
    log = by_time(*healthy, *[steady(f"wrong-{k}", until_ms - DAY_MS, until_ms) for k in range(2)])
    far_ms = 75 * 365 * DAY_MS
    log = [
        one._replace(time_ms=one.time_ms + far_ms) if one.host.startswith("wrong") else one
        for one in log
    ]
    at = np.linspace(0, len(log), len(behind), endpoint=False).astype(int)
    for k, one in sorted(zip(at.tolist(), behind, strict=True), reverse=True):
        log.insert(k, one)
    result = run(batch_of(log), 100)
    assert result.dropped() == []
    assert result.state.places.clock[LIVE] == 23
    last = np.array([one.host == "behind" for one in log])
    [outcome] = result.outcomes
    assert outcome.verdicts.state[last][-1] == State.READY


def test_a_lower_limit_drops_the_longest_silent_ones_at_the_next_new_entity() -> None:
    log = [Record(f"pod-{k}", START_MS + k, {"cpu": 1.0}, 3) for k in range(8)]
    scorer = scorer_for(100)
    scorer.process(batch_of(log[:6]), DECODER)
    scorer.use(None, scorer_for(3).configuration)
    outcome = scorer.process(batch_of(log[6:7], [6]), DECODER)
    assert outcome.folded.releases.reason.tolist() == [EVICTED] * 4
    owners = scorer.state.owners()
    left = [scorer.state.entities.name(owner) for owner in owners[owners >= 0].tolist()]
    assert left == ["pod-6", "pod-4", "pod-5"]  # by place: the lowest free one is taken


def test_metrics_that_nobody_has_any_more_are_forgotten() -> None:
    """Columns and names follow the live entities as well: each pod has its own metrics."""
    scorer, widths = scorer_for(4), []
    for k in range(40):
        names = [f"pod_{k}_{j}" for j in range(60)]
        text = flat_schema(f"lapwing.P{k}", "host", names)
        decoder = AvroDecoder.of_schemas({1: text}, InputSettings())
        one = Record(f"pod-{k}", START_MS + k * MINUTE_MS, dict.fromkeys(names, 1.0))
        scorer.process(batch_of([one], [k], text), decoder)
        widths.append(len(scorer.state.metrics))
    assert max(widths) < 1024 + 60 * 6
    assert len(scorer.state.metric_names()) == 4 * 60


def test_an_open_episode_ends_silent_in_the_name_of_who_has_left() -> None:
    pod = steady("pod", START_MS, START_MS + 72 * HOUR_MS, 10 * MINUTE_MS)
    end_ms = pod[-1].time_ms
    pod += [
        Record("pod", end_ms + k * 10 * MINUTE_MS, {"cpu": 9000.0 + k, "mem": 20.0})
        for k in range(1, 4)
    ]
    live = steady("live", START_MS, end_ms + HOUR_MS, 10 * MINUTE_MS)
    log = by_time(pod, live)
    newcomers = [
        Record(f"new-{k}", end_ms + HOUR_MS + k, {"cpu": 1.0, "mem": 1.0}) for k in range(2)
    ]
    last = Record("live", end_ms + HOUR_MS, {"cpu": 51.0, "mem": 20.0})
    result = run(batch_of([*log, last, *newcomers]), 2)
    closed = [
        a for one in result.outcomes for a in one.anomalies
        if a.kind is Kind.EPISODE_CLOSED and a.entity == "pod"
    ]  # fmt: skip
    last_closed = closed[-1]
    assert last_closed.closed_because is ClosedBecause.SILENT
    assert last_closed.source_offset == len(log) + 1  # the record that took its place
    assert last_closed.event_time == pod[-1].time_ms
    opened = {a.episode_id for one in result.outcomes for a in one.anomalies if a.is_anomaly}
    assert last_closed.episode_id in opened


def events_of(result: RunResult) -> list[dict[str, Any]]:
    text = schemas.text(schemas.SCORE_EVENT)
    return decode_records(result.scores, [text] * len(result.scores))


def scores_of(result: RunResult, log: list[Record], host: str) -> list[bytes]:
    return [result.scores[row] for row, one in enumerate(log) if one.host == host]


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000), max_entities=st.sampled_from([10, 100]))
def test_neighbours_that_come_and_go_change_no_byte(seed: int, max_entities: int) -> None:
    """Nor what metrics they have; only ``stopped`` and ``evicted`` are the partition's to say."""
    log = churn(seed, ROWS)
    lasting = steady("host", START_MS, log[-1].time_ms, 3 * HOUR_MS)[: ROWS // 2]
    both = by_time(log, lasting)
    offsets = [row for row, one in enumerate(both) if one.host == "host"]
    alone = run(batch_of(lasting, offsets), 6)
    together = run(batch_of(both), max_entities)
    evicted = [a for one in together.outcomes for a in one.anomalies if a.kind is Kind.EVICTED]
    assume(all(a.entity != "host" for a in evicted))
    assume(len(together.dropped()) > len(alone.dropped()))
    assert scores_of(together, both, "host") == alone.scores
    by_clock = (Kind.STOPPED, Kind.EPISODE_CLOSED)
    mine = [
        a for one in together.outcomes for a in one.anomalies
        if a.entity == "host" and a.kind not in by_clock
    ]  # fmt: skip
    want = [a for one in alone.outcomes for a in one.anomalies if a.kind not in by_clock]
    assert mine == want


def test_score_events_list_metrics_in_the_entitys_own_order() -> None:
    log = [
        Record("a", START_MS, {"cpu": 1.0, "mem": 2.0}, 0),
        Record("b", START_MS, {"mem": 3.0, "cpu": 4.0}, 1),
        Record("c", START_MS, {"disk": 5.0, "cpu": 6.0}, 2),
        Record("c", START_MS + HOUR_MS, {"net": 7.0, "disk": 8.0, "mem": 9.0}, 4),
    ]
    events = events_of(run(batch_of(log), 100))
    assert [[m["name"] for m in event["metrics"]] for event in events] == [
        ["cpu", "mem"], ["mem", "cpu"], ["disk", "cpu"], ["disk", "cpu", "net", "mem"]
    ]  # fmt: skip


def test_two_hundred_metrics_are_scored_and_a_257th_is_not() -> None:
    for count in (200, 260):
        names = [f"m{k}" for k in range(count)]
        text = flat_schema("lapwing.Wide", "host", names)
        decoder = AvroDecoder.of_schemas({1: text}, InputSettings())
        rows = 6 if SLOW else 40
        log = [
            Record("wide", START_MS + k * HOUR_MS, dict.fromkeys(names, 1.0 + k % 3))
            for k in range(rows)
        ]
        result = run(batch_of(log, decoder_text=text), 100, [rows // 2], decoder=decoder)
        events = events_of(result)
        assert [m["name"] for m in events[-1]["metrics"]] == names[:MAX_METRICS]
        reported = [
            a for one in result.outcomes for a in one.anomalies if a.kind is Kind.TOO_MANY_METRICS
        ]
        ignored = sum(int(one.folded.surplus.sum()) for one in result.outcomes)
        assert len(reported) == (count > MAX_METRICS)
        assert ignored == rows * max(0, count - MAX_METRICS)
        if reported:
            assert (reported[0].metric, reported[0].entity) == ("m256", "wide")


@pytest.mark.skipif(SLOW, reason="many rows")
def test_ten_thousand_entities_that_live_ten_minutes_take_the_memory_of_those_alive() -> None:
    def pods(first: int, count: int) -> list[Record]:
        return [
            Record(f"pod-{k}", START_MS + k * 5 * MINUTE_MS + step * MINUTE_MS, {"cpu": 1.0}, 3)
            for k in range(first, first + count) for step in (0, 5, 9)
        ]  # fmt: skip

    sizes = []
    scorer, offset = scorer_for(100_000), 0
    for first in range(0, 10_000, 500):
        log = by_time(pods(first, 500))
        scorer.process(batch_of(log, offset + np.arange(len(log))), DECODER)
        offset += len(log)
        state = scorer.state
        capacity = sum(array.nbytes for array in state.places)
        capacity += state.ensemble.entities.nbytes + state.ensemble.metrics.nbytes
        capacity += state.quality.entities.nbytes + state.quality.series.nbytes
        sizes.append((state.places_used, state.slots_used, capacity))
    half = len(sizes) // 2
    assert max(sizes[half:])[:2] <= max(sizes[:half])[:2]
    assert max(size for _, _, size in sizes[half:]) < 1.01 * max(
        size for _, _, size in sizes[:half]
    )
    assert max(places for places, _, _ in sizes) < 2 * 2 * DAY_MS // (5 * MINUTE_MS)
    assert len(scorer.state.entities) < 5000
