"""Reading ahead: one instruction a line, within the record or not, and nothing is changed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numba import config, njit

from shared.kernels.prefetching import LINE, prefetch

RECORD = np.dtype([("x", "f8"), ("y", "f8", (60,))])


def read_ahead(records, place, first, size):
    prefetch(records, place, first, size)
    return records[place]["x"]


@pytest.mark.parametrize("size", [0, 1, LINE, RECORD.itemsize, 100 * RECORD.itemsize])
@pytest.mark.parametrize("place", [0, 4])
def test_nothing_is_changed_by_reading_ahead(place, size):
    records = np.zeros(5, RECORD)
    records["x"] = range(5)
    before = records.tobytes()
    assert njit(read_ahead)(records, place, 8, size) == place
    assert records.tobytes() == before


@pytest.mark.skipif(config.DISABLE_JIT, reason="plain Python does not read ahead")
def test_compiled_code_holds_the_instruction():
    compiled = njit(read_ahead)
    compiled(np.zeros(5, RECORD), 0, 0, LINE)
    (assembly,) = compiled.inspect_asm().values()
    assert re.search(r"\bprefetcht1\b|\bprfm\s", assembly)
