"""Throughput and memory of the services on a real Kafka: ``python -m benchmarks.services``.

A fleet (``--hosts``, ``--days``) is replayed at full speed, a model is trained on it, and one
predictor scores all of it in transactions while its memory is sampled. Kafka and registry are those
that KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL name; without them they are started from
Maven's jars.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from pathlib import Path

import psutil

from shared.kafka import Admin
from shared.settings import Settings, load_settings

MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {
            "LAPWING_TOPICS__DATASET": f"bench{uuid.uuid4().hex[:8]}",
            "LAPWING_MODELS_DIR": str(folder / "models"),
            "LAPWING_STATE_DIR": str(folder / "state"),
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }
        figures = measure(load_settings(environ=environ), environ, options.hosts, options.days)
    figures["lapwing_help_s"] = help_seconds()
    if options.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(
                f"{name:<32} {figure:>12,.2f}"
                if isinstance(figure, float)
                else f"{name:<32} {figure:>12,}"
            )
    return 0


def services(stack: ExitStack) -> dict[str, str]:
    """Return the addresses of a broker and a registry, started here unless they are given."""
    from tests.support.services.broker import new_kafka
    from tests.support.services.registry import MavenRegistry

    environ = {}
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        kafka = new_kafka("maven")
        stack.callback(kafka.close)
        kafka.start()
        environ["KAFKA_BOOTSTRAP_SERVERS"] = kafka.address
    if "SCHEMA_REGISTRY_URL" not in os.environ:
        registry = MavenRegistry()
        stack.callback(registry.close)
        registry.start()
        environ["SCHEMA_REGISTRY_URL"] = registry.url
    return environ


def measure(
    settings: Settings, environ: dict[str, str], hosts: int, days: int
) -> dict[str, float | int]:
    run(environ, "lapwing", "topics", "ensure")
    replay, producer_mib, _ = watched(
        start(
            environ,
            "producer",
            "--fleet",
            str(hosts),
            "--days",
            str(days),
            "--speed",
            "max",
            "--json",
        )
    )
    produced = json.loads(replay.splitlines()[-1])
    _, trainer_mib, train_s = watched(start(environ, "consumer_training", "--once"))
    predictor = start(environ, "consumer_prediction")
    try:
        events_per_s, samples = follow(settings, predictor)
    finally:
        predictor.terminate()
        predictor.wait(30)
    half = len(samples) // 2
    return {
        "events": produced["acknowledged"],
        "producer_events_per_s": produced["events_per_s"],
        "producer_max_rss_mib": producer_mib,
        "trainer_s": train_s,
        "trainer_max_rss_mib": trainer_mib,
        "predictor_events_per_s": events_per_s,
        "predictor_max_rss_mib": max(samples) / MIB,
        "predictor_rss_growth_second_half_mib": (
            (statistics.median(samples[-5:]) - samples[half]) / MIB
        ),
    }


def follow(settings: Settings, predictor: subprocess.Popen[str]) -> tuple[float, list[int]]:
    """Sample the predictor's memory until it has committed everything.

    returns : events per second between its first and its last commit; resident bytes of each sample
    """
    admin, topic = Admin(settings), settings.topics.input
    total, process = sum(admin.end_offsets(topic).values()), psutil.Process(predictor.pid)
    samples: list[int] = []
    first: tuple[float, int] | None = None
    while predictor.poll() is None:
        done = sum(
            position.offset for position in admin.committed(settings.predict.group, topic).values()
        )
        now_s = time.monotonic()
        if done and first is None:
            first = now_s, done
        samples.append(process.memory_info().rss)
        if first and done >= total - settings.topics.partitions:
            return (done - first[1]) / max(now_s - first[0], 1e-9), samples
        time.sleep(0.1)
    raise RuntimeError(f"the predictor ended with {predictor.returncode}")


def wait_until_ready(process: subprocess.Popen[str], port: int, longest_s: float = 600.0) -> None:
    """Wait for the first 200 of a service's /health/ready.

    port   : its telemetry.port
    raises : RuntimeError where the process ends, or is not ready in time
    """
    deadline_s = time.monotonic() + longest_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1.0):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"not ready, ended with {process.returncode}") from error
            time.sleep(0.01)


def watched(process: subprocess.Popen[str]) -> tuple[str, float, float]:
    """Wait for a process; return its output, its largest memory in MiB and its seconds."""
    began_s, largest, observer = time.monotonic(), 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            largest = max(largest, observer.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return out, largest / MIB, time.monotonic() - began_s


def start(environ: dict[str, str], module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=environ, stdout=subprocess.PIPE, text=True
    )


def run(environ: dict[str, str], module: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environ,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def help_seconds() -> float:
    """Median of five whole runs of ``lapwing --help``."""
    seconds = []
    for _ in range(5):
        began_s = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "lapwing", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - began_s)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
