"""Children of the demo: they end on request or with the parent; last lines are kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from lapwing.demo.children import ChildError, Children
from lapwing.demo.page import DemoPage, is_free
from shared.settings import load_settings

ROOT = Path(__file__).parents[3]
SLEEPER = """
import json, os, sys, time
print(json.dumps({"event": "up", "pid": os.getpid(), "given": sys.argv[1:]}), flush=True)
print("not json", flush=True)
time.sleep(60)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "failing.py").write_text("import sys; print('the reason'); sys.exit(3)")
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}


def wait_for(condition, patience_s=15.0):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def test_a_child_runs_its_module_with_its_arguments_and_ends_when_asked(tmp_path, environ):
    children = Children(environ, tmp_path)
    child = children.start("sleeper", "sleeper", ["--one", "two"])
    (event,) = wait_for(child.new_events)
    assert event == {"event": "up", "pid": child.process.pid, "given": ["--one", "two"]}
    assert child.new_events() == []
    assert child.has_logged("up")
    assert not child.has_logged("not json")
    assert os.getpgid(child.process.pid) != os.getpgid(0)
    children.check()
    assert children.stop(child) == -signal.SIGTERM
    children.check()
    children.close()


def test_close_ends_all_even_the_stubborn(tmp_path, environ):
    children = Children(environ, tmp_path)
    both = [children.start("a", "sleeper"), children.start("b", "stubborn")]
    for child in both:
        wait_for(child.new_events)
    children.close(timeout_s=5)
    assert [child.process.poll() for child in both] == [-signal.SIGTERM, -signal.SIGKILL]


def test_an_early_death_shows_the_last_lines(tmp_path, environ):
    children = Children(environ, tmp_path)
    child = children.start("trainer", "failing")
    child.process.wait(15)
    with pytest.raises(
        ChildError, match=r"trainer ended with exit code 3; its last lines:\n  the reason"
    ):
        children.check()
    children.close()


PARENT = """
import os, sys, time
from pathlib import Path
from lapwing.demo.children import Children
children = Children(dict(os.environ), Path(sys.argv[1]))
sleeper = children.start("sleeper", "sleeper")
stubborn = children.start("stubborn", "stubborn")
print(sleeper.process.pid, stubborn.process.pid, flush=True)
time.sleep(60)
"""


def test_children_do_not_survive_a_parent_that_is_killed(tmp_path, environ):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        for name in ("sleeper", "stubborn"):
            wait_for(lambda name=name: (tmp_path / f"{name}.log").stat().st_size)
        alive = [psutil.Process(pid) for pid in pids]
    finally:
        parent.kill()
        parent.wait()
    gone, left = psutil.wait_procs(alive, timeout=15)
    assert not left
    assert len(gone) == 2


def test_the_page_tells_its_address_once_and_avoids_a_port_that_is_taken(tmp_path, environ):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        flags = {"dashboard": {"port": port}, "registry": {"url": "http://127.0.0.1:1"}}
        settings = load_settings(flags, environ={})
        given = environ | {
            "LAPWING_STATE_DIR": str(tmp_path),
            "LAPWING_TELEMETRY__LOG_FORMAT": "json",
        }
        children = Children(given, tmp_path)
        try:
            page = DemoPage(children, settings)
            url = wait_for(page.look, 60)
            assert url.startswith("http://127.0.0.1:")
            assert f":{port}/" not in url
            assert page.look() == ""
            assert urllib.request.urlopen(f"{url}health/live", timeout=10).status == 204
        finally:
            children.close(timeout_s=60)
    assert [child.process.returncode for child in children.all] == [0]
