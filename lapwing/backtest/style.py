"""The style sheet of the report, for light and dark screens, laptops and phones.

Invariant: the page loads nothing from elsewhere, neither fonts nor scripts.
"""

from __future__ import annotations

from collections.abc import Mapping


def style_sheet() -> str:
    """Return the whole style sheet."""
    light = f":root{{{_colours(LIGHT)}}}"
    dark = f"@media(prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}"
    return f"{light}{dark}{_PAGE}{_CHART}"


def _colours(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


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

_PAGE = """
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 14px 60px}\
h1{font-size:1.5rem;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 .2rem;overflow-wrap:anywhere}\
h3{font-size:.85rem;margin:.7rem 0 .2rem;color:var(--muted)}
p{margin:.3rem 0}\
.kicker{color:var(--muted);font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;margin:0}
.muted,.notes{color:var(--muted);font-size:.85rem}.notes{padding-left:1.1rem;margin:.3rem 0}\
a{color:inherit}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px;
margin:14px 0;scroll-margin-top:8px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:14px 0}
.tile{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:10px 12px;
display:flex;flex-direction:column}
.tile b{font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums}\
.tile span{color:var(--muted);font-size:.8rem}
.bars{display:grid;grid-template-columns:repeat(auto-fit,minmax(230px,1fr));gap:4px 24px}
.bars table{width:100%;border-collapse:collapse;font-size:.85rem}\
.bars th{text-align:left;font-weight:400;white-space:nowrap}
.bars td{text-align:right;font-variant-numeric:tabular-nums}.bars td.bar{width:50%;padding:0 8px}
.bars i{display:block;height:9px;border-radius:3px;min-width:1px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table.overview,table.figures{border-collapse:collapse;font-size:.87rem;width:100%}
.overview th,.overview td,.figures th,.figures td{padding:4px 8px;\
border-bottom:1px solid var(--line);text-align:right;
white-space:nowrap;font-variant-numeric:tabular-nums}
.overview th:first-child,.overview td:first-child,.figures th:first-child{text-align:left}
.overview th,.figures th{color:var(--muted);font-weight:500}table.figures{width:auto}
.overview th:nth-child(3){text-align:left}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.82rem;color:var(--muted);\
margin:16px 2px 0}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;\
vertical-align:-1px}
ol.alarms{list-style:none;padding:0;margin:.6rem 0 0;font-size:.88rem}
.alarms li{padding:4px 4px;border-top:1px solid var(--line)}
li:target{background:color-mix(in srgb,var(--minor) 18%,transparent)}
time{font-variant-numeric:tabular-nums;color:var(--muted);white-space:nowrap}
.pill{color:var(--paper);border-radius:9px;padding:0 8px;font-size:.78rem;white-space:nowrap}
details summary{cursor:pointer;color:var(--muted);font-size:.85rem}
@media(max-width:600px){.card{padding:12px 10px}.tile b{font-size:1.2rem}}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""
