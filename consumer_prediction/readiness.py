"""Why a predictor is not ready, for a probe on another thread.

Law: it looks and changes nothing; whatever it says, it says from what is there at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from consumer_prediction.ownership import Owned
from shared.health import Health

if TYPE_CHECKING:
    from consumer_prediction.loop import PredictionLoop

NAMED = 3
"""So many replaying partitions are named one by one."""


class Readiness(Health):
    """What the service waits for before its loop runs, and afterwards what the loop waits for.

    loop : None before it runs
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop: PredictionLoop | None = None

    def __call__(self) -> str:
        """Return all reasons, or an empty text when it is ready."""
        loop = self.loop
        return super().__call__() if loop is None else "; ".join(_reasons(loop))


def _reasons(loop: PredictionLoop) -> Iterator[str]:
    outage, owned = loop.outage.reason(), dict(loop.owned)
    if outage:
        yield outage
    if loop.rebuilding:
        yield (
            "the last transaction was not committed, and what is owned is being rebuilt from"
            " what was"
        )
    elif not owned:
        normal = "" if outage else "; with more predictors than partitions that is normal"
        yield f"no partition is assigned{normal}"
    yield from _replays(owned)
    if rejections := loop.rejections.reason():
        yield rejections
    detector = loop.rules.configuration.detector
    if detector.is_trained and loop.model is None:
        yield f"no model, and detector {detector.value} needs one: `lapwing train --once` makes it"


def _replays(owned: Mapping[int, Owned]) -> Iterator[str]:
    replaying = [(partition, one) for partition, one in sorted(owned.items()) if one.replaying]
    for partition, one in replaying[:NAMED]:
        yield (
            f"replaying partition {partition} at offset {one.state.next_offset} of"
            f" {one.replay_until}"
        )
    if len(replaying) > NAMED:
        yield f"and {len(replaying) - NAMED} partitions more"
