"""The backtest as one self-contained HTML page.

Invariant: rendering is pure; the page says what it leaves out for lack of space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lapwing.backtest.figures import Entity, interval_ms, top
from lapwing.backtest.layers import (
    MAX_LISTED,
    Report,
    episode_spans,
    lines_of,
    listed_places,
    mark_of,
    marks_of,
    metric_order,
    spans_of,
)
from lapwing.backtest.run import Series
from lapwing.backtest.style import style_sheet
from shared.charts.chart import Span, draw, strip
from shared.events import Anomaly, SeverityClass, severity_class
from shared.labels import Outcome
from shared.wording import duration, moment, short

MAX_PANELS, MAX_METRICS = 100, 6
MAX_ROWS, MAX_CLOSE_UPS = 1000, 60
_CLOSE_UP_BEFORE, _CLOSE_UP_AFTER = 144, 48
_CLASSES = tuple(name.value for name in reversed(SeverityClass) if name is not SeverityClass.INFO)


def page(report: Report) -> str:
    """Write the page."""
    charted = _charted(report.entities)
    close_ups = {
        id(alarm) for alarm in top([a for item in charted for a in item.alarms], MAX_CLOSE_UPS)
    }
    quality: dict[tuple[str, int], list[Anomaly]] = {}
    for item in report.result.quality:
        quality.setdefault((item.entity, item.source_partition), []).append(item)
    body = [
        _head(report.summary),
        _tiles(report.summary),
        _breakdown(report.summary),
        _comparison(report),
        _overview(report, len(charted)),
        _legend(report),
        *(
            _entity(report, item, number, close_ups, quality.get(item.series.key, []))
            for number, item in enumerate(charted)
        ),
    ]
    title = f"Backtest of {escape(report.summary['source'])}"
    view = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    )
    head = f"<head>{view}<title>{title}</title><style>{style_sheet()}</style></head>"
    return (
        f'<!doctype html><html lang="en">{head}<body><main>{"".join(body)}</main></body></html>\n'
    )


def _charted(entities: Sequence[Entity]) -> list[Entity]:
    """The first entities whose charts fit on the page."""
    chosen: list[Entity] = []
    panels = 0
    for entity in entities:
        panels += min(len(entity.series.metrics), MAX_METRICS)
        if panels > MAX_PANELS and chosen:
            break
        chosen.append(entity)
    return chosen


def _head(summary: Mapping[str, Any]) -> str:
    first = summary["first"]
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
    model = f", model {escape(str(first['model']))}" if first["model"] else ""
    budget = first["budget"]
    decides = (
        f"{budget['asked']:g} alarms per entity and day requested"
        if budget
        else f"threshold {first['threshold']:.4g}"
    )
    return (
        "<header><p class='kicker'>Lapwing"
        f" backtest</p><h1>{escape(summary['source'])}</h1><p>{first['records']:,} records of"
        f" {first['entities']:,} entities, {first['first_event']} to {first['last_event']} UTC."
        f" Scored by <b>{escape(first['detector'])}</b>, {decides}{model}.</p>"
        + (f"<ul class='notes'>{notes}</ul>" if notes else "")
        + "</header>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    first = summary["first"]
    alarms, budget, labels = first["alarms"], first["budget"], first["labels"]
    tiles = [
        ("alarms", f"{alarms['count']:,}", f"in {first['entity_days']:,.0f} entity-days"),
        (
            "per entity and day",
            f"{alarms['per_entity_and_day']:.3g}",
            f"{alarms['cold_start']} before the warm-up ended",
        ),
    ]
    if budget:
        tiles.append(
            (
                "requested, achieved",
                f"{budget['asked']:g} → {budget['achieved']:.3g}",
                f"{budget['ratio']:.2f} times the request",
            )
        )
    if labels:
        delay = labels["median_delay_min"]
        tiles += [
            (
                "labelled windows hit",
                f"{labels['hits']} of {labels['windows']}",
                f"recall {labels['recall']:.2f}",
            ),
            (
                "false alarms",
                f"{labels['false_alarms']:,}",
                f"precision {labels['precision']:.2f}, F1 {labels['f1']:.2f}",
            ),
            (
                "median delay",
                "-" if delay is None else duration(delay * 60_000),
                "from the start of the window",
            ),
        ]
    tiles.append(
        (
            "data-quality verdicts",
            f"{sum(first['data_quality'].values()):,}",
            _listed(first["data_quality"]) or "none",
        )
    )
    cells = "".join(
        f"<div class='tile'><span>{name}</span><b>{value}</b><span>{escape(caption)}</span></div>"
        for name, value, caption in tiles
    )
    return f"<section class='tiles'>{cells}</section>"


def _breakdown(summary: Mapping[str, Any]) -> str:
    alarms, labels = summary["first"]["alarms"], summary["first"]["labels"]
    tables = [
        _bars(
            "By severity", {name: alarms["by_severity"][name] for name in _CLASSES}, classes=True
        ),
        _bars("By metric", alarms["by_metric"]),
        _bars("By view", alarms["by_view"]),
    ]
    if labels and labels["by_kind"]:
        kinds = {
            kind: counts["hits"] / max(sum(counts.values()), 1)
            for kind, counts in labels["by_kind"].items()
        }
        tables.append(_bars("Found by kind", kinds, percent=True))
    return f"<section class='card bars'>{''.join(table for table in tables if table)}</section>"


def _bars(
    title: str, counts: Mapping[str, float], *, classes: bool = False, percent: bool = False
) -> str:
    if not counts:
        return ""
    most = 1.0 if percent else max(*counts.values(), 1e-9)
    rows = []
    for name, value in list(counts.items())[:8]:
        text = (
            f"{value:.0%}"
            if percent
            else f"{value:,.0f}"
            if value >= 10 or value == int(value)
            else f"{value:.1f}"
        )
        colour = f"var(--{name})" if classes else "var(--expected)"
        rows.append(
            f"<tr><th>{escape(name.replace('_', ' '))}</th>"
            "<td class='bar'><i"
            f" style='width:{100 * value / most:.0f}%;background:{colour}'></i></td>"
            f"<td>{text}</td></tr>"
        )
    more = f"<tr><th colspan='3'>and {len(counts) - 8} more</th></tr>" if len(counts) > 8 else ""
    return f"<div><h3>{title}</h3><table>{''.join(rows)}{more}</table></div>"


def _comparison(report: Report) -> str:
    compared, change = report.summary["compare"], report.change
    if compared is None or change is None:
        return ""
    first, second = report.summary["first"], compared["second"]
    rows = []
    for name, of in _COMPARED:
        left, right = of(first), of(second)
        if left is not None or right is not None:
            rows.append(
                f"<tr><th>{name}</th><td>{_number(left)}</td><td>{_number(right)}</td></tr>"
            )
    lists = "".join(
        f"<details><summary>{len(alarms)} alarms"
        f" {word}</summary><ul>{''.join(map(_bullet, top(alarms, MAX_LISTED)))}</ul>"
        f"{_more(len(alarms) - MAX_LISTED)}</details>"
        for word, alarms in (("added", change.added), ("removed", change.removed))
    )
    return (
        f"<section class='card'><h2>With {escape(compared['changes'])}</h2>"
        f"<p>{len(change.added)} alarms added, {len(change.removed)} removed, {len(change.kept)}"
        " kept"
        f" ({escape(compared['tolerance'])}).</p>"
        "<div class='scroll'><table class='figures'>"
        f"<tr><th></th><th>as configured</th><th>{escape(compared['changes'])}</th></tr>"
        f"{''.join(rows)}</table></div>{lists}</section>"
    )


def _of_labels(name: str) -> Any:
    return lambda figures: (figures["labels"] or {}).get(name)


_COMPARED: tuple[tuple[str, Any], ...] = (
    ("alarms", lambda figures: figures["alarms"]["count"]),
    ("per entity and day", lambda figures: figures["alarms"]["per_entity_and_day"]),
    *(
        (name, lambda figures, name=name: figures["alarms"]["by_severity"][name])
        for name in _CLASSES
    ),
    ("windows hit", _of_labels("hits")),
    ("windows missed", _of_labels("missed")),
    ("false alarms", _of_labels("false_alarms")),
    ("precision", _of_labels("precision")),
    ("recall", _of_labels("recall")),
    ("F1", _of_labels("f1")),
    ("median delay, minutes", _of_labels("median_delay_min")),
    ("requested per entity and day", lambda figures: (figures["budget"] or {}).get("asked")),
    ("achieved", lambda figures: (figures["budget"] or {}).get("achieved")),
)


def _overview(report: Report, charted: int) -> str:
    labelled = report.summary["first"]["labels"] is not None
    heads = [
        "entity",
        "alarms",
        "when",
        "per day",
        *_CLASSES,
        *(("hit", "missed", "false") if labelled else ()),
        "quality",
    ]
    rows = []
    names = Counter(entity.series.entity for entity in report.entities)
    for number, entity in enumerate(report.entities[:MAX_ROWS]):
        series = entity.series
        classes = [severity_class(alarm.severity or 0.0).value for alarm in entity.alarms]
        marks = [
            (alarm.event_time, name) for alarm, name in zip(entity.alarms, classes, strict=True)
        ]
        name = escape(series.entity)
        if names[series.entity] > 1:
            name += f", partition {series.partition}"
        cells = [
            f"<a href='#e{number}'>{name}</a>" if number < charted else name,
            f"{len(entity.alarms):,}",
            strip(int(series.time_ms.min()), int(series.time_ms.max()), marks),
            f"{len(entity.alarms) / entity.days:.2g}" if entity.days else "-",
            *(str(classes.count(name) or "") for name in _CLASSES),
        ]
        if labelled:
            outcomes = (
                [outcome.outcome for outcome in entity.evaluation.outcomes]
                if entity.evaluation
                else []
            )
            false = entity.evaluation.false_alarms if entity.evaluation else 0
            cells += [
                str(n or "")
                for n in (outcomes.count(Outcome.HIT), outcomes.count(Outcome.MISSED), false)
            ]
        cells.append(str(entity.quality or ""))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    left_out = len(report.entities) - charted
    note = (
        f"<p class='muted'>Charts of the {charted} with most alarms; {left_out} have none.</p>"
        if left_out
        else ""
    )
    table = (
        "<table class='overview'>"
        f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"
    )
    more = _more(len(report.entities) - MAX_ROWS)
    return (
        f"<section class='card'><h2>Entities</h2>{note}<div"
        f" class='scroll'>{table}</div>{more}</section>"
    )


def _legend(report: Report) -> str:
    words = [("measured", "ink"), ("expected", "expected"), ("data quality", "quality")]
    words += [(name, name) for name in reversed(_CLASSES)]
    if report.summary["first"]["labels"] is not None:
        words.append(("labelled (dashed: missed)", "label"))
    words.append(("episode (line above)", "critical"))
    if report.change is not None:
        words.append(
            ("ringed: only as configured if filled, only with the changes if hollow", "added")
        )
    keys = "".join(
        f"<span><i style='background:var(--{colour})'></i>{name}</span>" for name, colour in words
    )
    return f"<p class='legend'>{keys}<span>grey: warming up</span></p>"


def _entity(
    report: Report, entity: Entity, number: int, close_ups: set[int], quality: Sequence[Anomaly]
) -> str:
    series = entity.series
    order = metric_order(entity)
    spans, counted = [*spans_of(report, entity), *episode_spans(entity)], series.counted
    marks = marks_of(report, entity, number)
    ticks = [
        (int(q.event_time), f"{moment(q.event_time)} {q.kind.value}: {q.reason}")
        for q in quality[:200]
    ]
    several = (
        len({e.series.partition for e in report.entities if e.series.entity == series.entity}) > 1
    )
    name = f"{series.entity} (partition {series.partition})" if several else series.entity
    parts = [
        f"<section class='card' id='e{number}'><h2>{escape(name)}</h2>",
        f"<p class='muted'>{_summary_line(entity)}</p>",
    ]
    for metric in order[:MAX_METRICS]:
        metric_marks = [mark for owner, mark in marks if owner == metric]
        about = [span for span in spans if span.metric in ("", series.metrics[metric])]
        chart = draw(
            lines_of(series, metric, counted),
            metric_marks,
            about,
            ticks,
            label=f"{name}, {series.metrics[metric]}",
        )
        parts.append(f"<h3>{escape(series.metrics[metric])}</h3><div class='scroll'>{chart}</div>")
    if len(order) > MAX_METRICS:
        parts.append(
            f"<p class='muted'>and {len(order) - MAX_METRICS} metrics without a chart here</p>"
        )
    parts.append(_alarm_list(entity, number, close_ups, spans))
    return "".join([*parts, "</section>"])


def _summary_line(entity: Entity) -> str:
    parts = [
        f"{len(entity.series):,} records",
        f"{entity.days:.1f} days",
        f"{len(entity.alarms):,} alarms",
    ]
    if entity.evaluation is not None and entity.evaluation.outcomes:
        hit = sum(outcome.outcome is Outcome.HIT for outcome in entity.evaluation.outcomes)
        parts.append(f"{hit} of {len(entity.evaluation.outcomes)} labelled windows hit")
    if entity.quality:
        parts.append(f"{entity.quality} data-quality verdicts")
    return ", ".join(parts)


def _alarm_list(entity: Entity, number: int, close_ups: set[int], spans: Sequence[Span]) -> str:
    items = []
    for position in listed_places(entity):
        alarm = entity.alarms[position]
        bullet = _bullet(alarm, f"e{number}a{position}", entity=False)
        if id(alarm) in close_ups and entity.series.metrics:
            chart = _close_up(entity.series, alarm, spans)
            bullet = bullet.replace(
                "</li>",
                "<details><summary>close-up</summary><div"
                f" class='scroll'>{chart}</div></details></li>",
            )
        items.append(bullet)
    if not items:
        return ""
    return f"<ol class='alarms'>{''.join(items)}</ol>{_more(len(entity.alarms) - MAX_LISTED)}"


def _close_up(series: Series, alarm: Anomaly, spans: Sequence[Span]) -> str:
    metric, mark = mark_of(series, alarm, "", "cold" if alarm.cold_start else "")
    step = interval_ms(series)
    start, end = (
        alarm.event_time - _CLOSE_UP_BEFORE * step,
        alarm.event_time + _CLOSE_UP_AFTER * step,
    )
    lines = lines_of(series, metric, series.counted).cut(int(start), int(end))
    about = [span for span in spans if span.metric in ("", series.metrics[metric])]
    return draw(lines, [mark], about, height=140, label=mark.text)


def _bullet(alarm: Anomaly, anchor: str = "", *, entity: bool = True) -> str:
    name = severity_class(alarm.severity or 0.0).value
    anchor_attribute = f" id='{anchor}'" if anchor else ""
    entity_name = f" <b>{escape(alarm.entity)}</b>" if entity else ""
    cold = " <span class='muted'>cold start</span>" if alarm.cold_start else ""
    return (
        f"<li{anchor_attribute}><span class='pill'"
        f" style='background:var(--{name if name != 'info' else 'muted'})'>{name}"
        f" {alarm.severity or 0.0:.2f}</span>"
        f" <time>{moment(alarm.event_time)}</time>{entity_name}{cold}"
        f" {escape(alarm.reason)}</li>"
    )


def _more(left_out: int) -> str:
    return (
        f"<p class='muted'>and {left_out:,} more, see alarms.csv and summary.json</p>"
        if left_out > 0
        else ""
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def _number(value: float | None) -> str:
    return "-" if value is None else short(float(value))
