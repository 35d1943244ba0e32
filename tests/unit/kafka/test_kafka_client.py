"""The Kafka adapter without a broker: its configuration, its translation of errors, its columns."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from lapwing.embedded.broker import find_library
from shared.errors import (
    ConfigError,
    HistoryGone,
    LapwingError,
    NotAuthenticated,
    NotAuthorized,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka import GroupSource, Publisher, client_config, topic_specs, translate
from shared.kafka.engine.confluent import ConfluentEngine
from shared.kafka.engine.confluent.consumer import ConfluentConsumer
from shared.kafka.engine.confluent.errors import client_error
from shared.kafka.engine.port import ClientError
from shared.kafka.engine.properties import CONSUMER_ONLY, PRODUCER_ONLY
from shared.settings import Settings

FATAL, RETRIABLE, ABORT = (True, False, False), (False, True, False), (False, False, True)
PLAIN = (False, False, False)


def settings(**kafka: str) -> Settings:
    return Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1"} | kafka})


# -- configuration ---------------------------------------------------------------------------------


def test_what_the_user_sets_wins_over_tuning_and_reaches_the_right_clients() -> None:
    given = settings(
        security_protocol="SASL_SSL",
        linger_ms="77",
        fetch_wait_max_ms="3",
        group_protocol="consumer",
        compression_type="lz4",
    )
    producer = client_config(given, "producer", tuning={"linger.ms": "5", "retries": "3"})
    consumer = client_config(given, "consumer", tuning={"fetch.wait.max.ms": "10"})
    admin = client_config(given)
    assert producer["linger.ms"] == "77"
    assert (producer["retries"], producer["compression.type"]) == ("3", "lz4")
    assert (consumer["fetch.wait.max.ms"], consumer["group.protocol"]) == ("3", "consumer")
    assert {config["security.protocol"] for config in (producer, consumer, admin)} == {"SASL_SSL"}
    assert {config["bootstrap.servers"] for config in (producer, consumer, admin)} == {
        "127.0.0.1:1"
    }
    assert not set(producer) & CONSUMER_ONLY
    assert not set(consumer) & PRODUCER_ONLY
    assert not set(admin) & (CONSUMER_ONLY | PRODUCER_ONLY)


def test_a_name_belongs_to_one_kind_of_client_only() -> None:
    assert not CONSUMER_ONLY & PRODUCER_ONLY
    assert "bootstrap.servers" not in CONSUMER_ONLY | PRODUCER_ONLY


def test_each_setting_is_listed_for_the_kind_of_client_that_librdkafka_says(tmp_path: Path) -> None:
    shown = tmp_path / "properties.md"
    library, system = ctypes.CDLL(str(find_library())), ctypes.CDLL(None)
    system.fopen.restype, system.fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    library.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    file = system.fopen(str(shown).encode(), b"w")
    library.rd_kafka_conf_properties_show(file)
    system.fclose(file)
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in shown.read_text("utf-8").splitlines()
        if line.count("|") >= 4
    ]
    kinds = {
        name: {row[1] for row in rows if row[0] == name} for name in CONSUMER_ONLY | PRODUCER_ONLY
    }
    assert {name for name in CONSUMER_ONLY if kinds[name] != {"C"}} == set()
    assert {name for name in PRODUCER_ONLY if kinds[name] != {"P"}} == set()


@pytest.mark.parametrize(
    ("role", "name", "value", "required"),
    [
        ("consumer", "enable.auto.commit", "true", "false"),
        ("consumer", "isolation.level", "read_uncommitted", "read_committed"),
        ("consumer", "auto.offset.reset", "latest", "error"),
        ("consumer", "group.id", "mine", "lapwing-prediction"),
        ("producer", "enable.idempotence", "false", "true"),
        ("producer", "acks", "1", "all"),
        ("producer", "partitioner", "random", "murmur2_random"),
    ],
)
def test_what_correctness_needs_cannot_be_changed(
    role: str, name: str, value: str, required: str
) -> None:
    wrong = settings(**{name.replace(".", "_"): value})
    with pytest.raises(ConfigError) as refused:
        (GroupSource if role == "consumer" else Publisher)(wrong)
    variable = "LAPWING_KAFKA__" + name.upper().replace(".", "_")
    assert f"kafka.{name} ({variable}): must be {required!r}" in str(refused.value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acks", "-1"),
        ("acks", "ALL"),
        ("enable_idempotence", "True"),
        ("enable_auto_commit", "0"),
        ("isolation_level", "READ_COMMITTED"),
    ],
)
def test_the_right_value_may_be_spelt_in_any_way(name: str, value: str) -> None:
    GroupSource(settings(**{name: value})).close()
    Publisher(settings(**{name: value})).close()


def test_an_alias_is_named() -> None:
    with pytest.raises(ConfigError, match=r"request\.required\.acks.*use the name 'acks'"):
        Publisher(settings(request_required_acks="1"))


def test_a_setting_that_librdkafka_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match=r'"securty\.protocol"'):
        GroupSource(settings(securty_protocol="SSL"))
    with pytest.raises(ConfigError, match=r'"zip" for configuration property "compression\.'):
        Publisher(settings(compression_type="zip"))


class Spy(ConfluentEngine):
    """The engine in use, and the configurations that it was given."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, str]] = []

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> ConfluentConsumer:
        self.seen.append(config)
        return super().consumer(config, on_error)


def test_a_static_member_and_its_session_are_set() -> None:
    engine = Spy()
    GroupSource(
        settings(), "g", "t", instance_id="slot-1", session_timeout_ms=12_000, engine=engine
    ).close()
    GroupSource(settings(group_protocol="consumer"), "g", "t", engine=engine).close()
    classic, modern = engine.seen
    assert (classic["group.instance.id"], classic["session.timeout.ms"]) == ("slot-1", "12000")
    assert int(classic["heartbeat.interval.ms"]) <= 12_000 / 3
    assert classic["partition.assignment.strategy"] == "cooperative-sticky"
    assert not {
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    } & set(modern)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "flags", "kind", "retriable"),
    [
        ("_TRANSPORT", PLAIN, TransportError, True),
        ("_ALL_BROKERS_DOWN", PLAIN, TransportError, True),
        ("_TIMED_OUT", PLAIN, TransportError, True),
        ("_RESOLVE", PLAIN, TransportError, True),
        ("_MSG_TIMED_OUT", PLAIN, TransportError, True),
        ("LEADER_NOT_AVAILABLE", PLAIN, TransportError, True),
        ("NOT_ENOUGH_REPLICAS", PLAIN, TransportError, True),
        ("COORDINATOR_LOAD_IN_PROGRESS", PLAIN, TransportError, True),
        ("UNSTABLE_OFFSET_COMMIT", PLAIN, TransportError, True),
        ("_FAIL", RETRIABLE, TransportError, True),
        ("_FAIL", PLAIN, TransportError, False),
        ("_TRANSPORT", FATAL, TransportError, False),
        ("_AUTHENTICATION", PLAIN, NotAuthenticated, False),
        ("_SSL", PLAIN, NotAuthenticated, False),
        ("SASL_AUTHENTICATION_FAILED", PLAIN, NotAuthenticated, False),
        ("TOPIC_AUTHORIZATION_FAILED", PLAIN, NotAuthorized, False),
        ("GROUP_AUTHORIZATION_FAILED", PLAIN, NotAuthorized, False),
        ("TOPIC_AUTHORIZATION_FAILED", ABORT, NotAuthorized, False),
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", FATAL, NotAuthorized, False),
        ("MSG_SIZE_TOO_LARGE", PLAIN, TransportError, False),
        ("UNKNOWN_TOPIC_OR_PART", PLAIN, TopicMismatch, False),
        ("_UNKNOWN_PARTITION", PLAIN, TransportError, True),
        ("OFFSET_OUT_OF_RANGE", PLAIN, HistoryGone, False),
        ("_AUTO_OFFSET_RESET", PLAIN, HistoryGone, False),
        ("_INVALID_ARG", PLAIN, ConfigError, False),
        ("INVALID_REPLICATION_FACTOR", PLAIN, ConfigError, False),
        ("_FENCED", FATAL, ProducerFenced, False),
        ("PRODUCER_FENCED", ABORT, ProducerFenced, False),
        ("FENCED_INSTANCE_ID", FATAL, ProducerFenced, False),
        ("ILLEGAL_GENERATION", ABORT, TransactionAborted, True),
        ("_MSG_TIMED_OUT", ABORT, TransactionAborted, True),
    ],
)
def test_errors_are_translated(
    code: str, flags: tuple[bool, bool, bool], kind: type[LapwingError], retriable: bool
) -> None:
    error = KafkaError(getattr(KafkaError, code), "because", *flags)
    for given in (error, KafkaException(error)):
        found = translate(client_error(given), "reading t of host:9092")
        assert type(found) is kind
        assert found.retriable is retriable
        assert str(found).startswith("reading t of host:9092: because (")
        assert code in str(found)


@pytest.mark.parametrize(
    ("code", "text", "kind", "retriable"),
    [
        ("_SSL", "SSL handshake failed: certificate verify failed", NotAuthenticated, False),
        ("_SSL", "SSL handshake failed: Disconnected", TransportError, True),
        ("_TRANSPORT", "Receive failed: SSL alert number 42", NotAuthenticated, False),
        ("_TRANSPORT", "Receive failed: Connection reset by peer", TransportError, True),
        (
            "_AUTHENTICATION",
            "Failed to acquire SASL OAUTHBEARER token: Must supply an unexpired token",
            NotAuthenticated,
            False,
        ),
        (
            "_AUTHENTICATION",
            "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 127.0.0.1:9",
            NotAuthenticated,
            True,
        ),
    ],
)
def test_a_refusal_is_told_from_a_broken_connection(
    code: str, text: str, kind: type[LapwingError], retriable: bool
) -> None:
    found = translate(client_error(KafkaError(getattr(KafkaError, code), text)), "reading")
    assert type(found) is kind
    assert found.retriable is retriable


def test_a_consumer_says_in_words_only_that_its_slot_was_taken() -> None:
    reason = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    fatal = KafkaError(KafkaError._FATAL, f"Fatal error: {reason}: more", True)
    assert isinstance(translate(client_error(fatal), "reading"), ProducerFenced)
    assert not isinstance(
        translate(
            client_error(KafkaError(KafkaError._FATAL, "Fatal error: other", True)), "reading"
        ),
        ProducerFenced,
    )


def test_an_exception_without_a_kafka_error_is_no_reason_to_try_again() -> None:
    found = translate(client_error(KafkaException("odd")), "reading")
    assert isinstance(found, TransportError)
    assert not found.retriable


# -- topics ----------------------------------------------------------------------------------------


def test_the_topics_are_those_of_the_contract() -> None:
    given = Settings.model_validate(
        {
            "topics": {
                "dataset": "web",
                "partitions": 4,
                "replication": 3,
                "input_retention_hours": 48,
                "scores_retention_hours": 1,
            },
            "input": {"max_record_bytes": 2_000_000},
        }
    )
    specs = {spec.name: spec for spec in topic_specs(given)}
    assert {name: (spec.partitions, spec.replication) for name, spec in specs.items()} == {
        "metrics.web.raw": (4, 3),
        "metrics.web.scores": (4, 3),
        "anomalies.web.events": (1, 3),
        "models.web.activations": (1, 3),
        "anomalies.web.incidents": (1, 3),
        "anomalies.web.feedback": (1, 3),
        "anomalies.web.unsent": (1, 3),
        "metrics.web.raw.dlq": (4, 3),
    }
    policies = {name: spec.config["cleanup.policy"] for name, spec in specs.items()}
    for compacted in ("incidents", "feedback"):
        assert policies.pop(f"anomalies.web.{compacted}") == "compact"
    assert set(policies.values()) == {"delete"}
    assert specs["anomalies.web.incidents"].config["min.compaction.lag.ms"] == "604800000"
    assert specs["metrics.web.raw"].config["retention.ms"] == "172800000"
    assert specs["metrics.web.scores"].config["retention.ms"] == "3600000"
    kept = specs["models.web.activations"].config
    assert (kept["retention.ms"], kept["retention.bytes"]) == ("-1", "-1")
    largest = int(specs["metrics.web.raw"].config["max.message.bytes"])
    assert largest >= 2_000_000
    assert int(specs["metrics.web.raw.dlq"].config["max.message.bytes"]) == largest + 65_536
    assert int(topic_specs(Settings())[0].config["max.message.bytes"]) == 1_048_588
