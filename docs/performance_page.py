"""Generator of tables in docs/performance.md and sizing.md: ``python docs/performance_page.py``.

Invariant: every number of the tables comes from the files in ``benchmarks/results``, which the
benchmarks write (``--json``); a test fails if a page is not current.
"""

from __future__ import annotations

import json
import runpy
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
SIZING_PAGE = ROOT / "docs" / "sizing.md"
SIZING = "sizing"
"""The file of results whose table is on the page of its own."""

COLUMNS_OF_TEXT = 100


def lines(name: str, document: dict[str, Any]) -> Iterator[str]:
    """Yield the Markdown of one file of results."""
    versions = ", ".join(
        f"{package} {version}" for package, version in document["versions"].items()
    )
    repeats = document["repeats"]
    runs = "one run" if repeats == 1 else f"{repeats} alternating repeats"
    text = (
        f"`python -m benchmarks.{name}` on {document['machine']} with {versions};"
        f" {runs}, load average {document['load']:.1f}."
    )
    yield from textwrap.wrap(text, COLUMNS_OF_TEXT)
    yield ""
    columns = {name: cell for name, cell in COLUMNS.items() if any(map(cell, document["rows"]))}
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in document["rows"]:
        yield f"| {' | '.join(cell(row) for cell in columns.values())} |"


def _number(row: dict[str, Any], name: str, text: str = "{:.2f}") -> str:
    return text.format(row[name]) if name in row else ""


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "id": lambda row: f"`{row['id']}`",
    "value": lambda row: _value(row["value"], row["unit"]),
    "seconds": lambda row: _number(row, "seconds", "{:,.0f} s"),
    "peak memory": lambda row: _number(row, "peak_mib", "{:,.0f} MiB"),
    "entities read": lambda row: _number(row, "share", "{:.0%}"),
    "CPU": lambda row: _number(row, "cpu_us_per_event", "{:.1f} us/event"),
    "size": lambda row: _number(row, "record_bytes", "{:,.0f} bytes"),
    "p50": lambda row: _number(row, "p50", "{:.2f} ms"),
    "CPU time": lambda row: _number(row, "cpu_s", "{:.2f} s"),
    "limit": lambda row: _number(row, "limit", "{:,.2f}"),
    "base": lambda row: f"`{row['base']}`" if "base" in row else "",
    "value of the base": lambda row: _number(row, "base_value"),
    "ratio": lambda row: _number(row, "ratio"),
    "difference": lambda row: _number(row, "difference", "{:.0e}"),
    "waited for a core": lambda row: _number(row, "waiting_share", "{:.1f} x CPU time"),
    "CPU ratio": lambda row: _number(row, "cpu_ratio"),
    "correct": lambda row: "yes" if row["correct"] else "NO",
}
"""Headings, and the cell of a row; a column without any cell is left out."""


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def with_tables(page: str) -> str:
    """Return the page of performance with the tables of the results' files.

    raises : ValueError where the page has no place for a file
    """
    for file in sorted(RESULTS.glob("*.json")):
        if file.stem != SIZING:
            page = _replaced(page, file.stem, lines(file.stem, _read(file)))
    return page


def with_plan(page: str) -> str:
    """Return the page of sizing with the plan, where its rows are measured, and its check.

    raises : ValueError where the page has no place for a table
    """
    plan = runpy.run_path(str(ROOT / "benchmarks" / "load_plan.py"))
    if (RESULTS / "footprint.json").exists():
        page = _replaced(page, "sizing plan", _plan_lines(plan))
    file = RESULTS / f"{SIZING}.json"
    if file.exists():
        page = _replaced(page, SIZING, lines(SIZING, _read(file)))
    return page


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the table of what loads need."""
    found = plan["measured"]()
    yield from textwrap.wrap(
        f"Measured: {found.cpu_us:.1f} us of processor time per event,"
        f" {found.series_kib:.1f} KiB for each series, {found.base_gb:.2f} GB for a predictor"
        f" without any, {found.score_bytes:.0f} bytes for a score.",
        COLUMNS_OF_TEXT,
    )
    yield ""
    yield (
        "| events/s | series | predictors | partitions | cores in use | memory of all |"
        " memory of one | scores written |"
    )
    yield "|" + "---|" * 8
    for part in (1, 10, 50):
        events, series = plan["WHOLE_EVENTS"] / part, plan["WHOLE_SERIES"] / part
        need = plan["plan"](found, events, series)
        yield (
            f"| {events:,.0f} | {series:,.0f} | {need.predictors} | {need.partitions} |"
            f" {need.cores:.1f} | {need.memory_gb:.1f} GB | {need.predictor_gb:.1f} GB |"
            f" {need.out_mb_per_s:,.0f} MB/s |"
        )


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8")))


def _replaced(page: str, name: str, table: Iterator[str]) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in page or end not in page:
        raise ValueError(f"no page has a line {begin!r} or {end!r}")
    before, _, rest = page.partition(begin)
    text = "\n".join(table)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def main() -> int:
    """Write the tables into the pages."""
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    SIZING_PAGE.write_text(with_plan(SIZING_PAGE.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
