"""A scene: the rows of some hosts, and which alerts an operator expects about them.

Invariant: the same generator, seed and parameters give the same bytes. Times are seconds since 1970
           UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.operator.signals import (
    DAY,
    GAUSSIAN,
    HOUR,
    MONDAY,
    WEEK,
    Flags,
    Floats,
    Noise,
    Times,
    between,
    daily,
    draw_noise,
    iso,
)

ANOMALY = ("anomaly",)
START_WEEKS = 40
"""Scenes of different seeds begin on one of this number of Mondays."""


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


class Change(NamedTuple):
    """What an incident does to values: ``values * factor + plus``, or a constant."""

    factor: float = 1.0
    plus: float = 0.0
    to: float | None = None

    def of(self, values: Floats) -> Floats | float:
        """Return the changed values."""
        return values * self.factor + self.plus if self.to is None else self.to


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

    def new_host(self, number: int, name: str) -> NewHost:
        """Return a host with the regular times, which is not added yet.

        number : decides its random numbers
        """
        return NewHost(self, number, name, self.clock(), self.rng(number))

    def each_host(self, count: int) -> Iterator[NewHost]:
        """Return hosts to fill, one after the other."""
        return (self.new_host(number, f"host-{number:02d}") for number in range(count))

    def each_host_of(self, items: Sequence[Any]) -> Iterator[tuple[NewHost, Any]]:
        """Return a host to fill for each item, with the item."""
        return zip(self.each_host(len(items)), items, strict=True)

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


@dataclass
class NewHost:
    """A host of a scene that a generator fills.

    time : int64 (n,)   of its rows
    rng  : for its own random numbers
    """

    scene: Scene
    number: int
    name: str
    time: Times
    rng: np.random.Generator

    def wave(
        self,
        base: float = 50.0,
        swing: float = 30.0,
        deviation: float = 3.0,
        noise: Noise = GAUSSIAN,
        peak: float = 14.0,
    ) -> Floats:
        """Return a smooth day with noise, float64 (n,)."""
        return daily(self.time, base, swing, peak) + deviation * self.draw_noise(noise)

    def draw_noise(self, noise: Noise) -> Floats:
        """Draw a value of mean 0 and deviation 1 for each row, float64 (n,)."""
        return draw_noise(self.rng, len(self.time), noise)

    def add(self, rows: Flags | slice = slice(None), **columns: Floats) -> None:
        """Add the host to the scene with these rows."""
        kept = {metric: values[rows] for metric, values in columns.items()}
        self.scene.add(self.name, self.time[rows], **kept)

    def incident(
        self,
        values: Floats,
        day: float,
        hour: float,
        hours: float,
        change: Change,
        *,
        metric: str | None = None,
        usual: float | None = None,
        required: bool = True,
    ) -> None:
        """Change values in place between two times, and note that it must be alarmed.

        required : False = change only, and excuse alarms about it
        """
        start, end = self.scene.at(day, hour), self.scene.at(day, hour + hours)
        rows = between(self.time, start, end)
        values[rows] = change.of(values[rows])
        if required:
            self.expect(start, end, metric, usual=usual)
        else:
            self.excuse(start, end + HOUR)

    def expect(self, start: float, end: float, *details: Any, **more: Any) -> None:
        """Note that something must be alarmed; see ``Scene.expect``."""
        self.scene.expect(self.name, start, end, *details, **more)

    def quiet(self, start: float, end: float, **limits: Any) -> None:
        """Note that nothing, or little, may be alarmed; see ``Scene.quiet``."""
        self.scene.quiet(self.name, start, end, **limits)

    def excuse(self, start: float, end: float) -> None:
        """Note that alarms here are neither required nor false."""
        self.scene.excuse(self.name, start, end)


def _csv(host: Host) -> str:
    template = "%s" + ",%.7g" * len(host.columns)
    columns = [column.tolist() for column in host.columns.values()]
    rows = zip(iso(host.time), *columns, strict=True)
    body = "\n".join([template % row for row in rows]).replace("nan", "")
    return f"timestamp,{','.join(host.columns)}\n{body}\n"
