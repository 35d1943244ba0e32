"""Scorer of NAB v1.1: rewards and costs of alarms, at every threshold and at a given one.

An alarm is a row whose score is at or above the threshold; one threshold holds for all series. With
the weights tp, fp, fn of a profile, and last and rows those of the window that a row lies in, or of
the nearest one before it:
  * a window that an alarm hits earns tp times the reward of its earliest alarm: 1 at the window's
    first row, falling to nearly 0 at its last, along S(y) = 2 / (1 + exp(5 y)) - 1 over the
    position y = -(last + 1 - row) / rows, divided by S(-1);
  * a window without an alarm costs fn;
  * each alarm outside every window costs fp times -S(y), y = (row - last) / (rows - 1): little just
    after a window, all of it from y = 3 on or where no window came before.
The sum is normalised: 0 = no alarm at all, 100 = an alarm at the first row of every window and none
elsewhere.

Invariant: rows of the probation are neither hits nor false alarms; a window that ends inside the
           probation never counts.

Source: Lavin and Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms - the Numenta Anomaly
Benchmark", 2015, and github.com/numenta/NAB v1.1. Twin: tests/reference/nab.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.nab.corpus import Flags, Floats, Ints, Series, check_scores

FAR = 3.0
"""From this position on a false alarm costs all of its weight."""


@dataclass(frozen=True)
class Profile:
    """Weights of a kind of user for a window hit, a false alarm and a window missed."""

    name: str
    tp: float
    fp: float
    fn: float


STANDARD = Profile("standard", 1.0, 0.11, 1.0)
LOW_FP = Profile("reward_low_FP_rate", 1.0, 0.22, 1.0)
LOW_FN = Profile("reward_low_FN_rate", 1.0, 0.11, 2.0)
PROFILES = (STANDARD, LOW_FP, LOW_FN)


@dataclass(frozen=True)
class Best:
    """Highest normalised score of a profile, and the highest threshold that gives it.

    threshold : inf if it is best not to alarm at all
    """

    profile: Profile
    threshold: float
    score: float


@dataclass(frozen=True, eq=False)
class Ruler:
    """Reward of an alarm at each judged row; computed once per corpus, used for any scores.

    series : int64 (r,)    index of the series of each judged row
    row    : int64 (r,)    its row in the series
    window : int64 (r,)    index of the window it lies in, counted over the corpus; -1 outside
    reward : float64 (r,)  unweighted: in (0, 1] inside a window, in [-1, 0) outside
    home   : int64 (w,)    index of the series of each judged window
    """

    corpus: tuple[Series, ...]
    series: Ints
    row: Ints
    window: Ints
    reward: Floats
    home: Ints

    def judged(self, scores: Sequence[Floats]) -> Floats:
        """Return the scores of the judged rows, float64 (r,), in the ruler's order."""
        check_scores(self.corpus, scores)
        return np.concatenate(
            [
                np.empty(0),
                *(mine[one.probation :] for one, mine in zip(self.corpus, scores, strict=True)),
            ]
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """Hits, rewards and costs over the whole corpus at every threshold.

    thresholds : float64 (k,)  falling from inf (no alarm) through every judged score
    hit        : int64 (k,)    windows hit
    earned     : float64 (k,)  sum of the rewards of the windows hit, unweighted
    false_cost : float64 (k,)  sum over the false alarms, unweighted, <= 0
    windows    : judged windows in the corpus
    """

    thresholds: Floats
    hit: Ints
    earned: Floats
    false_cost: Floats
    windows: int

    def normalised(self, profile: Profile) -> Floats:
        """Return the normalised score at each threshold, float64 (k,); NaN without a window."""
        return normalise(profile, self.hit, self.earned, self.false_cost, self.windows)

    def best(self, profile: Profile) -> Best:
        """Return the highest threshold with the best score, as NAB's optimiser does."""
        if not self.windows:
            raise ValueError(
                "the corpus has no window after its probation, so no threshold is best"
            )
        normalised = self.normalised(profile)
        place = int(np.argmax(normalised))
        return Best(profile, float(self.thresholds[place]), float(normalised[place]))

    def at(self, threshold: float, profile: Profile) -> float:
        """Return the normalised score at a fixed threshold."""
        place = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        return float(self.normalised(profile)[max(place, 0)])


@dataclass(frozen=True, eq=False)
class Tally:
    """Hits, rewards and costs of each series at one threshold.

    windows, hit      : int64 (s,)    windows judged and hit
    earned, false_cost: float64 (s,)  as in Sweep
    true_rows, false_rows : int64 (s,)  alarms inside and outside the windows
    """

    corpus: tuple[Series, ...]
    threshold: float
    windows: Ints
    hit: Ints
    earned: Floats
    false_cost: Floats
    true_rows: Ints
    false_rows: Ints

    def normalised(self, profile: Profile, chosen: Flags | None = None) -> float:
        """Return the normalised score of the chosen series; NaN if they have no window.

        chosen : bool (s,), all series by default
        """
        mine = np.ones(len(self.corpus), np.bool_) if chosen is None else chosen
        hit = self.hit[mine].sum(keepdims=True)
        earned, false_cost = (
            self.earned[mine].sum(keepdims=True),
            self.false_cost[mine].sum(keepdims=True),
        )
        return float(normalise(profile, hit, earned, false_cost, int(self.windows[mine].sum()))[0])

    def by_category(self, profile: Profile) -> dict[str, float]:
        """Return the normalised score of each category on its own windows; NaN without any."""
        names = np.array([one.category for one in self.corpus])
        return {str(name): self.normalised(profile, names == name) for name in np.unique(names)}


def normalise(
    profile: Profile, hit: Ints, earned: Floats, false_cost: Floats, windows: int
) -> Floats:
    """Return 100 (score - null) / (perfect - null), float64 of the shape of ``hit``.

    A null detector misses all windows; a perfect one hits each at its first row, without false
    alarms.
    """
    if not windows:
        return np.full(np.shape(hit), math.nan)
    raw = profile.tp * earned + profile.fp * false_cost - profile.fn * (windows - hit)
    null, perfect = -profile.fn * windows, profile.tp * windows
    return np.asarray(100.0 * (raw - null) / (perfect - null))


def scaled_sigmoid(position: Floats) -> Floats:
    """Return 2 / (1 + exp(5 y)) - 1, and -1 from y = 3 on; float64 of the same shape."""
    return np.where(
        position >= FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, FAR))) - 1.0
    )


def rewards(series: Series) -> Floats:
    """Return the unweighted reward of an alarm at each row, float64 (n,), probation included.

    After a window of a single row every false alarm costs all: there is no width to measure the
    distance by.
    Twin: tests/reference/nab.py::row_rewards.  Cost: O(n).
    """
    row = np.arange(len(series), dtype=np.float64)
    position = np.full(len(series), FAR)
    for first, last in series.windows.tolist():
        rows = last - first + 1
        position[first : last + 1] = -(last - row[first : last + 1] + 1.0) / rows
        position[last + 1 :] = (row[last + 1 :] - last) / (rows - 1.0) if rows > 1 else FAR
    worth = scaled_sigmoid(position)
    inside = series.window_of >= 0
    worth[inside] /= scaled_sigmoid(np.array(-1.0))
    return worth


def measure(corpus: Sequence[Series]) -> Ruler:
    """Return the judged rows of all series and the reward of an alarm at each."""
    series: list[Ints] = []
    row: list[Ints] = []
    window: list[Ints] = []
    reward: list[Floats] = []
    home: list[int] = []
    for index, one in enumerate(corpus):
        # the last place answers for -1, a row outside
        number = np.full(len(one.windows) + 1, -1, np.int64)
        number[one.judged_windows] = len(home) + np.arange(len(one.judged_windows))
        home += [index] * len(one.judged_windows)
        judged = np.arange(one.probation, len(one), dtype=np.int64)
        series.append(np.full(len(judged), index, np.int64))
        row.append(judged)
        window.append(number[one.window_of[judged]])
        reward.append(rewards(one)[judged])
    return Ruler(
        corpus=tuple(corpus),
        series=np.concatenate([np.empty(0, np.int64), *series]),
        row=np.concatenate([np.empty(0, np.int64), *row]),
        window=np.concatenate([np.empty(0, np.int64), *window]),
        reward=np.concatenate([np.empty(0), *reward]),
        home=np.array(home, np.int64),
    )


def sweep(ruler: Ruler, scores: Sequence[Floats]) -> Sweep:
    """Judge every threshold at once.

    scores : per series float64 (n,), higher = more anomalous, finite; the probation is ignored

    Twin: tests/reference/nab.py::score_thresholds.  Cost: one sort of all rows, O(r log r).
    """
    judged = ruler.judged(scores)
    order = np.argsort(-judged, kind="stable")
    window, reward = ruler.window[order], ruler.reward[order]
    new_hits, new_earned = _window_steps(window, reward)
    falling = judged[order]
    last = np.flatnonzero(
        np.append(falling[1:] != falling[:-1], np.ones(min(1, len(falling)), np.bool_))
    )
    return Sweep(
        thresholds=np.concatenate([[math.inf], falling[last]]),
        hit=np.concatenate([[0], np.cumsum(new_hits)[last]]),
        earned=np.concatenate([[0.0], np.cumsum(new_earned)[last]]),
        false_cost=np.concatenate([[0.0], np.cumsum(np.where(window < 0, reward, 0.0))[last]]),
        windows=len(ruler.home),
    )


def tally(ruler: Ruler, scores: Sequence[Floats], threshold: float) -> Tally:
    """Judge one threshold, series by series.

    Twin: tests/reference/nab.py::score_at.  Cost: O(r).
    """
    alarm = ruler.judged(scores) >= threshold
    inside, outside = alarm & (ruler.window >= 0), alarm & (ruler.window < 0)
    earned = np.zeros(len(ruler.home))
    np.maximum.at(earned, ruler.window[inside], ruler.reward[inside])
    count = len(ruler.corpus)

    def per_series(index: Ints, weights: Floats | None = None) -> Floats:
        return np.asarray(np.bincount(index, weights, count), np.float64)

    return Tally(
        corpus=ruler.corpus,
        threshold=threshold,
        windows=per_series(ruler.home).astype(np.int64),
        hit=per_series(ruler.home[earned > 0]).astype(np.int64),
        earned=per_series(ruler.home, earned),
        false_cost=per_series(ruler.series[outside], ruler.reward[outside]),
        true_rows=per_series(ruler.series[inside]).astype(np.int64),
        false_rows=per_series(ruler.series[outside]).astype(np.int64),
    )


def _window_steps(window: Ints, reward: Floats) -> tuple[Ints, Floats]:
    """Return what each row adds to the hits and to the reward of its window.

    The rows come in falling order of scores: the first row of a window makes it a hit, and an
    earlier one raises its reward.
    """
    hits, raised = np.zeros(len(window), np.int64), np.zeros(len(window))
    inside = np.flatnonzero(window >= 0)
    inside = inside[np.argsort(window[inside], kind="stable")]
    for places in np.split(inside, np.flatnonzero(np.diff(window[inside])) + 1):
        if len(places):
            hits[places[0]] = 1
            raised[places] = np.diff(np.maximum.accumulate(reward[places]), prepend=0.0)
    return hits, raised
