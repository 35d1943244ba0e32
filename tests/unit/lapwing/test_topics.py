"""``lapwing topics``: what it creates, keeps, refuses and shows.

The registry is the embedded one, the broker a fake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

import schemas
from lapwing import topics
from lapwing.embedded.registry import EmbeddedRegistry, serve
from shared.errors import ConfigError, SchemaRefused, TopicMismatch, TransportError
from shared.kafka import ConfigDifference, TopicReport, topic_specs
from shared.registry import Registry
from shared.settings import RegistrySettings, Settings

FOREIGN = json.dumps(
    {
        "type": "record",
        "name": "record",
        "namespace": "org.apache.flink.avro.generated",
        "fields": [{"name": "host", "type": ["null", "string"], "default": None}],
    }
)
OTHER = json.dumps(
    {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]}
)


class FakeAdmin:
    """A broker that creates every requested topic."""

    report: TopicReport | None = None
    down: Exception | None = None
    closed = 0

    def __init__(self, settings: Settings) -> None: ...

    def try_topics(self, specs, *, create):
        if FakeAdmin.down:
            raise FakeAdmin.down
        names = tuple(spec.name for spec in specs)
        if not create:
            return TopicReport((), (), (), missing=names)
        return FakeAdmin.report or TopicReport(names, (), ())

    def bounds(self, topic):
        return {0: 0, 1: 5}, {0: 7, 1: 8}

    def lag(self, group, topic):
        return {0: 4, 1: 0}

    def close(self):
        FakeAdmin.closed += 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRegistry]:
    for name in ("report", "down"):
        monkeypatch.setattr(FakeAdmin, name, None)
    monkeypatch.setattr(topics, "Admin", FakeAdmin)
    with serve() as running:
        yield running


@pytest.fixture
def settings(server: EmbeddedRegistry) -> Settings:
    return Settings(registry=RegistrySettings(url=server.url))


@pytest.fixture
def owner(server: EmbeddedRegistry) -> Iterator[SchemaRegistryClient]:
    """Owner of the input, with its own client."""
    with SchemaRegistryClient({"url": server.url, "timeout": 5, "max.retries": 0}) as client:
        yield client


def results(settings: Settings) -> list[str]:
    return [subject for subject, *_ in topics.result_subjects(settings)]


def test_ensure_makes_what_is_ours_and_nothing_else(
    settings: Settings, owner: SchemaRegistryClient
) -> None:
    done = topics.ensure(settings)
    assert (len(done.created), done.refused, done.exit_code) == (8, {}, 0)
    assert sorted(done.schemas) == sorted(results(settings)) == owner.get_subjects()
    assert {owner.get_compatibility(subject) for subject in results(settings)} == {"FULL"}
    assert list(done.left_alone) == ["metrics.cloudwatch.raw-value"]
    assert "has no schema yet" in done.left_alone["metrics.cloudwatch.raw-value"]
    assert topics.ensure(settings).schemas == done.schemas


@pytest.mark.parametrize("level", ["NONE", "FULL_TRANSITIVE", "BACKWARD", None])
def test_the_owners_subject_stays_as_it_is(
    settings: Settings, owner: SchemaRegistryClient, level: str | None
) -> None:
    subject = topics.input_subject(settings)
    owner.register_schema(subject, Schema(FOREIGN, "AVRO"))
    if level:
        owner.set_compatibility(subject, level)
    done = topics.ensure(settings)
    assert (done.exit_code, sorted(done.schemas)) == (0, sorted(results(settings)))
    assert owner.get_versions(subject) == [1]
    if level:
        assert owner.get_compatibility(subject) == level
    else:
        with pytest.raises(SchemaRegistryError):
            owner.get_compatibility(subject)
    assert f"has 1 version at level {level or 'BACKWARD'}" in done.left_alone[subject]


@pytest.mark.parametrize("schemas_only", [False, True])
def test_the_owner_can_register_after_ensure(
    settings: Settings, owner: SchemaRegistryClient, schemas_only: bool
) -> None:
    topics.ensure(settings, schemas_only=schemas_only)
    assert owner.register_schema(topics.input_subject(settings), Schema(FOREIGN, "AVRO")) > 0


def test_a_result_subject_of_somebody_else_keeps_nothing_else_from_being_made(
    settings: Settings, owner: SchemaRegistryClient, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, *others = results(settings)
    owner.register_schema(theirs, Schema(OTHER, "AVRO"))
    owner.set_compatibility(theirs, "FULL_TRANSITIVE")
    assert topics.ensure_all(settings, schemas_only=False, as_json=False) == 2
    assert sorted(owner.get_subjects()) == sorted(results(settings))
    assert (owner.get_versions(theirs), owner.get_compatibility(theirs)) == ([1], "FULL_TRANSITIVE")
    out, error = capsys.readouterr()
    assert all(f"schema    {subject} has id" in out for subject in others)
    assert f"refused   {theirs}\n" in out
    assert error.startswith(f"lapwing: {theirs}: ")
    assert "level FULL_TRANSITIVE" in error
    assert "topics.dataset" in error
    with pytest.raises(ConfigError, match=theirs):
        topics.ensure(settings).checked()


def test_the_level_of_a_result_subject_that_exists_is_said_and_kept(
    settings: Settings, owner: SchemaRegistryClient
) -> None:
    scores = results(settings)[0]
    owner.register_schema(scores, Schema(schemas.text(schemas.SCORE_EVENT), "AVRO"))
    owner.set_compatibility(scores, "NONE")
    done = topics.ensure(settings)
    assert (done.exit_code, owner.get_compatibility(scores)) == (0, "NONE")
    assert done.left_alone[scores] == "its compatibility level is NONE, Lapwing would set FULL"


def test_a_topic_that_is_refused_keeps_nothing_else_from_being_made(
    settings: Settings,
    owner: SchemaRegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = TopicReport(
        ("a",), ("b", "d"), (ConfigDifference("b", "retention.ms", "1", "2"),),
        {"c": TransportError("creating topic c: no answer")}, {"d": ConfigError("not authorised")},
    )  # fmt: skip
    monkeypatch.setattr(FakeAdmin, "report", report)
    assert topics.ensure_all(settings, schemas_only=False, as_json=True) == 1
    out, error = capsys.readouterr()
    message = json.loads(out)
    assert (message["created"], message["existing"]) == (["a"], ["b", "d"])
    assert message["differences"] == [
        {"topic": "b", "name": "retention.ms", "wanted": "1", "found": "2"}
    ]
    assert message["refused"] == {"c": "creating topic c: no answer"}
    assert "not authorised" in message["left_alone"]["d"]
    assert sorted(message["schemas"]) == sorted(results(settings)) == owner.get_subjects()
    assert error == "lapwing: creating topic c: no answer\n"


def test_without_a_broker_the_schemas_are_registered_all_the_same(
    settings: Settings, owner: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeAdmin, "down", TransportError("no answer"))
    done = topics.ensure(settings)
    assert (done.exit_code, sorted(done.schemas)) == (1, owner.get_subjects())
    assert "no answer" in str(done.refused["topics"])


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:1", "127.0.0.1:1"), ("127.0.0.1:8081", "is not a URL")],
)
def test_without_a_registry_nothing_is_created(
    server: EmbeddedRegistry, url: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = RegistrySettings.model_construct(url=url, timeout_s=5.0, basic_auth="")
    away = Settings().model_copy(update={"registry": registry})
    assert topics.ensure_all(away, schemas_only=False, as_json=False) > 0
    out, error = capsys.readouterr()
    assert "created   " not in out
    assert out.count("missing   ") == 8
    assert "refused   registry" in out
    assert says in error


def test_a_wrong_partition_count_and_the_missing_topics_are_said_together(
    settings: Settings,
    owner: SchemaRegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {"c": TopicMismatch("c has 4 partitions")}
    report = TopicReport((), ("s",), (), refused, missing=("c.dlq",), other={"s": (4, 6)})
    monkeypatch.setattr(FakeAdmin, "report", report)
    assert topics.ensure_all(settings, schemas_only=False, as_json=False) == 1
    out, error = capsys.readouterr()
    assert "missing   c.dlq: not created" in out
    assert "left      s: it has 4 partitions, a new topic would have 6; both work" in out
    assert (error, owner.get_subjects()) == ("lapwing: c has 4 partitions\n", [])


def test_a_shorter_retention_comes_with_what_depends_on_it() -> None:
    week = ConfigDifference("t", "retention.ms", "2592000000", "604800000")
    assert topics.describe_difference(week, "t").endswith(
        "the settings say 2592000000; this works unless predictors are down for more than 7 days"
    )
    assert "unless" not in topics.describe_difference(week, "another")
    other = ConfigDifference("t", "max.message.bytes", "5", "6")
    assert topics.describe_difference(other, "t") == "t: max.message.bytes is 6, the settings say 5"


def test_what_is_made_is_said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert topics.ensure_all(settings, schemas_only=True, as_json=False) == 0
    out, error = capsys.readouterr()
    assert (out.count(" has id "), error) == (5, "")
    assert (
        "left      metrics.cloudwatch.raw-value: it belongs to the producer of the input; " in out
    )
    assert "created" not in out


def test_describe_shows_the_schemas_of_everybody(
    settings: Settings, owner: SchemaRegistryClient, capsys: pytest.CaptureFixture[str]
) -> None:
    topics.ensure(settings)
    owner.register_schema(topics.input_subject(settings), Schema(FOREIGN, "AVRO"))
    topics.describe_all(settings, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    (theirs,) = (line for line in lines if line.startswith("metrics.cloudwatch.raw "))
    assert theirs.split() == [
        "metrics.cloudwatch.raw", "2", "10", "4", "org.apache.flink.avro.generated.record,",
        "version", "1,", "BACKWARD"
    ]  # fmt: skip
    assert lines[0].split()[:4] == ["topic", "partitions", "offsets", "unread"]
    assert lines[-1].startswith("offsets: records, plus one marker")
    assert sum("lapwing." in line and line.rstrip().endswith("FULL") for line in lines) == 5
    topics.describe_all(settings, as_json=True)
    rows = {row["topic"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["metrics.cloudwatch.raw"]["subject"]["versions"] == [1]
    assert rows["metrics.cloudwatch.raw.dlq"]["subject"] is None
    assert len(rows) == len(topic_specs(settings))


def test_describe_without_a_registry(
    server: EmbeddedRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    topics.describe_all(
        Settings(registry=RegistrySettings(url="http://127.0.0.1:1")), as_json=False
    )
    out = capsys.readouterr().out
    assert out.count("unknown") == 6
    assert out.count("http://127.0.0.1:1") == 1


def test_a_subject_without_an_avro_record(settings: Settings, owner: SchemaRegistryClient) -> None:
    owner.register_schema("x-value", Schema('"string"', "AVRO"))
    found = topics.describe_subjects(Registry(settings.registry), ["x-value", "y-value"])
    assert (found["x-value"].text, found["y-value"].text) == (
        "no Avro record, version 1, BACKWARD",
        "none",
    )


def test_the_bundled_producer_and_a_foreign_schema_in_both_orders(
    settings: Settings, owner: SchemaRegistryClient
) -> None:
    """The first schema of a subject is registered; an incompatible second one is refused.

    This holds whether the bundled producer or the owner comes first.
    """
    registry, subject = Registry(settings.registry), topics.input_subject(settings)
    registry.register(subject, schemas.text(schemas.METRIC_EVENT), "BACKWARD")
    with pytest.raises(SchemaRegistryError) as caught:
        owner.register_schema(subject, Schema(FOREIGN, "AVRO"))
    assert caught.value.http_status_code == 409
    owner.register_schema("own-value", Schema(FOREIGN, "AVRO"))
    with pytest.raises(SchemaRefused, match=r"own-value: .* level BACKWARD"):
        registry.register("own-value", schemas.text(schemas.METRIC_EVENT), "BACKWARD")
    with pytest.raises(SchemaRegistryError):
        owner.get_compatibility("own-value")
