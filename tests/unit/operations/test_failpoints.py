"""Failpoints: named, counted, refused when unknown, and each is used in the code."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.operations import failpoints
from shared.operations.failpoints import NAMES, arm, failpoint

ROOT = Path(__file__).parents[3]


@pytest.fixture
def died():
    times = []
    yield times
    arm("", lambda: None)


def test_an_armed_place_is_deadly_at_its_turn_only(died):
    arm("after_produce:3", lambda: died.append(1))
    for _ in range(2):
        failpoint("after_produce")
        failpoint("after_commit")
    assert died == []
    failpoint("after_produce")
    assert died == [1]


def test_a_name_alone_means_the_first_time(died):
    arm("in_revoke", lambda: died.append(1))
    failpoint("in_revoke")
    assert died == [1]


def test_nothing_is_armed_unless_said(died):
    arm("", lambda: died.append(1))
    for name in NAMES:
        failpoint(name)
    assert died == []


@pytest.mark.parametrize("text", ["before_lunch", "before_lunch:2", ":3", "AFTER_COMMIT"])
def test_an_unknown_name_is_refused_with_the_list(text):
    with pytest.raises(ConfigError) as refused:
        arm(text, lambda: None)
    assert all(name in str(refused.value) for name in NAMES)
    assert repr(text.partition(":")[0]) in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["after_commit:", "after_commit:0", "after_commit:-1", "after_commit:x", "after_commit:²"],
)
def test_a_count_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="n = 1, 2"):
        arm(text, lambda: None)


def test_each_place_stands_in_the_code():
    """Once each; around a commit, once in each of the two sinks."""
    found = Counter()
    for package in ("shared", "consumer_prediction"):
        for path in (ROOT / package).rglob("*.py"):
            found.update(
                re.findall(r'^ +failpoint\("(\w+)"\)$', path.read_text("utf-8"), re.MULTILINE)
            )
    assert found == Counter((*NAMES, "before_offsets", "after_commit"))


def test_the_entry_point_reads_the_variable_and_a_kill_is_a_kill():
    code = (
        "import os, signal; from shared.operations.failpoints import *; arm('after_poll', lambda:"
        " os.kill(os.getpid(), signal.SIGKILL))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; failpoint('after_poll')"],
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL
    environ = {**os.environ, "LAPWING_FAILPOINT": "before_lunch"}
    command = [sys.executable, "-m", "consumer_prediction"]
    ran = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert "before_lunch" in ran.stderr
    assert all(name in ran.stderr for name in failpoints.NAMES)
