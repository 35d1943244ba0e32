"""What the training service uses of the world outside, and what one call of it is asked for.

Invariant: the service reads no topic, clock or file of labels but by these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consumer_training.progress import Watcher
from shared.batch import Batch
from shared.ports import Decoder


class InputTopic(Protocol):
    """The topic that models are trained on."""

    def ends(self) -> Mapping[int, int]:
        """Return the end offset of each partition."""
        ...

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield the records between two positions; start None = the start of the log."""
        ...

    def identity(self) -> str:
        """Return what tells the topic from others of its name, such as one that replaced it."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the service uses.

    decoder   : opens a new decoder for each run
    now_s     : wall clock, seconds since 1970 UTC; used by the schedule only
    monotonic : monotonic clock in seconds, for durations
    retained_models : SHA-256 of the models that scored records which the input still has; raises
                      LapwingError where it is not known
    """

    topic: InputTopic
    decoder: Callable[[], Decoder]
    now_s: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    retained_models: Callable[[], Collection[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one call of the service.

    once   : train once, on the records present at the start, and exit
    wait_s : give up after waiting this long for enough data; None = never
    labels : file with labelled anomalies, for the evaluation
    watcher : shows progress on the terminal; None = it is only logged
    """

    once: bool = False
    wait_s: float | None = None
    labels: Path | None = None
    watcher: Watcher | None = None
