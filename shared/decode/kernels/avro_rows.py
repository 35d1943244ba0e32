"""Decodes Avro records to columns, by the plan of their writer schema.

Invariant: a record is accepted as a whole or not at all; the outcome depends on its own bytes only,
and costs at most O(its bytes). ``shared.decode.avro.plan`` compiles the plans.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from shared.decode.kernels.avro_reads import (
    decimal,
    fraction_to_ms,
    read_index,
    read_size,
    read_text_time,
    to_ms,
)
from shared.decode.kernels.frame_rows import FRAMES, NONE, Frames
from shared.decode.kernels.gate_checks import (
    ACCEPTED,
    HAS_NO_TIME,
    HAS_NOT_FINITE,
    HAS_TIME,
    LIMITS,
    ROWS,
    GatedRows,
    GateLimits,
    check_entity,
    check_found,
    check_size,
)
from shared.decode.kernels.gate_checks import TIME as TIME_MS
from shared.kernels.text import MAX_NAME_BYTES, is_text
from shared.kernels.wire import (
    BOUNDS,
    BYTES,
    MALFORMED,
    TRUNCATED,
    Bytes,
    Int,
    Int64s,
    copy_bytes,
    group,
    helper,
    kernel,
    load_tail,
    load_word,
    read_long,
    wrapping,
    write_digits,
)

Steps = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The steps of a plan: shared.decode.avro.plan.Op and Role, as constants for the compiled kernel.
END, UNION, JUMP, DOUBLE, FLOAT, LONG, INT, STRING, BYTES_, BOOLEAN, FIXED, ENUM, BLOCK, NEXT = (
    range(14)
)
TIME_DOUBLE, TIME_TEXT, DECIMAL, LABEL, WANTED, LABEL_VALUE = range(14, 20)
SKIPPED, METRIC, PART, TIME, LABEL_TEXT = range(5)

# Reasons for rejection in addition to those of the gates: shared.events.Reason.
NOT_AVRO, TRAILING_BYTES = 3, 7

_ABSENT, _TEXT, _NUMBER, _SYMBOL = range(4)  # kinds of an entity part
# Cells of a loop: items left in the block, end of the block or NONE.
_LEFT, _BLOCK_END = range(2)
_SLASH = 47
_I8S, _I8SS = types.int64[::1], types.int64[:, ::1]


class Plans(NamedTuple):
    """The plans of the schemas in a batch, joined.

    ids           : int64 (s,)      numbers of the schemas, increasing
    plan_of_id    : int64 (s,)      row of ``plans``; negative: minus the reason why there is none
    plans         : int64 (p, 5)    first step, first column, first symbol, entity parts, depth
    steps         : int64 (k, 4)    steps of all plans
    symbols       : uint8           enum symbols of all plans
    symbol_bounds : int64           symbol i is symbols[symbol_bounds[i]:symbol_bounds[i + 1]]
    columns       : int64           a plan's metric -> column of values
    """

    ids: Int64s
    plan_of_id: Int64s
    plans: Steps
    steps: Steps
    symbols: Bytes
    symbol_bounds: Int64s
    columns: Int64s


class Scratch(NamedTuple):
    """Work memory of the kernel; its content after a call is undefined.

    parts : int64 (P, 3)   P = largest number of entity parts
    loops : int64 (D, 2)   D = deepest nesting of arrays and maps
    found : int64 (4,)     see ``gate_checks``
    word  : uint64 (1,)
    """

    parts: Steps
    loops: Steps
    found: Int64s
    word: npt.NDArray[np.uint64]


class _Plan(NamedTuple):
    """One plan of ``Plans``: its first step, and the first of its columns and symbols."""

    steps: Steps
    first_step: Int
    columns: Int64s
    first_column: Int
    symbols: Bytes
    symbol_bounds: Int64s
    first_symbol: Int


class _Fields(NamedTuple):
    """What is read from a record.

    values : float64 (M,)   the metrics that the record has
    parts  : int64 (P, 3)   kind of each entity part, and its span in data, value or symbol
    found  : int64 (4,)     see ``gate_checks``
    """

    values: Floats
    parts: Steps
    found: Int64s


class _Word(NamedTuple):
    """One element of memory in three types, to read the bits of a number."""

    bits: npt.NDArray[np.uint64]
    double: Floats
    single: npt.NDArray[np.float32]


_PLANS = group(Plans, _I8S, _I8S, _I8SS, _I8SS, BYTES, _I8S, _I8S)
_SCRATCH = group(Scratch, _I8SS, _I8SS, _I8S, types.uint64[::1])


@helper
def _enter_block(data: Bytes, at: Int, stop: int, has_empty_items: bool, loop: Int64s) -> Int:
    """Read the head of an array or map block into ``loop``; return next position or error."""
    count, at = read_long(data, at, stop)
    if at < 0:
        return at
    loop[_BLOCK_END] = NONE
    if count < 0:
        size, at = read_size(data, at, stop)
        if at < 0:
            return at
        if count < -(2**63 - 1) or (has_empty_items and size > 0):  # -2**63 cannot be negated
            return MALFORMED
        count = -count
        loop[_BLOCK_END] = at + size
    loop[_LEFT] = count
    return at


@helper
def _wanted_part(data: Bytes, at: Int, stop: Int, plan: _Plan, step: Int, count: Int) -> Int:
    """Return the entity part of a map's key, by the WANTED steps; NONE for another key."""
    for this in range(step, step + count):
        symbol = plan.first_symbol + plan.steps[this, 1]
        low, high = plan.symbol_bounds[symbol], plan.symbol_bounds[symbol + 1]
        same = high - low == stop - at
        for i in range(stop - at):
            same = same and data[at + i] == plan.symbols[low + i]
        if same:
            return plan.steps[this, 2]
    return NONE


@helper
def _column_of(plan: _Plan, metric: Int) -> np.uint64:
    """Return the column of values of a plan's metric."""
    return np.uint64(plan.columns[np.uint64(plan.first_column + metric)])


@helper
def _walk(
    data: Bytes, at: Int, stop: Int, plan: _Plan, fields: _Fields, loops: Steps, word: _Word
) -> Int:
    """Execute a record's steps; return the position after its last field, TRUNCATED or MALFORMED.

    fields : written
    loops  : int64 (D, 2)   the open blocks
    """
    steps = plan.steps
    base = plan.first_step
    parts = fields.parts
    found = fields.found
    step = base
    level = 0
    label = np.int64(NONE)
    while True:
        # An unsigned index avoids numba's check for negative indices.
        this = np.uint64(step)
        op = steps[this, 0]
        a = steps[this, 1]
        step += 1
        if op == UNION:
            branch, at = read_index(data, at, stop, a)
            if at < 0:
                return at
            step = base + steps[step + branch, 1]
        elif op == DOUBLE:
            if stop - at < 8:
                return TRUNCATED
            if a != NONE:
                word.bits[0] = load_word(data, at)
                fields.values[_column_of(plan, a)] = word.double[0]
                found[HAS_NOT_FINITE] |= not math.isfinite(word.double[0])
            at += 8
        elif op == STRING:
            size, at = read_size(data, at, stop)
            if at < 0:
                return at
            if a != NONE:
                parts[a, 0], parts[a, 1], parts[a, 2] = _TEXT, at, at + size
            elif not is_text(data, at, at + size):
                return MALFORMED
            at += size
        elif op in (LONG, INT):
            value, at = read_long(data, at, stop)
            if at < 0:
                return at
            if op == INT and (value < -(2**31) or value >= 2**31):
                return MALFORMED
            role = steps[this, 2]
            if role == TIME:
                found[TIME_MS] = to_ms(value, a)
                found[HAS_TIME] = 1
            elif role == METRIC:
                fields.values[_column_of(plan, a)] = value
            elif role == PART:
                parts[a, 0], parts[a, 1] = _NUMBER, value
        elif op == END:
            return at
        elif op == JUMP:
            step = base + a
        elif op == FLOAT:
            if stop - at < 4:
                return TRUNCATED
            if a != NONE:
                word.bits[0] = load_tail(data, at, 4)
                fields.values[_column_of(plan, a)] = word.single[0]
                found[HAS_NOT_FINITE] |= not math.isfinite(word.single[0])
            at += 4
        elif op == BYTES_:
            size, at = read_size(data, at, stop)
            if at < 0:
                return at
            at += size
        elif op == BOOLEAN:
            if at == stop:
                return TRUNCATED
            if data[at] > 1:
                return MALFORMED
            at += 1
        elif op == FIXED:
            if a > stop - at:
                return TRUNCATED
            at += a
        elif op == ENUM:
            symbol, at = read_index(data, at, stop, a)
            if at < 0:
                return at
            part = steps[this, 2]
            if part != NONE:
                parts[part, 0], parts[part, 1] = _SYMBOL, steps[this, 3] + symbol
        elif op == BLOCK:
            has_empty_items = steps[this, 2] == 1
            at = _enter_block(data, at, stop, has_empty_items, loops[level])
            if at < 0:
                return at
            if loops[level, _LEFT] == 0:
                step = base + a
            elif has_empty_items:
                step -= 1
            else:
                level += 1
        elif op in (LABEL, LABEL_VALUE):
            size, at = read_size(data, at, stop)
            if at < 0:
                return at
            if not is_text(data, at, at + size):
                return MALFORMED
            if op == LABEL:
                label = _wanted_part(data, at, at + size, plan, step, a)
                step += a
                if label != NONE:
                    parts[label, 0] = _ABSENT
            elif label != NONE:
                parts[label, 0], parts[label, 1], parts[label, 2] = _TEXT, at, at + size
            at += size
        elif op == DECIMAL:
            size = steps[this, 2]
            if size == 0:
                size, at = read_size(data, at, stop)
                if at < 0:
                    return at
                if size == 0:
                    return MALFORMED
            elif size > stop - at:
                return TRUNCATED
            word.bits[0] = np.uint64(steps[this, 3])
            number = decimal(data, at, at + size, word.double[0])
            fields.values[_column_of(plan, a)] = number
            found[HAS_NOT_FINITE] |= not math.isfinite(number)
            at += size
        elif op == TIME_TEXT:
            at = read_text_time(data, at, stop, found)
            if at < 0:
                return at
        elif op == TIME_DOUBLE:
            if stop - at < 8:
                return TRUNCATED
            word.bits[0] = load_word(data, at)
            found[HAS_TIME] = 1
            found[HAS_NO_TIME] = not math.isfinite(word.double[0])
            if math.isfinite(word.double[0]):
                found[TIME_MS] = fraction_to_ms(word.double[0], a)
            at += 8
        else:  # NEXT
            loops[level - 1, _LEFT] -= 1
            if loops[level - 1, _LEFT] > 0:
                step = base + a
            else:
                level -= 1
                if loops[level, _BLOCK_END] != NONE and loops[level, _BLOCK_END] != at:
                    return MALFORMED
                step = base + a - 1


@helper
def _write_name(
    data: Bytes, parts: Steps, symbols: Bytes, symbol_bounds: Int64s, names: Bytes, at: Int
) -> Int:
    """Write the entity parts to names[at:], joined by '/'; return the position after them.

    Returns NONE if a part is missing or empty, or if the name is longer than 256 bytes.
    """
    start = at
    for part in range(len(parts)):
        if part > 0:
            names[at] = _SLASH
            at += 1
        kind, low, high = parts[part, 0], parts[part, 1], parts[part, 2]
        if kind == _SYMBOL:
            low, high = symbol_bounds[low], symbol_bounds[low + 1]
        if kind == _NUMBER:
            at = write_digits(low, names, at)
        elif kind == _ABSENT or high <= low or high - low > MAX_NAME_BYTES - (at - start):
            return NONE
        elif kind == _TEXT:
            at = copy_bytes(data, low, high, names, at)
        else:
            at = copy_bytes(symbols, low, high, names, at)
        if at - start > MAX_NAME_BYTES:
            return NONE
    return at


@helper
def _plan_of(number: Int, index: Int, plans: Plans) -> tuple[Int, Int]:
    """Return the index of a schema and its plan; ``index`` is that of the previous record."""
    if plans.ids[index] != number:
        index = np.searchsorted(plans.ids, number)
    return index, plans.plan_of_id[index]


@wrapping
@kernel(BYTES, BOUNDS, FRAMES, _PLANS, LIMITS, ROWS, _SCRATCH)
def decode_rows(
    data: Bytes,
    bounds: Int64s,
    frames: Frames,
    plans: Plans,
    limits: GateLimits,
    rows: GatedRows,
    scratch: Scratch,
) -> tuple[int, int]:
    """Decode each record and check it by all gates.

    data, bounds : uint8, int64 (n + 1,)  record i is data[bounds[i]:bounds[i + 1]]
    frames       : of each record; each number is in ``plans.ids``, or NONE
    rows         : written: each record as accepted or as rejected; n rows of each, and 256 n + 64
                   bytes of names
    returns      : how many were accepted, how many rejected

    Twin: tests/reference/avro.py::decode_rows.  Cost: O(bytes); ~35 ns for a record of 53 bytes.
    """
    found = scratch.found
    word = _Word(scratch.word, scratch.word.view(np.float64), scratch.word.view(np.float32))
    good = bad = 0
    plan_index = np.int64(0)
    rows.name_bounds[0] = 0
    for row in range(len(bounds) - 1):
        start, stop = bounds[row], bounds[row + 1]
        number = frames.numbers[row]
        plan = np.int64(0)
        name_end = np.int64(0)
        reason = check_size(stop - start, limits)
        if reason == ACCEPTED and number == NONE:
            reason = NOT_AVRO
        if reason == ACCEPTED:
            plan_index, plan = _plan_of(number, plan_index, plans)
            if plan < 0:
                reason = -plan
        if reason == ACCEPTED:
            rows.values[good] = np.nan
            found[:] = 0
            parts = scratch.parts[: plans.plans[plan, 3]]
            parts[:, 0] = _ABSENT
            steps = _Plan(
                plans.steps,
                plans.plans[plan, 0],
                plans.columns,
                plans.plans[plan, 1],
                plans.symbols,
                plans.symbol_bounds,
                plans.plans[plan, 2],
            )
            fields = _Fields(rows.values[good], parts, found)
            end = _walk(data, frames.begins[row], stop, steps, fields, scratch.loops, word)
            if end < 0:
                reason = -end
            elif end < stop:
                reason = TRAILING_BYTES
            else:
                reason = check_found(found, limits)
        if reason == ACCEPTED:
            symbol_bounds = plans.symbol_bounds[plans.plans[plan, 2] :]
            name_start = rows.name_bounds[good]
            name_end = _write_name(
                data, parts, plans.symbols, symbol_bounds, rows.names, name_start
            )
            reason = check_entity(rows.names, name_start, name_end)
        if reason == ACCEPTED:
            rows.accepted[good] = row
            rows.time_ms[good] = found[TIME_MS]
            rows.name_bounds[good + 1] = name_end
            good += 1
        else:
            rows.rejected[bad] = row
            rows.reasons[bad] = reason
            bad += 1
    return good, bad
