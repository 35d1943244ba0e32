"""Logs of entities that come and go, and what the whole path makes of them, as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from consumer_prediction.outgoing import Encoder, SchemaIds
from shared import snapshots
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_records, flat_schema
from shared.events import Detector
from shared.kernels.units import DAY_MS, HOUR_MS
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings, TopicSettings

START_MS = 1_400_000_000_000
LAYOUTS = (("cpu", "mem"), ("mem", "cpu"), ("disk", "cpu"), ("cpu",), ("net", "disk", "mem"))
TEXTS = [flat_schema(f"lapwing.L{k}", "host", names) for k, names in enumerate(LAYOUTS)]
DECODER = AvroDecoder.of_schemas({k + 1: text for k, text in enumerate(TEXTS)}, InputSettings())
ENCODER = Encoder(TopicSettings(), SchemaIds(1, 2, 3), "g", 1 << 20)


class Record(NamedTuple):
    """One record of the log; values by metric."""

    host: str
    time_ms: int
    values: dict[str, float | None]
    layout: int = 0


def batch_of(records: Sequence[Record], offsets: Any = None, decoder_text: Any = None) -> Batch:
    """Return records as a batch; offsets: those in the log, default 0, 1, ..."""
    bodies = []
    for one in records:
        fields = {"host": one.host, "timestamp": one.time_ms, **one.values}
        text = TEXTS[one.layout] if decoder_text is None else decoder_text
        bodies.append(encode_records(text, one.layout + 1, [fields])[0])
    n = len(records)
    keys = Blob.join([one.host.encode() for one in records])
    offsets = np.arange(n) if offsets is None else np.asarray(offsets, np.int64)
    return Batch("in", 0, Blob.join(bodies), keys, offsets, np.zeros(n, np.int64))


def churn(seed: int, rows: int = 260, hosts: int = 14) -> list[Record]:
    """Pods with a few lives each, their clocks not quite alike; some come back, some are ahead."""
    random = np.random.default_rng(seed)
    now_ms, log = START_MS, list[Record]()
    live = list(range(4))
    while len(log) < rows:
        now_ms += int(random.choice([60, 600, 3600, 13 * 3600, 60 * 3600],
            p=[0.3, 0.35, 0.2, 0.1, 0.05])) * 1000  # fmt: skip
        if random.random() < 0.15:
            live[int(random.integers(0, len(live)))] = int(random.integers(0, hosts))
        for number in dict.fromkeys(live):
            if random.random() < 0.2:
                continue
            layout = number % len(LAYOUTS) if random.random() < 0.9 else 1
            kind = random.random()
            shift = 400 * DAY_MS if kind < 0.02 else -3 * HOUR_MS if kind < 0.06 else 0
            values = {
                name: None if random.random() < 0.05 else float(random.normal(50, 5))
                for name in LAYOUTS[layout]
            }
            if random.random() < 0.02:
                values = dict.fromkeys(values, 5000.0)
            log.append(Record(f"pod-{number}", now_ms + shift + 1000 * number, values, layout))
            if random.random() < 0.02:
                log.append(log[-1])
    return log[:rows]


def scorer_for(max_entities: int, state: PartitionState | None = None) -> Scorer:
    """Return a scorer that warms up within hours, so that much happens in few rows."""
    detection = DetectionSettings(warmup_days=0.2, alarms_per_day=2.0)
    quality = QualitySettings(repeat_hours=1, flat_hours=0.5)
    configuration = Configuration(
        Detector.ENSEMBLE, 5, detection, quality, max_entities=max_entities
    )
    return Scorer(state or PartitionState(0), Rules(configuration))


class RunResult(NamedTuple):
    """The score and anomaly events of a run, and its state."""

    scores: list[bytes]
    anomalies: list[bytes]
    state: PartitionState
    outcomes: list[Outcome]

    @property
    def bytes(self) -> tuple[Any, Any, bytes]:
        """Return all that must be equal."""
        return self.scores, self.anomalies, snapshots.encode(self.state)

    def dropped(self) -> list[int]:
        """Return why entities were dropped, one after the other."""
        return [int(r) for one in self.outcomes for r in one.folded.releases.reason]


def encoded(outcome: Outcome, state: PartitionState, topic: str) -> list[bytes]:
    """Return an outcome's records for a topic."""
    return [
        outgoing.values[row]
        for outgoing in ENCODER.outcome(outcome, state) if outgoing.topic == topic
        for row in range(len(outgoing.values))
    ]  # fmt: skip


def run(
    batch: Batch,
    max_entities: int = 6,
    cuts: Iterable[int] = (),
    restarts: Iterable[int] = (),
    decoder: Any = DECODER,
) -> RunResult:
    """Score a log; at each of ``restarts`` go on with what a snapshot holds."""
    scorer, scores, anomalies, outcomes = scorer_for(max_entities), [], [], []
    restarts = set(restarts)
    for start, stop in pairwise(sorted({0, *cuts, *restarts, len(batch)})):
        if start in restarts:
            state = snapshots.decode(snapshots.encode(scorer.state))
            scorer = scorer_for(max_entities, state)
        outcome = scorer.process(batch.rows(start, stop), decoder)
        outcomes.append(outcome)
        scores += encoded(outcome, scorer.state, ENCODER.topics.scores)
        anomalies += encoded(outcome, scorer.state, ENCODER.topics.anomalies)
    return RunResult(scores, anomalies, scorer.state, outcomes)
