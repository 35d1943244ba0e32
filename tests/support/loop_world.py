"""A test world for the prediction loop: a log in memory, predictors, and an independent oracle."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping

import schemas
from consumer_prediction.health.rejections import Rejections
from consumer_prediction.loop import SETTLE_S, Dependencies, PredictionLoop
from consumer_prediction.outgoing import Encoder, SchemaIds
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.rows import schema_keys
from shared.decode.avro.writer_schemas import WriterSchemas
from shared.decode.field_choice import ignore
from shared.encode.records import decode_records, encode_records
from shared.errors import TransportError
from shared.events import Activation, Detector
from shared.operations.counters import Counters
from shared.operations.retry import Outage
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import (
    DetectionSettings,
    InputSettings,
    PredictSettings,
    QualitySettings,
    TopicSettings,
)
from shared.snapshots import SnapshotFolder, SnapshotWriter
from shared.snapshots.writer import QUIET_INTERVALS
from tests.support.fakes import LinearModel, MemoryLog, MemoryModels, MemorySink, MemorySource

GROUP, INPUT_ID = "predictors", 7
TOPICS = TopicSettings(dataset="test", partitions=2)
INPUT = InputSettings()
METRIC_SCHEMA = schemas.text(schemas.METRIC_EVENT)
SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def configured(detector: Detector, **detection) -> Configuration:
    return Configuration(
        detector,
        5,
        DetectionSettings(**({"warmup_days": 0.01, "threshold": 0.3} | detection)),
        QualitySettings(gap_intervals=8),
    )


FOREST = configured(Detector.ISOLATION_FOREST)
HOSTS = ("alpha", "beta", "gamma")
A, B = "0a" * 32, "0b" * 32
STEP_MS = 3_600_000
"""So long that rows are compared with those of days before, which a model needs."""

FAILURES = ("abort", "undecided, kept", "undecided, lost", "outage")


def metric_event(host: str, minute: int, cpu: float) -> bytes:
    row = {
        "host": host,
        "timestamp": minute * STEP_MS + 1_400_000_000_000,
        "cpu": cpu,
        "network_in": None,
        "disk_write": None,
    }
    return encode_records(METRIC_SCHEMA, INPUT_ID, [row])[0]


class Registry(AvroDecoder):
    """Decoder of the input with a registry of one schema that may be unreachable.

    known : the schemas that need no lookup
    """

    def __init__(self) -> None:
        self.down, self.known = False, {INPUT_ID: METRIC_SCHEMA}
        known = WriterSchemas(dict(self.known).get, "memory", INPUT, lambda: 0.0, ignore)
        super().__init__(known, INPUT)

    def prepare(self, batch):
        if self.down and any(i not in self.known for i in schema_keys(batch, INPUT)):
            raise TransportError("registry does not answer")
        super().prepare(batch)


class World:
    """One cluster, one volume, and predictors that come and go."""

    def __init__(
        self, folder, seed: int = 0, records: int = 300, configuration: Configuration = FOREST
    ) -> None:
        self.log = MemoryLog(
            {
                TOPICS.input: 2,
                TOPICS.scores: 2,
                TOPICS.anomalies: 1,
                TOPICS.activations: 1,
                TOPICS.dead_letters: 2,
            }
        )
        self.models = MemoryModels(LinearModel(A), LinearModel(B))
        self.registry = Registry()
        self.snapshots = SnapshotFolder(folder, "cluster", TOPICS.input, "id", GROUP)
        self.counters = Counters()
        self.configuration = configuration
        self.predicting = {"max_batch_records": 7}
        self.overlap_from_records = 0
        self.now_s = 0.0
        rng = random.Random(seed)
        for minute in range(records):
            host = rng.choice(HOSTS)
            value = metric_event(host, minute, rng.choice([1.0, 2.0, 40.0, rng.random()]))
            if rng.random() < 0.05:
                value = rng.choice([b"", b"\x01junk", value[:-1], value + b"\x00"])
            self.log.append(TOPICS.input, HOSTS.index(host) % 2, value, host.encode())

    def tick(self, seconds: float) -> None:
        self.now_s += seconds

    def history(self, partition: int, after: int, newest: Activation) -> list[Activation]:
        found = [
            a for p, a in self.activations() if p == partition and after < a.offset <= newest.offset
        ]
        if newest not in found:
            raise TransportError("the topic does not show the newest activation yet")
        return sorted(found, key=lambda activation: activation.offset)

    def activations(self) -> list[tuple[int, Activation]]:
        records = [record for *_, record in self.log.visible(TOPICS.activations)]
        text = schemas.text(schemas.MODEL_ACTIVATION)
        return [
            (
                r["source_partition"],
                Activation(
                    r["model_sha256"],
                    r["source_offset"],
                    r["model_version"],
                    r["state_version"],
                    r["settings"],
                ),
            )
            for r in decode_records([record.value for record in records], [text] * len(records))
        ]

    def predictor(
        self,
        slot: str = "a",
        snapshot_interval_s: float = 1.0,
        source: MemorySource | None = None,
        open_sink: Callable[[], MemorySink] | None = None,
    ) -> PredictionLoop:
        source = source or MemorySource(self.log, GROUP, TOPICS.input)
        dependencies = Dependencies(
            source=source,
            open_sink=open_sink
            or (lambda: MemorySink(self.log, f"{GROUP}-{slot}", GROUP, TOPICS.input)),
            decoder=self.registry,
            models=self.models,
            history=self.history,
            snapshots=SnapshotWriter(
                self.snapshots, lambda: self.now_s, lambda: 0.0, in_background=False
            ),
            clock=lambda: self.now_s,
            now_ms=lambda: 0,
            sleep=self.tick,
        )
        encoder = Encoder(TOPICS, SchemaIds(1, 2, 3), GROUP, INPUT.max_record_bytes)
        # Folding takes no time on this clock, so every partition is a quiet one.
        interval_s = snapshot_interval_s / QUIET_INTERVALS
        settings = PredictSettings(**self.predicting, snapshot_interval_s=interval_s)
        loop = PredictionLoop(
            dependencies,
            Rules(self.configuration),
            encoder,
            settings,
            self.counters,
            Outage(300.0, self.counters, clock=dependencies.clock, settle_s=SETTLE_S),
            Rejections(INPUT, TOPICS, dependencies.clock),
        )
        loop.overlap_from_records = self.overlap_from_records
        source.subscribe(loop)
        return loop

    def step(self, loop: PredictionLoop, times: int = 1) -> None:
        for _ in range(times):
            self.tick(0.05)
            loop.step()

    def finish(self, loop: PredictionLoop) -> None:
        for _ in range(400):
            self.step(loop)
            if not loop.transaction.is_open and not loop.transaction.broken and self.done():
                return
        raise AssertionError(f"not done: {self.log.committed}")

    def done(self) -> bool:
        return all(
            (position := self.log.committed.get((GROUP, TOPICS.input, p))) is not None
            and position.offset == len(self.log.topics[TOPICS.input][p])
            for p in range(2)
        )

    def results(self, topic: str) -> list[tuple[bytes, bytes, tuple]]:
        return sorted((r.key, r.value, tuple(r.headers)) for *_, r in self.log.visible(topic))

    def oracle(
        self,
        switches: Mapping[tuple[int, int], Activation] | None = None,
        since: Mapping[int, int] | None = None,
    ) -> dict[str, list[tuple[bytes, bytes, tuple]]]:
        """Recompute every result record by record in one pass that shares nothing with the loop.

        switches : (partition, offset) -> activation from there on; default: those of the topic
        since    : first offset of each partition whose results are returned; default: 0
        """
        encoder = Encoder(TOPICS, SchemaIds(1, 2, 3), GROUP, INPUT.max_record_bytes)
        out = {TOPICS.scores: [], TOPICS.anomalies: [], TOPICS.dead_letters: []}
        if switches is None:
            switches = {(p, a.offset): a for p, a in self.activations()}
        for partition in range(2):
            scorer = Scorer(PartitionState(0), Rules(self.configuration))
            decoder = AvroDecoder.of_schemas({INPUT_ID: METRIC_SCHEMA}, INPUT)
            batch, _ = self.log.read(TOPICS.input, partition, 0, 10_000)
            for row in range(len(batch)):
                one = batch.rows(row, row + 1)
                if (partition, int(one.offsets[0])) in switches:
                    activation = switches[partition, int(one.offsets[0])]
                    model = (
                        self.models.load(activation.model_sha256)
                        if activation.model_sha256
                        else None
                    )
                    scorer.use(model, Configuration.from_text(activation.settings))
                decoder.prepare(one)
                outcome = scorer.process(one, decoder)
                if since and one.offsets[0] < since.get(partition, 0):
                    continue
                for sent in encoder.outcome(outcome, scorer.state):
                    out[sent.topic] += [
                        (sent.keys[i], sent.values[i], tuple(sent.headers.get(i, ())))
                        for i in range(len(sent))
                    ]
        return {topic: sorted(rows) for topic, rows in out.items()}

    def assert_conserved(self) -> None:
        """Check that results cover the committed input once and equal the oracle's."""
        for topic, expected in self.oracle().items():
            assert self.results(topic) == expected
        scored, dead = len(self.results(TOPICS.scores)), len(self.results(TOPICS.dead_letters))
        assert scored + dead == sum(len(records) for records in self.log.topics[TOPICS.input])


def begun(world: World, slot: str = "a") -> PredictionLoop:
    loop = world.predictor(slot)
    loop.dependencies.source.give(0, 1)
    return loop
