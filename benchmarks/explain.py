"""``lapwing explain`` on a real Kafka: verdicts that repeat, and seconds for an old one.

``python -m benchmarks.explain --verdicts 1000``: so many random verdicts, scored across restarts by
kill -9, swaps of models and of settings, and by both Kafka clients, are computed again by both.

``python -m benchmarks.explain --entities 10000``: seconds of the whole command for verdicts late on
the day after a daily checkpoint, the farthest from a snapshot that one can be. The checkpoint's
files are dated 30 days back; a newer day follows, whose snapshots are useless. One partition has
the share of the entities that it would have among ``--partitions``, as only one is read.

Kafka and registry are those that KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL name; without them
they are started from Maven's jars.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import schemas
from benchmarks.services import run, services, start
from lapwing.explain.explain_command import Explanation
from lapwing.explain.explain_target import ExplainTarget
from shared.encode.records import decode_records
from shared.errors import LapwingError
from shared.kafka import Admin, Reader
from shared.settings import Settings, load_settings

DAY_S = 86_400
AGE_DAYS = 30
SWAPS = (
    ("isolation_forest", "1.0", "python"),
    ("one_class_svm", "0.7", "native"),
    ("peer_groups", "0.85", "python"),
    ("reconstruction", "0.6", "native"),
    ("isolation_forest", "0.9", "python"),
)
"""Model, threshold and Kafka client of each phase of the log; the first phase has no model."""


def main() -> int:
    options = _parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {
            "LAPWING_TOPICS__DATASET": f"explain{uuid.uuid4().hex[:8]}",
            "LAPWING_MODELS_DIR": str(folder / "models"),
            "LAPWING_STATE_DIR": str(folder / "state"),
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }
        if options.verdicts:
            figures = repeated(environ, options.verdicts, options.seed)
        else:
            figures = timed(environ, options.entities, options.partitions, options.seed)
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return int(set(figures["verdicts"]) != {"identical"})


def repeated(environ: dict[str, str], count: int, seed: int) -> dict[str, Any]:
    """Score a log in phases, and compute random verdicts of all of them again."""
    environ = environ | {"LAPWING_TOPICS__PARTITIONS": "3"}
    run(environ, "lapwing", "topics", "ensure")
    settings = load_settings(environ=environ)
    dice = random.Random(seed)
    for phase, (member, threshold, engine) in enumerate(SWAPS):
        _produce(environ, hosts=9, days=4 * phase + 4)
        more = {"LAPWING_DETECTION__THRESHOLD": threshold, "LAPWING_ENGINE": engine}
        _score(settings, environ | more, kill_after_s=dice.uniform(2.0, 4.0))
        _train(environ, member)
    scores = _scores(settings)
    alarms = [event for event in scores if event["is_anomaly"]]
    chosen = dice.sample(scores, count - min(count // 4, len(alarms)))
    chosen += dice.sample(alarms, count - len(chosen))
    found: Counter[str] = Counter()
    differing: list[str] = []
    began_s = time.monotonic()
    explanations = [
        Explanation(load_settings(environ=environ | {"LAPWING_ENGINE": engine}), io.StringIO())
        for engine in ("python", "native")
    ]
    for number, event in enumerate(chosen):
        target = ExplainTarget(partition=event["source_partition"], offset=event["source_offset"])
        try:
            verdict = explanations[number % 2].of(target)[0]["verdict"]
        except LapwingError as error:
            verdict = f"{type(error).__name__}: {error}"
        found[verdict] += 1
        if verdict != "identical":
            differing.append(f"{target.partition}:{target.offset}")
        if number % 100 == 99:
            print(f"{number + 1} of {count}: {dict(found)}", file=sys.stderr, flush=True)
    return {
        "verdicts": dict(found),
        "differing": differing,
        "records": len(scores),
        "alarms": len(alarms),
        "models": len({event["model_id"] for event in chosen}),
        "detectors": sorted({event["detector_id"] for event in chosen}),
        "seconds": round(time.monotonic() - began_s, 1),
        "seconds_each": round((time.monotonic() - began_s) / count, 3),
    }


def timed(environ: dict[str, str], entities: int, partitions: int, seed: int) -> dict[str, Any]:
    """Measure the command on one partition's share of the entities."""
    hosts = -(-entities // partitions)
    environ = environ | {"LAPWING_TOPICS__PARTITIONS": "1"}
    run(environ, "lapwing", "topics", "ensure")
    settings = load_settings(environ=environ)
    _produce(environ, hosts, days=1)
    _score(settings, environ)
    _make_older(settings.state_dir)
    first = Admin(settings).end_offsets(settings.topics.input)[0]
    _produce(environ, hosts, days=2)
    _score(settings, environ)
    last = Admin(settings).end_offsets(settings.topics.input)[0]
    _produce(environ, hosts, days=3)
    _score(settings, environ)
    scores = [one for one in _scores(settings) if last - hosts <= one["source_offset"] < last]
    chosen = random.Random(seed).sample(scores, min(5, len(scores)))
    found: Counter[str] = Counter()
    seconds, cpu, inside, from_snapshot = [], [], [], True
    for event in chosen:
        began_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        target = f"0:{event['source_offset']}"
        command = [sys.executable, "-m", "lapwing", "explain", target, "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - began_s)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if not done.stdout:
            raise RuntimeError(done.stderr)
        facts = json.loads(done.stdout)
        found[facts["verdict"]] += 1
        inside.append(facts["recomputed"]["seconds"])
        from_snapshot &= facts["recomputed"]["from_snapshot"]
    return {
        "verdicts": dict(found),
        "entities": entities,
        "in_the_partition": hosts,
        "from_snapshot": from_snapshot,
        "records_after_the_checkpoint": last - first,
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_max": round(max(seconds), 2),
        "cpu_seconds_median": round(statistics.median(cpu), 2),
        "recomputation_median": round(statistics.median(inside), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _produce(environ: dict[str, str], hosts: int, days: int) -> None:
    fleet = ("--fleet", str(hosts), "--days", str(days), "--speed", "max", "--resume")
    run(environ, "producer", *fleet)


def _train(environ: dict[str, str], member: str) -> None:
    run(environ | {"LAPWING_TRAIN__MEMBER": member}, "consumer_training", "--once")


def _score(settings: Settings, environ: dict[str, str], kill_after_s: float | None = None) -> None:
    """Run a predictor to the end of the input; killed once on its way if so wanted."""
    admin, topic, group = Admin(settings), settings.topics.input, settings.predict.group
    end = admin.end_offsets(topic)
    predictor, began_s = start(environ, "consumer_prediction"), time.monotonic()
    while True:
        at = admin.committed(group, topic)
        if all(p in at and at[p] and at[p].offset >= offset for p, offset in end.items() if offset):
            break
        if kill_after_s is not None and time.monotonic() - began_s > kill_after_s:
            kill_after_s = None
            predictor.kill()
        if predictor.poll() is not None:
            if predictor.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the predictor ended with {predictor.returncode}")
            predictor = start(environ, "consumer_prediction")
        time.sleep(0.1)
    predictor.terminate()
    predictor.wait(60)
    admin.close()


def _scores(settings: Settings) -> list[dict[str, Any]]:
    text, found = schemas.text(schemas.SCORE_EVENT), []
    for batch in Reader(settings).read(settings.topics.scores):
        values = [batch.values[row] for row in range(len(batch))]
        found += decode_records(values, [text] * len(values))
    return found


def _make_older(folder: Path) -> None:
    """Date snapshots back, as if they had been written AGE_DAYS ago."""
    then_s = time.time() - AGE_DAYS * DAY_S
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then_s, then_s))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.explain", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--verdicts", type=int, default=0, metavar="N", help="compute N again")
    parser.add_argument("--entities", type=int, default=1000, metavar="N")
    parser.add_argument("--partitions", type=int, default=6, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
