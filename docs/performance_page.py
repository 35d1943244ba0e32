"""Generator of the tables in docs/performance.md: ``python docs/performance_page.py``.

Invariant: every number of the tables comes from the files in ``benchmarks/results``, which the
benchmarks write (``--json``); a test fails if the page is not current.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
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
    "base": lambda row: f"`{row['base']}`" if "base" in row else "",
    "ratio": lambda row: _number(row, "ratio"),
    "waited for a core": lambda row: _number(row, "waiting_share", "{:.1f} x CPU time"),
    "CPU ratio": lambda row: _number(row, "cpu_ratio"),
    "correct": lambda row: "yes" if row["correct"] else "NO",
}
"""Headings, and the cell of a row; a column without any cell is left out."""


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def with_tables(page: str) -> str:
    """Return the page with the tables of the results' files.

    raises : ValueError where the page has no place for a file
    """
    for file in sorted(RESULTS.glob("*.json")):
        begin, end = f"<!-- {file.stem}: begin -->", f"<!-- {file.stem}: end -->"
        if begin not in page or end not in page:
            raise ValueError(f"{PAGE.name} has no line {begin!r} or {end!r} for {file.name}")
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        table = "\n".join(lines(file.stem, json.loads(file.read_text("utf-8"))))
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page


def main() -> int:
    """Write the tables into the page."""
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
