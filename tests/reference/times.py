"""Reference reader of a column of times: cell by cell with datetime, form chosen by counting."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from producer.files.times import parse_iso

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCHS = {
    "s": ((9, 10), 1000),
    "ms": ((12, 13), 1),
    "us": ((16,), 1 / 1000),
    "ns": ((19,), 1 / 1_000_000),
}
DATES = {
    "YYYYMMDD": "%Y%m%d", "YYYYMMDDHH": "%Y%m%d%H", "YYYYMMDDHHMM": "%Y%m%d%H%M",
    "YYYYMMDDHHMMSS": "%Y%m%d%H%M%S", "YYMMDDHH": "%y%m%d%H", "YYMMDDHHMM": "%y%m%d%H%M",
    "YYMMDDHHMMSS": "%y%m%d%H%M%S",
}  # fmt: skip
LOCAL = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}) (\d\d):(\d\d)")
YEARS = range(1970, 2100)


def ms(time):
    return (time - EPOCH) // timedelta(milliseconds=1)


def read(cell, form):
    """Return ms since 1970 of a cell in a form, None where it does not have it."""
    if form == "iso":
        return parse_iso(cell)
    if form in EPOCHS:
        return read_epoch(cell, *EPOCHS[form])
    if form in DATES:
        return read_date(cell, form)
    found = LOCAL.fullmatch(cell)
    if not found or (found[2] == "." and form == "MM/DD/YYYY"):
        return None
    day, month = (found[1], found[3]) if form == "DD/MM/YYYY" else (found[3], found[1])
    return date(int(found[4]), int(month), int(day), int(found[5]), int(found[6]))


def read_epoch(cell, widths, factor):
    found = re.fullmatch(r"(-?)(\d+)(?:\.(\d*))?", cell, re.ASCII)
    if not found or len(found[2]) not in widths or int(found[2][:4]) in YEARS:
        return None
    whole, part = int(found[1] + found[2]), int((found[3] or "").ljust(3, "0")[:3])
    if factor == 1000:
        return whole * 1000 + (-part if found[1] else part)
    return whole // round(1 / factor)


def read_date(cell, form):
    cell = re.sub(r"\.0*$", "", cell)
    width = len(form)
    if form.startswith("YYM") and len(cell) == width - 1:
        cell = "0" + cell
    if len(cell) != width or not (cell.isascii() and cell.isdigit()):
        return None
    try:
        time = datetime.strptime(cell, DATES[form]).replace(tzinfo=UTC)
    except ValueError:
        return None
    return ms(time) if 1900 <= time.year <= 2099 and time.second < 60 else None


def date(*parts):
    try:
        return ms(datetime(*parts, tzinfo=UTC))
    except ValueError:
        return None


def choose(cells):
    """Return the name of the column's form, or the set of names between which nothing decides."""
    kind = next((kind for kind in map(kind_of, cells) if kind), "iso")
    if kind == "iso":
        return "iso"
    names = [*EPOCHS, *DATES] if kind == "digits" else ["DD/MM/YYYY", "MM/DD/YYYY"]
    times = {name: [read(cell, name) for cell in cells] for name in names}
    fits = {name: sum(time is not None for time in times[name]) for name in names}
    most = max(fits.values())
    best = [name for name in names if fits[name] == most]
    if kind == "local":
        same = all(
            a == b for a, b in zip(*times.values(), strict=True) if a is not None and b is not None
        )
        return best[0] if len(best) == 1 or same else set(best)
    if most == 0:
        return "iso"
    if len(best) == 1:
        near = [name for name in DATES if 5 * fits[name] >= 4 * most]
        steps = {b - a for a, b in pairwise([time for time in times[best[0]] if time is not None])}
        return {best[0], near[0]} if best[0] in EPOCHS and near and len(steps) > 1 else best[0]
    return settle(best, times)


def kind_of(cell):
    if any(read(cell, form) is not None for form in (*EPOCHS, *DATES)):
        return "digits"
    if any(read(cell, form) is not None for form in ("DD/MM/YYYY", "MM/DD/YYYY")):
        return "local"
    return "iso" if parse_iso(cell) is not None else None


def settle(best, times):
    rows = [
        row
        for row in range(len(times[best[0]]))
        if all(times[name][row] is not None for name in best)
    ]
    if not rows:
        return min(best, key=lambda name: [time is not None for time in times[name]].index(True))
    sets = {name: sorted({times[name][row] for row in rows}) for name in best}
    epochs, dates = (
        [name for name in best if name in EPOCHS],
        [name for name in best if name in DATES],
    )
    if any(len({time // 86_400_000 for time in sets[name]}) >= 3 for name in dates):
        epochs = []
    if dates:
        epochs = [
            name
            for name in epochs
            if sets[name][0] >= 946_684_800_000 and sets[name][-1] < 1_970_000_000_000
        ]
    left = [*epochs, *dates]
    if len(left) == 1:
        return left[0]
    odd = {name: odd_steps(sets[name]) for name in left}
    first, second = sorted(left, key=odd.__getitem__)[:2]
    return first if odd[first] < odd[second] and (not epochs or not odd[first]) else set(left)


def odd_steps(times):
    steps = Counter(b - a for a, b in pairwise(times))
    return steps.total() - max(steps.values(), default=0)
