"""The views of a metric, one row each.

Name, kind of episode, least level, and how its level is found.

Invariant: a view's number is its place here, and every array of a record that has a place for each
view takes its length from here; so a view more moves no other view of this table and overlaps none.

A new view is a row here, at the end, and touches

- ``layout.py``: its number, and its least level in ``EnsembleParams``;
- ``metric/sample.py::judge_sample``: the line that writes what it sees, in spreads;
- ``shared/scoring/reasons.py``: its sentence (without one nothing can be imported), and where that
  needs numbers, ``entity/event_rows.py`` for them;
- ``docs/detection.md``, "What a reason says": what the sentence means.

Levels, ratios, episodes and records follow. The entity's views, ``layout.TRAINED`` and ``JOINED``,
are numbered behind the table, so that each new view moves them. No record of the past knows the
difference: records hold names, and a state of fewer views has another size and is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FAST, SLOW, SHAPELESS, PATTERN = range(4)
"""Kinds of episodes: of values (up, down), of the level (up, down), without direction.

Of the course.
"""

BY_SAMPLE, BY_COURSE, BY_ENTITY = range(3)
"""Who puts a view over its level: each sample, the course's own ranks, the entity's combination."""


class View(NamedTuple):
    """One way to look at a metric.

    name  : in records and settings, and the key of its sentence
    kind  : FAST, SLOW, SHAPELESS or PATTERN
    least : the parameter that holds its least level, in spreads
    trust : the parameter that holds the weight of the slope that its daily maxima tell
    tail  : whether heavy tails of the deviations raise its least level and its slope
    mean  : whether it is a mean of samples, which varies more where they are few
    owned : whether its level is its own; False = its figure is a ratio already
    by    : BY_SAMPLE, BY_COURSE or BY_ENTITY
    sides : directions that have a level: 2, 1 = its figure is never negative, 0 = it needs no level
    signed : whether the sign of its figure is the direction of the deviation; False = the newest
             value's deviation tells it
    """

    name: str
    kind: int
    least: str
    trust: str = "trust_view"
    tail: bool = False
    mean: bool = False
    owned: bool = True
    by: int = BY_SAMPLE
    sides: int = 2
    signed: bool = True


TABLE = [
    View("value", FAST, "floor_value", tail=True),
    View("two_rows", FAST, "floor_two", tail=True),
    View("quarter_hour", FAST, "floor_quarter", "trust_mean", tail=True, mean=True),
    View("hour", FAST, "floor_hour", "trust_mean", mean=True),
    View("four_hours", FAST, "floor_hours4", "trust_mean", mean=True),
    View("jump", FAST, "floor_jump", tail=True),
    View("missed", FAST, "floor_missed", "trust_missed"),
    View("level", SLOW, "floor_level"),
    View("spread", SHAPELESS, "floor_spread", sides=1, signed=False),
    View("often", SHAPELESS, "floor_often", sides=1, signed=False),
    View("stuck", SHAPELESS, "floor_stuck", owned=False, sides=0, signed=False),
    View("course", PATTERN, "floor_course", by=BY_COURSE, sides=0, signed=False),
    View("combination", SHAPELESS, "floor_cross", by=BY_ENTITY, signed=False),
]
"""The views; their order is that of the numbers in ``layout``."""


def column(field: str) -> np.ndarray:
    """Return a column of the table, as kernels read it."""
    return np.array([getattr(view, field) for view in TABLE], np.int64)
