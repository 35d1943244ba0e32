"""Fits what metrics have in common: an autoencoder, or principal components as its linear form.

Invariant: the same rows, settings and seed give the same network; validation rows never train it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor

from consumer_training.fitting.peer_groups import GAUSSIAN_IQR, LEAST_ROWS, LEAST_SHARE
from consumer_training.fitting.sampling import seeded_rows
from shared.kernels.trained.peers import FIRST_METRIC, NUMBER
from shared.kernels.trained.reconstruction import LARGEST_INPUT
from shared.models.peers import LEAST_SPREAD
from shared.models.reconstruction import Reconstruction

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXPLAINED = 0.97
"""Share of the variance that the narrow middle keeps at least."""

MOST_ROWS = 20_000
"""Rows at most that the network is fitted to, chosen by seed."""

LEVELS, GAUSSIAN_RANGE = (0.01, 0.25, 0.5, 0.75, 0.99), 4.653
"""Quantiles of a metric; the range from the first to the last is so many deviations of a Gaussian.

A metric that is high for a few hours a day has a narrow interquartile range: it would outweigh all
others.
"""

VALIDATION = 0.2
EPOCHS, PATIENCE, LEAST_GAIN = 60, 5, 1e-3
"""Passes over the rows at most; passes without a gain of this share after which fitting stops."""

LEAST_ERROR = 0.01
"""A usual error is at least so many spreads."""

STEPS_PER_PASS, LARGEST_BATCH, LEARNING_RATE = 50, 200, 3e-3


class NoCommonMetrics(Exception):
    """There is nothing that metrics could have in common."""

    def __init__(self, metrics: int) -> None:
        super().__init__(
            f"{metrics} metrics of an entity with {LEAST_ROWS} training rows vary: a reconstruction"
            " needs at least 2; the last model stays in use. Choose another train.member or"
            " detector"
        )


class Epoch(NamedTuple):
    """One pass over the rows.

    loss, validation : mean squared error of the rows that are fitted, and of those held back
    best             : smallest ``validation`` so far
    """

    number: int
    loss: float
    validation: float
    best: float


Watch = Callable[[Epoch], None]


def fit_reconstruction(
    X: Floats,
    entities: npt.NDArray[np.uint64],
    seed: int,
    *,
    is_linear: bool,
    watch: Watch | None = None,
) -> tuple[dict[str, Any], Reconstruction]:
    """Fit the network; return facts about the fit, and the network.

    X        : float64 (n, FIRST_METRIC + M)  training rows
    entities : uint64 (E,)  what NUMBER refers to
    watch    : is called after each pass over the rows
    raises   : NoCommonMetrics
    """
    numbers = X[:, NUMBER].astype(np.int64)
    center, spread = _scales(X, numbers, len(entities))
    Z = (X[:, FIRST_METRIC:] - center[numbers]) / spread[numbers]
    known = ~np.isnan(Z)
    used = known.sum(axis=1) >= 2
    if not used.any():
        raise NoCommonMetrics(int(known.any(axis=0).sum()))
    Z = np.where(known, np.clip(Z, -LARGEST_INPUT, LARGEST_INPUT), 0.0)
    rows = np.flatnonzero(used)
    rows = rows[seeded_rows(len(rows), MOST_ROWS, seed)]
    order = np.random.default_rng(seed).permutation(len(rows))
    border = max(round(len(rows) * VALIDATION), 1)
    held_back, fitted = Z[rows[order[:border]]], Z[rows[order[border:]]]
    principal = PCA(svd_solver="full").fit(fitted if len(fitted) else held_back)
    units = _units(principal)
    if is_linear:
        facts, layers = _linear(principal, units, fitted, held_back)
    else:
        facts, layers = _bent(fitted, held_back, units, seed, watch)
    sizes = [Z.shape[1], *(len(bias) for _, bias in layers)]
    member = Reconstruction(
        entities,
        center,
        spread,
        np.array(sizes, np.int32),
        np.concatenate([weights.ravel() for weights, _ in layers]),
        np.concatenate([bias for _, bias in layers]),
        int(is_linear),
        np.ones(center.shape),
    )
    return facts | {"units": sizes}, _with_noise(member, _noise(member, X[rows]))


def _with_noise(member: Reconstruction, noise: Floats) -> Reconstruction:
    """Return the same network with other usual errors."""
    arrays = {name: getattr(member, name) for name in Reconstruction.__dataclass_fields__}
    return Reconstruction(**arrays | {"noise": noise})


def _scales(X: Floats, numbers: Ints, entities: int) -> tuple[Floats, Floats]:
    """Return median and spread of each entity's metrics; NaN where one has few values or none."""
    shape = (entities, X.shape[1] - FIRST_METRIC)
    center, spread = np.full(shape, np.nan), np.full(shape, np.nan)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(entities + 1))
    for number in range(entities):
        values = X[order[bounds[number] : bounds[number + 1]], FIRST_METRIC:]
        enough = (~np.isnan(values)).sum(axis=0) >= LEAST_ROWS
        if not enough.any():
            continue
        least, low, middle, high, most = np.nanquantile(values[:, enough], LEVELS, axis=0)
        width = np.maximum((high - low) / GAUSSIAN_IQR, (most - least) / GAUSSIAN_RANGE)
        width = np.maximum(width, LEAST_SHARE * np.abs(middle))
        center[number, enough] = np.where(width > LEAST_SPREAD, middle, np.nan)
        spread[number, enough] = np.where(width > LEAST_SPREAD, width, np.nan)
    return center, spread


def _units(principal: PCA) -> int:
    """Return how many components keep EXPLAINED of the variance, fewer than there are metrics."""
    shares = np.cumsum(np.nan_to_num(principal.explained_variance_ratio_))
    enough = int(np.searchsorted(shares, EXPLAINED)) + 1
    return max(min(enough, len(shares) - 1, int(principal.n_features_in_) - 1), 1)


Layers = list[tuple[Floats, Floats]]


def _linear(
    principal: PCA, units: int, fitted: Floats, held_back: Floats
) -> tuple[dict[str, Any], Layers]:
    basis = np.ascontiguousarray(principal.components_[:units].T)
    down = (basis, -principal.mean_ @ basis)
    up = (np.ascontiguousarray(basis.T), principal.mean_)
    layers: Layers = [down, up]
    return {
        "form": "pca",
        "explained_variance": round(float(principal.explained_variance_ratio_[:units].sum()), 4),
        "loss": _loss(layers, fitted, bends=False),
        "validation": _loss(layers, held_back, bends=False),
    }, layers


def _bent(
    fitted: Floats, held_back: Floats, units: int, seed: int, watch: Watch | None
) -> tuple[dict[str, Any], Layers]:
    """Fit the autoencoder pass by pass; keep the network of the best pass."""
    wide = max(2 * fitted.shape[1], 8)
    network = MLPRegressor(
        hidden_layer_sizes=(wide, units, wide),
        activation="relu",
        batch_size=min(max(len(fitted) // STEPS_PER_PASS, 1), LARGEST_BATCH),
        learning_rate_init=LEARNING_RATE,
        random_state=seed,
    )
    epochs: list[Epoch] = []
    best, kept, since = np.inf, [], 0
    while len(epochs) < EPOCHS and since < PATIENCE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.partial_fit(fitted, fitted)
        layers = list(zip(network.coefs_, network.intercepts_, strict=True))
        validation = _loss(layers, held_back, bends=True)
        since = 0 if validation < best * (1.0 - LEAST_GAIN) else since + 1
        if validation < best:
            best = validation
            kept = [(weights.copy(), bias.copy()) for weights, bias in layers]
        epochs.append(Epoch(len(epochs) + 1, float(network.loss_) * 2.0, validation, best))
        if watch is not None:
            watch(epochs[-1])
    return {
        "form": "autoencoder",
        "loss": [round(epoch.loss, 6) for epoch in epochs],
        "validation": [round(epoch.validation, 6) for epoch in epochs],
        "best_epoch": int(np.argmin([epoch.validation for epoch in epochs])) + 1,
        "stopped_early": since >= PATIENCE,
    }, kept


def _loss(layers: Layers, rows: Floats, *, bends: bool) -> float:
    """Return the mean squared error of reconstructed rows."""
    if not len(rows):
        return 0.0
    found = rows
    for place, (weights, bias) in enumerate(layers):
        found = found @ weights + bias
        if bends and place < len(layers) - 1:
            found = np.maximum(found, 0.0)
    return float(((found - rows) ** 2).mean())


def _noise(member: Reconstruction, X: Floats) -> Floats:
    """Return the usual error of each entity's metrics, at least LEAST_ERROR; float64 (E, M)."""
    _, errors = member.reconstruct(X)
    numbers = X[:, NUMBER].astype(np.int64)
    known = ~np.isnan(errors)
    squares, counts = np.zeros(member.center.shape), np.zeros(member.center.shape)
    np.add.at(squares, numbers, np.where(known, errors * errors, 0.0))
    np.add.at(counts, numbers, known)
    size = np.sqrt(squares / np.maximum(counts, 1.0))
    return np.maximum(np.where(counts > 0, size, 1.0), LEAST_ERROR)
