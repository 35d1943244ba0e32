"""The roles of a file's columns: as options choose them, as read, and as their names suggest.

Invariant: names are compared case-insensitively, and a name alone never decides a role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """The roles of columns according to a catalogue; names are compared case-insensitively.

    timestamp : the first of these that the header has
    entity    : the first of these that the header has, if any
    ignore    : columns that are no metrics
    rename    : {column: metric}
    """

    timestamp: tuple[str, ...] = ("timestamp", "time", "datetime")
    entity: tuple[str, ...] = ("entity", "host")
    ignore: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)


_SIGNS = {"point": ".", "comma": ","}


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The options about columns; None where an option is not given.

    entity      : columns that together name the entity, joined by '/'; () = the file is one entity
    time        : columns that together hold the time, joined by a blank
    time_format : one of ``time_forms.FORMS``
    decimal     : decimal sign, "." or ","
    """

    entity: tuple[str, ...] | None = None
    time: tuple[str, ...] | None = None
    time_format: str | None = None
    decimal: str | None = None

    @staticmethod
    def parse(
        entity: str | None, time: str | None, time_format: str | None, decimal: str | None
    ) -> ColumnChoice:
        """Parse ``--entity A,B``, ``--time A,B``, ``--time-format F`` and ``--decimal comma``.

        raises : ConfigError
        """
        if decimal is not None and decimal not in _SIGNS:
            raise ConfigError(f"--decimal {decimal}: {' or '.join(_SIGNS)}")
        sign = None if decimal is None else _SIGNS[decimal]
        return ColumnChoice(_names(entity), _names(time), time_format, sign)

    def check(self, files: bool) -> None:
        """Raise ConfigError when columns are given without files, or ``--time`` names none."""
        given = self.arguments()
        if given and not files:
            raise ConfigError(f"{given[0]} describes columns of files, so it needs --data")
        if self.time == ():
            raise ConfigError("--time: name one column, or two that are joined: --time date,time")

    def arguments(self) -> list[str]:
        """Return the options as command-line arguments."""
        given = [("--entity", self.entity), ("--time", self.time)]
        words = [
            word
            for option, names in given
            if names is not None
            for word in (option, ",".join(names))
        ]
        words += ["--time-format", self.time_format] if self.time_format is not None else []
        signs = [name for name, sign in _SIGNS.items() if sign == self.decimal]
        return words + [word for name in signs for word in ("--decimal", name)]


NO_CHOICE = ColumnChoice()


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that is neither time nor entity nor metric, and why."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles in which the columns of one file were read.

    time      : columns that together hold the time
    time_form : its format, for people: ``ISO 8601``, ``epoch seconds``, ``YYYYMMDDHH``
    entity    : columns that together name the entity; () = the file is one entity
    metrics   : (column, metric) pairs in file order
    notes     : sentences about decisions beyond the plain rules and about uncertainties, without
                the file's name
    """

    time: tuple[str, ...]
    time_form: str
    entity: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubt:
    """An ambiguity in a column.

    row  : the first ambiguous row, counted from 0 over the rows of the file or column
    text : a sentence for the user
    """

    row: int
    text: str


# -- names -----------------------------------------------------------------------------------------


class NameKind(Enum):
    """The kind of column that a name suggests."""

    IDENTIFIER = "an identifier: device_id, moteid, unit_number"
    THING = "something that may be numbered: node, sensor, station"
    NOTHING = "neither"


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ID_WORDS = {
    "id", "ids", "uuid", "guid", "uid", "pid", "tid", "gid", "identifier", "serial", "imei", "mac",
}  # fmt: skip
_NUMBERING = {"no", "nr", "num", "number", "code", "idx", "index", "key", "name", "label", "tag"}
_THINGS = {
    "account", "appliance", "asset", "building", "camera", "car", "client", "container",
    "controller", "customer", "device", "engine", "entity", "equipment", "gateway",
    "host", "hostname", "instance", "inverter", "job", "location", "logger", "machine", "meter",
    "module", "mote", "motor", "node", "panel", "pipeline", "plant", "player", "pod", "probe",
    "product", "pump",
    "reactor", "robot", "room", "router", "sensor", "series", "server", "service", "shop", "site",
    "source", "station", "store", "subject", "tenant", "tower", "truck",
    "turbine", "user", "vehicle", "vm", "well", "worker",
}  # fmt: skip
_NUMBERED_THINGS = _THINGS | {
    "axis", "block", "cell", "channel", "circuit", "core", "floor", "group",
    "house", "lane", "line", "loc", "port", "rack", "segment", "shard", "slot", "trip", "unit",
    "zone",
}  # fmt: skip
_ROW_NAMES = {
    "", "#", "index", "idx", "row", "rownum", "row number", "row no", "row id", "seq", "sequence",
    "line number",
}  # fmt: skip
_MOMENTS = {
    "timestamp", "timestamps", "ts", "time", "date", "datetime", "epoch", "at", "unixtime", "when",
}  # fmt: skip
_STATES = {
    "on", "off", "true", "false", "yes", "no", "ok", "fail", "failed", "error", "open", "closed",
    "up", "down", "", "idle", "running", "stopped", "normal", "warning", "alarm", "active",
    "inactive", "enabled", "disabled", "none",
}  # fmt: skip
_CALENDAR = {
    "hour", "hours", "hr", "hh", "minute", "minutes", "second", "day", "month", "year", "week",
    "weekday", "dow",
}  # fmt: skip
_LONG = {
    "metric", "measurement", "measure", "variable", "parameter", "quantity", "field", "name",
    "signal", "indicator", "kpi", "attribute", "property", "item", "type", "kind", "statistic",
    "stat", "counter",
}  # fmt: skip
_TIME_NAMES = {
    "date", "ts", "event time", "date time", "time stamp", "event timestamp", "unix time",
    "unixtime", "epoch", "timestamp", "time", "datetime", "epoch time", "start time",
    "sample time", "time period",
}  # fmt: skip
_TIME_UNITS = {
    "s", "sec", "seconds", "ms", "millis", "milliseconds", "us", "ns", "utc", "gmt", "iso", "unix",
}  # fmt: skip


def words(name: str) -> tuple[str, ...]:
    """Split a column's name at blanks, punctuation and capitals; return lower-case words."""
    return tuple(word.lower() for word in _WORD.findall(name))


def name_kind(name: str) -> NameKind:
    """Return whether the name of a column suggests an identifier or a numbered thing."""
    parts = words(name)
    if not parts:
        return NameKind.NOTHING
    last = parts[-1]
    before = parts[-2] if len(parts) > 1 else ""
    glued = last.removesuffix("id") if last.endswith("id") else ""
    thing = last in _NUMBERED_THINGS
    if last in _ID_WORDS or glued in _NUMBERED_THINGS or (parts[0] == "id" and thing):
        return NameKind.IDENTIFIER
    if last in _NUMBERING and before in _NUMBERED_THINGS:
        return NameKind.IDENTIFIER
    return NameKind.THING if thing else NameKind.NOTHING


def names_a_subject(name: str) -> bool:
    """Whether text in such a column names the row's subject (server), not an attribute (zone)."""
    parts = words(name)
    return name_kind(name) is NameKind.IDENTIFIER or bool(parts and parts[-1] in _THINGS)


def are_states(values: Iterable[str]) -> bool:
    """Whether all cells are states (on, off), not names."""
    return all(value.lower() in _STATES for value in values)


def names_a_moment(name: str) -> bool:
    """Whether numbers in such a column may be times: ``ingested_at``, ``created_ts_ms``."""
    parts = [word for word in words(name) if word not in _TIME_UNITS]
    return bool(parts) and (parts[-1] in _MOMENTS or parts[-1].endswith(("timestamp", "time")))


def names_a_calendar_part(name: str) -> bool:
    """Whether numbers in such a column may be a part of a time: hour, day."""
    return bool(set(words(name)[-1:]) & _CALENDAR)


def names_a_row(name: str) -> bool:
    """Whether such a column may number the rows of the file."""
    if name == "#" or re.fullmatch(r"unnamed: \d+", name.lower()):
        return True
    return " ".join(words(name)) in _ROW_NAMES


def names_a_metric(name: str) -> bool:
    """Whether text in such a column may name the metric of a row (one row per metric)."""
    return bool(_LONG & set(words(name)[-1:])) or name.strip("_").lower() in ("name", "field")


def find_time_name(names: Sequence[str]) -> int | None:
    """Return the only column with a common name for times, besides those of the catalogue."""
    found = [index for index, name in enumerate(names) if _plain(name) in _TIME_NAMES]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    parts = list(words(name))
    while len(parts) > 1 and parts[-1] in _TIME_UNITS:
        parts.pop()
    return " ".join(parts)


def metric_name(column: str) -> str:
    """Return a column name as an Avro name (letters, digits, underscores, no digit first).

    returns : "" if nothing is left
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")
    return f"m_{name}" if name[:1].isdigit() else name


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence."""
    return ", ".join(name or "(no name)" for name in names)
