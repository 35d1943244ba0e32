"""Logs that data quality is tested with: rows, and what the rolling fold says of them."""

from __future__ import annotations

import numpy as np

from shared.quality.checks import Rows

STEP = 60_000
START = 1_394_323_200_000  # 2014-03-09 00:00 UTC
FORGET_MS = 12 * 3_600_000


class Log:
    """Rows of (entity, time, values) with what the fold says of them."""

    def __init__(self, rows, metrics):
        self.entity = np.array([row[0] for row in rows], np.int32)
        self.time_ms = np.array([row[1] for row in rows], np.int64)
        self.values = np.array([row[2] for row in rows], np.float64).reshape(len(rows), metrics)
        self.late_by_ms, self.duplicate, self.forgotten = (
            np.zeros(len(rows), kind) for kind in (np.int64, np.bool_, np.bool_)
        )
        self.ahead = np.zeros(len(rows), np.bool_)
        newest: dict[int, tuple[int, list[float]]] = {}
        for row, (e, t) in enumerate(zip(self.entity.tolist(), self.time_ms.tolist(), strict=True)):
            before = newest.get(e)
            if before is not None:
                self.forgotten[row] = t - before[0] > FORGET_MS
                self.late_by_ms[row] = max(0, before[0] - t)
                self.duplicate[row] = t == before[0] and np.array_equal(
                    self.values[row], before[1], equal_nan=True
                )
            if self.late_by_ms[row] == 0 and not self.duplicate[row]:
                newest[e] = (t, self.values[row])

    def __len__(self):
        return len(self.entity)

    @property
    def moved(self):
        return (self.late_by_ms == 0) & ~self.duplicate

    def slots(self, rows):
        """Return the slot table after a number of rows, numbered in log order."""
        table, used = (
            np.full((int(self.entity.max(initial=0)) + 1, self.values.shape[1]), -1, np.int32),
            0,
        )
        for row in np.flatnonzero(self.moved[:rows]):
            for metric in np.flatnonzero(~np.isnan(self.values[row])):
                if table[self.entity[row], metric] < 0:
                    table[self.entity[row], metric] = used
                    used += 1
        return table, used

    def given(self, part, slots):
        """The rows of a part as the checks take them; ``slots`` is the table after its last one."""
        entity = self.entity[part]
        metrics = np.arange(self.values.shape[1], dtype=np.int32)
        return Rows(
            entity, self.time_ms[part], self.values[part], slots[entity],
            np.tile(metrics, (len(entity), 1)), self.late_by_ms[part], self.ahead[part],
            self.duplicate[part], self.forgotten[part],
        )  # fmt: skip

    def only(self, e):
        mine = np.flatnonzero(self.entity == e)
        return (
            Log([(0, self.time_ms[row], self.values[row]) for row in mine], self.values.shape[1]),
            mine,
        )


def regular(rows, step=STEP, entity=0, start=START, value=None):
    """One metric that changes with every row."""
    return [
        (entity, start + k * step, [float(k % 7) if value is None else value]) for k in range(rows)
    ]


def by_time(*streams):
    return sorted((row for stream in streams for row in stream), key=lambda row: row[1])
