"""A reconstruction as arrays: each entity's scales, and a network with a narrow middle.

Invariant: an entity that the model does not list gets no verdict, because its scales are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.kernels.trained.peers import FIRST_METRIC, NUMBER
from shared.kernels.trained.reconstruction import score_reconstruction
from shared.kernels.trained.trained_rows import WITHOUT_MODEL, TrainedModel
from shared.models.array_checks import kernel_rows, need_array
from shared.models.peers import BAND, LARGEST_VALUE, LEAST_SPREAD

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

MAX_LAYERS, MAX_UNITS = 6, 512
LARGEST_WEIGHT, LEAST_NOISE = 1e3, 1e-3
"""Limits within which no sum or quotient of the kernel can overflow."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What metrics usually have in common, as a network that reproduces them.

    entities       : uint64 (E,)      increasing; ``value_rows.hash_of`` each entity
    center, spread : float64 (E, M)   median and interquartile range (in standard deviations of a
                     Gaussian) of each entity's metrics; NaN = the metric is not used
    sizes          : int32 (L + 1,)   units of each layer; the first and the last one are M
    weights        : float64 (W,)     layer after layer, (units, units of the next) each
    biases         : float64 (B,)     layer after layer
    linear         : 1 = principal components; 0 = an autoencoder
    noise          : float64 (E, M)   usual error of each entity's metrics, in spreads

    raises : ValueError naming the array and what is wrong with it
    """

    entities: npt.NDArray[np.uint64]
    center: Floats
    spread: Floats
    sizes: Indices
    weights: Floats
    biases: Floats
    linear: int
    noise: Floats

    def __post_init__(self) -> None:
        if self.center.ndim != 2 or self.center.shape[1] == 0:
            raise ValueError(f"center has shape {self.center.shape}, not (entities, 1 or more)")
        shape = (len(self.entities), self.center.shape[1])
        need_array(self, "entities", np.uint64, shape[:1])
        need_array(self, "center", np.float64, shape)
        need_array(self, "spread", np.float64, shape)
        need_array(self, "noise", np.float64, shape)
        if not (self.entities[1:] > self.entities[:-1]).all():
            raise ValueError("entities are not increasing")
        self._check_scales()
        self._check_network()

    def _check_scales(self) -> None:
        for center, spread in zip(self.center.T, self.spread.T, strict=True):
            is_known = ~np.isnan(center)
            if not np.array_equal(is_known, ~np.isnan(spread)):
                raise ValueError("spread is NaN at other places than center")
            if not (np.abs(center[is_known]) <= LARGEST_VALUE).all():
                raise ValueError(f"center is beyond {LARGEST_VALUE}")
            known = spread[is_known]
            if not ((known >= LEAST_SPREAD) & (known <= LARGEST_VALUE)).all():
                raise ValueError(f"spread is outside {LEAST_SPREAD}..{LARGEST_VALUE}")
        for noise in self.noise.T:
            if ((noise >= LEAST_NOISE) & (noise <= LARGEST_VALUE)).all():
                continue
            raise ValueError(f"noise is outside {LEAST_NOISE}..{LARGEST_VALUE}")

    def _check_network(self) -> None:
        metrics = self.center.shape[1]
        need_array(self, "sizes", np.int32, (len(self.sizes),))
        if not 2 <= len(self.sizes) <= MAX_LAYERS + 1:
            raise ValueError(f"sizes has {len(self.sizes)} entries, not 2 to {MAX_LAYERS + 1}")
        if not ((self.sizes >= 1) & (self.sizes <= MAX_UNITS)).all():
            raise ValueError(f"sizes is outside 1..{MAX_UNITS}")
        if self.sizes[0] != metrics or self.sizes[-1] != metrics:
            raise ValueError(f"sizes do not begin and end with the {metrics} metrics")
        pairs = self.sizes[:-1].astype(np.int64) * self.sizes[1:]
        need_array(self, "weights", np.float64, (int(pairs.sum()),))
        need_array(self, "biases", np.float64, (int(self.sizes[1:].sum()),))
        for name in ("weights", "biases"):
            if not (np.abs(getattr(self, name)) <= LARGEST_WEIGHT).all():
                raise ValueError(f"{name} is beyond {LARGEST_WEIGHT}, or no number")
        if self.linear not in (0, 1):
            raise ValueError(f"linear is {self.linear}, not 0 or 1")

    @property
    def features(self) -> int:
        """Number of columns of a row."""
        return FIRST_METRIC + int(self.center.shape[1])

    def as_kernels_take_it(self) -> TrainedModel:
        """Return what the fold takes: nothing, because rows are scored before it."""
        return WITHOUT_MODEL

    def score(self, X: Floats) -> Floats:
        """Score rows; see ``Model.score``."""
        return self.reconstruct(X)[0]

    def knows(self, X: Floats) -> npt.NDArray[np.bool_]:
        """Return whether each row is of a listed entity and has two metrics; bool (n,)."""
        return np.asarray(~np.isnan(self.reconstruct(X)[1]).all(axis=1))

    def shares(self, X: Floats) -> Floats:
        """Return the share of each column in a row's squared errors, float64 (n, features).

        Of a row without any error all metrics have the same share.
        """
        errors = self.reconstruct(X)[1] / self._noise_of(X)
        squares = np.where(np.isnan(errors), 0.0, errors * errors)
        total = np.zeros(len(squares))
        for metric in range(squares.shape[1]):
            total += squares[:, metric]
        found = np.zeros((len(squares), self.features))
        found[:, FIRST_METRIC:] = np.where(
            total[:, None] > 0.0,
            squares / np.where(total > 0.0, total, 1.0)[:, None],
            1.0 / squares.shape[1],
        )
        return found

    def expected(self, row: Floats, metric: int) -> tuple[float, float, float]:
        """Return what the row's metrics together suggest for one, and both ends of its range.

        row     : float64 (features,)
        returns : NaN where the row was not reconstructed
        """
        error = float(self.reconstruct(row[None, :])[1][0, metric])
        if np.isnan(error):
            return np.nan, np.nan, np.nan
        own = int(row[NUMBER])
        spread = float(self.spread[own, metric])
        expected = float(row[FIRST_METRIC + metric]) - error * spread
        reach = BAND * float(self.noise[own, metric]) * spread
        return expected, expected - reach, expected + reach

    def _noise_of(self, X: Floats) -> Floats:
        """Return the usual errors of each row's entity, 1 where it is unknown; float64 (n, M)."""
        is_listed = (X[:, NUMBER] >= 0.0) & (X[:, NUMBER] < len(self.noise))
        found = np.ones((len(X), self.noise.shape[1]))
        found[is_listed] = self.noise[X[is_listed, NUMBER].astype(np.int64)]
        return found

    def reconstruct(self, X: Floats) -> tuple[Floats, Floats]:
        """Return the scores of rows, and the error of each metric in spreads (NaN = no value).

        returns : float64 (n,), float64 (n, M)
        """
        X = kernel_rows(X, self.features)
        scores, errors = np.empty(len(X)), np.empty((len(X), self.center.shape[1]))
        score_reconstruction(
            X,
            self.center,
            self.spread,
            self.sizes,
            self.weights,
            self.biases,
            int(self.linear),
            self.noise,
            scores,
            errors,
        )
        return scores, errors
