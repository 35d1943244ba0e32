"""Slow and obviously right: what a network makes of a row, and how far the row lies from it."""

from __future__ import annotations

import math

import numpy as np

from shared.models.reconstruction import Reconstruction


def score_reconstruction(model: Reconstruction, X: np.ndarray) -> list[tuple[float, list[float]]]:
    """Return score and error by metric of each row; NaN = no value."""
    return [_score(model, [float(x) for x in row]) for row in X]


def _score(model: Reconstruction, row: list[float]) -> tuple[float, list[float]]:
    number, _, *values = row
    unknown = 0.0, [math.nan] * len(values)
    if not 0.0 <= number < len(model.center):
        return unknown
    scales = zip(model.center[int(number)], model.spread[int(number)], strict=True)
    deviations = [
        (value - center) / spread for value, (center, spread) in zip(values, scales, strict=True)
    ]
    is_known = [not math.isnan(z) for z in deviations]
    if sum(is_known) < 2:
        return unknown
    inputs = [0.0 if math.isnan(z) else min(max(z, -8.0), 8.0) for z in deviations]
    errors = [
        z - found if known else math.nan
        for z, found, known in zip(inputs, _output(model, inputs), is_known, strict=True)
    ]
    squares = [
        (error / noise) ** 2
        for error, noise in zip(errors, model.noise[int(number)], strict=True)
        if not math.isnan(error)
    ]
    return math.sqrt(math.fsum(squares) / len(squares)), errors


def _output(model: Reconstruction, inputs: list[float]) -> list[float]:
    weights, biases = list(model.weights), list(model.biases)
    now = inputs
    pairs = list(zip(model.sizes[:-1].tolist(), model.sizes[1:].tolist(), strict=True))
    for layer, (width, height) in enumerate(pairs):
        taken, weights = weights[: width * height], weights[width * height :]
        bias, biases = biases[:height], biases[height:]
        sums = [
            math.fsum([bias[j], *(taken[i * height + j] * now[i] for i in range(width))])
            for j in range(height)
        ]
        bends = not model.linear and layer < len(pairs) - 1
        now = [max(total, 0.0) if bends else total for total in sums]
    return now
