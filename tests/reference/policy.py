"""Slow and obviously right: the alarm policy from the list of all earlier alarms."""

from __future__ import annotations

import math


def alarms(scores, warmup, threshold, params, budgeted=False):
    """Rows that alarm, counted from 1, and what they were compared with the threshold as."""
    found, levels = [], []
    for row, z in enumerate(scores, start=1):
        habit = sum(
            math.exp(-(row - earlier) / (params.habituation_memory * warmup))
            for earlier, _ in found
        )
        worth = (
            min(habit, params.habit_often)
            if budgeted
            else habit * max(1.0, habit / params.habit_often)
        )
        level = z - params.habituation * worth
        levels.append(level)
        if level < threshold:
            continue
        if found:
            last, at_last = found[-1]
            if row - last <= params.refractory * warmup and level < params.break_through * at_last:
                continue
        found.append((row, level))
    return [row for row, _ in found], levels
