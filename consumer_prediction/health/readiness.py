"""Why a predictor is not ready, for a readiness probe on another thread.

Invariant: the probe changes nothing and reports the state at the moment of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from shared.operations.health import Health

if TYPE_CHECKING:  # the kernels, which a probe does not wait for
    from consumer_prediction.loop import PredictionLoop
    from consumer_prediction.ownership import Owned

MAX_LISTED = 3
"""How many replaying partitions are listed one by one."""


class Readiness(Health):
    """The reasons of the service before its loop runs, and of the loop afterwards.

    loop : None before it runs
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop: PredictionLoop | None = None

    def __call__(self) -> str:
        """Return all reasons, or an empty string when the predictor is ready."""
        loop = self.loop
        return super().__call__() if loop is None else "; ".join(_reasons(loop))


def _reasons(loop: PredictionLoop) -> Iterator[str]:
    outage, owned = loop.outage.reason(), dict(loop.owned)
    if outage:
        yield outage
    if loop.rebuilding:
        yield (
            "the last transaction was not committed, and the state of its partitions is being"
            " restored"
        )
    elif not owned:
        hint = "" if outage else "; this is normal with more predictors than partitions"
        yield f"no partition is assigned{hint}"
    yield from _replays(owned)
    if rejections := loop.rejections.reason():
        yield rejections
    detector = loop.rules.configuration.detector
    if detector.is_trained and loop.model is None:
        yield f"no model, and detector {detector.value} needs one: run `lapwing train --once`"


def _replays(owned: Mapping[int, Owned]) -> Iterator[str]:
    replaying = [number for number, partition in sorted(owned.items()) if partition.replaying]
    for number in replaying[:MAX_LISTED]:
        partition = owned[number]
        yield (
            f"replaying partition {number} at offset {partition.state.next_offset} of"
            f" {partition.replay_until}"
        )
    if len(replaying) > MAX_LISTED:
        yield f"and {len(replaying) - MAX_LISTED} more partitions"
