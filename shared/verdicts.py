"""The verdicts on a batch, one per accepted row.

Law: a verdict is a value; who made it and what is said of it stands elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict per accepted row.

    score, severity : float64 (n,)   NaN while WARMING
    is_anomaly      : bool (n,)
    state           : uint8 (n,)     events.State
    top_metric      : int32 (n,)     metric that deviates most, -1 = none known
    run             : int64 (n,)     anomalous rows of the entity in a row, this one included
    """

    score: Floats
    severity: Floats
    is_anomaly: npt.NDArray[np.bool_]
    state: npt.NDArray[np.uint8]
    top_metric: npt.NDArray[np.int32]
    run: npt.NDArray[np.int64]
