"""What a model of values finds in a batch, and why it finds a row unusual.

Invariant: a row's rarity is computed from that record and the model alone, before the fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.columns import Columns
from shared.directory import Directory
from shared.kernels.clock import Zone
from shared.kernels.trained.peers import FIRST_METRIC
from shared.models.model import Model
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction
from shared.models.value_rows import local_hours, numbers_of, value_rows
from shared.scoring.explaining import Explained
from shared.wording import short

Floats = npt.NDArray[np.float64]

_PEERS = (
    "{metric} is {value}, but among its {count} peers it is usually about {expected}"
    " ({lower} to {upper}) at this hour"
)
_RECONSTRUCTION = (
    "{metric} is {value}, but with the other metrics as they are it is usually about {expected}"
    " ({lower} to {upper})"
)


@dataclass(frozen=True, slots=True)
class ValuesSeen:
    """The rows of a batch as a model of values takes them.

    rows   : float64 (n, FIRST_METRIC + M)  from ``value_rows``
    rarity : float64 (n,)  NaN = the model does not know the row
    known  : bool (n,)     whether the model knows the row and the fold judged it
    """

    rows: Floats
    rarity: Floats
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, model: Model, columns: Columns, entities: Directory, metrics: list[str], zone: Zone
    ) -> ValuesSeen:
        """Score the rows of a batch.

        entities, metrics : names of what ``columns`` refers to
        """
        present, owner = np.unique(columns.entity, return_inverse=True)
        names = [entities.name(int(index)) for index in present]
        numbers = numbers_of(names, model.entities)[owner]
        column_of = {name: column for column, name in enumerate(metrics)}
        rows = value_rows(
            numbers,
            local_hours(columns.time_ms, zone),
            columns.values,
            [column_of.get(name, -1) for name in model.metrics],
        )
        known = model.knows(rows)
        return cls(rows, np.where(known, model.rarity(model.score(rows)), np.nan), known)

    @property
    def features(self) -> Floats:
        """Return no row: what the fold's views see is not computed."""
        return np.empty((0, 0))

    def of_folded(self, verdicts: npt.NDArray[Any]) -> ValuesSeen:
        """Return the same, with the rows that the fold did not judge unknown.

        verdicts : ROW_DTYPE (n,)
        """
        skipped = (verdicts["late"] + verdicts["ahead"] + verdicts["duplicate"]) > 0
        return replace(self, known=self.known & ~skipped)

    def explain(self, model: Model | None, wanted: npt.NDArray[np.int64]) -> dict[int, Explained]:
        """Explain rows; those that the model does not know are left out.

        wanted : int64 (a,)  rows of the batch
        """
        if model is None or not isinstance(model.member, Peers | Reconstruction):
            return {}
        rows = np.unique(wanted[self.known[wanted]])
        return {int(row): _explained(model, model.member, self.rows[row]) for row in rows}


def _explained(model: Model, member: Peers | Reconstruction, row: Floats) -> Explained:
    """Explain one row by the metric with the largest share.

    row : float64 (FIRST_METRIC + M,)
    """
    shares, top = model.attribute(row[None, :])
    place = int(top[0]) - FIRST_METRIC
    metric, value = model.metrics[place], _number(row[int(top[0])])
    expected, lower, upper = (_number(x) for x in member.expected(row, place))
    by_metric = {
        name: float(share)
        for name, share in zip(model.metrics, shares[0, FIRST_METRIC:], strict=True)
        if share > 0.0
    }
    values = {"value": value, "expected": expected, "lower": lower, "upper": upper}
    shown = {name: _shown(x) for name, x in values.items()}
    feature = "peers" if isinstance(member, Peers) else "reconstruction"
    sentence = _PEERS if isinstance(member, Peers) else _RECONSTRUCTION
    count = member.peers_of(row) if isinstance(member, Peers) else 0
    return Explained(
        metric,
        values,
        by_metric,
        f"{metric}.{feature}",
        sentence.format(metric=metric, count=count, **shown),
    )


def _shown(value: float | None) -> str:
    return "unknown" if value is None else short(value)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
