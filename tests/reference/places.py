"""Slow and obviously right: who is remembered, and who is dropped at which row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@dataclass
class Entity:
    seen_at: int
    seen_clock_ms: int = 0
    times: tuple[int, ...] = ()

    def forget_after_ms(self, most_ms: int) -> int:
        return min(most_ms, max(1.5 * DAY_MS, 3 * (self.times[-1] - self.times[0])))


def dropped(
    rows: Iterable[tuple[str, int, bool, bool]], max_entities: int, most_ms: int
) -> tuple[list[tuple[int, str, str]], set[str]]:
    """Return (row, name, reason) of everybody who was dropped, and who is remembered at the end.

    rows : name, event time, whether it moves its entity, whether it is ahead of it
    """
    live: dict[str, Entity] = {}
    newest: list[int] = []  # of every entity that ever moved, by the number of its life
    life_of: dict[str, int] = {}
    clock_ms, swept, found = 0, 0, []

    def drop(row: int, name: str, reason: str) -> None:
        found.append((row, name, reason))
        live.pop(name)
        life_of.pop(name, None)

    for row, (name, time_ms, moves, ahead) in enumerate(rows):
        if len(newest) >= 2 and clock_ms // HOUR_MS > swept:
            for other, one in list(live.items()):
                since_ms = max(one.times[-1], one.seen_clock_ms)
                if other != name and clock_ms - since_ms > 2 * one.forget_after_ms(most_ms):
                    drop(row, other, "expired")
            swept = clock_ms // HOUR_MS
        if name not in live:
            while len(live) >= max_entities:
                drop(row, min(live, key=lambda other: live[other].seen_at), "evicted")
            live[name] = Entity(row)
        one = live[name]
        one.seen_at = row
        if one.times and not ahead and time_ms - one.times[-1] > one.forget_after_ms(most_ms):
            found.append((row, name, "forgotten"))
            one.times = ()
        if moves:
            one.times = (*one.times, time_ms)
            is_new = name not in life_of
            if is_new:
                life_of[name] = len(newest)
                newest.append(time_ms)
            newest[life_of[name]] = time_ms
            if len(newest) >= 2:
                second_ms = sorted(newest)[-2]
                if len(newest) == 2 and is_new:
                    clock_ms, swept = second_ms, second_ms // HOUR_MS
                else:
                    clock_ms += min(max(second_ms - clock_ms, 0), HOUR_MS)
        one.seen_clock_ms = clock_ms if len(newest) >= 2 else 0
    return found, set(live)
