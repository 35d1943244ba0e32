"""The style sheet of charts, for light and dark screens.

Invariant: it loads nothing from elsewhere, neither fonts nor scripts.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT = {
    "paper": "#ffffff",
    "page": "#f5f6f8",
    "ink": "#1f2a37",
    "muted": "#66727f",
    "line": "#e3e7ec",
    "expected": "#4c7fb8",
    "label": "#16957a",
    "quality": "#8b6fc0",
    "minor": "#ad7800",
    "major": "#e4570f",
    "critical": "#c0184f",
    "added": "#2563c9",
}
DARK = {
    "paper": "#171c22",
    "page": "#0f1317",
    "ink": "#dfe6ee",
    "muted": "#93a0ad",
    "line": "#2a323b",
    "expected": "#6fa3dd",
    "label": "#2fbf9b",
    "quality": "#ab93de",
    "minor": "#e9b63a",
    "major": "#ff8146",
    "critical": "#ff5583",
    "added": "#6ea3ff",
}


def chart_style() -> str:
    """Return the style sheet: colours as variables, and how parts of a chart use them."""
    light = f":root{{{_colours(LIGHT)}}}"
    dark = f"@media(prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}"
    return f"{light}{dark}{_CHART}"


def _colours(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


_CHART = """
svg.chart{display:block;width:100%;min-width:640px;height:auto;\
font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.chart .axis{fill:var(--muted)}.chart .grid{stroke:var(--line);fill:none}
.chart .measured{fill:none;stroke:var(--ink);stroke-width:1;stroke-linejoin:round}
.chart .expected{fill:none;stroke:var(--expected);stroke-width:1}
.chart .band{fill:var(--expected);fill-opacity:.2;stroke:none}
.chart .tick{stroke:var(--quality);stroke-width:2;fill:none}
.span.label{fill:var(--label);fill-opacity:.16}\
.span.missed{fill-opacity:.1;stroke:var(--label);stroke-dasharray:4 3}
.span.warming{fill:var(--muted);fill-opacity:.09}\
.span.trained{fill:var(--expected);fill-opacity:.13}
.span.episode{fill:var(--critical);fill-opacity:.75}
.mark{stroke:var(--paper);stroke-width:1}
.mark.cold{fill:var(--paper);stroke:var(--minor);stroke-width:1.6}
.mark.added{fill:var(--paper);stroke-width:2;stroke:var(--added)}
.mark.removed{stroke:var(--added);stroke-width:2}
a:hover .mark,a:focus .mark{stroke:var(--ink);stroke-width:2}
.info{fill:var(--muted)}.minor{fill:var(--minor)}.major{fill:var(--major)}\
.critical{fill:var(--critical)}
svg.strip{width:180px;height:18px;display:block}.strip .ground{fill:var(--line)}
"""
