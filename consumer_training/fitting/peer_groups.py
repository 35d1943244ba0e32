"""Groups entities that are alike, and learns what is usual in each group.

Invariant: pure; groups and profiles follow from the rows and the seed, not from names or order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering

from consumer_training.fitting.sampling import seeded_rows
from shared.kernels.trained.peers import FIRST_METRIC, HOUR, HOURS, NUMBER
from shared.models.peers import LEAST_SPREAD, MAX_GROUPS, Peers
from shared.models.value_rows import numbers_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LEAST_PEERS = 3
"""A smaller group says nothing of its members."""

LEAST_ROWS = 24
"""An entity with fewer training rows is not listed: it counts as unknown."""

MOST_CLUSTERED = 2_000
"""Entities that are compared in pairs; further ones join the group of the most similar of them."""

DESCRIBED_PARTS = 8
"""Parts of the day in which entities are compared with one another."""

FARTHEST, THRESHOLD = 4.0, 1.0
"""Largest distance of two entities in one metric, and the largest mean one within a group.

The distance is that of the medians of a part of the day, in interquartile ranges; that of a metric
that only one of them reports is the largest.
"""

PARTS = 24
"""Parts of the day with a profile each."""

LEAST_VALUES = 10
"""A part of the day with fewer values of a metric takes the profile of the whole day."""

LEAST_SHARE = 0.02
"""A spread is at least this share of the largest median of its metric in the group."""

TAIL, TAIL_SPREADS = 0.999, 3.3
"""A spread is stretched until this share of a group's training values lies within so many."""

FALLS = 0.02
"""A metric that falls in a smaller share of its changes is a total that grows: not compared."""

GAUSSIAN_IQR = 1.349
"""Interquartile range of a Gaussian, in standard deviations."""


MOST_NAMED = 100
"""Entities without peers that the manifest names."""


class NoPeers(Exception):
    """No group of entities is large enough."""

    def __init__(self, entities: int) -> None:
        super().__init__(
            f"no {LEAST_PEERS} of {entities} entities are alike: peer groups need that many which"
            " report the same metrics at about the same level; the last model stays in use. Choose"
            " another train.member or detector"
        )


def fit_peers(X: Floats, entities: npt.NDArray[np.uint64], seed: int) -> Peers:
    """Group entities and learn the groups' profiles.

    X        : float64 (n, FIRST_METRIC + M)  training rows; those of an entity in order of time
    entities : uint64 (E,)  what NUMBER refers to
    raises   : NoPeers

    Cost: time and memory O(C^2) for C = min(E, MOST_CLUSTERED) entities, time O(C^2 M + n M log n).
    """
    X = _without_totals(X)
    numbers = X[:, NUMBER].astype(np.int64)
    counts = np.bincount(numbers, minlength=len(entities))
    listed = np.flatnonzero(counts >= LEAST_ROWS)
    medians, ranges = _describe(X, numbers, listed)
    labels = _group(medians, ranges, seed)
    group = np.full(len(entities), -1, np.int32)
    group[listed] = labels
    if not (labels >= 0).any():
        raise NoPeers(len(listed))
    center, spread = _profiles(X, group[numbers], int(labels.max()) + 1)
    return Peers(entities[listed].copy(), group[listed].copy(), center, spread)


def peer_facts(peers: Peers, names: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return what manifest and report say of the groups.

    names   : of entities
    returns : ``groups`` with the number of entities and the metrics that are compared;
              ``without_peers``, names of entities that are listed but in no group, at most
              MOST_NAMED of them, and their number
    """
    names = sorted(set(names))
    places = numbers_of(names, peers.entities)
    is_lonely = (places >= 0) & (peers.group[np.maximum(places, 0)] < 0)
    lonely = [name for name, alone in zip(names, is_lonely.tolist(), strict=True) if alone]
    compared: Flags = np.asarray((~np.isnan(peers.center)).any(axis=1))
    groups = [
        {
            "entities": int((peers.group == number).sum()),
            "metrics": [name for name, has in zip(metrics, compared[number], strict=True) if has],
        }
        for number in range(len(compared))
    ]
    return {
        "groups": groups,
        "without_peers": lonely[:MOST_NAMED],
        "entities_without_peers": len(lonely),
    }


def _without_totals(X: Floats) -> Floats:
    """Return the rows without the values of totals that only grow, entity by entity."""
    X = X.copy()
    edges = np.flatnonzero(np.diff(X[:, NUMBER], prepend=np.nan, append=np.nan) != 0)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        for column in range(FIRST_METRIC, X.shape[1]):
            values = X[low:high, column]
            steps = np.diff(values[~np.isnan(values)])
            changes = int((steps != 0).sum())
            if changes >= LEAST_ROWS and (steps < 0).sum() < FALLS * changes:
                X[low:high, column] = np.nan
    return X


def _describe(X: Floats, numbers: Ints, listed: Ints) -> tuple[Floats, Floats]:
    """Return median and interquartile range of each entity's metrics in each part of the day.

    returns : float64 (E, DESCRIBED_PARTS * M) each; NaN = no values
    """
    metrics = X.shape[1] - FIRST_METRIC
    shape = (len(listed), DESCRIBED_PARTS, metrics)
    medians, ranges = np.full(shape, np.nan), np.full(shape, np.nan)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.stack([listed, listed + 1]))
    for place in range(len(listed)):
        rows = X[order[bounds[0, place] : bounds[1, place]]]
        part = rows[:, HOUR].astype(np.int64) * DESCRIBED_PARTS // HOURS
        for number in np.unique(part).tolist():
            own = rows[part == number, FIRST_METRIC:]
            low, medians[place, number], high = _quantiles(own, (0.25, 0.5, 0.75))
            ranges[place, number] = high - low
    return medians.reshape(len(listed), -1), ranges.reshape(len(listed), -1)


def _group(medians: Floats, ranges: Floats, seed: int) -> npt.NDArray[np.int32]:
    """Return the group of each entity, largest group first; -1 = it has no peers."""
    chosen = seeded_rows(len(medians), MOST_CLUSTERED, seed)
    labels = np.full(len(medians), -1, np.int64)
    if len(chosen) < LEAST_PEERS:
        return labels.astype(np.int32)
    between = _distances(medians[chosen], ranges[chosen], medians[chosen], ranges[chosen])
    np.fill_diagonal(between, 0.0)
    labels[chosen] = (
        AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=THRESHOLD
        )
        .fit(between)
        .labels_
    )
    for place in np.flatnonzero(labels < 0).tolist():
        own = slice(place, place + 1)
        distance = _distances(medians[own], ranges[own], medians[chosen], ranges[chosen])[0]
        nearest = int(distance.argmin())
        if distance[nearest] <= THRESHOLD:
            labels[place] = labels[chosen[nearest]]
    return _renumbered(labels)


def _renumbered(labels: Ints) -> npt.NDArray[np.int32]:
    """Number the groups that are large enough by size, of equal ones by their first entity."""
    found, first, size = np.unique(labels, return_index=True, return_counts=True)
    is_group = (found >= 0) & (size >= LEAST_PEERS)
    found, first, size = found[is_group], first[is_group], size[is_group]
    ranked = found[np.lexsort((first, -size))][:MAX_GROUPS]
    renumbered = np.full(len(labels), -1, np.int32)
    for number, label in enumerate(ranked.tolist()):
        renumbered[labels == label] = number
    return renumbered


def _distances(
    medians: Floats, ranges: Floats, other_medians: Floats, other_ranges: Floats
) -> Floats:
    """Return the mean distance over the metrics of each pair of entities, (a, b).

    Metrics that neither of them reports do not count.
    """
    total = np.zeros((len(medians), len(other_medians)))
    count = np.zeros_like(total)
    for metric in range(medians.shape[1]):
        a, b = medians[:, metric, None], other_medians[None, :, metric]
        scale = 0.5 * (ranges[:, metric, None] + other_ranges[None, :, metric])
        scale = np.maximum(scale, LEAST_SHARE * np.maximum(np.abs(a), np.abs(b)))
        distance = np.minimum(np.abs(a - b) / np.maximum(scale, LEAST_SPREAD), FARTHEST)
        missing = np.isnan(a).astype(np.int8) + np.isnan(b).astype(np.int8)
        total += np.where(missing == 0, distance, np.where(missing == 1, FARTHEST, 0.0))
        count += missing < 2
    return np.where(count > 0, total / np.maximum(count, 1), FARTHEST)


def _profiles(X: Floats, group: npt.NDArray[np.int32], groups: int) -> tuple[Floats, Floats]:
    """Return median and spread of each group, part of the day and metric, (G, T, M)."""
    metrics = X.shape[1] - FIRST_METRIC
    center = np.full((groups, PARTS, metrics), np.nan)
    spread = np.full((groups, PARTS, metrics), np.nan)
    for number in range(groups):
        rows = X[group == number]
        values, part = rows[:, FIRST_METRIC:], rows[:, HOUR].astype(np.int64) * PARTS // HOURS
        shared_by_half = _is_shared(rows[:, NUMBER], values)
        _profile(values, part, center[number], spread[number])
        center[number][:, ~shared_by_half] = np.nan
        _settle(values, part, center[number], spread[number])
    return center, spread


def _is_shared(numbers: Floats, values: Floats) -> Flags:
    """Return which metrics at least half of a group's entities have."""
    present = np.unique(numbers)
    has = [(~np.isnan(values[numbers == number])).any(axis=0) for number in present]
    return np.asarray(2 * np.sum(has, axis=0) >= len(present), np.bool_)


def _profile(values: Floats, part: Ints, center: Floats, spread: Floats) -> None:
    """Write the median and the interquartile range of each part of the day."""
    low, middle, high = _quantiles(values, (0.25, 0.5, 0.75))
    for number in range(PARTS):
        own = values[part == number]
        few = (~np.isnan(own)).sum(axis=0) < LEAST_VALUES
        own_low, own_middle, own_high = _quantiles(own, (0.25, 0.5, 0.75))
        center[number] = np.where(few, middle, own_middle)
        spread[number] = np.where(few, high - low, own_high - own_low) / GAUSSIAN_IQR


def _settle(values: Floats, part: Ints, center: Floats, spread: Floats) -> None:
    """Bound the spreads from below, and stretch them to the tail of the training values."""
    for metric in range(values.shape[1]):
        if np.isnan(center[:, metric]).all():
            spread[:, metric] = np.nan
            continue
        least = LEAST_SHARE * float(np.abs(center[:, metric]).max())
        if least <= LEAST_SPREAD:
            center[:, metric] = spread[:, metric] = np.nan
            continue
        bounded = np.maximum(spread[:, metric], least)
        own = ~np.isnan(values[:, metric])
        distance = np.abs(values[own, metric] - center[part[own], metric]) / bounded[part[own]]
        spread[:, metric] = bounded * max(float(np.quantile(distance, TAIL)) / TAIL_SPREADS, 1.0)


def _quantiles(values: Floats, levels: tuple[float, ...]) -> Floats:
    """Return quantiles of each column, NaN for one without values; (levels, M)."""
    if not len(values):
        return np.full((len(levels), values.shape[1]), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Floats = np.nanquantile(values, levels, axis=0)
    return found
