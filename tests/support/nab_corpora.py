"""Small labelled series for the tests of the NAB scoring, and hypothesis strategies for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from benchmarks.nab.corpus import Series

START = datetime(2014, 3, 9, tzinfo=UTC)


def make_series(rows, windows=(), labels=None, category="cloud", file="cpu.csv", minutes=None):
    """Return a series with a row every five minutes, or at the given ``minutes``."""
    times = [
        START + timedelta(minutes=minute)
        for minute in (range(0, 5 * rows, 5) if minutes is None else minutes)
    ]
    labels = [(first + last) // 2 for first, last in windows] if labels is None else labels
    return Series(
        category=category,
        file=file,
        timestamps=tuple(f"{time:%Y-%m-%d %H:%M:%S}" for time in times),
        time_ms=np.array([int(time.timestamp()) * 1000 for time in times], np.int64),
        values=np.arange(rows, dtype=np.float64),
        windows=np.array(windows, np.int64).reshape(-1, 2),
        labels=np.array(labels, np.int64),
    )


def as_files(corpus, scores):
    """What the twins read: timestamps, limits of the windows, scores, as plain lists."""
    return [
        (
            list(one.timestamps),
            [(one.timestamps[first], one.timestamps[last]) for first, last in one.windows.tolist()],
            mine.tolist(),
        )
        for one, mine in zip(corpus, scores, strict=True)
    ]


@st.composite
def judged_corpora(draw):
    """Draw one to three series with repeated timestamps, tied scores and edge-case windows."""
    corpus, scores = [], []
    for number in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(st.sampled_from((0, 5, 5, 5)), min_size=7, max_size=60))
        minutes = np.cumsum([0, *steps]).tolist()
        named = [row for row in range(len(minutes)) if minutes.index(minutes[row]) == row]
        edges = sorted(draw(st.lists(st.sampled_from(named), max_size=6)))
        windows: list[tuple[int, int]] = []
        for first, last in zip(edges[::2], edges[1::2], strict=False):
            if not windows or first > windows[-1][1]:
                windows.append((first, last))
        one = make_series(
            len(minutes), windows, category=f"c{number % 2}", file=f"{number}.csv", minutes=minutes
        )
        corpus.append(one)
        levels = draw(
            st.lists(
                st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0, 7.5, -2.0)),
                min_size=len(one),
                max_size=len(one),
            )
        )
        scores.append(np.array(levels))
    return corpus, scores
