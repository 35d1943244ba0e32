"""Rows about an upgrade: predictors of a release and of today in one group, on the same topics.

Invariant: each record has one result. Those of the release are what it computes undisturbed, byte
           for byte, and those of today what the oracle computes from the first record on.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from consumer_prediction.outgoing import Encoder
from consumer_prediction.service import result_schemas
from lapwing.topics import ensure
from shared.encode.records import decode_records, schema_id_of
from shared.events import STATE_VERSION
from shared.kafka import Admin, Reader, input_limit_bytes
from shared.registry import Registry
from shared.settings import Settings
from tests.faults.content import Mix, Oracle
from tests.faults.pacer import Pacer
from tests.faults.predictor import INSTALLED, Slot, environ_of
from tests.faults.run import RowFailed, compare
from tests.faults.table import Tally, row
from tests.faults.testbed import PARTITIONS, Testbed
from tests.support.releases import RELEASES, NoRelease, Release, unpacked
from tests.support.services.auditor import Coordinates, Result, coordinates, topic_of
from tests.support.services.transactions import open_transactions

KINDS = ("scores", "anomalies", "dead_letters")
RATE = 100.0
WAIT_S = 120.0
TAKEN = "partition taken over"
UNKNOWN_THEN = ("LAPWING_ENGINE", "LAPWING_PREDICT__THREADS", "LAPWING_TRACES_DIR")
"""Settings that a release may not have, and that have no effect on results."""

Found = dict[str, dict[Coordinates, list[Result]]]


@row(f"upgrade: predictors of {RELEASES[-1].tag} and of today side by side")
def side_by_side(testbed: Testbed, tally: Tally) -> None:
    """One after the other is replaced; one of the release returns in between, and refuses."""
    release = RELEASES[-1]
    try:
        tree = unpacked(release)
    except NoRelease as missing:
        tally.skipped = str(missing)
        print(f"SKIPPED: {missing}", file=sys.stderr)
        return
    upgrade = _Upgrade(testbed, tally, release, tree)
    try:
        upgrade.run()
    finally:
        upgrade.close()


class _Upgrade:
    """One upgrade of two predictors, slots a and b, under a stream."""

    def __init__(self, testbed: Testbed, tally: Tally, release: Release, tree: Path) -> None:
        self.testbed, self.tally, self.release, self.tree = testbed, tally, release, tree
        self.name = testbed.new_name()
        self.folder = testbed.folder / self.name
        self.folder.mkdir()
        self.environ = testbed.environ(
            LAPWING_TOPICS__DATASET=f"upgrade-{self.name}",
            LAPWING_PREDICT__GROUP=f"upgrade-{self.name}",
            LAPWING_MODELS_DIR=str(self.folder / "models"),
            LAPWING_STATE_DIR=str(self.folder / "state"),
            LAPWING_DETECTOR="ensemble",
        )
        (self.folder / "models").mkdir()
        self.settings = testbed.settings(**self.environ)
        self.content = testbed.content(Mix())
        self.slots: list[Slot] = []
        self.pacer: Pacer | None = None
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def run(self) -> None:
        """Replace one predictor after the other, and check every result."""
        tally = self.tally
        self._as_released("topics", "ensure")
        self.pacer = Pacer(self.settings, self.content, RATE)
        self._supervisor.start()
        old_a, old_b = self._slot("a", old=True), self._slot("b", old=True)
        for slot in (old_a, old_b):
            slot.start()
        self.pacer.start()
        self._await(lambda: all(s.log_count(TAKEN) for s in (old_a, old_b)), "the release's start")
        self._progress()
        ensure(self.settings).checked()

        tally.require(old_b.stop() == 0, f"{self.name}: b of {self.release.tag} did not shut down")
        new_b, began_s = self._slot("b"), time.monotonic()
        new_b.start()
        self._await(lambda: new_b.log_count(TAKEN) > 0, "a first predictor of today")
        tally.more["first_takeover_s"] = round(time.monotonic() - began_s, 1)
        self._progress()  # both versions, each with its partitions

        old_a.kill(again=False)
        tally.kills += 1
        before = new_b.log_count(TAKEN)
        self._await(lambda: new_b.log_count(TAKEN) >= PARTITIONS, f"a takeover, {before} before")
        self._progress()
        old_a.start()  # as a supervisor of the former version would
        self._await(lambda: old_a.log_count("NewerVersion") > 0, "a refusal by name")
        old_a.kill(again=False)
        tally.more["refusals"] = old_a.log_count("stopped by a guard")

        new_a = self._slot("a")
        mark_s = time.monotonic()
        new_a.start()
        self._await(lambda: new_a.log_count(TAKEN) > 0, "a second predictor of today")
        self._progress()
        tally.recoveries.append(time.monotonic() - mark_s)
        self.pacer.stop()
        counts = dict(self.pacer.counts)
        self._await(lambda: self._committed(self.settings) == counts, "the end")
        for slot in (new_a, new_b):
            tally.require(slot.stop() == 0, f"{self.name}: {slot.name} did not shut down")
        self._check(counts)
        tally.runs += 1
        tally.events += sum(counts.values())

    def close(self) -> None:
        self._closing.set()
        if self.pacer is not None:
            self.pacer.abandon()
        if self._supervisor.is_alive():
            self._supervisor.join(5)
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()

    # -- what runs ---------------------------------------------------------------------------------

    def _slot(self, name: str, *, old: bool = False, **environ: str) -> Slot:
        version = self.release.tag if old else "today"
        log = self.folder / f"{name}-{version}.log"
        given = self._released_environ() if old else self.environ
        tree = self.tree if old else self.testbed.tree
        slot = Slot(f"{name} of {version}", log, given | {"LAPWING_SLOT": name} | environ, tree)
        self.slots.append(slot)
        return slot

    def _released_environ(self) -> dict[str, str]:
        return {name: value for name, value in self.environ.items() if name not in UNKNOWN_THEN}

    def _as_released(self, *words: str, **environ: str) -> None:
        """Run a command of the release."""
        ran = subprocess.run(
            [sys.executable, "-m", "lapwing", *words],
            cwd=self.tree,
            env=INSTALLED | environ_of(self.tree) | self._released_environ() | environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        if ran.returncode:
            raise RowFailed(f"{self.name}: {self.release.tag} {' '.join(words)}: {ran.stderr}")

    def _supervise(self) -> None:
        while not self._closing.wait(0.05):
            for slot in self.slots:
                slot.restart_if_ended()

    def _progress(self) -> None:
        """Wait until each partition has committed a record that was sent after this moment."""
        assert self.pacer is not None
        sent = dict(self.pacer.counts)
        self._await(
            lambda: all(self._committed(self.settings).get(p, 0) > n for p, n in sent.items()),
            "progress of every partition",
        )

    def _committed(self, settings: Settings) -> dict[int, int]:
        admin = Admin(settings)
        try:
            found = admin.committed(settings.predict.group, settings.topics.input)
            return {partition: position.offset for partition, position in found.items()}
        finally:
            admin.close()

    def _await(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + min(WAIT_S, self.testbed.patience_s)
        while not done():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"--- {slot.name}\n{slot.log.read_text('utf-8', 'replace')[-1500:]}"
                    for slot in self.slots
                    if slot.log.exists()
                )
                raise RowFailed(f"{self.name}: {what} did not happen within {WAIT_S:g} s\n{logs}")
            time.sleep(0.1)

    # -- what must have come of it -----------------------------------------------------------------

    def _check(self, counts: Mapping[int, int]) -> None:
        tally, settings = self.tally, self.settings
        found = self._results(settings)
        first = self._first_of_today()
        tally.require(set(first) == set(counts), f"{self.name}: today's part begins at {first}")
        topics = [topic_of(settings.topics, kind) for kind in (*KINDS, "activations")]
        tally.counts.problems += open_transactions(settings.bootstrap, topics)
        switches = {(partition, 0): switch for partition, (_, switch) in first.items()}
        encoder = Encoder(
            settings.topics, result_schemas(settings), "oracle", input_limit_bytes(settings)
        )
        oracle = Oracle(self.content, settings, encoder, switches)
        undisturbed = self._undisturbed(counts)
        group = settings.predict.group
        released = 0
        for kind in KINDS:
            today = oracle.expected(kind, counts)
            expected = {
                place: results for place, results in today.items() if place[1] >= first[place[0]][0]
            }
            former = {
                place: results
                for place, results in undisturbed[kind].items()
                if place[1] < first[place[0]][0]
            }
            released += len(former) if kind != "anomalies" else 0
            tally.counts.add(compare(expected | former, found[kind], group))
        tally.more["results_of_the_release"] = released
        tally.more["results_of_today"] = sum(counts.values()) - released
        tally.require(0 < released < sum(counts.values()), f"{self.name}: {released} of a release")

    def _undisturbed(self, counts: Mapping[int, int]) -> Found:
        """Let one predictor of the release score the same input, in a group of its own."""
        own = {
            f"LAPWING_TOPICS__{kind.upper()}": f"undisturbed.{self.name}.{kind.replace('_', '-')}"
            for kind in (*KINDS, "activations")
        }
        own |= {"LAPWING_PREDICT__GROUP": "oracle"}
        own |= {"LAPWING_STATE_DIR": str(self.folder / "undisturbed")}
        self._as_released("topics", "ensure", **own)
        settings = self.testbed.settings(**self.environ | own)
        alone = self._slot("alone", old=True, **own)
        alone.start()
        self._await(lambda: self._committed(settings) == dict(counts), "the undisturbed results")
        alone.stop()
        return self._results(settings)

    def _results(self, settings: Settings) -> Found:
        """Read all results; each is decoded with the schema that it was written with."""
        registry = Registry(settings.registry)
        found: Found = {kind: defaultdict(list) for kind in KINDS}
        for kind in KINDS:
            for batch in Reader(settings).read(topic_of(settings.topics, kind)):
                for number in range(len(batch)):
                    headers = tuple(batch.headers.get(number, ()))
                    result = (batch.keys[number], batch.values[number], headers)
                    found[kind][_place(kind, result, registry)].append(result)
        return found

    def _first_of_today(self) -> dict[int, tuple[int, tuple[str, str]]]:
        """Return, by partition, the first offset that today's version scored, and with what."""
        registry, topic = Registry(self.settings.registry), self.settings.topics.activations
        first: dict[int, tuple[int, tuple[str, str]]] = {}
        for batch in Reader(self.settings).read(topic):
            for value in batch.values:
                record = _decoded(value, registry)
                if record["state_version"] == STATE_VERSION:
                    switch = (str(record["model_sha256"]), str(record["settings"]))
                    offset = int(str(record["source_offset"]))
                    first.setdefault(int(str(record["source_partition"])), (offset, switch))
        return first


def _place(kind: str, result: Result, registry: Registry) -> Coordinates:
    if kind == "dead_letters":
        return coordinates(kind, result)
    record = _decoded(result[1], registry)
    return int(str(record["source_partition"])), int(str(record["source_offset"]))


def _decoded(value: bytes, registry: Registry) -> dict[str, object]:
    schema_id = schema_id_of(value)
    text = registry.schema(schema_id) if schema_id is not None else None
    if text is None:
        raise RowFailed(f"the registry does not know the schema {schema_id} of a result")
    [record] = decode_records([value], [text])
    return dict(record)
