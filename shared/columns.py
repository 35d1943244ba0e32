"""Records as columns: the result of every decoder, whatever the input's format.

Invariant: rows keep log order; each row of the batch is either accepted or rejected with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Columns:
    """The accepted records of a batch as columns, and the rejected rows.

    accepted : int64 (n,)      rows in the batch, increasing
    entity   : int32 (n,)      index into the partition's Directory
    time_ms  : int64 (n,)      event time, ms since 1970 UTC
    values   : float64 (n, M)  finite; NaN = missing; column j is metrics[j] after decoding
    rejected : int64 (r,)      the other rows, increasing
    reasons  : uint8 (r,)      ``events.Reason`` of each rejected row
    layout   : int32 (n,)      which of ``layouts`` each accepted row has; None = the first
    layouts  : int32 (L, k)    the fields of a record in its own order, as columns of values, then
               -1; None = from left to right
    """

    accepted: npt.NDArray[np.int64]
    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.uint8]
    layout: npt.NDArray[np.int32] | None = None
    layouts: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.accepted)

    def with_layouts(
        self, layout: npt.NDArray[np.int32], layouts: npt.NDArray[np.int32]
    ) -> Columns:
        """Return these columns with ``layout`` and ``layouts``; dataclasses.replace is slow."""
        return Columns(
            self.accepted,
            self.entity,
            self.time_ms,
            self.values,
            self.rejected,
            self.reasons,
            layout,
            layouts,
        )

    def field_order(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return ``layout`` and ``layouts`` where they are not given either."""
        layouts = self.layouts
        if layouts is None:
            layouts = np.arange(self.values.shape[1], dtype=np.int32)[None]
        layout = np.zeros(len(self), np.int32) if self.layout is None else self.layout
        return layout, layouts


def layouts_of(orders: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    """Return orders of fields as ``Columns.layouts``."""
    layouts = np.full((max(len(orders), 1), max(map(len, orders), default=0)), -1, np.int32)
    for number, order in enumerate(orders):
        layouts[number, : len(order)] = order
    return layouts
