"""Reference NAB scorer, event counts and VUS: slow and obviously right, row by row."""

from __future__ import annotations

import math
from itertools import pairwise

PROFILES = {
    "standard": {"tp": 1.0, "fp": 0.11, "fn": 1.0},
    "reward_low_FP_rate": {"tp": 1.0, "fp": 0.22, "fn": 1.0},
    "reward_low_FN_rate": {"tp": 1.0, "fp": 0.11, "fn": 2.0},
}


def is_probation(row, rows):
    return row < min(math.floor(0.15 * rows), 0.15 * 5000)


def sigmoid(position):
    return -1.0 if position >= 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def row_rewards(timestamps, limits):
    """Return (unweighted reward, number of its window or None) of each row.

    A window is given by the timestamps of its edges; a timestamp means the first row that has it.
    """
    waiting = list(limits)
    number, inside, right, width = -1, False, None, None
    before = None
    found = []
    for row, timestamp in enumerate(timestamps):
        if waiting and timestamp == waiting[0][0]:
            first, last = waiting.pop(0)
            number, inside = number + 1, True
            right = timestamps.index(last)
            width = right - timestamps.index(first) + 1
        if inside:
            found.append((sigmoid(-(right - row + 1) / width) / sigmoid(-1.0), number))
        elif before is None or before[1] == 1:
            found.append((-1.0, None))
        else:
            found.append((sigmoid((row - before[0]) / (before[1] - 1)), None))
        if inside and row == right:
            before, inside = (right, width), False
    return found


def judged_rows(files):
    """Return [(score, reward, window or None)] of all rows after the probations.

    files : [(timestamps, limits, scores)]
    """
    rows = []
    for file, (timestamps, limits, scores) in enumerate(files):
        for row, (worth, window) in enumerate(row_rewards(timestamps, limits)):
            if not is_probation(row, len(timestamps)):
                rows.append((scores[row], worth, None if window is None else (file, window)))
    return rows


def score_at(files, threshold, profile):
    """Return the normalised score at one threshold; None where there is no window."""
    weights = PROFILES[profile]
    rows = judged_rows(files)
    windows = {window for _, _, window in rows if window is not None}
    if not windows:
        return None
    total = 0.0
    for window in windows:
        caught = [worth for score, worth, mine in rows if mine == window and score >= threshold]
        total += weights["tp"] * max(caught) if caught else -weights["fn"]
    total += sum(
        weights["fp"] * worth
        for score, worth, window in rows
        if window is None and score >= threshold
    )
    null = -weights["fn"] * len(windows)
    return 100.0 * (total - null) / (weights["tp"] * len(windows) - null)


def score_thresholds(files, profile):
    """Return [(threshold, normalised score)], thresholds falling from inf."""
    thresholds = sorted({score for score, _, _ in judged_rows(files)}, reverse=True)
    return [
        (threshold, score_at(files, threshold, profile)) for threshold in [math.inf, *thresholds]
    ]


def count_events(files, threshold):
    """Return (windows, hits, false events); a false event is a run of consecutive false alarms."""
    windows = hits = false_events = 0
    for timestamps, limits, scores in files:
        caught, running = {}, False
        for row, (_, window) in enumerate(row_rewards(timestamps, limits)):
            alarm = not is_probation(row, len(timestamps)) and scores[row] >= threshold
            if window is not None and not is_probation(row, len(timestamps)):
                caught[window] = caught.get(window, False) or alarm
            if alarm and window is None and not running:
                false_events += 1
            running = alarm and window is None
        windows += len(caught)
        hits += sum(caught.values())
    return windows, hits, false_events


def runs(flags):
    """Return [(first, last)] of every unbroken run of true flags."""
    found = []
    for row, flag in enumerate(flags):
        if flag and row and flags[row - 1]:
            found[-1] = (found[-1][0], row)
        elif flag:
            found.append((row, row))
    return found


def vus(flags, scores, buffer_rows, thresholds, edition):
    """Return (VUS-PR, VUS-ROC) by the definition.

    Each buffer has a curve, and each threshold of the curve a count over all rows.
    """
    n = len(flags)
    windows = runs(flags)
    falling = sorted(scores, reverse=True)
    areas_pr, areas_roc = [], []
    for buffer in range(buffer_rows + 1):
        labels = [1.0 if flag else 0.0 for flag in flags]
        for first, last in windows:
            for row in range(n):
                distance = max(first - row, row - last)
                if 0 < distance <= buffer // 2:
                    labels[row] += math.sqrt(1 - distance / buffer)
        labels = [min(1.0, label) for label in labels]
        wide = []
        for first, last in windows:
            first, last = max(first - buffer // 2, 0), min(last + buffer // 2, n - 1)
            if wide and first <= wide[-1][1]:
                wide[-1] = (wide[-1][0], last)
            else:
                wide.append((first, last))
        curve = [(0.0, 0.0, 1.0)]
        for place in range(thresholds):
            rank = int(place * ((n - 1) / (thresholds - 1)))
            alarms = [score >= falling[rank] for score in scores]
            true = sum(label for label, alarm in zip(labels, alarms, strict=True) if alarm)
            if edition == "2022":
                positives = (sum(map(float, flags)) + sum(labels)) / 2
            else:
                counted = [
                    label if flag or alarm else 0.0
                    for label, flag, alarm in zip(labels, flags, alarms, strict=True)
                ]
                positives = (sum(map(float, flags)) + sum(counted)) / 2
            share = sum(any(alarms[first : last + 1]) for first, last in wide) / len(wide)
            curve.append(
                (
                    min(true / positives, 1.0) * share,
                    (sum(alarms) - true) / (n - positives),
                    true / sum(alarms),
                )
            )
        if edition == "2022":
            areas_pr.append(sum((b[0] - a[0]) * (a[2] + b[2]) / 2 for a, b in pairwise(curve)))
        else:
            areas_pr.append(sum((b[0] - a[0]) * b[2] for a, b in pairwise(curve)))
        curve.append((1.0, 1.0, math.nan))
        areas_roc.append(sum((b[1] - a[1]) * (a[0] + b[0]) / 2 for a, b in pairwise(curve)))
    return sum(areas_pr) / len(areas_pr), sum(areas_roc) / len(areas_roc)
