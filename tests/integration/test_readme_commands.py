"""The README's commands for a real Kafka, run as they stand there, in their order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SECTION = README.partition("## On your Kafka")[2]

pytestmark = pytest.mark.integration


class Shell:
    """Runs lines of the README; ``lapwing`` is the one of this checkout."""

    def __init__(self, folder, environ):
        (folder / "bin").mkdir()
        script = folder / "bin" / "lapwing"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lapwing "$@"\n')
        script.chmod(0o755)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAPWING_", "KAFKA_", "SCHEMA_"))
        }
        path = os.pathsep.join([str(script.parent), str(Path(sys.executable).parent), kept["PATH"]])
        self.environ = kept | {"PATH": path, "PYTHONPATH": str(ROOT)} | environ
        self.folder = folder
        self.running = []

    def start(self, line):
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def run(self, line):
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert not from_libraries(done.stderr), line
        return done.stdout

    def close(self):
        for process in self.running:
            process.kill()
            process.communicate()


def from_libraries(error):
    """Return warnings and librdkafka logs, which a user of a command must not see."""
    return re.findall(r".*\b\w*Warning\b.*|.*rdkafka#.*", error)


@pytest.fixture
def shell(registry_settings, tmp_path):
    settings = registry_settings
    shell = Shell(
        tmp_path,
        {
            "LAPWING_TOPICS__DATASET": settings.topics.dataset,
            "LAPWING_TOPICS__PARTITIONS": "3",
            "LAPWING_PREDICT__GROUP": settings.predict.group,
        },
    )
    yield shell
    shell.close()


def test_the_commands_for_a_real_kafka(shell, registry_settings):
    block = re.search(r"```sh\n(.*?)```", SECTION, re.DOTALL)[1]
    here = {
        "localhost:9092": registry_settings.bootstrap,
        "http://localhost:8081": registry_settings.registry.url,
    }
    output = {}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        for given, ours in here.items():
            words = [word.replace(given, ours) for word in words]
        if words[0] == "export":
            shell.environ |= dict(word.split("=", 1) for word in words[1:])
        elif words[:2] == ["lapwing", "predict"]:
            predictor = shell.start(shlex.join(words))
        else:
            output[words[1] if words[1] != "topics" else words[2]] = shell.run(shlex.join(words))
    assert "created" in output["ensure"]
    assert output["ensure"].count("has id") == 5
    assert len(output["tail"].splitlines()) == 10
    line_of = re.compile(
        r"(anomaly|episode_closed|missing) at 20\d\d-\d\d-\d\d \d\d:\d\d host=\S+ .*because "
    )
    assert all(line_of.match(text) for text in output["tail"].splitlines()), output["tail"]
    assert re.search(r"alarms +\d+ in ", output["backtest"])
    assert f"metrics.{registry_settings.topics.dataset}.raw" in output["describe"]
    assert "all 12 checks passed" in output["doctor"]
    assert "1 predictor," in output["doctor"]

    pandas_says = shell.run(
        f"python -c {shlex.quote(re.search(r'```python(.*?)```', SECTION, re.DOTALL)[1])}"
    )
    assert "host-" in pandas_says

    other = shell.start("lapwing predict --slot 1")
    assert "exists" in shell.run("lapwing topics ensure")
    shell.run("lapwing --set train.trees=200 train --once")
    wait_for_two_predictors(shell)
    for process in (other, predictor):
        process.send_signal(signal.SIGTERM)
    for process in (other, predictor):
        out, error = process.communicate(timeout=30)
        assert process.returncode == 0, out + error
        assert not from_libraries(error)


def wait_for_two_predictors(shell, patience_s=60):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = {f["check"]: f for f in json.loads(shell.run("lapwing doctor --json"))["findings"]}
        if "2 predictors," in found["group"]["message"]:
            return
    pytest.fail(f"doctor never saw the second predictor: {found['group']}")


def test_tail_of_each_stream(shell, registry_settings):
    settings = registry_settings
    shell.environ |= {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "SCHEMA_REGISTRY_URL": settings.registry.url,
    }
    shell.run("lapwing topics ensure --json")
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": settings.bootstrap})
    producer.produce(settings.topics.input, b"not avro", key=b"web-9")
    producer.flush(10)
    shell.run("lapwing produce --fleet 1 --days 1 --speed max")
    shell.start("lapwing predict")
    (dead,) = shell.run("lapwing tail dlq --from-beginning --max 1").splitlines()
    assert dead.startswith(f"dead letter not_avro source={settings.topics.input}[")
    assert "key=web-9 size_bytes=8" in dead
    assert " because " in dead
    (dead,) = (
        json.loads(line)
        for line in shell.run("lapwing tail dlq --from-beginning --max 1 --json").splitlines()
    )
    assert dead["reason"] == "not_avro"
    assert bytes.fromhex(dead["first_bytes"]) == b"not avro"
    scores = shell.run("lapwing tail scores --from-beginning --max 288").splitlines()
    assert len(scores) == 288
    assert all("host=host-001 state=WARMING" in line for line in scores)
    output = shell.run("lapwing tail anomalies --from-beginning --timeout 1").splitlines()
    assert not [line for line in output if line.startswith("anomaly ")]


def test_topics_that_differ_are_said(shell, registry_settings):
    settings = registry_settings
    shell.environ |= {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "SCHEMA_REGISTRY_URL": settings.registry.url,
    }
    shell.run("lapwing topics ensure")
    output = shell.run("lapwing --set topics.scores_retention_hours=5 topics ensure")
    assert (
        f"differs   {settings.topics.scores}: retention.ms is 259200000, the settings say 18000000"
        in output
    )
    shell.environ["LAPWING_TOPICS__PARTITIONS"] = "4"
    ended = subprocess.run(
        ["lapwing", "topics", "ensure"],
        env=shell.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"lapwing: {settings.topics.input} has 3 partitions, topics.partitions says 4: set"
        " topics.partitions (LAPWING_TOPICS__PARTITIONS) to 3\n"
    )
    ended = subprocess.run(
        ["lapwing", "doctor"],
        env=shell.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "✗ topics" in ended.stdout
