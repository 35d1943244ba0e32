"""A sentence is true: every claim of every record, recomputed from the raw rows before it.

Each scene runs in all noise families, through the product's path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from shared.ensemble.kernels.layout import VIEW_NAMES
from shared.events import Anomaly, ClosedBecause, Phase
from tests.reference import sentences as claims
from tests.reference.sentences import DAY_MS, HOUR_MS, MINUTE_MS, Rows, close, number
from tests.support.episodes import needs_speed
from tests.support.incidents import SCENES, Scene
from tests.support.noise import FAMILIES, days_of
from tests.support.scored import anomalies_of

pytestmark = needs_speed

N, SPAN, MOMENT, UNIT, CLOCK = claims._N, claims._SPAN, claims._MOMENT, claims._UNIT, claims._CLOCK
LONG_MS = 45_000


@cache
def judged(scene: Callable[[str], Scene], family: str) -> tuple[Scene, list[Anomaly]]:
    made = scene(family)
    found = anomalies_of(
        made.time_ms, made.values, made.metrics, made.timezone, batches=3, **made.detection
    )
    return made, found


def rows_of(scene: Scene, metric: str, at: int, row: int) -> Rows:
    """Return the scored samples of a metric up to a row: values, rates, means of minutes."""
    column = scene.metrics.index(metric)
    arrived = np.arange(len(scene.time_ms)) <= row
    arrived &= (scene.time_ms <= at) & ~np.isnan(scene.values[:, column])
    order = np.flatnonzero(arrived)[np.argsort(scene.time_ms[arrived], kind="stable")]
    time_ms, values = scene.time_ms[order], scene.values[order, column]
    step_ms = int(np.median(np.diff(scene.time_ms[np.argsort(scene.time_ms)])))
    if column in scene.totals:
        values = np.diff(values) / (np.diff(time_ms) / 1000)
        time_ms, values = time_ms[1:][values >= 0], values[values >= 0]
    twin = np.diff(time_ms, prepend=time_ms[0] - DAY_MS) < min(0.5 * 300_000, 60_000)
    if 0 < step_ms < LONG_MS and np.median(np.diff(time_ms)) < 20_000:
        _, first = np.unique(time_ms // MINUTE_MS, return_index=True)
        last = np.append(first[1:], len(values))
        values = np.array([values[a:b].mean() for a, b in zip(first, last, strict=True)])[:-1]
        return Rows(time_ms[last[:-1] - 1], values, scene.timezone, False, MINUTE_MS)
    if step_ms < MINUTE_MS:  # scrapers seconds apart: the second one is not scored
        return Rows(time_ms[~twin], values[~twin], scene.timezone, False, 300_000)
    return Rows(time_ms, values, scene.timezone, step_ms >= 300_000, step_ms)


SENTENCES = {
    "mean": (
        rf"has been (higher|lower) than (?:usual|lately|expected) on average over the last"
        rf" (hour|{SPAN}):"
        r" (is .*)"
    ),
    "jump": rf"(rose|fell) to {N}{UNIT} from about {N}, the middle of the six values before; (.*)",
    "missed": (
        rf"(?:usually (reaches|falls to)|was expected at) about {N} between {CLOCK} and {CLOCK},"
        rf" but stayed at about {N} or (below|above)(?: \((\d+)-minute means\))?"
    ),
    "level": (
        rf"has been about {N} (above|below) (its usual values|the values expected) for most of"
        r" the last 24 hours:"
        r" (is .*)"
    ),
    "spread": (
        rf"varies (about|at least) {N} times as much as usual from one value to the next;"
        r" \w+ (is .*)"
    ),
    "often": (
        r"differs from what is usual about this time much more often than usual: about (\d+)% of"
        r" its latest values, usually (?:(\d+)%|less than 1%); \w+ (is .*)"
    ),
    "stuck": (
        rf"has read (exactly |exactly the same, about ){N}{UNIT} for {SPAN}; usually it changes"
        r" from one value to the next"
    ),
    "still": r"has not moved for longer than usual: \w+ (is .*)",
    "combination": r"does not follow the other metrics as usual: \w+ (is .*)",
    "value": r"(is .*)",
}
"""What may follow a metric's name."""


def check_opened(scene: Scene, found: Anomaly) -> str:
    """Check all that the record of an opening claims; returns the kind of its sentence."""
    text, at = found.reason, found.event_time
    text = re.sub(rf"; worse (?:than|again in an episode) since {MOMENT}$", "", text)
    course = re.fullmatch(
        rf"the course of (\w+) over the last hours is unlike any in the {SPAN} before: (.*)", text
    )
    joint = re.fullmatch(
        r"at least (\d+) of (\d+) metrics changed unusually at the same time, most of all (.*)",
        text,
    )
    if joint:
        check_joint(scene, found, int(joint[1]), int(joint[2]))
        text = joint[3]
    metric = course[1] if course else text.split(" ")[0]
    assert metric == found.metric
    assert found.value is not None
    rows = rows_of(scene, metric, at, found.source_offset)
    check_value(scene, found, rows)
    if course:
        claims.says_course(rows, at, course[2])
        assert claims.says_remark(rows, at, found.value, course[3]) == ""
        return "course"
    if found.cold_start:
        check_cold(scene, found, rows)
        return "cold"
    for kind, pattern in SENTENCES.items():
        message = re.fullmatch(pattern, text.partition(" ")[2])
        if message:
            check_view(rows, found, kind, message)
            if kind == "combination":
                others = [name for name in scene.metrics if name != metric]
                apart = [rows_of(scene, name, at, found.source_offset) for name in others]
                claims.says_apart(rows, apart, at)
            return "joint" if joint else kind
    raise AssertionError(f"what is said is not known: {found.reason}")


def check_value(scene: Scene, found: Anomaly, rows: Rows) -> None:
    """The value is the row's own, or what its rows add up to."""
    assert scene.time_ms[found.source_offset] == found.event_time
    column = scene.metrics.index(str(found.metric))
    if "as the mean of a minute" in found.reason or column in scene.totals:
        assert found.value == pytest.approx(rows.values[-1], rel=1e-9)
    else:
        assert found.value in (scene.values[found.source_offset, column], rows.values[-1])


def check_view(rows: Rows, found: Anomaly, kind: str, message: re.Match[str]) -> None:
    at, value, rest = found.event_time, float(found.value or 0.0), ""
    if kind == "mean":
        lately = re.search(rf", lately about {N} (more|less)$", message[4])
        sign = 1 if lately and lately[2] == "more" else -1
        by = sign * number(lately[1]) if lately else 0.0
        if "than expected" not in found.reason:
            claims.says_mean(rows, at, message[1], message[2], by)
        rest = claims.says_remark(rows, at, value, message[4])
    elif kind == "jump":
        assert close(number(message[2]), value)
        claims.says_jump(rows, at, value, message[1], number(message[3]))
        rest = claims.says_usually(rows, at, message[4])
    elif kind == "missed":
        if message[1]:
            claims.says_missed(rows, at, message)
    elif kind == "level":
        if message[3] == "its usual values":
            claims.says_level(rows, at, number(message[1]), message[2])
        rest = claims.says_remark(rows, at, value, message[4])
    elif kind == "spread":
        claims.says_spread(rows, at, number(message[2]), message[1] == "at least")
        rest = claims.says_remark(rows, at, value, message[3])
    elif kind == "often":
        claims.says_often(rows, at, message[1], message[2])
        rest = claims.says_remark(rows, at, value, message[3])
    elif kind == "stuck":
        claims.says_stuck(rows, at, number(message[2]), message[3], message[1])
        assert found.since is not None
        assert found.since in rows.time_ms
    elif kind == "still":
        claims.says_still(rows, at)
        rest = claims.says_remark(rows, at, value, message[1])
    else:
        rest = claims.says_remark(rows, at, value, message[1])
    rest = rest.removeprefix(", unusual for the second time in a row")
    if rest:
        claims.says_rarity(rows, at, value, rest)


def check_joint(scene: Scene, found: Anomaly, least: int, of: int) -> None:
    """So many metrics deviate, jump, or deviate as a mean of a quarter of an hour."""
    at, moved = found.event_time, 0
    assert of == len(scene.metrics)
    for metric in scene.metrics:
        rows = rows_of(scene, metric, at, found.source_offset)
        spread = rows.spread(at)
        _, off = rows.residuals(at - 900_000, at)
        values = rows.values[-2000:]
        six = np.lib.stride_tricks.sliding_window_view(values[:-1], 6)
        steps = abs(values[6:] - np.median(six, axis=1))
        jumped = steps[-1] > 1.3 * np.quantile(steps, 0.8)
        moved += jumped or max(abs(off[-1]), 1.5 * abs(np.mean(off))) > 1.5 * spread
    assert moved >= least, (moved, least)


def check_cold(scene: Scene, found: Anomaly, rows: Rows) -> None:
    """The range of all values of the first days but those far outside."""
    message = re.fullmatch(
        rf"\w+ is {N}{UNIT}, far outside of {N} to {N}, its usual values in the first {SPAN}"
        r" \(still warming up\)",
        found.reason,
    )
    assert message, found.reason
    low, high = number(message[2]), number(message[3])
    before = rows.before(found.event_time).values
    if not rows.single:  # the very first row is scored as it came, before its interval is known
        before = np.append(before, scene.values[0, scene.metrics.index(str(found.metric))])
    slack = claims.ROUNDING * max(abs(low), abs(high), high - low)
    inside = before[(before >= low - slack) & (before <= high + slack)]
    assert close(low, inside.min())
    assert close(high, inside.max())
    assert len(inside) >= 0.9 * len(before)
    assert (found.lower, found.upper) == (inside.min(), inside.max())
    assert found.value > high or found.value < low  # type: ignore[operator]
    shown, unit = claims.parse_span(message[4])
    assert shown <= found.event_time - scene.time_ms.min() < shown + unit


def check_closed(scene: Scene, found: Anomaly, opened: list[Anomaly]) -> None:
    """Start, end and peak of an episode are rows; the sentence about the value is true."""
    span = re.search(rf"(?:from|since) {MOMENT}", found.reason)
    assert span, found.reason
    rows = rows_of(scene, scene.metrics[0], found.event_time, len(scene.time_ms))
    begun = claims.at_moment(rows, found.event_time, span[1])
    start = int(found.episode_start or 0)
    assert 0 <= start - begun < MINUTE_MS
    assert start in scene.time_ms
    assert start <= min(a.event_time for a in opened)
    ended = re.search(rf"from {MOMENT} to {MOMENT}", found.reason)
    if ended:
        end = claims.at_moment(rows, found.event_time, ended[2])
        assert begun <= end
        assert found.event_time - end > 3 * HOUR_MS - MINUTE_MS
    peak = re.search(rf", peak {N} at {MOMENT}$", found.reason)
    if peak and found.metric:
        check_peak(scene, found, number(peak[1]), peak[2])
    if found.value is None or found.metric is None:
        return
    rows = rows_of(scene, found.metric, found.event_time, found.source_offset)
    again = re.match(
        r"\w+ (?:is as usual again|is no longer \w+ \w+): (.*?); the dev", found.reason
    )
    accepted = re.match(r"\w+ (is .*); the deviation .* has become what is usual", found.reason)
    remark = f"is {again[1]}" if again else accepted[1] if accepted else ""
    assert remark, found.reason
    assert claims.says_remark(rows, found.event_time, found.value, remark) == ""
    inside = found.lower <= found.value <= found.upper  # type: ignore[operator]
    if again:
        assert ("as usual again" in found.reason) is inside
    if found.closed_because is ClosedBecause.ACCEPTED and "learned" not in remark:
        times, off = rows.residuals(found.event_time - DAY_MS, found.event_time)
        middle, newest = np.nanmedian(off), np.nanmean(off[times > found.event_time - 2 * HOUR_MS])
        assert bool(middle > 0) is (found.direction == "up")
        assert newest / middle > 0.3, (newest, middle)


def check_peak(scene: Scene, found: Anomaly, shown: float, moment: str) -> None:
    metric, peak_ms = str(found.metric), int(found.peak_time or 0)
    rows = rows_of(scene, metric, found.event_time, found.source_offset)
    assert 0 <= peak_ms - claims.at_moment(rows, found.event_time, moment) < MINUTE_MS
    assert close(shown, float(found.peak_value or 0.0))
    at = rows_of(scene, metric, peak_ms, found.source_offset)
    column = scene.metrics.index(metric)
    raw = scene.values[scene.time_ms == peak_ms, column]
    assert any(np.isclose(found.peak_value, v, rtol=1e-9) for v in (*raw, at.values[-1]))


EVERY = tuple(product(SCENES, FAMILIES))


@pytest.mark.parametrize(
    ("scene", "family"), EVERY, ids=[f"{scene.__name__}-{family}" for scene, family in EVERY]
)
def test_what_is_claimed_can_be_recomputed(scene, family):
    made, found = judged(scene, family)
    assert found
    wrong = []
    for anomaly in found:
        opened = [a for a in found if a.episode_id == anomaly.episode_id and a.is_anomaly]
        try:
            if anomaly.is_anomaly:
                check_opened(made, anomaly)
            else:
                check_closed(made, anomaly, opened)
        except AssertionError as error:
            wrong.append(f"{days_of(anomaly.event_time):.3f} {anomaly.reason}\n    {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("scene", "family"), EVERY, ids=[f"{scene.__name__}-{family}" for scene, family in EVERY]
)
def test_who_is_named_is_who_moved(scene, family):
    made, found = judged(scene, family)
    for first, last, columns in made.moved:
        names = {made.metrics[column] for column in columns}
        inside = [
            a.metric
            for a in found
            if a.phase is Phase.OPEN and first <= days_of(a.event_time) <= last + 0.02
        ]
        assert inside
        assert set(inside[:1]) <= names


def test_every_view_speaks_in_one_of_the_scenes():
    message: dict[str, set[Any]] = {"phase": set(), "view": set(), "cold": set(), "because": set()}
    for scene, family in EVERY:
        for found in judged(scene, family)[1]:
            message["phase"].add(found.phase)
            message["cold"].add(found.cold_start)
            message["because"].add(found.closed_because)
            message["view"].add((found.top_feature or "").rpartition(".")[2])
            if "at the same time" in found.reason:
                message["view"].add("joint")
    assert set(VIEW_NAMES) - {"trained"} <= message["view"]
    assert message["phase"] == set(Phase)
    assert message["cold"] == {False, True}
    assert {ClosedBecause.RECOVERED, ClosedBecause.ACCEPTED} <= message["because"]
