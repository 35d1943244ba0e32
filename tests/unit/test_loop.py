"""The prediction loop on a log in memory: whatever happens, each record has one result, and it is the right one."""

import os
import random
from dataclasses import dataclass, field

import pytest

import schemas
from consumer_prediction.loop import Doors, PredictionLoop
from consumer_prediction.outgoing import Encoder, SchemaIds
from shared.codec import compile_plan
from shared.configuration import Configuration
from shared.counters import DEAD_LETTERS, EVENTS_SCORED, Counters
from shared.errors import HistoryGone, ProducerFenced, TransportError
from shared.events import Activation, Detector
from shared.records import decode_records, encode_records
from shared.scoring import Rules, Scorer
from shared.settings import DetectionSettings, InputSettings, PredictSettings, QualitySettings, TopicSettings
from shared.snapshots import SnapshotFolder, SnapshotWriter
from shared.state import PartitionState
from tests.fakes import LinearModel, MemoryLog, MemoryModels, MemorySink, MemorySource

GROUP, INPUT_ID = "predictors", 7
TOPICS = TopicSettings(dataset="test", partitions=2)
INPUT = InputSettings()
METRIC_SCHEMA = schemas.text(schemas.METRIC_EVENT)
SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def configured(detector: Detector, **detection) -> Configuration:
    return Configuration(detector, 5, DetectionSettings(warmup_samples=20, **detection), QualitySettings(gap_intervals=8))


FOREST = configured(Detector.ISOLATION_FOREST)
HOSTS = ("alpha", "beta", "gamma")
A, B = "0a" * 32, "0b" * 32
FAILURES = ("abort", "undecided, kept", "undecided, lost", "outage")


def metric_event(host: str, minute: int, cpu: float) -> bytes:
    row = {"host": host, "timestamp": minute * 60_000 + 1_400_000_000_000, "cpu": cpu, "network_in": None, "disk_write": None}
    return encode_records(METRIC_SCHEMA, INPUT_ID, [row])[0]


@dataclass
class Registry:
    """Knows one schema, and may be out of reach."""

    down: bool = False
    known: dict = field(default_factory=lambda: {INPUT_ID: compile_plan(METRIC_SCHEMA, INPUT)})

    def plans(self, ids):
        if self.down and any(i not in self.known for i in ids):
            raise TransportError("registry does not answer")
        return {i: self.known.get(i) for i in ids}


class World:
    """One cluster, one volume, and predictors that come and go."""

    def __init__(self, folder, seed: int = 0, records: int = 300, configuration: Configuration = FOREST) -> None:
        self.log = MemoryLog(
            {TOPICS.input: 2, TOPICS.scores: 2, TOPICS.anomalies: 1, TOPICS.activations: 1, TOPICS.dead_letters: 2}
        )
        self.models = MemoryModels(LinearModel(A, HOSTS), LinearModel(B, HOSTS))
        self.registry = Registry()
        self.snapshots = SnapshotFolder(folder, "cluster", TOPICS.input, "id", GROUP)
        self.counters = Counters()
        self.configuration = configuration
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
        return [a for p, a in self.activations() if p == partition and after < a.offset <= newest.offset]

    def activations(self) -> list[tuple[int, Activation]]:
        records = [record for *_, record in self.log.visible(TOPICS.activations)]
        text = schemas.text(schemas.MODEL_ACTIVATION)
        return [
            (
                r["source_partition"],
                Activation(r["model_sha256"], r["source_offset"], r["model_version"], r["state_version"], r["settings"]),
            )
            for r in decode_records([record.value for record in records], [text] * len(records))
        ]

    def predictor(self, slot: str = "a", snapshot_interval_s: float = 1.0) -> PredictionLoop:
        source = MemorySource(self.log, GROUP, TOPICS.input)
        doors = Doors(
            source=source,
            open_sink=lambda: MemorySink(self.log, f"{GROUP}-{slot}", GROUP, TOPICS.input),
            schemas=self.registry,
            models=self.models,
            history=self.history,
            snapshots=SnapshotWriter(self.snapshots, lambda: self.now_s, lambda: 0.0, behind=False),
            clock=lambda: self.now_s,
            now_ms=lambda: 0,
            sleep=self.tick,
        )
        encoder = Encoder(TOPICS, SchemaIds(1, 2, 3), GROUP, INPUT.max_record_bytes)
        settings = PredictSettings(max_batch_records=7, snapshot_interval_s=snapshot_interval_s)
        loop = PredictionLoop(doors, Rules(INPUT, self.configuration, 100), encoder, settings, self.counters)
        source.subscribe(loop)
        return loop

    def step(self, loop: PredictionLoop, times: int = 1) -> None:
        for _ in range(times):
            self.tick(0.05)
            loop.step()

    def finish(self, loop: PredictionLoop) -> None:
        for _ in range(400):
            self.step(loop)
            if loop._opened_s is None and not loop._broken and self.done():
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

    def oracle(self) -> dict[str, list[tuple[bytes, bytes, tuple]]]:
        """Recompute every result record by record in one plain pass that shares nothing with the loop."""
        encoder = Encoder(TOPICS, SchemaIds(1, 2, 3), GROUP, INPUT.max_record_bytes)
        out = {TOPICS.scores: [], TOPICS.anomalies: [], TOPICS.dead_letters: []}
        switches = {(p, a.offset): a for p, a in self.activations()}
        reader = MemorySource(self.log, "oracle", TOPICS.input)
        for partition in range(2):
            scorer = Scorer(PartitionState(0), Rules(INPUT, self.configuration, 100))
            batch, _ = reader._read(partition, 0, 10_000)
            for row in range(len(batch)):
                one = batch.rows(row, row + 1)
                if (partition, int(one.offsets[0])) in switches:
                    activation = switches[partition, int(one.offsets[0])]
                    model = self.models.load(activation.model_sha256) if activation.model_sha256 else None
                    scorer.use(model, Configuration.from_text(activation.settings))
                outcome = scorer.process(one, {INPUT_ID: self.registry.known[INPUT_ID]})
                for sent in encoder.outcome(outcome, scorer.state):
                    out[sent.topic] += [
                        (sent.keys[i], sent.values[i], tuple(sent.headers.get(i, ()))) for i in range(len(sent))
                    ]
        return {topic: sorted(rows) for topic, rows in out.items()}

    def assert_conserved(self) -> None:
        """Committed input = scores + dead letters, each once, each equal to the oracle's to the byte."""
        for topic, expected in self.oracle().items():
            assert self.results(topic) == expected
        scored, dead = len(self.results(TOPICS.scores)), len(self.results(TOPICS.dead_letters))
        assert scored + dead == sum(len(records) for records in self.log.topics[TOPICS.input])


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def begun(world: World, slot: str = "a") -> PredictionLoop:
    loop = world.predictor(slot)
    loop.doors.source.give(0, 1)
    return loop


def test_every_record_has_one_result(world):
    world.models.current = A
    world.finish(begun(world))
    world.assert_conserved()
    assert world.results(TOPICS.anomalies)
    assert world.counters.total(EVENTS_SCORED) == len(world.results(TOPICS.scores))
    assert world.counters.total(DEAD_LETTERS) == len(world.results(TOPICS.dead_letters)) > 0


def test_before_the_first_model_events_are_warming(world):
    world.finish(begun(world))
    world.assert_conserved()
    values = [value for _, value, _ in world.results(TOPICS.scores)]
    scores = decode_records(values, [schemas.text(schemas.SCORE_EVENT)] * len(values))
    assert {(s["state"], s["score"], s["model_id"]) for s in scores} == {("WARMING", None, None)}


def test_a_new_model_is_announced_with_its_first_scores(world):
    loop = begun(world)
    world.step(loop, 6)
    world.models.current = A
    world.step(loop, 6)
    world.models.current = B
    world.finish(loop)
    assert [a.model_sha256 for p, a in world.activations() if p == 0] == ["", A, B]
    world.assert_conserved()


@pytest.mark.parametrize("snapshots", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 8, 17])
def test_killed_in_mid_stream_and_started_again(world, steps, snapshots):
    world.models.current = A
    world.step(begun(world), steps)
    if not snapshots:
        world.snapshots = SnapshotFolder(world.snapshots.root / "empty", "c", TOPICS.input, "id", GROUP)
    world.models.current = B
    world.finish(begun(world))
    world.assert_conserved()


@pytest.mark.parametrize("call", ["send", "commit", "abort"])
@pytest.mark.parametrize("how", FAILURES)
def test_a_transaction_that_fails_is_rebuilt(world, call, how):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 5)
    if call == "abort":
        loop._sink.fail["commit"] = "abort"
    loop._sink.fail[call] = how
    world.models.current = B
    world.finish(loop)
    world.assert_conserved()


def test_a_zombie_is_fenced_and_commits_nothing(world):
    world.models.current = A
    zombie = begun(world)
    world.step(zombie, 3)
    world.finish(begun(world))
    world.tick(1.0)
    with pytest.raises(ProducerFenced):
        world.step(zombie, 50)
    world.assert_conserved()


def test_partitions_move_between_predictors(world):
    world.models.current = A
    first, second = begun(world, "a"), world.predictor("b")
    world.step(first, 4)
    first.doors.source.take(1)
    world.step(first, 1)
    second.doors.source.give(1)
    for _ in range(6):
        world.step(first)
        world.step(second)
    second.doors.source.take(1, lost=True)
    world.step(second)
    first.doors.source.give(1)
    world.finish(first)
    world.assert_conserved()


def test_sigterm_leaves_nothing_open(world):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 4)
    loop.drain()
    assert not world.log.open
    assert loop.doors.source.closed
    world.finish(begun(world))
    world.assert_conserved()


def test_an_outage_of_the_registry_is_waited_for(world):
    world.registry.known, known = {}, world.registry.known
    world.registry.down = True
    loop = begun(world)
    world.step(loop, 10)
    assert loop.doors.source.paused
    assert not world.results(TOPICS.dead_letters) or not world.results(TOPICS.scores)
    world.registry.known, world.registry.down = known, False
    world.finish(loop)
    assert not loop.doors.source.paused
    world.assert_conserved()


def test_an_outage_of_the_broker_is_survived(world):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 5)
    world.log.down = True
    world.step(loop, 20)
    world.log.down = False
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize("quiet_polls", [0, 5])
def test_an_outage_beyond_the_deadline_ends_the_service(tmp_path, quiet_polls):
    """Also when some polls of a broker that is gone look like those of an idle topic."""
    world = World(tmp_path, records=0)
    loop = begun(world)
    with pytest.raises(TransportError, match="does not answer"):
        outage(world, loop, quiet_polls)
    assert world.now_s > loop.settings.outage_deadline_s


def outage(world: World, loop: PredictionLoop, quiet_polls: int) -> None:
    for _ in range(2000):
        world.log.down = True
        world.step(loop)
        world.log.down = False
        world.step(loop, quiet_polls)


def test_history_removed_by_retention_is_a_named_stop(world):
    world.models.current = A
    world.step(begun(world), 5)
    world.snapshots = SnapshotFolder(world.snapshots.root / "empty", "c", TOPICS.input, "id", GROUP)
    world.log.starts[TOPICS.input, 0] = 2
    with pytest.raises(HistoryGone, match="retention has removed"):
        world.step(begun(world))


def test_records_removed_before_they_were_scored_are_a_named_stop(world):
    world.models.current = A
    world.step(begun(world), 5)
    world.log.starts[TOPICS.input, 0] = world.log.committed[GROUP, TOPICS.input, 0].offset + 3
    with pytest.raises(HistoryGone, match="before they were scored"):
        world.step(begun(world))


@pytest.mark.parametrize("seed", range(25))
def test_random_faults_change_no_byte(tmp_path, seed):
    faulty_run(World(tmp_path, seed, records=150), seed)


@pytest.mark.parametrize("seed", range(2 if SLOW else 12))
def test_random_faults_and_settings_change_no_byte_of_the_ensemble(tmp_path, seed):
    """Every restart may come with another detector or another threshold; replays judge as the log says."""
    world = World(tmp_path, seed, records=100 if SLOW else 250, configuration=configured(Detector.ENSEMBLE))
    others = (
        configured(Detector.ENSEMBLE, threshold=0.8),
        configured(Detector.ENSEMBLE, alarms_per_day=5.0, direction="up"),
        configured(Detector.BURST),
        FOREST,
    )
    faulty_run(world, seed, (world.configuration, *others))
    values = [value for _, value, _ in world.results(TOPICS.scores)]
    scores = decode_records(values, [schemas.text(schemas.SCORE_EVENT)] * len(values))
    assert {"READY", "WARMING"} <= {score["state"] for score in scores}


def faulty_run(world: World, seed: int, configurations: tuple[Configuration, ...] = ()) -> None:
    rng = random.Random(seed)
    loop = begun(world)
    for _ in range(60):
        fault = rng.random()
        if fault < 0.08 and not world.log.down:
            world.configuration = rng.choice(configurations or (world.configuration,))
            loop = begun(world)
        elif fault < 0.2:
            loop._sink.fail[rng.choice(["send", "commit", "abort"])] = rng.choice(FAILURES)
        elif fault < 0.3:
            world.models.current = rng.choice([A, B])
        elif fault < 0.35:
            world.log.down = not world.log.down
        elif fault < 0.4 and 1 in loop.doors.source.at:
            loop.doors.source.take(1, lost=rng.random() < 0.5)
            loop.doors.source.give(1)
        world.step(loop)
    world.log.down = False
    loop._sink.fail.clear()
    world.finish(loop)
    world.assert_conserved()
