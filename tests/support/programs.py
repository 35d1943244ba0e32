"""Runs Python code in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_code(code: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run code from the project's root; raises AssertionError with its errors unless it ends well.

    returns : with stdout and stderr as text
    """
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran
