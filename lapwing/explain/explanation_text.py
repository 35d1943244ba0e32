"""Prints an explanation for a person, or as JSON.

Invariant: pure; both forms show the same facts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shared.wording import iso, moment, short

TIMES = frozenset(("event_time", "start", "newest_evidence", "peak_time"))

Facts = Mapping[str, Any]
"""An explanation as plain values; see ``explain_command.explain``."""

_WIDTH = 14
_MOST_VIEWS, _MOST_CONDITIONS = 5, 8


def to_json(facts: Facts) -> str:
    """Return an explanation as one JSON document; times as ISO 8601 UTC."""
    return json.dumps(_with_times(facts), ensure_ascii=False, indent=2)


def to_text(facts: Facts) -> str:
    """Return an explanation as text."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Facts) -> Iterator[str]:
    source, run = facts["source"], facts["recomputed"]
    yield f"{facts['verdict']}: {source['topic']}[{source['partition']}]@{source['offset']}"
    yield _fact("entity", f"{source['entity']}, {moment(source['event_time'])} UTC")
    model = run["model_id"] or "no trained model"
    yield _fact(
        "scored by",
        f"{run['detector']}, {model}, settings {run['settings_id']}, state version"
        f" {run['state_version']}, active since offset {run['activation_offset']}",
    )
    start = "snapshot at" if run["from_snapshot"] else "empty state at"
    scope = "all entities" if run["whole_partition"] else "the entity's"
    yield _fact(
        "recomputed",
        f"from {start} offset {run['from_offset']}: {run['rows_folded']:,} rows ({scope}) of"
        f" {run['records_read']:,} records, {run['seconds']:.1f} s",
    )
    if run["note"]:
        yield _fact("note", run["note"])
    for one in facts["results"]:
        where = f" {one['coordinates']}" if one["coordinates"] else ""
        yield _fact(one["name"], f"{one['agreement']} ({one['size_bytes']} bytes){where}")
        for field, written, recomputed in one["differences"]:
            yield f"    {field}: written {_shown(written)}, recomputed {_shown(recomputed)}"
    if facts["why"]:
        yield from _why(facts["why"])
    if facts["model"]:
        yield from _model(facts["model"])


def _why(why: Facts) -> Iterator[str]:
    if why["score"] is None:
        score = f"no score ({why['state']})"
    else:
        score = f"score {why['score']:.3g}, threshold {why['threshold']:.3g}"
        score += f", severity {why['severity']:.2f}"
    marks = ("is_anomaly", "cold_start", "late", "ahead", "duplicate")
    marked = [name.replace("is_anomaly", "alarm") for name in marks if why[name]]
    yield _fact("verdict", ", ".join([score, *marked]))
    for reason in why["reasons"]:
        yield _fact("reason", reason)
    for metric in why["metrics"]:
        yield from _metric(metric)
    for episode in why["episodes"]:
        subject = episode["metric"] or "the entity"
        direction = f" {episode['direction']}" if episode["direction"] else ""
        yield _fact(
            "episode",
            f"{subject} {episode['scope']}{direction} since {moment(episode['start'])}, peak"
            f" {_short(episode['peak_value'])} at {moment(episode['peak_time'])}, opened by"
            f" {episode['opened_by']} at offset {episode['opened_at_offset']}",
        )


def _metric(metric: Facts) -> Iterator[str]:
    value = "missing" if metric["value"] is None else short(metric["value"])
    if metric["expected"] is None:
        expected = "no expectation yet"
    else:
        band = f"{_short(metric['lower'])} to {_short(metric['upper'])}"
        expected = f"expected {short(metric['expected'])} ({band})"
    yield _fact(metric["name"], f"{value}, {expected}")
    usual = [f"{_short(value)} ({name})" for name, value in metric["usual"].items() if value]
    if usual:
        yield f"    usual now   {', '.join(usual)}; in use: {metric['season']}"
    for view in metric["views"][:_MOST_VIEWS]:
        level = ""
        if view["level"] is not None:
            level = f" ({view['seen']:.2f} spreads, level {view['level']:.2f})"
        yield f"    {view['view']:<14}{view['ratio']:+.2f} of its level{level}"
    alike = [
        f"{day['date']} ({day['difference']:.2f} spreads off, was {_short(day['value'])})"
        for day in metric["alike_days"]
    ]
    if alike:
        yield f"    alike days  {', '.join(alike)}"


def _model(model: Facts) -> Iterator[str]:
    yield _fact(
        "model",
        f"{model['detector']} {model['model_id']} of {model['version']}: score"
        f" {model['score']:.4g}, threshold {model['threshold']:.4g}, rarity {model['rarity']:.2f}"
        " (a row in ten to the power of it)",
    )
    for one in model["features"]:
        if one["share"] > 0.0:
            yield (
                f"    {one['feature']}: {_short(one['value'])}, usually {_short(one['usual'])}"
                f" ({one['share']:.0%})"
            )
    if "peers" in model:
        yield f"    compared with {model['peers']} entities of its group"
    if "shortest_path" in model:
        path = model["shortest_path"]
        yield (
            f"    tree {path['tree']} of {path['trees']} isolates it soonest: path"
            f" {path['path_length']:.1f}, mean {path['mean_path_length']:.1f}"
        )
        for one in path["conditions"][:_MOST_CONDITIONS]:
            yield (f"      {one['feature']} {one['value']:.3g} {one['is']} {one['threshold']:.3g}")
    for one in model.get("support_vectors", ()):
        yield (
            f"    support vector {one['vector']}: {one['share']:.0%} of the kernel sum, distance"
            f" {one['distance']:.3g}"
        )


def _fact(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}" if len(name) < _WIDTH else f"  {name}  {text}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _short(value: float | None) -> str:
    return "-" if value is None else short(value)


def _with_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: iso(one) if name in TIMES and isinstance(one, int) else _with_times(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_times(one) for one in value]
    return value
