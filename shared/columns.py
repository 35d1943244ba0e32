"""Records as columns: the result of every decoder, whatever the input's format.

Invariant: rows keep log order; each row of the batch is either accepted or rejected with a reason.
"""

from __future__ import annotations

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
    """

    accepted: npt.NDArray[np.int64]
    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.accepted)
