"""An endless stream of valid and invalid input records by seed, and its expected results.

Invariant: record k is the same whenever and however far the stream is read. The oracle processes
           each partition record by record and shares no loop code with the predictors: it has no
           broker, batch, transaction, snapshot or restart.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import schemas
from consumer_prediction.health.counting import DROPPED
from consumer_prediction.outgoing import Encoder
from shared.artifacts import load as load_model
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.records import encode_records, wire_header
from shared.kernels.units import DAY_MS
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import Settings
from tests.support.services.auditor import Coordinates, Result
from tests.support.services.records import murmur2

HOSTS = 12
START_MS, STEP_MS = 1_704_067_200_000, 300_000
UNKNOWN_ID = 0x00FF_FFF0


def evolved_schemas() -> dict[str, str]:
    """Return the stream's writer schemas: committed, one metric more, one less, and unsupported."""
    first = json.loads(schemas.text(schemas.METRIC_EVENT))
    host, timestamp, cpu, network, disk = first["fields"]
    extra = {"name": "swap", "type": ["null", "double"], "default": None, "doc": "Bytes swapped."}
    return {
        "v1": schemas.text(schemas.METRIC_EVENT),
        "v2": json.dumps(first | {"fields": [host, timestamp, cpu, network, disk, extra]}),
        "v3": json.dumps(first | {"fields": [timestamp, extra, host, disk, cpu]}),
        "unfit": json.dumps(
            {"type": "record", "name": "Note", "fields": [{"name": "text", "type": "string"}]}
        ),
    }


@dataclass(frozen=True)
class Mix:
    """What a stream consists of.

    poison     : share of bad records, every kind in turn
    bursts     : {good records before: how many bad records of one kind come in a row}
    duplicates : share of records that are sent again at once or a little later
    late       : share of records that are behind their entity's newest
    evolve_at  : good records before hosts begin to write the other schemas as well
    pods       : entities that come and go beside the hosts
    step_ms    : interval between two records of an entity
    """

    poison: float = 0.01
    bursts: Mapping[int, int] = field(default_factory=dict)
    duplicates: float = 0.005
    late: float = 0.005
    evolve_at: int = 2_000
    pods: int = 0
    step_ms: int = STEP_MS

    def without_poison(self) -> Mix:
        """The same stream without its bad records."""
        return replace(self, poison=0.0, bursts={})


class Content:
    """The stream; ``records[k]`` is (key, value), ``places[k]`` its partition and offset."""

    def __init__(
        self, seed: int, ids: Mapping[str, int], partitions: int, mix: Mix = Mix()
    ) -> None:
        self.seed, self.ids, self.mix = seed, dict(ids), mix
        self.partitions = partitions
        self.records: list[tuple[bytes, bytes]] = []
        self.places: list[Coordinates] = []
        self.good: list[bool] = []
        self.by_partition: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
        self._texts = evolved_schemas()
        self._fields = {
            name: [field["name"] for field in json.loads(text)["fields"]]
            for name, text in self._texts.items()
        }
        self._good = self._events()
        self._dice = random.Random(f"{seed} poison")
        self._kinds = sorted(POISON)
        self._spoilt = 0
        self._events_made = 0
        self._bursts = sorted(mix.bursts.items(), reverse=True)
        self._partition_of: dict[bytes, int] = {}

    def need(self, count: int) -> None:
        """Generate at least this number of records."""
        while len(self.records) < count:
            if self._bursts and self._bursts[-1][0] <= self._events_made:
                _, size = self._bursts.pop()
                kind = self._kinds[self._spoilt % len(self._kinds)]
                for _ in range(size):
                    self._add(*self._spoil(kind), good=False)
            if self._dice.random() < self.mix.poison:
                self._add(*self._spoil(self._kinds[self._spoilt % len(self._kinds)]), good=False)
            self._add(*next(self._good), good=True)
            self._events_made += 1

    def counts(self, sent: int) -> dict[int, int]:
        """How many of the first ``sent`` records lie in each partition."""
        found = dict.fromkeys(self.by_partition, 0)
        for partition, _ in self.places[:sent]:
            found[partition] += 1
        return found

    def _add(self, key: bytes, value: bytes, *, good: bool) -> None:
        partition = self._partition_of.get(key)
        if partition is None:
            partition = self._partition_of[key] = murmur2(key) % self.partitions
        self.places.append((partition, len(self.by_partition[partition])))
        self.by_partition[partition].append(len(self.records))
        self.records.append((key, value))
        self.good.append(good)

    def _spoil(self, kind: str) -> tuple[bytes, bytes]:
        self._spoilt += 1
        host = f"host-{self._dice.randrange(HOSTS)}"
        event = {
            "host": host,
            "timestamp": START_MS,
            "cpu": 1.0,
            "network_in": None,
            "disk_write": 2.0,
        }
        return host.encode(), POISON[kind](self, event)

    def encode(self, version: str, event: Mapping[str, object]) -> bytes:
        """Return an event as a producer with that schema writes it."""
        record = {name: event[name] for name in self._fields[version] if name in event}
        return encode_records(self._texts[version], self.ids[version], [record])[0]

    def _events(self) -> Iterator[tuple[bytes, bytes]]:
        """Every host reports once a step, with all that real hosts do to a stream."""
        dice = random.Random(f"{self.seed} events")
        silent_until = [0] * HOSTS
        pods = [_Pod(self.seed, number) for number in range(self.mix.pods)]
        recent: list[tuple[bytes, bytes]] = []
        tick = 0
        while True:
            tick += 1
            for host in range(HOSTS):
                if tick < silent_until[host]:
                    continue
                if dice.random() < 0.001:
                    silent_until[host] = tick + dice.randrange(7, 40)
                draw, behind = dice.random(), 0
                if draw < self.mix.late:
                    behind = dice.randrange(1, 20)
                made = self._event(dice, f"host-{host}", host, tick - behind)
                yield made
                recent = [*recent[-50:], made]
                if self.mix.late <= draw < self.mix.late + self.mix.duplicates:
                    yield dice.choice(recent)
                elif draw > 0.998:
                    yield self._event(dice, f"host-{host}", host, tick)
            for pod in pods:
                if pod.runs(tick):
                    yield self._event(pod.dice, f"pod-{pod.number}", pod.number, tick)

    def _event(self, dice: random.Random, name: str, host: int, tick: int) -> tuple[bytes, bytes]:
        time_ms = START_MS + tick * self.mix.step_ms
        load = 1.0 + 0.5 * math.sin(2 * math.pi * time_ms / DAY_MS + host) + 0.05 * dice.gauss(0, 1)
        if dice.random() < 0.01:
            load *= dice.choice((0.1, 3.0, 8.0))
        event = {
            "host": name,
            "timestamp": time_ms,
            "cpu": 30.0 * load,
            "network_in": (
                None if dice.random() < 0.02 else 1e6 * load * (1 + 0.1 * dice.gauss(0, 1))
            ),
            "disk_write": 5e4 * load if host % 5 else 7.0,
            "swap": 1e3 * load,
        }
        evolved = self._events_made >= self.mix.evolve_at
        version = dice.choice(("v1", "v2", "v3")) if evolved and host % 2 else "v1"
        return name.encode(), self.encode(version, event)


class _Pod:
    """An entity that reports for a while, is silent for a while, and returns, several times."""

    LIFE_TICKS = (10, 60)
    AWAY_TICKS = ((10, 40), (75, 110), (150, 220))
    """At half an hour each: shorter than 36 hours, up to twice that, longer."""

    def __init__(self, seed: int, number: int) -> None:
        self.number = number
        self.dice = random.Random(f"{seed} pod {number}")
        self._ends = self.dice.randrange(*self.AWAY_TICKS[0])
        self._runs = self.dice.random() < 0.5

    def runs(self, tick: int) -> bool:
        """Return whether it reports at a tick; called once for each, in order."""
        if tick >= self._ends:
            self._runs = not self._runs
            spans = self.LIFE_TICKS if self._runs else self.dice.choice(self.AWAY_TICKS)
            self._ends = tick + self.dice.randrange(*spans)
        return self._runs


POISON = {
    "empty": lambda content, event: b"",
    "too_large": lambda content, event: content.encode("v1", event) + b"\0" * 70_000,
    "not_avro": lambda content, event: b"level=info msg=started",
    "short": lambda content, event: b"\0\0",
    "unknown_schema": (
        lambda content, event: wire_header(UNKNOWN_ID) + content.encode("v1", event)[5:]
    ),
    "schema_unfit": lambda content, event: content.encode("unfit", {"text": "hello"}),
    "truncated": lambda content, event: content.encode("v1", event)[:-3],
    "trailing_bytes": lambda content, event: content.encode("v1", event) + b"\0",
    "malformed": (
        lambda content, event: content.encode("v1", event)[:5] + b"\x0chost-1" + b"\xff" * 12
    ),
    "not_finite": lambda content, event: content.encode("v1", event | {"cpu": math.nan}),
    "infinite": lambda content, event: content.encode("v1", event | {"disk_write": math.inf}),
    "time_too_early": lambda content, event: content.encode("v1", event | {"timestamp": -1}),
    "time_too_late": lambda content, event: content.encode(
        "v1", event | {"timestamp": 9_999_999_999_999}
    ),
    "entity_empty": lambda content, event: content.encode("v1", event | {"host": ""}),
    "entity_long": lambda content, event: content.encode("v1", event | {"host": "h" * 300}),
    "entity_control": lambda content, event: content.encode("v1", event | {"host": "host\n1"}),
    "entity_not_utf8": (
        lambda content, event: content.encode("v1", event | {"host": "zost-1"}).replace(
            b"zost", b"\xff\xfe\xfd\xfc"
        )
    ),
}
"""Name -> (content, a good event) -> the bytes of an unreadable record."""

Switch = tuple[str, str]
"""(SHA-256 of a model or "", text of a configuration)."""


class Oracle:
    """Results of a stream, recomputed one record at a time, on demand.

    switches : {(partition, offset): activation from there on}
    dropped  : number of entities dropped, by reason
    """

    def __init__(
        self,
        content: Content,
        settings: Settings,
        encoder: Encoder,
        switches: Mapping[Coordinates, Switch],
    ) -> None:
        self.content = content
        self.results: dict[str, dict[Coordinates, list[Result]]] = {
            kind: defaultdict(list) for kind in ("scores", "anomalies", "dead_letters")
        }
        self.dropped: Counter[str] = Counter()
        self._settings, self._encoder, self._switches = settings, encoder, switches
        self._kind_of = {getattr(settings.topics, kind): kind for kind in self.results}
        rules = Rules(Configuration.from_settings(settings))
        self._scorers = {p: Scorer(PartitionState(0), rules) for p in range(content.partitions)}
        self._done = dict.fromkeys(self._scorers, 0)
        texts = evolved_schemas()
        known = {content.ids[name]: text for name, text in texts.items()}
        self._decoder = AvroDecoder.of_schemas(known, settings.input)

    def need(self, counts: Mapping[int, int]) -> None:
        """Recompute the given number of first records of each partition."""
        for partition, count in counts.items():
            for offset in range(self._done[partition], count):
                self._record(partition, offset)
            self._done[partition] = max(count, self._done[partition])

    def expected(self, kind: str, counts: Mapping[int, int]) -> dict[Coordinates, list[Result]]:
        """Return the results of the given number of first records of each partition."""
        self.need(counts)
        return {
            place: found
            for place, found in self.results[kind].items()
            if place[1] < counts[place[0]]
        }

    def _record(self, partition: int, offset: int) -> None:
        key, value = self.content.records[self.content.by_partition[partition][offset]]
        number = np.array([offset], np.int64)
        batch = Batch(
            self._settings.topics.input,
            partition,
            Blob.join([value]),
            Blob.join([key]),
            number,
            number,
        )
        scorer = self._scorers[partition]
        if switch := self._switches.get((partition, offset)):
            sha256, text = switch
            model = load_model(Path(self._settings.models_dir), sha256) if sha256 else None
            scorer.use(model, Configuration.from_text(text))
        self._decoder.prepare(batch)
        outcome = scorer.process(batch, self._decoder)
        self.dropped.update(DROPPED[reason] for reason in outcome.folded.releases.reason.tolist())
        for sent in self._encoder.outcome(outcome, scorer.state):
            results = self.results[self._kind_of[sent.topic]][partition, offset]
            results += [
                (sent.keys[row], sent.values[row], _headers(sent.headers.get(row, ())))
                for row in range(len(sent))
            ]


def _headers(headers: object) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value) for name, value in headers)  # type: ignore[attr-defined]
