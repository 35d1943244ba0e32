"""The rows of the fault table that CI runs; `python -m tests.faults --full` runs all of them, and more often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.events import Detector
from tests.faults.ground import Ground
from tests.faults.suite import chosen
from tests.faults.table import Row

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("faults"), Detector.ENSEMBLE, seed=1)
    yield made
    made.close()


@pytest.mark.parametrize("row", chosen("ci"), ids=lambda row: row.name)
def test_a_fault_changes_no_byte(ground: Ground, row: Row) -> None:
    tally = row.carry_out(ground, ground.seed, "ci")
    print(tally.record(row.name))
    assert tally.clean, (tally.record(row.name), "\n".join(tally.counts.problems))
