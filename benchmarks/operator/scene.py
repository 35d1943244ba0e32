"""A scene: the rows of some hosts, and what an operator expects to be told about them.

Invariant: the same generator, seed and parameters give the same bytes. Times are seconds since 1970
           UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.operator.signals import (
    DAY,
    HOUR,
    MONDAY,
    WEEK,
    Floats,
    Times,
    between,
    iso,
)

ANOMALY = ("anomaly",)
START_WEEKS = 40
"""Scenes of different seeds begin on one of so many Mondays."""


@dataclass
class Host:
    """Rows of one entity.

    time    : int64 (n,)
    columns : metric -> float64 (n,), NaN = empty cell
    """

    name: str
    time: Times
    columns: dict[str, Floats]


@dataclass
class MustAlarm:
    """An alert of one of these kinds must come between start and end, or within the grace after it.

    metric : that the alert must be about; None = any
    usual  : the true usual value, which ``expected`` of the alert is compared with
    """

    entity: str
    start: float
    end: float
    metric: str | None = None
    kinds: tuple[str, ...] = ANOMALY
    usual: float | None = None


@dataclass
class MustBeQuiet:
    """At most ``at_most`` alerts of these kinds (about this metric, None = any) may come."""

    entity: str
    start: float
    end: float
    at_most: int = 0
    metric: str | None = None
    kinds: tuple[str, ...] = ANOMALY


@dataclass
class Scene:
    """Rows and expectations.

    excused : (entity, start, end) in which alarms are neither required nor false
    arrival : (time, entity, value) in order of arrival, of one metric ``value``; None = by time
    files   : name -> text, written instead of one file per host
    """

    seed: int
    days: float
    step_s: int = 300
    hosts: list[Host] = field(default_factory=list)
    must_alarm: list[MustAlarm] = field(default_factory=list)
    must_be_quiet: list[MustBeQuiet] = field(default_factory=list)
    excused: list[tuple[str, float, float]] = field(default_factory=list)
    arrival: list[tuple[float, str, float]] | None = None
    files: dict[str, str] | None = None

    @property
    def start(self) -> int:
        """Time of the first row, a Monday at midnight."""
        return MONDAY + self.seed % START_WEEKS * WEEK

    @property
    def rows(self) -> int:
        """Number of rows of all hosts."""
        if self.arrival is not None:
            return len(self.arrival)
        return sum(len(host.time) for host in self.hosts)

    def rng(self, *which: int) -> np.random.Generator:
        """Return a generator of random numbers that depends on the seed and these numbers only."""
        return np.random.default_rng([self.seed, *which])

    def at(self, day: float, hour: float = 0.0) -> int:
        """Return the time of an hour of a day, day 0 being the first."""
        return self.start + round(day * DAY + hour * HOUR)

    def clock(self) -> Times:
        """Return the regular times of all rows."""
        return self.start + np.arange(0, round(self.days * DAY), self.step_s, dtype=np.int64)

    def add(self, name: str, time: Times, **columns: Floats) -> None:
        """Add a host."""
        self.hosts.append(Host(name, time, columns))

    def incident(
        self,
        name: str,
        time: Times,
        values: Floats,
        day: float,
        hour: float,
        hours: float,
        *,
        factor: float = 1.0,
        plus: float = 0.0,
        to: float | None = None,
        metric: str | None = None,
        usual: float | None = None,
        required: bool = True,
    ) -> None:
        """Change values in place between two times, and note that it must be alarmed.

        to       : a constant instead of ``values * factor + plus``
        required : False = change only, and excuse what is said about it
        """
        start, end = self.at(day, hour), self.at(day, hour + hours)
        rows = between(time, start, end)
        values[rows] = values[rows] * factor + plus if to is None else to
        if required:
            self.expect(name, start, end, metric, usual=usual)
        else:
            self.excuse(name, start, end + HOUR)

    def expect(
        self,
        name: str,
        start: float,
        end: float,
        metric: str | None = None,
        kinds: tuple[str, ...] = ANOMALY,
        usual: float | None = None,
    ) -> None:
        """Note that something must be alarmed."""
        self.must_alarm.append(MustAlarm(name, start, end, metric, kinds, usual))

    def quiet(
        self,
        name: str,
        start: float,
        end: float,
        at_most: int = 0,
        metric: str | None = None,
        kinds: tuple[str, ...] = ANOMALY,
    ) -> None:
        """Note that nothing, or little, may be alarmed."""
        self.must_be_quiet.append(MustBeQuiet(name, start, end, at_most, metric, kinds))

    def excuse(self, name: str, start: float, end: float) -> None:
        """Note that alarms here are neither required nor false."""
        self.excused.append((name, start, end))

    def write(self, folder: Path) -> None:
        """Write the rows as CSV files, one per host unless the scene says otherwise."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.files is not None:
            for name, text in self.files.items():
                (folder / name).write_text(text, "utf-8")
        elif self.arrival is not None:
            stamps = iso([row[0] for row in self.arrival])
            lines = [
                f"{stamp},{entity},{value:.6g}"
                for stamp, (_, entity, value) in zip(stamps, self.arrival, strict=True)
            ]
            text = "\n".join(["timestamp,entity,value", *lines, ""])
            (folder / "arrival.csv").write_text(text, "utf-8")
        else:
            for host in self.hosts:
                (folder / f"{host.name}.csv").write_text(_csv(host), "utf-8")


def _csv(host: Host) -> str:
    template = "%s" + ",%.7g" * len(host.columns)
    columns = [column.tolist() for column in host.columns.values()]
    rows = zip(iso(host.time), *columns, strict=True)
    body = "\n".join([template % row for row in rows]).replace("nan", "")
    return f"timestamp,{','.join(host.columns)}\n{body}\n"
