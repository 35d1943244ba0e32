"""``lapwing demo`` as a user runs it: its counts, its exit codes, and that it cleans up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PROMISED = [
    "produced",
    "scored",
    "dead_letters",
    "anomalies",
    "first_anomaly_s",
    "events_per_s",
    "p50_ms",
    "p99_ms",
]
FIRST_ANOMALY_S = 60


@pytest.fixture
def start(tmp_path):
    """Start demos that are killed after the test; what they leave is in the test's own folder."""
    started = []

    def run(*arguments, **environ):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAPWING_", "KAFKA_", "SCHEMA_"))
        }
        path = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
        demo = subprocess.Popen(
            [sys.executable, "-m", "lapwing", "demo", *arguments],
            cwd=ROOT,
            env=kept
            | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)}
            | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(demo)
        return demo

    yield run
    for demo in started:
        demo.kill()
        demo.communicate()


def finish(demo, timeout_s=240):
    out, error = demo.communicate(timeout=timeout_s)
    return demo.returncode, out, error


def wait_for_line(demo, begin, patience_s=120):
    """Read the demo's lines until one begins so; return all children that it has by then."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        line = demo.stdout.readline()
        if line.startswith(begin):
            return psutil.Process(demo.pid).children(recursive=True)
        if not line:
            break
    pytest.fail(f"no line {begin!r}; standard error: {demo.stderr.read()}")


def assert_gone(children):
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left


def check(summary, events):
    assert list(summary)[:8] == PROMISED
    assert summary["agrees"] is True
    assert summary["disagreements"] == []
    assert summary["produced"] == summary["scored"] + summary["dead_letters"] == events
    assert summary["dead_letters"] == 0
    assert summary["anomalies"] > 0
    assert 0 < summary["first_anomaly_s"] < FIRST_ANOMALY_S
    assert 0 <= summary["p50_ms"] <= summary["p99_ms"]
    assert 0 < summary["warming_up"] < events
    assert 0 < summary["incidents"] <= summary["anomalies"] + summary["data_quality"]
    assert 0 <= summary["open_incidents"] <= summary["incidents"]
    assert summary["data_quality"] >= 0
    assert len(summary["model"].split(",")[0]) == 16
    for partition in summary["partitions"].values():
        assert partition["produced"] == partition["scored"] + partition["dead_letters"]


def test_once_on_a_fleet(start):
    code, out, error = finish(start("--once", "--json", "--fleet", "12"))
    assert code == 0, error
    assert len(out.splitlines()) == 1, "with --json nothing but the summary reaches standard output"
    check(json.loads(out), 12 * 14 * 288)
    assert not re.search(r"\w+Warning\b", error), "no library's warning reaches the terminal"
    assert "in memory only" in error
    assert "anomaly at 20" in error


def test_once_on_nab(start, nab_dir):
    code, out, error = finish(start("--once", "--json", "--data", str(nab_dir)))
    assert code == 0, error
    summary = json.loads(out)
    check(summary, summary["produced"])
    assert summary["produced"] == 59_676, "17 series, three of them joined"
    assert "different machines" in error
    assert "whole weeks" in error


def test_one_class_svm_and_one_predictor(start, tmp_path):
    picture = tmp_path / "demo.svg"
    run = start(
        "--once",
        "--json",
        "--fleet",
        "4",
        "--predictors",
        "1",
        "--svg",
        str(picture),
        LAPWING_DETECTOR="one_class_svm",
    )
    code, out, error = finish(run)
    assert code == 0, error
    summary = json.loads(out)
    check(summary, 4 * 14 * 288)
    assert "one_class_svm" in summary["model"]
    assert "<svg" in picture.read_text()


def test_ctrl_c_ends_it_in_order(start):
    demo = start("--fleet", "6", "--speed", "6000")
    children = wait_for_line(demo, "live:")
    assert len(children) in (5, 6), (
        "two predictors, the incidents, the page, the replay, and the training while it draws"
    )
    time.sleep(2)
    demo.send_signal(signal.SIGINT)
    code, out, error = finish(demo, 60)
    assert code == 0, out + error
    assert "does not agree" not in out
    assert "event to result" in out
    assert_gone(children)


def test_nothing_survives_a_kill(start):
    demo = start("--fleet", "6", "--speed", "6000")
    children = wait_for_line(demo, "backfill:")
    demo.kill()
    finish(demo, 30)
    assert children
    assert_gone(children)


def test_a_killed_predictor_comes_back_and_a_new_model_takes_over(start):
    """What the demo suggests to try, with the very commands that it prints."""
    demo = start("--fleet", "6", "--speed", "6000", "--no-page")
    kill, train = wait_for_hints(demo)
    subprocess.run(kill, shell=True, check=True)
    trained = subprocess.run(train, shell=True, check=True, capture_output=True, cwd=ROOT)
    assert b'"model published"' in trained.stdout + trained.stderr
    time.sleep(3)
    demo.send_signal(signal.SIGINT)
    code, out, error = finish(demo, 60)
    assert code == 0, out + error
    assert "was ended by signal 9, it is restarted" in out
    assert "does not agree" not in out


def wait_for_hints(demo):
    """Return the commands with which the demo suggests to kill a predictor and to train."""
    children = wait_for_line(demo, "live:")
    lines = [demo.stdout.readline() for _ in range(3)]
    _, *commands = [line.removeprefix("try: ").partition("  #")[0] for line in lines]
    assert {int(commands[0].split()[-1])} < {child.pid for child in children}
    assert commands[1].endswith("train --once)")
    return commands


def test_a_child_that_dies_ends_it(start):
    demo = start("--fleet", "6", "--speed", "6000")
    children = wait_for_line(demo, "live:")
    victim = next(child for child in children if "lapwing.incidents" in child.cmdline())
    victim.kill()
    code, _, error = finish(demo, 60)
    assert code == 1
    assert "was ended by signal 9; its last lines:" in error
    assert "Traceback" not in error
    assert_gone(children)
