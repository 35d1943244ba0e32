"""Kernels compiled for any processor and for this one give the same bytes.

numba compiles for the processor that it finds; without fastmath and without contraction of products
and sums, wider registers change no result. A snapshot may move between machines.
"""

from __future__ import annotations

import os

import pytest

from tests.support.episodes import needs_speed
from tests.support.programs import run_code

DIGEST = """
import hashlib
import numpy as np
from tests.support.episodes import bytes_of, host, judge
from tests.support.noise import FAMILIES

digest = hashlib.sha256()
for seed, family in enumerate(FAMILIES):
    time_ms, values = host(seed, days=7, metrics=5, family=family)
    values[:, 1] = np.cumsum(np.abs(np.nan_to_num(values[:, 1])))
    order = np.arange(len(time_ms))
    order[1500:1560] = order[1500:1560][::-1]
    rarity = np.abs(values[:, 0]) / 30
    judged = judge(time_ms[order], values[order], trained=rarity, per_day=1.0)
    for array in (judged.rows, judged.cells, judged.events):
        digest.update(array.tobytes())
    digest.update(bytes_of(judged.state))
print(digest.hexdigest())
"""


def digest_on(**processor: str) -> str:
    """Fold eight thousand rows in a process of its own; return the digest of all that came out.

    numba keeps what it compiled for each processor, so only the first run after a change is slow.
    """
    return run_code(DIGEST, 900.0, **processor).stdout.strip()


@needs_speed
@pytest.mark.skipif(
    "LAPWING_MACHINE_EXAMPLES" not in os.environ,
    reason="compiles the fold once more, see `make machine`",
)
@pytest.mark.timeout(900)
def test_a_generic_processor_gives_the_same_bytes() -> None:
    assert digest_on(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == digest_on()
