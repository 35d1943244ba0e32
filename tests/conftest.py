"""What all tests share: where the NAB series lie, and how hypothesis looks for examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A kernel's first call compiles it: no deadline. In CI the same examples every time, so that red
# means a change.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def nab_dir() -> Path:
    """Folder of the Numenta Anomaly Benchmark.

    It holds data/realAWSCloudwatch/*.csv and combined_windows.json.
    """
    named = os.environ.get("LAPWING_NAB_DIR")
    if not named:
        pytest.skip(
            "LAPWING_NAB_DIR does not name the folder of the NAB series (see `lapwing data fetch`)"
        )
    folder = Path(named).resolve()
    if len(list(folder.glob("data/realAWSCloudwatch/*.csv"))) != 17:
        pytest.fail(
            f"LAPWING_NAB_DIR={named}: {folder}/data/realAWSCloudwatch does not hold the 17"
            " CloudWatch series"
        )
    return folder
