"""A loop that hangs is ended; one that goes on is not."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, time
from consumer_prediction.health.watchdog import Watchdog

asked = 0
def stopping():
    global asked
    asked += 1
    return asked > 30

with Watchdog(0.5, stopping) as watchdog:
    while not watchdog():
        time.sleep(0.05)
        if asked == 20 and sys.argv[1] == "hang":
            time.sleep(60)
        if asked == 20 and sys.argv[1] == "hang with the lock":
            ctypes.PyDLL(None).sleep(60)
time.sleep(1.0)
"""


@pytest.mark.parametrize(("how", "code"), [("go on", 0), ("hang", 1), ("hang with the lock", 1)])
def test_a_loop_that_hangs_is_ended(how, code):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    assert ("Timeout" in ran.stderr and 'File "<string>", line' in ran.stderr) == bool(code)
