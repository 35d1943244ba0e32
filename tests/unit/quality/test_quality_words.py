"""What is reported of bad data: one plain sentence per verdict, and where it comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Kind, State
from shared.quality.checks import HOUR_MS, QualityState, verdicts, watch
from shared.settings import QualitySettings
from tests.reference.quality_logs import START, STEP, Log, by_time, regular

NAN = math.nan
FIVE = 5 * STEP
NAMES = ["cpu", "load", "net"]
SAVING = "; just one hour: looks like a daylight-saving jump"


def spoken(rows, asked=QualitySettings(), headers=None, state=State.READY):  # noqa: B008 - frozen
    log = Log(rows, len(rows[0][2]))
    quality, (slots, used), n = QualityState(), log.slots(len(log)), len(log)
    quality.reserve(len(slots), used)
    signals = watch(quality, log.given(slice(None), slots), asked)
    directory = Directory()
    for e in range(len(slots)):
        directory.add(f"web-{e}")
    blob, nothing = Blob.join([b""] * n), np.empty(0, np.int64)
    batch = Batch(
        "metrics", 3, blob, blob, np.arange(1000, 1000 + n), np.zeros(n, np.int64), headers or {}
    )
    columns = Columns(
        np.arange(n), log.entity, log.time_ms, log.values, nothing, nothing.astype(np.uint8)
    )
    return verdicts(
        signals, batch, columns, directory, NAMES, "ensemble", np.full(n, state, np.uint8)
    )


PLAIN = regular(40, step=FIVE)
LAST = PLAIN[-1][1]
WIDE = [(0, t, [v[0], v[0], 1.0]) for _, t, v in PLAIN]
FLAT = PLAIN + regular(314, step=FIVE, start=LAST + FIVE, value=0.0)
FROZEN = WIDE + [(0, LAST + (k + 1) * FIVE, [2.5, 7.0, float(k)]) for k in range(314)]


def after_wide(*values):
    """WIDE, and six rows with these values."""
    return WIDE + [(0, LAST + (k + 1) * FIVE, list(values)) for k in range(6)]


STOPPED = by_time(PLAIN, regular(60, step=FIVE, entity=1), regular(60, step=FIVE, entity=2))


@pytest.mark.parametrize(
    ("rows", "kind", "sentence"),
    [
        (
            after_wide(NAN, 1.0, 1.0),
            Kind.MISSING,
            "cpu is missing; last value 2014-03-09 03:15 (usually every 5 min)",
        ),
        (
            after_wide(1.0, NAN, NAN),
            Kind.MISSING,
            (
                "load and 1 other metric are missing; last value 2014-03-09 03:15 (usually every 5"
                " min)"
            ),
        ),
        (
            after_wide(NAN, NAN, NAN),
            Kind.MISSING,
            (
                "cpu and 2 other metrics are missing; last value 2014-03-09 03:15 (usually every 5"
                " min)"
            ),
        ),
        (
            [*PLAIN, (0, LAST + 190 * STEP, [1.0])],
            Kind.GAP,
            "no data for 3 h 10 min (usually every 5 min)",
        ),
        (
            [*PLAIN, (0, LAST + HOUR_MS, [1.0])],
            Kind.GAP,
            f"no data for 1 h (usually every 5 min){SAVING}",
        ),
        (
            [*PLAIN, (0, LAST + HOUR_MS + FIVE, [1.0])],
            Kind.GAP,
            f"no data for 1 h 5 min (usually every 5 min){SAVING}",
        ),
        ([*PLAIN[:5], (0, START + 14 * HOUR_MS, [1.0])], Kind.GAP, "no data for 13 h 40 min"),
        (
            [*PLAIN, (0, LAST + FIVE - HOUR_MS, [9.0])],
            Kind.LATE,
            (
                "55 min late: older than the newest row of 2014-03-09 03:15 (usually every 5"
                f" min){SAVING}"
            ),
        ),
        (
            [*PLAIN, (0, PLAIN[1][1], [9.0])],
            Kind.LATE,
            "3 h 10 min late: older than the newest row of 2014-03-09 03:15 (usually every 5 min)",
        ),
        (
            [*PLAIN, (0, PLAIN[37][1], [9.0])],
            Kind.OUT_OF_ORDER,
            "out of order: 10 min older than the newest row (usually every 5 min)",
        ),
        (
            [*PLAIN, PLAIN[-1]],
            Kind.DUPLICATE,
            "duplicate: a row with the same time and values came before",
        ),
        (
            [*PLAIN, (0, LAST, [70.0]), (0, LAST, [71.0])],
            Kind.REPEATED_TIME,
            (
                "rows with different values for 2014-03-09 03:15: daylight saving or two writers;"
                " taken as data"
            ),
        ),
        (FLAT, Kind.FLAT_LINE, "cpu has read exactly 0 for 1 d"),
        (
            FROZEN,
            Kind.FLAT_LINE,
            "cpu has read exactly 2.5 for 1 d; 1 other metric has not changed either",
        ),
        (
            STOPPED,
            Kind.STOPPED,
            "web-0 stopped reporting: nothing since 2014-03-09 03:15 (usually every 5 min)",
        ),
    ],
)
def test_the_reason_is_one_plain_sentence(rows, kind, sentence):
    assert [(one.kind, one.reason) for one in spoken(rows)] == [(kind, sentence)]


def test_a_verdict_is_no_anomaly_and_carries_its_source():
    rows = after_wide(NAN, 1.0, 1.0)
    (missing,) = spoken(rows, headers={45: [("traceparent", b"00-1")]})
    assert (missing.is_anomaly, missing.metric, missing.value, missing.imputed) == (
        False,
        "cpu",
        None,
        True,
    )
    assert (missing.source_topic, missing.source_partition, missing.source_offset) == (
        "metrics",
        3,
        1045,
    )
    assert (missing.event_time, missing.since, missing.traceparent) == (
        LAST + 6 * FIVE,
        LAST,
        b"00-1",
    )
    assert (missing.score, missing.severity, missing.threshold, missing.model_id) == (
        None,
        None,
        None,
        None,
    )
    assert (missing.state, missing.attributions, missing.detector_id) == (
        State.READY,
        {},
        "ensemble",
    )


def test_a_verdict_carries_the_numbers_that_it_speaks_of():
    (late,) = spoken([*PLAIN, (0, PLAIN[1][1], [9.0])], state=State.WARMING)
    assert (late.late_by_ms, late.since, late.metric, late.state) == (
        38 * FIVE,
        LAST,
        None,
        State.WARMING,
    )
    (flat,) = spoken(FLAT)
    assert (flat.value, flat.metric, flat.since, flat.imputed) == (0.0, "cpu", LAST + FIVE, False)


def test_a_stopped_entity_is_stale_at_the_partitions_clock():
    (stopped,) = spoken(
        STOPPED, headers={row: [("traceparent", b"00-2")] for row in range(len(STOPPED))}
    )
    row = stopped.source_offset - 1000
    assert (stopped.entity, stopped.state, stopped.since) == ("web-0", State.STALE, LAST)
    assert (STOPPED[row][0], stopped.traceparent) == (2, None)
    assert stopped.event_time == STOPPED[row][1] == LAST + 13 * FIVE


def test_every_verdict_has_an_id_of_its_own():
    rows = []
    for day in range(6):
        start = START + day * 10 * HOUR_MS
        rows += by_time(*(
            [(e, t, [v[0], NAN if 30 <= k < 50 else 1.0, 1.0])
             for k, (_, t, v) in enumerate(regular(60 + 20 * e, entity=e, start=start))]
            for e in range(3)
        ))  # fmt: skip
        rows.append(rows[-1])
    found = spoken(rows, QualitySettings(repeat_hours=1.0))
    assert {one.kind for one in found} >= {Kind.MISSING, Kind.GAP, Kind.DUPLICATE, Kind.STOPPED}
    assert len(found) > 15
    assert len({one.event_id for one in found}) == len(found)
    assert [one.source_offset for one in found] == sorted(one.source_offset for one in found)
