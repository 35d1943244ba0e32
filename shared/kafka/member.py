"""A group member's client: its calls about one topic, with their failures translated.

Invariant: positions are committed under a member id and its generation, or not at all. The group
protocol is known here and above nowhere, nor in any engine below.
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
    topic_partition_of,
    translate,
)
from shared.kafka.ends import PartitionEnds
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Engine, Fetched, Flags, GroupEvents
from shared.settings import Settings

PROBE_EVERY_S = 1.0
IDLE_S = 3.0
"""Time without a record after which a member that owns partitions probes the broker.

An idle topic looks like an unreachable broker. A member that owns no partitions, or whose client
has reported an error, probes every PROBE_EVERY_S.
"""

PROBE_TIMEOUT_S = 2.0
METADATA_TIMEOUT_S = 2.0
"""Longest wait for new metadata of the topic."""

GROUP_TIMEOUT_S = 2.0
"""Longest wait for the description of a topic or of a group."""

HELD_BACK = 0.4
"""Share of the time for which a poll gathers that the broker may hold back a fetch of less than
FETCH_MIN_BYTES, where that is longer than without gathering: few records need few fetches.
"""

FETCH_MIN_BYTES = "4096"

REQUIRED = CONSUMER_REQUIRED | {"enable.partition.eof": "false"}

_REFUSALS = {
    Code.UNRELEASED_INSTANCE_ID: (
        "the group still has a member with this slot's group.instance.id. Where the predecessor was"
        " killed, its id is free once the broker's group.consumer.session.timeout.ms (45 s by"
        " default) is over; a second process with the same slot must be stopped"
    ),
    Code.GROUP_ID_NOT_FOUND: (
        "the group still has members with group.protocol=classic, whose assignments the broker"
        " cannot convert: stop all of them; this member joins when their sessions are over"
    ),
    Code.INCONSISTENT_GROUP_PROTOCOL: (
        "the group still has members with another group.protocol: stop all of them, or set the same"
        " kafka.group.protocol; this member joins when their sessions are over"
    ),
}
"""Why a group does not admit a member yet; to the client, all but the last are fatal."""


class Member:
    """A member of a group, on a client that ``renew`` replaces.

    gather_s  : for how long its polls wait for more records
    session_s : session timeout; inf where the broker decides about it
    is_static : it has a group.instance.id
    raises    : ConfigError; methods raise as ``translate``
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
        gather_s: float = 0.0,
    ) -> None:
        self.group = group
        self.topic = topic
        self.address = settings.bootstrap
        protocol = protocol or group_protocol(settings)
        session_ms = session_timeout_ms or settings.predict.session_timeout_ms
        self._config = _config(settings, group, protocol, session_ms, instance_id, gather_s)
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
        with self._translated("joining"):
            self._client.join(self.topic, events)

    def renew(self) -> None:
        """Replace the closed client by a new one."""
        self._client = self._engine.consumer(self._config, self.errors)

    def close(self) -> None:
        """Leave the group; a static member only stops its heartbeats."""
        self._client.close()

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        """Return records that have arrived; see Consumer."""
        with self._translated("reading"):
            return self._client.fetch(max_records, wait_s, gather_s)

    def start(self, offsets: Mapping[int, int]) -> None:
        """Fetch additional partitions from these offsets on."""
        with self._translated("starting partitions"):
            self._client.start(self.topic, offsets)

    def stop(self, partitions: Iterable[int]) -> None:
        """Stop fetching these partitions."""
        with self._translated("stopping partitions"):
            self._client.stop(self.topic, partitions)

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing from these partitions for now."""
        with self._translated("pausing"):
            self._client.pause(self.topic, partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch from them again."""
        with self._translated("resuming"):
            self._client.resume(self.topic, partitions)

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions outside any transaction."""
        with self._translated("committing"):
            self._client.commit(self.topic, positions)

    def committed(self, partitions: Iterable[int], deadline: float) -> dict[int, Position | None]:
        """Return committed positions.

        The broker refuses while an open transaction changes them.
        """
        with self._translated("reading the committed positions"):
            return dict(self._client.committed(self.topic, partitions, _remaining_s(deadline)))

    def log_start(self, partition: int, deadline: float) -> int:
        """Return the first offset that the log still contains; record its end."""
        try:
            with self._translated(f"reading the first offset of {self.topic}[{partition}]"):
                low, high = self._client.bounds(self.topic, partition, _remaining_s(deadline))
        except TransportError:
            self._refresh_metadata()
            raise
        self.ends.record(partition, high)
        return low

    def known_ends(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the last known ends of partitions."""
        return self.ends.known(self._client, partitions)

    def membership(self) -> bytes:
        """Return the current member id and generation, which positions are committed under.

        raises : TransactionAborted when this process is no longer a member: the broker would accept
                 such a commit unchecked
        """
        with self._translated("reading the group membership"):
            metadata = self._client.membership()
        if metadata is None:
            raise TransactionAborted(
                f"this process is no longer a member of group {self.group}; its positions must not"
                " be committed"
            )
        return metadata

    def has_expired(self) -> bool:
        """Return whether the client has given up its member id because its session was over.

        librdkafka goes on with heartbeats without an id until the caller polls. A broker that was
        restarted meanwhile still has the member, and fences it. A member that a second process has
        fenced keeps its id.
        """
        try:
            return self._client.membership() is None
        except ClientError:
            return False

    def is_final(self, error: ClientError) -> bool:
        """Return whether the client cannot be used any more after an error."""
        return (
            Flags.FATAL in error.flags
            or error.code in _REFUSALS
            or error.code in (Code.FENCED_INSTANCE_ID, Code.LOCAL_FATAL)
        )

    def refusal(self, error: ClientError) -> TransportError | None:
        """Return what this member has to wait for before the group admits it; else None."""
        if error.code not in _REFUSALS:
            return None
        reason = _REFUSALS[Code(error.code)]
        where = f"joining group {self.group} at {self.address}"
        return TransportError(f"{where}: {reason} ({error.text})", retriable=True)

    def note_answer(self) -> None:
        """Record that the broker has answered."""
        self._answered_s = time.monotonic()

    def note_records(self) -> None:
        """Record that records have arrived, which clears an earlier error of the client."""
        self.errors.latest = None
        self.note_answer()

    def probe(self, *, has_partitions: bool, is_taking_over: bool) -> None:
        """Check that the broker answers, if nothing has arrived for a while.

        is_taking_over : a takeover of partitions is pending, which asks the broker itself
        raises         : the error that the client has reported, or that of the probe
        """
        reported = self.errors.latest
        now_s = time.monotonic()
        is_recent = has_partitions and now_s < self._answered_s + IDLE_S
        if reported is None and (is_taking_over or is_recent):
            return
        if now_s < self._probed_s + PROBE_EVERY_S:
            return
        try:
            self._client.refresh_metadata(self.topic, PROBE_TIMEOUT_S)
            self.note_records()
        except ClientError as error:
            LOG.debug("probe of %s: %s", self.address, error.text)
            action = f"reading {self.topic} of {self.address}"
            raise translate(reported or error, action) from error
        finally:
            self._probed_s = time.monotonic()

    def unassigned(self) -> set[int]:
        """Return the partitions that no member of the stable group owns.

        The set is empty during a rebalance, and where no broker answers.
        """
        return unassigned(self._settings, self._engine, self.group, self.topic)

    def _refresh_metadata(self) -> None:
        """Refresh metadata, which a client may keep for minutes after it has lost a broker."""
        with suppress(ClientError):
            self._client.refresh_metadata(self.topic, METADATA_TIMEOUT_S)

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            partition = topic_partition_of(error, self.topic)
            where = f"({partition}, group {self.group}, at {self.address})"
            raise translate(error, f"{action} {where}") from error


def group_protocol(settings: Settings) -> str:
    """Return the protocol of the groups: classic, or consumer (KIP-848)."""
    return settings.kafka.get("group.protocol", "classic")


def unused_session_timeout(settings: Settings) -> str:
    """Return why predict.session_timeout_ms has no effect; empty where it has."""
    if group_protocol(settings) == "classic":
        return ""
    return (
        f"with kafka.group.protocol={group_protocol(settings)} the broker decides when a silent"
        " predictor loses its partitions (group.consumer.session.timeout.ms, 45 s by default), and"
        f" predict.session_timeout_ms={settings.predict.session_timeout_ms} has no effect"
    )


def unassigned(settings: Settings, engine: Engine, group: str, topic: str) -> set[int]:
    """Return the partitions of a topic that no member of a stable group owns; see Member."""
    client = engine.admin(client_config(settings, "admin"))
    try:
        described_topic = client.cluster(topic, GROUP_TIMEOUT_S).topics.get(topic)
        described_group = client.group(group, GROUP_TIMEOUT_S)
    except ClientError:
        return set()
    if described_topic is None or not described_group.is_stable:
        return set()
    owned = described_group.owned.get(topic, set())
    return set(range(described_topic.partitions)) - owned


def _config(
    settings: Settings,
    group: str,
    protocol: str,
    session_ms: int,
    instance_id: str | None,
    gather_s: float,
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
    held_back_ms = round(1000 * HELD_BACK * gather_s)
    if held_back_ms > int(tuning["fetch.wait.max.ms"]):
        tuning |= {"fetch.wait.max.ms": str(held_back_ms), "fetch.min.bytes": FETCH_MIN_BYTES}
    return client_config(settings, "consumer", tuning=tuning, required=required)


def _remaining_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
