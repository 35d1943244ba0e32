"""The backtest's figures for a terminal.

Invariant: rendering is pure; the text depends only on the summary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ENTITIES_SHOWN = 15
WINDOWS_SHOWN = 40


def to_text(summary: Mapping[str, Any]) -> str:
    """Write the summary as lines for a person."""
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    first = summary["first"]
    yield f"backtest of {summary['source']}"
    yield from (f"  note: {note}" for note in summary["notes"])
    yield ""
    yield from _figures(first)
    if first["labels"]:
        yield ""
        yield from _labels(first)
    if first["top_alarms"]:
        yield ""
        yield "severest alarms"
        yield from (_alarm(alarm) for alarm in first["top_alarms"])
    if summary["compare"]:
        yield ""
        yield from _compare(first, summary["compare"])


def _figures(first: Mapping[str, Any]) -> Iterator[str]:
    alarms, budget = first["alarms"], first["budget"]
    decides = (
        f"about {budget['asked']:g} alarms per entity and day"
        if budget
        else f"threshold {first['threshold']:.4g}"
    )
    model = f", model {first['model']}" if first["model"] else ""
    yield _row("detector", f"{first['detector']}, {decides}{model}")
    yield _row(
        "records",
        f"{first['records']:,} of {first['entities']:,} entities, {first['first_event']} to"
        f" {first['last_event']} UTC",
    )
    if first["rejected"]:
        yield _row("unreadable", _counts(first["rejected"]))
    if first["late"] or first["duplicates"]:
        yield _row("late, duplicate", f"{first['late']:,}, {first['duplicates']:,}")
    if first["entities_warming"]:
        yield _row(
            "warming up", f"{first['entities_warming']:,} entities to the end: too few records"
        )
    yield _row(
        "alarms",
        f"{alarms['count']:,} in {first['entity_days']:,.1f} entity-days:"
        f" {alarms['per_entity_and_day']:.3g} per entity and day"
        + (f"; {alarms['episodes']:,} episodes" if alarms["episodes"] != alarms["count"] else "")
        + (f"; {alarms['incidents']:,} incidents" if alarms["incidents"] else ""),
    )
    if alarms["cold_start"]:
        yield _row("", f"{alarms['cold_start']:,} of them before the warm-up ended")
    if budget:
        yield _row(
            "budget",
            f"requested {budget['asked']:g}, achieved {budget['achieved']:.3g} after the warm-up"
            f" ({budget['ratio']:.2f} times the request)",
        )
    yield _row("by severity", _counts(alarms["by_severity"]))
    yield _row("by metric", _counts(alarms["by_metric"]))
    yield _row("by view", _counts(alarms["by_view"]))
    yield _row("data quality", _counts(first["data_quality"]))
    yield ""
    shown = first["per_entity"][:ENTITIES_SHOWN]
    names = [entity["entity"] for entity in first["per_entity"]]
    spread = len(set(names)) < len(names)
    rows = [
        (
            entity["entity"],
            *((str(entity["partition"]),) if spread else ()),
            f"{entity['alarms']:,}",
            f"{entity['alarms_per_day']:.3g}",
            f"{entity['records']:,}",
            f"{entity['days']:.1f}",
        )
        for entity in shown
    ]
    partition = ("partition",) if spread else ()
    yield from _table(rows, ("entity", *partition, "alarms", "per day", "records", "days"))
    if len(first["per_entity"]) > ENTITIES_SHOWN:
        yield f"  and {len(first['per_entity']) - ENTITIES_SHOWN:,} more"


def _labels(first: Mapping[str, Any]) -> Iterator[str]:
    labels = first["labels"]
    yield _row(
        "labels", f"{labels['hits']} of {labels['windows']} windows hit, {labels['missed']} missed"
    )
    aside = [
        (labels["in_warm_up"], "end before the warm-up does"),
        (labels["without_data"], "have no record"),
    ]
    yield from (
        _row("", f"{count} {description}; they are not evaluated")
        for count, description in aside
        if count
    )
    yield _row(
        "false alarms",
        f"{labels['false_alarms']:,}, {labels['false_alarms_per_entity_and_day']:.3g} per entity"
        " and day",
    )
    delay = labels["median_delay_min"]
    yield _row(
        "",
        f"precision {labels['precision']:.2f}, recall {labels['recall']:.2f}, F1 {labels['f1']:.2f}"
        + ("" if delay is None else f", median delay {delay:g} min from the window's start"),
    )
    for kind, counts in labels["by_kind"].items():
        yield _row("", f"{kind}: {counts['hits']} of {counts['hits'] + counts['missed']}")
    windows = [window for entity in first["per_entity"] for window in entity["windows"]]
    yield ""
    yield from _table(
        [
            (w["window"], w["start"], w["end"], w["outcome"], w["first_alarm"] or "")
            for w in windows[:WINDOWS_SHOWN]
        ],
        ("window", "from", "to", "outcome", "first alarm"), left=5,
    )  # fmt: skip
    if len(windows) > WINDOWS_SHOWN:
        yield f"  and {len(windows) - WINDOWS_SHOWN:,} more"


def _compare(first: Mapping[str, Any], compared: Mapping[str, Any]) -> Iterator[str]:
    second = compared["second"]
    counts = (
        f"{compared['added']} alarms added, {compared['removed']} removed, {compared['kept']} kept"
    )
    yield f"with {compared['changes']}: {counts}"
    yield f"  ({compared['tolerance']})"
    rows: list[tuple[str, Any, Any]] = [
        ("alarms", first["alarms"]["count"], second["alarms"]["count"])
    ]
    rows.append(
        (
            "per entity and day",
            first["alarms"]["per_entity_and_day"],
            second["alarms"]["per_entity_and_day"],
        )
    )
    if first["labels"] and second["labels"]:
        names = {
            "hits": "windows hit", "missed": "windows missed", "false_alarms": "false alarms",
            "precision": "precision", "recall": "recall", "f1": "F1",
            "median_delay_min": "median delay, min",
        }  # fmt: skip
        rows += [
            (title, first["labels"][name], second["labels"][name]) for name, title in names.items()
        ]
    budgets = [
        figures["budget"]["achieved"] if figures["budget"] else None for figures in (first, second)
    ]
    if any(budget is not None for budget in budgets):
        rows.append(("achieved per entity and day", budgets[0], budgets[1]))
    yield from _table(
        [(name, _number(a), _number(b)) for name, a, b in rows],
        ("", "as configured", compared["changes"]),
    )
    for word in ("added", "removed"):
        if compared[f"alarms_{word}"]:
            yield f"  {word}, the severest"
            yield from (_alarm(alarm) for alarm in compared[f"alarms_{word}"][:5])


def _alarm(alarm: Mapping[str, Any]) -> str:
    cold = ", cold start" if alarm["cold_start"] else ""
    return (
        f"  {alarm['time']}  {alarm['entity']}  {alarm['severity_class']}"
        f" {alarm['severity']:.2f}{cold}: {alarm['reason']}"
    )


def _row(name: str, text: str) -> str:
    return f"  {name:<16}{text}"


def _counts(counts: Mapping[str, float]) -> str:
    return (
        ", ".join(
            f"{_number(value)} {name.replace('_', ' ')}" for name, value in counts.items() if value
        )
        or "none"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str], left: int = 1) -> Iterator[str]:
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        cells = [
            text.ljust(width) if n < left else text.rjust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()
