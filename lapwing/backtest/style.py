"""The style sheet of the report, for light and dark screens, laptops and phones.

Invariant: the page loads nothing from elsewhere, neither fonts nor scripts.
"""

from __future__ import annotations

from shared.charts.chart_style import chart_style


def style_sheet() -> str:
    """Return the whole style sheet."""
    return f"{chart_style()}{_PAGE}"


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
