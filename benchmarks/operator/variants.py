"""The same situations at other intervals and with other noise.

Invariant: a variant changes only the interval, the noise and, where rows come often, the number of
           hosts; the criteria stay the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.operator.scene import ANOMALY, Scene
from benchmarks.operator.signals import Noise
from benchmarks.operator.situations import Situation

INTERVALS_S = {"10s": 10, "1min": 60, "15min": 900, "1h": 3600}
OFTEN_S = 60
"""At shorter intervals than this a scene has fewer hosts, so that it still fits into memory."""

FEW: Mapping[str, int] = {"hosts": 2, "each": 1, "bursting": 2, "plain": 1, "differing": 1}


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
        return changed


ORIGINAL = Variant()
ALL = [*(Variant(interval) for interval in INTERVALS_S)]
ALL += [Variant(noise=noise) for noise in Noise if noise is not Noise.GAUSSIAN]


def _accepted(situation: Situation) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a situation's generator, none for a script."""
    return {} if situation.make is None else inspect.signature(situation.make).parameters


def undecidable(scene: Scene) -> str:
    """Return which incident has no row at this interval and cannot be found; empty if none."""
    times = {host.name: host.time for host in scene.hosts}
    for must in scene.must_alarm:
        if must.kinds != ANOMALY:
            continue
        low, high = np.searchsorted(times[must.entity], (must.start, must.end))
        if low == high:
            return f"an incident of {must.entity} lies between two rows at this interval"
    return ""
