"""Trains a model on sampled rows: split in time, fit, set the threshold, calibrate, compare seeds.

Invariant: pure; the same rows and settings give the same arrays, bit for bit. Rows of episodes that
alarmed, labelled rows, test rows, the clock and the reading order do not affect them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.fitting.estimators import NO_ENTITIES, fit
from consumer_training.fitting.peer_groups import (
    LEAST_PEERS,
    PARTS,
    NoPeers,
    peer_facts,
)
from consumer_training.fitting.reconstruction import NoCommonMetrics, Watch
from consumer_training.fitting.sampling import seeded_rows
from consumer_training.reading.history import Rows
from consumer_training.reading.reservoir import ALARMED, LABELLED, USABLE
from shared.errors import LapwingError
from shared.events import Detector
from shared.features.vectors import FEATURE_NAMES, Calendar
from shared.kernels.clock import Zone
from shared.kernels.trained.peers import FIRST_METRIC
from shared.kernels.units import DAY_MS
from shared.models.model import Member, Model, calibrate
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction
from shared.models.value_rows import list_entities, local_hours, numbers_of, value_rows
from shared.settings import FeatureSettings, TrainSettings
from shared.wording import iso

Floats = npt.NDArray[np.float64]

CANARY_ROWS = 16
UNUSED, TRAIN, TEST = 0, 1, 2

SEEDS = 3
"""Models that are fitted, each by a seed of its own; the first is published."""

COMPARED_ROWS = 20_000
"""Held-out rows at most that the seeds are compared on."""

MOST_METRICS = {Detector.PEER_GROUPS: 256, Detector.RECONSTRUCTION: 64}
"""Metrics at most that a detector of values sees: those with the most training rows."""

LEAST_KNOWN = 20
"""Training rows that a model must know: fewer cannot be calibrated."""

AGREEMENT = 0.8
"""Least rank correlation at which seeds agree."""


class TooFewRows(Exception):
    """There are too few training rows yet; the service waits, it is no error."""

    def __init__(self, rows: int, needed: int) -> None:
        super().__init__(f"{rows} training rows, {needed} are needed (train.min_rows)")
        self.rows = rows
        self.needed = needed


class RefusedRows(LapwingError):
    """No model is worth publishing on these rows; the last one stays in use."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with the data for its evaluation and report.

    part     : uint8 (n,)     UNUSED, TRAIN or TEST for each row
    scores   : float64 (n,)   NaN where unused
    left_out : {entity: its sampled rows} of entities without a training row
    facts    : contents of the manifest
    canary   : float64 (c, d)
    """

    model: Model
    estimator: Any
    rows: Rows
    part: npt.NDArray[np.uint8]
    scores: Floats
    left_out: dict[str, int]
    facts: dict[str, Any]
    canary: Floats


def train(
    rows: Rows,
    detector: Detector,
    features: FeatureSettings,
    settings: TrainSettings,
    watch: Watch | None = None,
) -> Trained:
    """Fit one model over all series.

    watch  : is called after each pass over the rows, where the fit takes several
    raises : TooFewRows; RefusedRows that says what is wrong with the rows

    Memory: 8 d bytes for each sampled row, a few times.
    """
    part = split(rows, settings)
    check_enough(rows, settings)
    counts = _training_rows(rows, part)
    left_out = {name: sampled for name, (used, sampled) in counts.items() if used == 0}
    seen = describe(rows, part, detector, features)
    X = seen.X[part == TRAIN]
    _check_varied(X[:, FIRST_METRIC:] if detector.sees_values else X)
    estimator, member = _fitted(detector, X, settings, seen.entities, watch)
    trained_scores = member.score(X)
    known_scores = _known_scores(member, X, trained_scores)
    model = Model(
        sha256="",
        version=iso(int(rows.time_ms[part == TRAIN].max()), finest="seconds"),
        detector=detector,
        metrics=seen.metrics,
        usual=np.empty(0) if detector.sees_values else np.median(X, axis=0),
        member=member,
        threshold=_threshold(known_scores, settings),
        calibration=calibrate(known_scores),
    )
    scores = np.full(len(rows), np.nan)
    scores[part == TRAIN] = trained_scores
    held_out = seen.X[part == TEST]
    scores[part == TEST] = model.score(held_out)
    facts = _facts(rows, part, features, settings, detector, counts, seen.metrics)
    facts["seeds"] = compare_seeds(detector, X, held_out, settings, member, seen.entities)
    if isinstance(member, Peers):
        facts["peers"] = peer_facts(member, [name for name, _ in rows.series], seen.metrics)
    if isinstance(member, Reconstruction):
        facts["reconstruction"] = estimator
    canary = X[_canary_rows(trained_scores)].copy()
    return Trained(model, estimator, rows, part, scores, left_out, facts, canary)


def check_enough(rows: Rows, settings: TrainSettings) -> None:
    """Check that there are enough training rows.

    raises : TooFewRows; RefusedRows where none is usable
    """
    _check_usable(rows)
    count = int((split(rows, settings) == TRAIN).sum())
    if count < settings.min_rows:
        raise TooFewRows(count, settings.min_rows)


@dataclass(frozen=True, slots=True)
class SeenRows:
    """Rows as the detector sees them.

    X        : float64 (n, d)
    metrics  : (M,) with values in the training part
    entities : uint64 (E,)  what NUMBER in X refers to; none unless the detector sees values
    """

    X: Floats
    metrics: tuple[str, ...]
    entities: npt.NDArray[np.uint64]


def describe(
    rows: Rows, part: npt.NDArray[np.uint8], detector: Detector, features: FeatureSettings
) -> SeenRows:
    """Return all rows as the detector sees them.

    part : uint8 (n,)  from ``split``
    """
    reported = (~np.isnan(rows.values[part == TRAIN])).sum(axis=0)
    columns = np.flatnonzero(reported)
    if not detector.sees_values:
        names = tuple(rows.metrics[column] for column in columns)
        return SeenRows(rows.features, names, NO_ENTITIES)
    most = np.argsort(-reported[columns], kind="stable")[: MOST_METRICS[detector]]
    columns = np.sort(columns[most])
    trained = [
        name
        for (name, _), low, high in zip(rows.series, rows.bounds, rows.bounds[1:], strict=False)
        if (part[low:high] == TRAIN).any()
    ]
    entities = list_entities(trained)
    numbers = numbers_of([name for name, _ in rows.series], entities)
    calendar = Calendar.from_settings(features)
    hours = local_hours(rows.time_ms, Zone(calendar.transitions_ms, calendar.offsets_ms))
    owners = np.repeat(numbers, np.diff(rows.bounds))
    X = value_rows(owners, hours, rows.values, columns.tolist())
    return SeenRows(X, tuple(rows.metrics[column] for column in columns), entities)


def split(rows: Rows, settings: TrainSettings) -> npt.NDArray[np.uint8]:
    """Assign each row to the training part or the test part; returns uint8 (n,).

    The first ``train.split`` of a series' rows are for training, but for those that alarmed or that
    labels name. Rows before the newest ``train.window_days`` are unused.
    """
    part = np.full(len(rows), UNUSED, np.uint8)
    earliest = np.iinfo(np.int64).min
    if settings.window_days is not None and len(rows):
        earliest = int(rows.time_ms.max()) - round(settings.window_days * DAY_MS)
    for low, high in zip(rows.bounds[:-1].tolist(), rows.bounds[1:].tolist(), strict=True):
        numbers = low + np.flatnonzero(rows.time_ms[low:high] >= earliest)
        border = int(len(numbers) * settings.split)
        first = numbers[:border]
        part[first[rows.use[first] == USABLE]] = TRAIN
        part[numbers[border:]] = TEST
    return part


def compare_seeds(
    detector: Detector,
    X: Floats,
    held_out: Floats,
    settings: TrainSettings,
    first: Member,
    entities: npt.NDArray[np.uint64] = NO_ENTITIES,
) -> dict[str, Any]:
    """Fit more models by other seeds; say whether they rank held-out rows alike.

    X        : float64 (n, d)  training rows
    held_out : float64 (k, d)  none = the training rows are ranked
    first    : the model by ``train.seed``
    entities : what the rows' numbers refer to, where the detector sees values
    returns  : seeds, the least rank correlation of any two, and whether it reaches AGREEMENT
    """
    ranked = held_out if len(held_out) else X
    ranked = ranked[seeded_rows(len(ranked), COMPARED_ROWS, settings.seed)]
    seeds = [(settings.seed + k) % 2**32 for k in range(SEEDS)]
    scores = [first.score(ranked)]
    for seed in seeds[1:]:
        chosen = X[seeded_rows(len(X), max(len(X) * 4 // 5, 2), seed)]
        other = settings.model_copy(update={"seed": seed})
        try:
            scores.append(fit(detector, chosen, other, entities)[1].score(ranked))
        except (NoPeers, NoCommonMetrics):
            scores.append(np.zeros(len(ranked)))
    ranks = [_ranks(one) for one in scores]
    least = min(_correlation(ranks[a], ranks[b]) for a in range(SEEDS) for b in range(a + 1, SEEDS))
    return {
        "seeds": seeds,
        "rows": len(ranked),
        "least_rank_correlation": round(least, 4),
        "agree": bool(least >= AGREEMENT),
    }


def _fitted(
    detector: Detector,
    X: Floats,
    settings: TrainSettings,
    entities: npt.NDArray[np.uint64],
    watch: Watch | None,
) -> tuple[Any, Member]:
    """Fit the detector.

    raises : RefusedRows where no entities are alike, or too few metrics vary
    """
    try:
        return fit(detector, X, settings, entities, watch)
    except (NoPeers, NoCommonMetrics) as error:
        raise RefusedRows(str(error)) from error


def _known_scores(member: Member, X: Floats, scores: Floats) -> Floats:
    """Return the scores of the training rows that the model can say anything of.

    raises : RefusedRows when they are too few to be calibrated
    """
    if not isinstance(member, Peers | Reconstruction):
        return scores
    known = member.knows(X)
    if known.sum() < LEAST_KNOWN:
        raise RefusedRows(
            f"the model knows {known.sum()} of {len(X)} training rows, {LEAST_KNOWN} are needed to"
            " calibrate it; the last model stays in use"
        )
    return scores[known]


def _ranks(scores: Floats) -> Floats:
    """Return the rank of each score; equal ones share the mean of theirs."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - 0.5 * (count - 1))[place]


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def _check_usable(rows: Rows) -> None:
    if len(rows) and not (rows.use == USABLE).any():
        alarmed, labelled = int((rows.use == ALARMED).sum()), int((rows.use == LABELLED).sum())
        raise RefusedRows(
            f"no usable training row: {alarmed} rows lie in episodes that alarmed, {labelled} in"
            " labelled windows; the last model stays in use. Train on a longer range of the input,"
            " or correct --labels"
        )


def _check_varied(X: Floats) -> None:
    """Refuse rows of which a model would learn nothing: it would flag every other row."""
    first = X[0]
    if ((first == X) | (np.isnan(X) & np.isnan(first))).all():
        raise RefusedRows(
            f"all {len(X)} training rows look alike (the metrics are constant): a model would flag"
            " every row that differs; the last model stays in use. Train on metrics that vary"
        )


def _training_rows(rows: Rows, part: npt.NDArray[np.uint8]) -> dict[str, tuple[int, int]]:
    """Return the training rows and all sampled rows of each entity."""
    found: dict[str, tuple[int, int]] = {}
    for (name, _), low, high in zip(rows.series, rows.bounds, rows.bounds[1:], strict=False):
        used, sampled = found.get(name, (0, 0))
        found[name] = used + int((part[low:high] == TRAIN).sum()), sampled + int(high - low)
    return found


def _threshold(scores: Floats, settings: TrainSettings) -> float:
    """Return the score exceeded by a share ``contamination`` of the training rows.

    Interpolated as scikit-learn's ``offset_`` is.
    """
    if settings.threshold is not None:
        return float(settings.threshold)
    return -float(np.percentile(-scores, 100.0 * settings.contamination))


def _canary_rows(scores: Floats) -> npt.NDArray[np.int64]:
    """Choose rows spread evenly over the ranks of the scores."""
    order = np.argsort(scores, kind="stable")
    return order[np.linspace(0, len(order) - 1, CANARY_ROWS).round().astype(np.int64)]


def _facts(
    rows: Rows,
    part: npt.NDArray[np.uint8],
    features: FeatureSettings,
    settings: TrainSettings,
    detector: Detector,
    counts: dict[str, tuple[int, int]],
    metrics: tuple[str, ...],
) -> dict[str, Any]:
    trained = rows.time_ms[part == TRAIN]
    left_out = {name: sampled for name, (used, sampled) in counts.items() if used == 0}
    return {
        "seed": settings.seed,
        "contamination": settings.contamination,
        "threshold_fixed": settings.threshold is not None,
        "parameters": _parameters(detector, settings),
        "feature_settings": {"timezone": features.timezone, "names": list(FEATURE_NAMES)},
        "training": {
            "split": settings.split,
            "window_days": settings.window_days,
            "rows": len(trained),
            "test_rows": int((part == TEST).sum()),
            "alarmed_rows": int((rows.use == ALARMED).sum()),
            "labelled_rows": int((rows.use == LABELLED).sum()),
            "entities": sum(used > 0 for used, _ in counts.values()),
            "first_event": iso(int(trained.min()), finest="seconds"),
            "last_event": iso(int(trained.max()), finest="seconds"),
            "first_event_ms": int(trained.min()),
            "last_event_ms": int(trained.max()),
            "left_out": dict(sorted(left_out.items())[:100]),
            "left_out_entities": len(left_out),
            "metrics_without_values": [name for name in rows.metrics if name not in metrics],
        },
    }


def _parameters(detector: Detector, settings: TrainSettings) -> dict[str, Any]:
    if detector is Detector.ISOLATION_FOREST:
        return {"trees": settings.trees, "samples": settings.samples}
    if detector is Detector.PEER_GROUPS:
        return {"least_peers": LEAST_PEERS, "parts_of_day": PARTS}
    if detector is Detector.RECONSTRUCTION:
        return {"form": settings.reconstruction}
    return {"nu": settings.nu, "gamma": settings.gamma, "rows": settings.svm_rows}
