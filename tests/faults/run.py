"""One run: a paced stream into fresh topics, predictors, a concurrent reader, a final account.

Invariant: at the end of a run each sent record is counted as correct, lost, duplicate, wrong or out
           of order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import schemas
from shared.encode.records import decode_records
from shared.kafka import Admin, Reader
from tests.faults.content import Mix
from tests.faults.pacer import NotSent, Pacer
from tests.faults.predictor import KILLED, TERMINATED, Slot
from tests.faults.testbed import DATASET, PARTITIONS, Testbed
from tests.support.services.auditor import (
    Account,
    Auditor,
    Coordinates,
    Result,
    read_again,
    topic_of,
)
from tests.support.services.transactions import open_transactions

RATE = 300
SETTLE_S = 90.0


class RowFailed(Exception):
    """A run failed or timed out; the message contains the predictors' logs."""


class InputSpoilt(RowFailed):
    """The input topic lacks acknowledged records, so the run is no evidence about predictors."""


@dataclass
class Counts:
    """What is wrong with the results of some runs; all of it must be none."""

    lost: int = 0
    duplicates: int = 0
    wrong: int = 0
    disorder: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        for name in ("lost", "duplicates", "wrong", "disorder"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


@dataclass(frozen=True)
class Mark:
    """A moment: when it was, and how many records of each partition had been sent."""

    at_s: float
    sent: Mapping[int, int]


class Run:
    """A context: fresh topics on entry, everything stopped on exit.

    models  : how many of the testbed's models lie in its folder from the start; the last is the
              current one
    environ : variables of all its predictors
    """

    def __init__(
        self,
        testbed: Testbed,
        *,
        mix: Mix = Mix(),  # noqa: B008 - a frozen value
        rate: float = RATE,
        models: int = 1,
        **environ: str,
    ) -> None:
        self.testbed, self.name = testbed, testbed.new_name()
        self.folder = testbed.folder / self.name
        self.folder.mkdir()
        self.models_dir = self.folder / "models"
        self.published = set(testbed.copy_models(self.models_dir, models)) | {""}
        self.environ = testbed.environ(
            LAPWING_PREDICT__GROUP=f"{DATASET}-{self.name}",
            LAPWING_MODELS_DIR=str(self.models_dir),
            LAPWING_STATE_DIR=str(self.folder / "state"),
            **environ,
        )
        self.settings = testbed.settings(**self.environ)
        self.content = testbed.content(mix)
        self.slots: list[Slot] = []
        self.recoveries: list[float] = []
        self._rate = rate
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Run:
        self.testbed.fresh_topics(self.settings)
        topics = self.settings.topics
        self._partitions = {
            topic_of(topics, kind): PARTITIONS for kind in ("scores", "dead_letters")
        }
        self._partitions |= {topic_of(topics, kind): 1 for kind in ("anomalies", "activations")}
        self.auditor = Auditor(self.settings, self._partitions)
        self.pacer = Pacer(self.settings, self.content, self._rate)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.pacer.abandon()
        self._supervisor.join(5)
        for slot in self.slots:
            slot.thaw()
            if slot.process is not None:
                slot.process.kill()
                slot.process.wait()
        self.auditor.close()

    # -- what rows do ------------------------------------------------------------------------------

    def slot(self, name: str, **environ: str) -> Slot:
        """Add a predictor with its own slot."""
        return self._slot(name, {"LAPWING_SLOT": name} | environ)

    def nameless(self, name: str, **environ: str) -> Slot:
        """Add a predictor without a slot: a dynamic member with its own transactional.id."""
        return self._slot(name, environ)

    def _slot(self, name: str, environ: Mapping[str, str]) -> Slot:
        slot = Slot(name, self.folder / f"{name}.log", self.environ | environ, self.testbed.tree)
        self.slots.append(slot)
        return slot

    def begin(self, name: str, **environ: str) -> Slot:
        """Start a predictor with a slot and the stream, and wait until it runs as usual."""
        return self.begin_all([name], **environ)[0]

    def begin_all(self, names: Iterable[str], **environ: str) -> list[Slot]:
        """Start predictors with slots and the stream, and wait until each has partitions."""
        slots = [self.slot(name, **environ) for name in names]
        for slot in slots:
            slot.start()
        self.pacer.start()
        self.shared(slots)
        return slots

    def shared(self, slots: Sequence[Slot]) -> None:
        """Wait until each of the members has taken partitions over, and it runs as usual."""
        self.wait(
            lambda: all(slot.log_count("partition taken over") for slot in slots),
            60,
            "sharing the partitions",
        )
        self.settled()

    def mark(self) -> Mark:
        return Mark(time.monotonic(), dict(self.pacer.counts))

    def recovered(
        self,
        mark: Mark,
        timeout_s: float = 60.0,
        *,
        since_s: float | None = None,
        count: bool = True,
    ) -> float:
        """Wait until every partition has a result of a record sent after the mark; return seconds.

        since_s : count from then on instead of from the mark
        """
        self.wait(
            lambda: all(self._reached(p, n) is not None for p, n in mark.sent.items()),
            timeout_s,
            "recovery",
        )
        last_s = max(self._reached(p, n) or 0.0 for p, n in mark.sent.items())
        took_s = max(0.0, last_s - (mark.at_s if since_s is None else since_s))
        if count:
            self.recoveries.append(took_s)
        return took_s

    def settled(self, timeout_s: float = 60.0) -> None:
        """Wait until it runs as usual."""
        self.recovered(self.mark(), timeout_s, count=False)

    def wait(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        timeout_s = min(timeout_s, self.testbed.patience_s)
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.pacer.failure is not None:
                raise RowFailed(f"{self.name}: the sender broke down") from self.pacer.failure
            if time.monotonic() > deadline:
                newest = {
                    p: steps[-1][1] for p, steps in sorted(self.auditor.account.progress.items())
                }
                raise RowFailed(
                    f"{self.name}: {what} did not happen within {timeout_s:g} s;"
                    f" {self.pacer.state()}; results up to {newest}\n{self.logs()}"
                )
            time.sleep(0.02)

    def exits(self) -> Counter[int]:
        return sum((slot.exits for slot in self.slots), Counter())

    def kills(self) -> int:
        return self.exits()[KILLED]

    def logs(self) -> str:
        return "\n".join(
            f"--- {slot.name}:\n{slot.log.read_text('utf-8', 'replace')[-2500:]}"
            for slot in self.slots
            if slot.log.exists()
        )

    def switches(self) -> dict[Coordinates, tuple[str, str]]:
        """What judges each partition from where on, as the topic of activations says."""
        found = {}
        for result in self.auditor.account.results["activations"].values():
            record = activation_of(result)
            found[record["source_partition"], record["source_offset"]] = (
                record["model_sha256"],
                record["settings"],
            )
        return found

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Counts:
        """Shut everything down cleanly and count all results."""
        try:
            self.pacer.stop()
        except NotSent as error:
            raise RowFailed(f"{self.name}: {error}") from error
        counts = dict(self.pacer.counts)
        problems: list[str] = []
        try:
            self.wait(
                lambda: all(self._reached(p, n - 1) is not None for p, n in counts.items() if n),
                SETTLE_S,
                "the end",
            )
        except RowFailed as failed:
            problems.append(str(failed))
        codes = {slot.name: slot.stop() for slot in self.slots}
        problems += [
            f"{self.name}: {name} ended with {code} after SIGTERM"
            for name, code in codes.items()
            if code not in (0, KILLED, TERMINATED)
        ]
        topics = self.settings.topics
        problems += open_transactions(self.settings.bootstrap, list(self._partitions))
        admin = Admin(self.settings)
        ends = {topic: admin.end_offsets(topic) for topic in self._partitions}
        final = read_again(self.settings, self._partitions, ends)
        seen = self.auditor.account
        try:
            self.wait(
                lambda: all(len(seen.results[k]) >= len(v) for k, v in final.results.items()),
                15,
                "the reader's end",
            )
        except RowFailed:
            problems.append(f"{self.name}: the reader beside saw less than a later one")
        committed = {
            p: place.offset
            for p, place in admin.committed(self.settings.predict.group, topics.input).items()
        }
        if committed != (expected := {p: n for p, n in counts.items() if n}):
            problems.append(f"{self.name}: committed {committed}, sent {expected}")
        admin.close()
        self._check_input(counts)
        account = self._settle(final, counts)
        account.problems = problems + self.auditor.trouble + account.problems
        return account

    def finish_stopped(self) -> Counts:
        """Check the results committed before a guard stopped every predictor."""
        self.pacer.stop()
        for slot in self.slots:
            slot.stop()
        problems = open_transactions(self.settings.bootstrap, list(self._partitions))
        admin = Admin(self.settings)
        final = read_again(
            self.settings,
            self._partitions,
            {topic: admin.end_offsets(topic) for topic in self._partitions},
        )
        counts = {
            p: steps[-1][1] + 1 if (steps := final.progress.get(p)) else 0
            for p in range(PARTITIONS)
        }
        committed = {
            p: at.offset
            for p, at in admin.committed(
                self.settings.predict.group, self.settings.topics.input
            ).items()
        }
        if any(counts.get(p) != offset for p, offset in committed.items()):
            problems.append(f"{self.name}: committed {committed}, but the results are of {counts}")
        admin.close()
        account = self._settle(final, counts)
        account.problems = problems + self.auditor.trouble + account.problems
        return account

    def _check_input(self, counts: Mapping[int, int]) -> None:
        """Make sure that the input is the stream; else the fault was the sender's."""
        found: dict[int, list[bytes]] = {p: [] for p in counts}
        for batch in Reader(self.settings).read(self.settings.topics.input):
            found[batch.partition] += [batch.values[row] for row in range(len(batch))]
        for partition, numbers in self.content.by_partition.items():
            sent = [self.content.records[k][1] for k in numbers[: counts[partition]]]
            if found[partition] != sent:
                same = next(
                    (
                        k
                        for k, (a, b) in enumerate(zip(sent, found[partition], strict=False))
                        if a != b
                    ),
                    None,
                )
                raise InputSpoilt(
                    f"{self.name}: partition {partition} of the input is not the stream that was"
                    f" sent: {len(found[partition])} of {len(sent)} records, the first other one at"
                    f" {same}"
                )

    def _settle(self, final: Account, counts: Mapping[int, int]) -> Counts:
        switches = self.switches()
        oracle = self.testbed.oracle(self.content, switches, self.models_dir)
        total = Counts()
        for kind in ("scores", "anomalies", "dead_letters"):
            total.add(
                compare(
                    oracle.expected(kind, counts), final.places[kind], self.settings.predict.group
                )
            )
        total.add(self._check_activations(final))
        total.disorder += final.disorder + self.auditor.account.disorder
        for kind, later in final.results.items():
            seen = self.auditor.account.results[kind]
            total.lost += sum(1 for place in seen if place not in later)
            total.wrong += sum(
                1 for place, result in seen.items() if place in later and later[place] != result
            )
        return total

    def _check_activations(self, final: Account) -> Counts:
        """Check that each activation is logged once, is a change, and names a published model."""
        counts = Counts()
        before: dict[int, tuple[str, str]] = {}
        for (partition, _), found in sorted(final.places["activations"].items()):
            record = activation_of(found[0])
            activation = (record["model_sha256"], record["settings"])
            counts.duplicates += len(found) - 1
            counts.wrong += before.get(partition) == activation
            counts.wrong += record["model_sha256"] not in self.published
            before[partition] = activation
        return counts

    def _reached(self, partition: int, offset: int) -> float | None:
        return self.auditor.account.reached_s(partition, offset)

    def _supervise(self) -> None:
        while not self._closing.wait(0.05):
            for slot in self.slots:
                slot.restart_if_ended()


def activation_of(result: Result) -> dict[str, object]:
    [record] = decode_records([result[1]], [schemas.text(schemas.MODEL_ACTIVATION)])
    return record


def compare(
    expected: Mapping[Coordinates, list[Result]],
    found: Mapping[Coordinates, list[Result]],
    group: str,
) -> Counts:
    """Count missing, extra and differing results; the group in dead letters is ignored."""
    counts = Counts()
    for place in expected.keys() | found.keys():
        wanted = Counter(expected.get(place, ()))
        got = Counter(_nameless(result, group) for result in found.get(place, ()))
        n_wanted, n_got = wanted.total(), got.total()
        if not n_wanted:
            counts.wrong += n_got
            continue
        counts.lost += max(0, n_wanted - n_got)
        counts.duplicates += max(0, n_got - n_wanted)
        foreign = sum(n for result, n in got.items() if result not in wanted)
        counts.wrong += max(foreign, min(n_wanted, n_got) - (wanted & got).total())
    return counts


def _nameless(result: Result, group: str) -> Result:
    key, value, headers = result
    name = "__connect.errors.connector.name"
    return (
        key,
        value,
        tuple((n, b"oracle" if n == name and v == group.encode() else v) for n, v in headers),
    )
