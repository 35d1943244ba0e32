"""One member's client: its calls about one topic, their failures translated, and what it complains
about by itself.

Invariant: positions are committed in the name of a member and its generation, or not at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from shared.batch import Position
from shared.errors import TransactionAborted, TransportError
from shared.kafka.client import (
    CONSUMER_REQUIRED,
    CONSUMER_TUNING,
    LOG,
    ClientErrors,
    client_config,
    place_of,
    translate,
)
from shared.kafka.ends import PartitionEnds
from shared.kafka.engine.port import ClientError, Engine, Fetched, GroupEvents
from shared.settings import Settings

PROBE_EVERY_S = 1.0
SILENT_S = 3.0
"""An idle topic looks like a broker that is gone; a member that owns partitions asks after so long
without a record. One that owns none, or has heard a complaint, asks every PROBE_EVERY_S.
"""

PROBE_TIMEOUT_S = 2.0
LOOK_AROUND_S = 2.0
"""Longest wait for the leaders of the topic's partitions."""

ANSWER_S = 2.0
"""Longest wait for what the group's coordinator says."""

REQUIRED = CONSUMER_REQUIRED | {"enable.partition.eof": "false"}


class Member:
    """A group's member on a client; ``renew`` replaces the client.

    session_s, instance_id : as the configuration says; session_s is inf where the broker decides
    raises                 : ConfigError; methods raise as ``translate``
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topic: str,
        engine: Engine,
        *,
        instance_id: str | None = None,
        session_timeout_ms: int | None = None,
        protocol: str | None = None,
    ) -> None:
        self.group, self.topic, self.address = group, topic, settings.bootstrap
        protocol = protocol or settings.kafka.get("group.protocol", "classic")
        session_ms = session_timeout_ms or settings.predict.session_timeout_ms
        self._config = _config(settings, group, protocol, session_ms, instance_id)
        self._settings = settings
        self._engine = engine
        self.errors = ClientErrors()
        self.ends = PartitionEnds(settings, topic, engine)
        self._client = engine.consumer(self._config, self.errors)
        self._probed_s = 0.0
        self._answered_s = -math.inf
        self.session_s = session_ms / 1000 if protocol == "classic" else math.inf
        self.is_static = bool(instance_id)

    def join(self, events: GroupEvents) -> None:
        """Join the group."""
        with self._doing("joining"):
            self._client.join(self.topic, events)

    def renew(self) -> None:
        """Replace the client, which was closed."""
        self._client = self._engine.consumer(self._config, self.errors)

    def close(self) -> None:
        """Leave the group; a static member only falls silent."""
        self._client.close()

    def fetch(self, max_records: int, wait_s: float) -> Fetched:
        """Return what has arrived."""
        with self._doing("reading"):
            return self._client.fetch(max_records, wait_s)

    def start(self, offsets: Mapping[int, int]) -> None:
        """Fetch further partitions from these offsets on."""
        with self._doing("starting partitions"):
            self._client.start(self.topic, offsets)

    def stop(self, partitions: Iterable[int]) -> None:
        """Fetch no more of these partitions."""
        with self._doing("stopping partitions"):
            self._client.stop(self.topic, partitions)

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing of these for now."""
        with self._doing("pausing"):
            self._client.pause(self.topic, partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch them again."""
        with self._doing("resuming"):
            self._client.resume(self.topic, partitions)

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions outside any transaction."""
        with self._doing("committing"):
            self._client.commit(self.topic, positions)

    def committed(self, partitions: Iterable[int], deadline: float) -> dict[int, Position | None]:
        """Return committed positions; the broker withholds them while a transaction that moves them
        is open.
        """
        with self._doing("asking for the committed positions"):
            return dict(self._client.committed(self.topic, partitions, _left_s(deadline)))

    def log_start(self, partition: int, deadline: float) -> int:
        """Return the first offset that the log still holds; take note of where it ends."""
        try:
            with self._doing(f"asking where {self.topic}[{partition}] begins"):
                low, high = self._client.bounds(self.topic, partition, _left_s(deadline))
        except TransportError:
            self._refresh_metadata()
            raise
        self.ends.hear(partition, high)
        return low

    def known_ends(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return where partitions end, as last heard."""
        return self.ends.known(self._client, partitions)

    def membership(self) -> bytes:
        """Return in whose name positions are committed, as of now.

        raises : TransactionAborted when this process is no longer a member: the broker would accept
                 such a commit unchecked
        """
        with self._doing("asking for the membership"):
            metadata = self._client.membership()
        if metadata is None:
            raise TransactionAborted(
                f"this process is no longer a member of group {self.group}; its positions must not"
                " be committed"
            )
        return metadata

    def answered(self) -> None:
        """Take note that the broker has answered."""
        self._answered_s = time.monotonic()

    def heard(self) -> None:
        """Take note that records have arrived, whatever the client complained about before."""
        self.errors.latest = None
        self.answered()

    def probe(self, *, owns: bool, waits: bool) -> None:
        """Find out, where nothing has arrived for a while, whether the broker answers at all.

        owns   : the member has partitions
        waits  : partitions are about to be taken over
        raises : what the client complained about, or why the broker was not heard
        """
        complaint, now_s = self.errors.latest, time.monotonic()
        is_quiet = waits or (owns and now_s < self._answered_s + SILENT_S)
        if (complaint is None and is_quiet) or now_s < self._probed_s + PROBE_EVERY_S:
            return
        try:
            self._client.ask_for_leaders(self.topic, PROBE_TIMEOUT_S)
            self.heard()
        except ClientError as error:
            LOG.debug("probe of %s: %s", self.address, error.text)
            doing = f"reading {self.topic} of {self.address}"
            raise translate(error if complaint is None else complaint, doing) from error
        finally:
            self._probed_s = time.monotonic()

    def unowned(self) -> set[int]:
        """Return the partitions that nobody in a settled group has; none while it is being shared
        out or nobody answers.
        """
        return unowned(self._settings, self._engine, self.group, self.topic)

    def _refresh_metadata(self) -> None:
        """Have the client ask who leads what; by itself it may go on for minutes with what it knew
        before a broker went.
        """
        with suppress(ClientError):
            self._client.ask_for_leaders(self.topic, LOOK_AROUND_S)

    @contextmanager
    def _doing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            where = f"({place_of(error, self.topic)}, group {self.group}, at {self.address})"
            raise translate(error, f"{doing} {where}") from error


def unowned(settings: Settings, engine: Engine, group: str, topic: str) -> set[int]:
    """Return the partitions of a topic that nobody in a settled group has; see Member."""
    client = engine.admin(client_config(settings, "admin"))
    try:
        found = client.cluster(topic, ANSWER_S).topics.get(topic)
        described = client.group(group, ANSWER_S)
    except ClientError:
        return set()
    if found is None or not described.is_stable:
        return set()
    return set(range(found.partitions)) - described.owned.get(topic, set())


def _config(
    settings: Settings, group: str, protocol: str, session_ms: int, instance_id: str | None
) -> dict[str, str]:
    required = REQUIRED | {"group.id": group, "group.protocol": protocol}
    if instance_id:
        required["group.instance.id"] = instance_id
    if protocol == "classic":
        required |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": str(session_ms),
            "heartbeat.interval.ms": str(session_ms // 6),
        }
    tuning = CONSUMER_TUNING | {"max.poll.interval.ms": str(max(300_000, session_ms))}
    return client_config(settings, "consumer", tuning=tuning, required=required)


def _left_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
