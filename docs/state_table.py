"""Generator of the table of a record in docs/detection.md: ``python docs/state_table.py``.

Invariant: every number of the table comes from the layouts in ``shared/ensemble/kernels``; a test
fails if the page is not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared.ensemble.kernels.course.course_layout import COURSE_DTYPE  # noqa: E402
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE  # noqa: E402

BEGIN, END = "<!-- state: begin (docs/state_table.py writes this) -->", "<!-- state: end -->"
PAGE = ROOT / "docs" / "detection.md"

METRIC_PARTS = {
    "28 days of 288 bins, two bytes each": ("memory",),
    "newest day of each bin": ("written",),
    "28 daily maxima of each view and direction": ("maxima",),
    "36 hours and 28 daily levels": ("hours", "hours_r", "hours_x", "hours_u", "hours_z", "levels"),
    "episodes": ("episodes",),
}
COURSE_PARTS = {
    "course, novelty of hours: library of 64 shapes, and the newest seven blocks": ("long",),
    "course, novelty of minutes: the same": ("short",),
    "course, neighbours: block means around now, of 14 days": ("season",),
    "course, time of day": ("bins",),
    "course, running median": ("median",),
    "course, ranks of its four members": ("sketch",),
}
ENTITY_PARTS = {
    "covariance of up to 24 metrics, and its inverse": ("pairs", "inverse"),
    "maxima and ratios of 28 days": ("maxima", "joint_maxima", "joint_ratios", "trained_maxima"),
    "alarm budget": ("blocks",),
    "episodes": ("joint", "trained"),
}


def _bytes(dtype: Any, names: tuple[str, ...]) -> int:
    return sum(dtype[name].itemsize for name in names)


def rows() -> Iterator[tuple[str, str, int]]:
    """Yield (record, part, bytes); the parts of a record sum up to its size."""
    for record, dtype, parts in (
        ("metric", METRIC_DTYPE, METRIC_PARTS),
        ("entity", ENTITY_DTYPE, ENTITY_PARTS),
    ):
        left = dtype.itemsize
        for part, names in parts.items():
            size = _bytes(dtype, names)
            left -= size
            yield record, part, size
        if record == "metric":
            left -= COURSE_DTYPE.itemsize
            inner = COURSE_DTYPE.itemsize
            for part, names in COURSE_PARTS.items():
                size = _bytes(COURSE_DTYPE, names)
                inner -= size
                yield record, part, size
            yield record, "course, all else", inner
        yield record, "all else: newest values, running means, counters", left


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| record of | part | bytes |", "|---|---|---|"]
    lines += [f"| {record} | {part} | {size:,} |" for record, part, size in rows()]
    for record, dtype in (("metric", METRIC_DTYPE), ("entity", ENTITY_DTYPE)):
        kib = dtype.itemsize / 1024
        lines.append(f"| {record} | **together, {kib:.1f} KiB** | **{dtype.itemsize:,}** |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the page's text with the current table."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
