"""The same situations at other intervals and with other noise.

Invariant: a variant changes only the interval, the noise, the number of hosts where rows come
           often, and the length of incidents that so few rows would not show; the criteria stay.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.operator.scene import ANOMALY, Scene
from benchmarks.operator.signals import HOUR, MINUTE, Noise
from benchmarks.operator.situations import Situation

INTERVALS_S = {"10s": 10, "1min": 60, "15min": 900, "1h": 3600}
OFTEN_S = 60
"""At shorter intervals than this a scene has fewer hosts, so that it still fits into memory."""

FEW: Mapping[str, int] = {"hosts": 2, "each": 1, "bursting": 2, "plain": 1, "differing": 1}


LEAST_ROWS: Mapping[str, tuple[str, int, int]] = {
    "blips": ("minutes", MINUTE, 3),
    "sparse-counts": ("hours", HOUR, 3),
    "flapping": ("hours", HOUR, 6),
    "latency": ("hours", HOUR, 12),
    "two-hour-gap": ("gap_h", HOUR, 6),
}
"""Situation -> the parameter of its incidents' length, its unit in s, and their rows at least.

Of these only the length tells an incident from what is usual: each of its rows, alone, is a value
that comes now and then, or a pause shorter than ``quality.gap_intervals``. At coarse intervals the
length as written is one row or three.
"""


@dataclass(frozen=True)
class Variant:
    """Another interval, another noise, or both; None = that of the situation."""

    interval: str | None = None
    noise: Noise | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.interval, self.noise))) or "as written"

    def inapplicable(self, situation: Situation) -> str:
        """Return why a situation has no such variant; empty where it has."""
        accepted = _accepted(situation)
        if self.interval is not None and ("step_s" not in accepted or situation.fixed_interval):
            return "the situation has an interval of its own"
        if self.noise is not None and "noise" not in accepted:
            return "the situation has a noise of its own"
        return ""

    def parameters(self, situation: Situation) -> dict[str, Any]:
        """Return the parameters of the situation's generator in this variant."""
        changed = dict(situation.parameters)
        if self.noise is not None:
            changed["noise"] = self.noise
        if self.interval is not None:
            changed["step_s"] = INTERVALS_S[self.interval]
            if changed["step_s"] < OFTEN_S:
                accepted = _accepted(situation)
                for name in FEW.keys() & accepted.keys():
                    usual = changed.get(name, accepted[name].default)
                    changed[name] = min(FEW[name], usual)
            if situation.name in LEAST_ROWS:
                name, unit_s, rows = LEAST_ROWS[situation.name]
                usual = changed.get(name, _accepted(situation)[name].default)
                changed[name] = max(usual, rows * changed["step_s"] / unit_s)
        return changed


ORIGINAL = Variant()
ALL = [*(Variant(interval) for interval in INTERVALS_S)]
ALL += [Variant(noise=noise) for noise in Noise if noise is not Noise.GAUSSIAN]


def _accepted(situation: Situation) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a situation's generator, none for a script."""
    return {} if situation.make is None else inspect.signature(situation.make).parameters


def undecidable(scene: Scene) -> str:
    """Return which incident has no value at this interval and cannot be found; empty if none."""
    hosts = {host.name: host for host in scene.hosts}
    for must in scene.must_alarm:
        if must.kinds != ANOMALY:
            continue
        host = hosts[must.entity]
        low, high = np.searchsorted(host.time, (must.start, must.end))
        if low == high:
            return f"an incident of {must.entity} lies between two rows at this interval"
        if must.metric is not None and np.isnan(host.columns[must.metric][low:high]).all():
            return f"an incident of {must.entity} lies between two values of {must.metric}"
    return ""
