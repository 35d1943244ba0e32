"""Rows about input: bad records, other schemas, late and repeated events, slow readers."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

import schemas
from shared.artifacts import ARRAYS, MANIFEST
from shared.artifacts import load as load_model
from shared.encode.records import decode_records
from shared.errors import ArtifactMissing, ArtifactRefused
from shared.models.artifact_format import digest
from tests.faults.content import POISON, Mix
from tests.faults.run import RATE, Run
from tests.faults.table import Tally, row
from tests.faults.testbed import PARTITIONS, Testbed, point
from tests.support.services.broker import SILENT


def _with_kills(run: Run, tally: Tally, kills: int, least: int) -> None:
    """Let a predictor process at least this number of records, and kill it in between."""
    slot = run.begin("a")
    for number in range(1, kills + 1):
        run.wait(lambda n=number: run.pacer.sent >= n * least / kills, 300, "the stream")
        mark = run.mark()
        slot.kill()
        run.recovered(mark)
    run.recovered(run.mark(), count=False)
    tally.close(run, may_exit=False)


@row("poison: every kind at 1 %, bursts of 1000", few=1, ci=1, full=3)
def poison(testbed: Testbed, tally: Tally) -> None:
    """The neighbours of bad records are what they would be without them, to the byte."""
    mix = Mix(
        poison=len(POISON) / 100 if not tally.brief else 0.05,
        bursts={300 + 500 * k: 1000 for k in range(int(tally.pick(3, 3, 3, few=1)))},
    )
    with Run(testbed, mix=mix, rate=3 * RATE) as run:
        records = int(tally.pick(6_000, 6_000, 6_000, few=3_000))
        _with_kills(run, tally, int(tally.pick(2, 3, 6, few=1)), records)
        _compare_neighbours(testbed, run, tally)


def _compare_neighbours(testbed: Testbed, run: Run, tally: Tally) -> None:
    """Compare the scores with those of the stream without bad records, except for offsets."""
    text = schemas.text(schemas.SCORE_EVENT)
    clean = testbed.content(run.content.mix.without_poison())
    counts = run.pacer.counts
    clean_counts = {
        p: sum(run.content.good[k] for k in run.content.by_partition[p][:count])
        for p, count in counts.items()
    }
    clean.need(sum(clean_counts.values()))
    switches = {(p, 0): switch for (p, _), switch in run.switches().items()}
    oracle = testbed.oracle(clean, switches, run.models_dir)
    expected = oracle.expected("scores", clean_counts)
    found = run.auditor.account.places["scores"]
    for partition in counts:
        lines = []
        for places in (expected, found):
            values = [places[place][0][1] for place in sorted(places) if place[0] == partition]
            decoded = decode_records(values, [text] * len(values))
            lines.append(
                [
                    {
                        n: v
                        for n, v in one.items()
                        if n not in ("event_id", "episode_id", "source_offset")
                    }
                    for one in decoded
                ]
            )
        tally.require(
            json.dumps(lines[0]) == json.dumps(lines[1]),
            f"{run.name}: bad records changed the scores of their neighbours in partition"
            f" {partition}",
        )


@row("schema evolution", full=3)
def schema_evolution(testbed: Testbed, tally: Tally) -> None:
    """A metric comes, another goes, fields change places; writers of all three at once."""
    with Run(testbed, mix=Mix(evolve_at=400)) as run:
        _with_kills(run, tally, int(tally.pick(2, 3, 8)), 4_000)


@row("duplicates and late events", full=3)
def duplicates_and_late(testbed: Testbed, tally: Tally) -> None:
    with Run(testbed, mix=Mix(duplicates=0.1, late=0.1)) as run:
        _with_kills(run, tally, int(tally.pick(2, 3, 8)), 4_000)


@row("entities leave and return", ci=1, full=3)
def entities_leave(testbed: Testbed, tally: Tally) -> None:
    """Entities are evicted, expire, or are forgotten; others get their places."""
    few_places = {
        "LAPWING_PREDICT__MAX_ENTITIES": "6",
        "LAPWING_QUALITY__FORGET_DAYS": "1",
        "LAPWING_DETECTION__WARMUP_DAYS": "0.5",
    }
    mix = Mix(pods=36, step_ms=1_800_000)
    with Run(testbed, mix=mix, rate=3 * RATE, **few_places) as run:
        _with_kills(run, tally, int(tally.pick(4, 6, 10)), 10_000)
        oracle = testbed.oracle(run.content, run.switches(), run.models_dir)
        oracle.need(run.pacer.counts)
        tally.more["dropped"] = dict(oracle.dropped)
        for reason in ("evicted", "expired", "forgotten"):
            tally.require(
                oracle.dropped[reason] >= 10,
                f"{run.name}: only {oracle.dropped[reason]} entities were {reason}",
            )


@row("aborted records at the end of the input", ci=1, full=2)
def aborted_input(testbed: Testbed, tally: Tally) -> None:
    """Records of an aborted transaction have no results, neither at once nor after a restart."""
    with Run(testbed) as run:
        slot = run.begin("a")
        run.pacer.rate = 0.0
        time.sleep(0.5)
        ends = dict(run.pacer.counts)
        run.wait(
            lambda: all(
                run.auditor.account.reached_s(p, n - 1) is not None for p, n in ends.items()
            ),
            60,
            "the last result",
        )
        _write_and_abort(run, 300)
        time.sleep(1.0)
        slot.kill()
        run.wait(
            lambda: slot.log_count("partition taken over") >= 2 * PARTITIONS, 60, "the restart"
        )
        time.sleep(1.0)
        tally.close(run, may_exit=False)


def _write_and_abort(run: Run, count: int) -> None:
    """Write the next records in a transaction, and abort it once the broker has them all."""
    content, sent = run.content, run.pacer.sent
    content.need(sent + count)
    config = {
        "bootstrap.servers": run.settings.bootstrap,
        "transactional.id": f"taken-back-{run.name}",
        "logger": SILENT,
    }
    producer = Producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    for (key, value), (partition, _) in zip(
        content.records[sent:], content.places[sent:], strict=True
    ):
        producer.produce(run.settings.topics.input, value, key, partition)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)


@row("slow consumer, long backlog", full=2)
def slow_consumer(testbed: Testbed, tally: Tally) -> None:
    """It fetches little at a time, pauses for longer than its session, and always lags behind."""
    small = {
        "LAPWING_KAFKA__FETCH_MESSAGE_MAX_BYTES": "2000",
        "LAPWING_KAFKA__QUEUED_MIN_MESSAGES": "10",
        "LAPWING_PREDICT__MAX_BATCH_RECORDS": "7",
    }
    with Run(testbed) as run:
        run.pacer.send(6_000)
        slot = run.slot("a", **small)
        slot.start()
        for _ in range(int(tally.pick(1, 2, 6))):
            run.wait(lambda: slot.log_count("partition taken over") > 0, 60, "the start")
            time.sleep(tally.dice.uniform(0.2, 1.5))
            slot.freeze()
            time.sleep(tally.dice.uniform(1.0, 8.0))
            slot.thaw()
            slot.kill() if tally.dice.random() < 0.5 else None
        run.pacer.send(1)
        tally.close(run)


# -- models ----------------------------------------------------------------------------------------


def _truncated(folder: Path, dice: random.Random) -> None:
    data = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(data[: dice.randrange(len(data))])


def _flipped(folder: Path, dice: random.Random) -> None:
    data = bytearray((folder / ARRAYS).read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    (folder / ARRAYS).write_bytes(data)


def _manifest_flipped(folder: Path, dice: random.Random) -> None:
    data = bytearray((folder / MANIFEST).read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    (folder / MANIFEST).write_bytes(data)


def _half_written(folder: Path, dice: random.Random) -> None:
    data = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data[: dice.randrange(len(data))])
    (folder / ARRAYS).unlink()


class _Trap:
    """Whoever unpickles this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def _pickled(folder: Path, dice: random.Random) -> None:
    (folder / ARRAYS).write_bytes(pickle.dumps(_Trap(folder.parent / "sprung")))


def _pickled_with_digest(folder: Path, dice: random.Random) -> None:
    """Everything fits, the digest included, but one of the arrays is an object."""
    out = io.BytesIO()
    with np.load(folder / ARRAYS) as arrays:
        np.savez(
            out,
            **dict(arrays) | {"calibration": np.array([_Trap(folder.parent / "sprung")], object)},
        )
    _with_manifest(folder, arrays=out.getvalue())


def _other_features(folder: Path, dice: random.Random) -> None:
    """Everything fits, but the features are of another version."""
    _with_manifest(folder, feature_version="other")


def _with_manifest(folder: Path, arrays: bytes | None = None, **facts: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8")) | facts
    if arrays is not None:
        (folder / ARRAYS).write_bytes(arrays)
        manifest["arrays"] = {
            "sha256": hashlib.sha256(arrays).hexdigest(),
            "size_bytes": len(arrays),
        }
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


def _refusal(models_dir: Path, name: str) -> str:
    try:
        load_model(models_dir, name)
    except (ArtifactMissing, ArtifactRefused) as refused:
        return f"{name} {refused}"
    return ""


DAMAGES = (
    _truncated,
    _flipped,
    _manifest_flipped,
    _half_written,
    _pickled,
    _pickled_with_digest,
    _other_features,
)


@row("model damaged, or of other features", ci=1, full=3)
def models_damaged(testbed: Testbed, tally: Tally) -> None:
    """Damaged models are refused with a reason; valid ones are used, with kills in between.

    The model alone decides, entities warm up soon and snapshots are rare: a restart replays rows
    that a model has scored, and what the replay leaves shows in every later score.
    """
    settings = {
        "LAPWING_DETECTOR": testbed.member.value,
        "LAPWING_DETECTION__WARMUP_DAYS": "0.2",
        "LAPWING_PREDICT__SNAPSHOT_INTERVAL_S": "30",
    }
    with Run(testbed, **settings) as run:
        slot = run.begin("a")
        last = ""
        for damage in tally.dice.sample(DAMAGES, 3 if tally.brief else len(DAMAGES)):
            refused = slot.log_count("model refused")
            scratch = run.folder / "scratch"
            shutil.copytree(testbed.folder / "models" / testbed.models[1], scratch)
            damage(scratch, tally.dice)
            whole = damage in (_pickled_with_digest, _other_features)
            name = (
                digest((scratch / MANIFEST).read_bytes())
                if whole
                else f"{tally.dice.getrandbits(256):064x}"
            )
            if damage not in (_manifest_flipped, _half_written) and not whole:
                name = testbed.models[1]
            shutil.rmtree(run.models_dir / name, ignore_errors=True)
            scratch.rename(run.models_dir / name)
            why = _refusal(run.models_dir, name)
            tally.require(
                bool(why), f"{run.name}: a model that is {damage.__name__[1:]} would be loaded"
            )
            point(run.models_dir, name)
            if why != last:  # the same refusal is not logged twice in a row
                run.wait(
                    lambda n=refused: slot.log_count("model refused") > n,
                    30,
                    f"refusing a model that is {damage.__name__[1:]}",
                )
            last = why
            if tally.dice.random() < 0.5:
                mark, last = run.mark(), ""
                slot.kill()
                run.recovered(mark)
            shutil.rmtree(run.models_dir / name)
        tally.require(
            not (run.models_dir / "sprung").exists(), f"{run.name}: a model was unpickled"
        )
        for number in (1, 2):
            taken = slot.log_count('"activated"')
            run.published.add(testbed.publish_next(run.models_dir, number))
            run.wait(lambda n=taken: slot.log_count('"activated"') > n, 30, "taking a good model")
            run.settled()  # what the model has scored is committed
            mark = run.mark()
            slot.kill()
            run.recovered(mark)
        tally.close(run, may_exit=False)
