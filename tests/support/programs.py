"""Python code run in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_code(
    code: str, timeout_s: float = 120.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code from the project's root; raises AssertionError with its errors unless it ends well.

    environment : variables beside those of this process
    returns     : with stdout and stderr as text
    """
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran
