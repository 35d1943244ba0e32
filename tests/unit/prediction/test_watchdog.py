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
    return asked > int(sys.argv[3])

with Watchdog(float(sys.argv[2]), stopping) as watchdog:
    while not watchdog():
        time.sleep(0.05)
        if asked == 20 and sys.argv[1] == "hang":
            time.sleep(60)
        if asked == 20 and sys.argv[1] == "hang with the lock":
            ctypes.PyDLL(None).sleep(60)
time.sleep(float(sys.argv[2]) + 0.5)
"""


@pytest.mark.parametrize(
    ("how", "limit_s", "turns", "code"),
    [
        ("go on", 5.0, 120, 0),  # longer than the limit; a stall of the machine is shorter
        ("hang", 0.5, 30, 1),
        ("hang with the lock", 0.5, 30, 1),
    ],
)
def test_a_loop_that_hangs_is_ended(how, limit_s, turns, code):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(limit_s), str(turns)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    assert ("Timeout" in ran.stderr and 'File "<string>", line' in ran.stderr) == bool(code)
