"""``lapwing inspect`` on files, and on an embedded broker and registry with real serializers."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from lapwing.inspect.command import inspect, inspect_topic
from lapwing.inspect.topic import read_sample
from producer.files.columns import ColumnChoice
from shared.batch import Blob, Outgoing
from shared.errors import ConfigError, TopicMismatch
from shared.kafka import Admin, Publisher
from shared.settings import Settings, load_settings
from tests.reference.records import T0

OWN = "metrics.own.raw"
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Own",
        "fields": [
            {"name": "HOST", "type": ["null", "string"]},
            {"name": "TS", "type": "long"},
            {"name": "NOTE", "type": "string"},
            {"name": "CPU", "type": ["null", "double"]},
        ],
    }
)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with (
        EmbeddedBroker({OWN: 3, "metrics.empty.raw": 1, "metrics.cloudwatch.raw": 1}) as broker,
        serve() as registry,
    ):
        flags = {"kafka": broker.client_settings, "registry": {"url": registry.url}}
        flags = flags | {"input": {"time_unit": "ms"}}  # type: ignore[dict-item]
        settings = load_settings(flags, environ={})
        send(settings, 60)
        send(settings, 5, in_header=True)
        yield settings


def to_header(value: bytes, context: SerializationContext, schema_id: Any) -> bytes:
    """Confluent's own, with the GUID that a registry of Confluent Platform 8 assigns."""
    schema_id.guid = uuid.UUID("b6c9f1a0-0000-4000-8000-000000000001")
    return header_schema_id_serializer(value, context, schema_id)


def send(settings: Settings, count: int, *, in_header: bool = False) -> None:
    """Send records as a producer with confluent-kafka's serializer does."""
    client = SchemaRegistryClient({"url": settings.registry.url})
    config = {"schema.id.serializer": to_header} if in_header else {}
    serializer = AvroSerializer(client, SCHEMA, conf=config)
    values, keys, headers = [], [], {}
    for i in range(count):
        context = SerializationContext(OWN, MessageField.VALUE, [])
        record = {
            "HOST": f"web-{i % 4}",
            "TS": T0 + 1000 * i,
            "NOTE": "up",
            "CPU": None if i == 59 else i / 2,
        }
        values.append(serializer(record, context))
        keys.append(record["HOST"].encode())
        headers[i] = tuple(context.headers)
    publisher = Publisher(settings)
    publisher.send(Outgoing(OWN, Blob.join(values), Blob.join(keys), headers if in_header else {}))
    assert publisher.flush(10) == 0
    publisher.close()


def shown(settings: Settings, **more: Any) -> tuple[int, str]:
    out = io.StringIO()
    given = {"topic": None, "data": None, "limit": 1000, "as_json": False} | more
    return inspect(settings, out=out, **given), out.getvalue()


def test_a_topic_of_somebody_else(settings: Settings) -> None:
    code, out = shown(settings, topic=OWN)
    assert (code, out.splitlines()[0]) == (0, f"{OWN}: the newest 65 of 65 records in 3 partitions")
    assert "entity    HOST\n  time      TS (long, ms by input.time_unit)\n  metrics   CPU\n" in out
    assert "left out  NOTE  text" in out
    assert "2014-04-08T23:34:19Z  web-3  CPU=-" in out
    assert "dead letters: 5 of 65" in out
    assert "Confluent's GUID b6c9f1a0-0000-4000-8000-000000000001: a registry answers" in out


def test_as_json(settings: Settings) -> None:
    code, out = shown(settings, topic=OWN, as_json=True)
    document = json.loads(out)
    (reading,) = document["readings"]
    assert (code, document["rows"], document["read"], document["dead_letters"]) == (0, 65, 60, 5)
    assert (reading["entity"], reading["time"], reading["metrics"]) == (["HOST"], "TS", ["CPU"])
    assert reading["left_out"] == [["NOTE", "text"]]
    assert document["dead"][0]["reason"] == "unknown_schema"
    assert document["settings"]["input.time_unit"] == "ms"


def test_what_a_setting_lacks_is_said_and_is_the_exit_code(settings: Settings) -> None:
    unset = settings.model_copy(
        update={"input": settings.input.model_copy(update={"time_unit": ""})}
    )
    code, out = shown(unset, topic=OWN)
    assert code == 1
    assert "cannot be read: Own has no timestamp field" in out
    assert "TS may be the event time: set input.time_unit" in out


def test_only_the_newest_are_read(settings: Settings) -> None:
    sample = read_sample(settings, OWN, 10)
    assert len(sample.records) == 10
    assert sample.source == f"{OWN}: the newest 10 of about 65 records in 3 partitions"
    whole = read_sample(settings, OWN, 1000)
    for partition in range(3):
        mine = sorted(one.offset for one in sample.records if one.partition == partition)
        assert (
            mine
            == sorted(one.offset for one in whole.records if one.partition == partition)[
                -len(mine) or 65 :
            ]
        )


def test_nothing_is_committed_or_registered(settings: Settings) -> None:
    client = SchemaRegistryClient({"url": settings.registry.url})
    before = client.get_subjects()
    inspect_topic(settings, OWN)
    assert client.get_subjects() == before == [f"{OWN}-value"]
    for group in ("lapwing-reader", "lapwing-admin", settings.predict.group):
        assert Admin(settings).committed(group, OWN) == {}


def test_a_topic_without_records_and_without_a_schema(settings: Settings) -> None:
    code, out = shown(settings)
    assert (code, out.splitlines()[0]) == (0, "metrics.cloudwatch.raw: no records")


def test_a_topic_without_records_whose_subject_has_a_schema(settings: Settings) -> None:
    client = SchemaRegistryClient({"url": settings.registry.url})
    AvroSerializer(client, SCHEMA)(
        {"HOST": "a", "TS": 1, "NOTE": "", "CPU": None},
        SerializationContext("metrics.empty.raw", MessageField.VALUE),
    )
    code, out = shown(settings, topic="metrics.empty.raw")
    assert code == 0
    assert "the newest schema of the subject, Own: 0 records\n  entity    HOST\n" in out
    client.delete_subject("metrics.empty.raw-value")


def test_a_topic_that_is_not_there(settings: Settings) -> None:
    with pytest.raises(TopicMismatch, match="there is no topic nowhere"):
        shown(settings, topic="nowhere")
    with pytest.raises(ConfigError, match="--topic and --data exclude each other"):
        shown(settings, topic=OWN, data=Path())


# --- files ----------------------------------------------------------------------------------------


def files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_files(tmp_path: Path) -> None:
    folder = files(
        tmp_path,
        wide="Time,Host,cpu,device_id,updated_at\n"
        + "".join(f"2024-01-01 00:0{i}:00,web-{i % 2},{i},7,1704067200\n" for i in range(6)),
        single="timestamp,value\n2024-01-01 00:00:00,1\nsoon,2\n",
        broken="a,b\n1,2\n",
    )
    code, out = shown(Settings(), data=folder)
    assert code == 0
    assert f"{folder}: 8 rows of 3 files" in out
    assert "wide: 6 rows\n  entity    Host\n  time      Time (ISO 8601)\n  metrics   cpu\n" in out
    assert (
        "left out  device_id   an identifier ('7') is no metric; --entity Host,device_id makes it"
        in out
    )
    assert "updated_at  a second column of times" in out
    assert "! column" not in out
    assert "newest    2024-01-01T00:05:00Z  web-1  cpu=5" in out
    assert "single: 2 rows, 1 of them can be read\n  entity    the file's name\n" in out
    assert "broken: 0 rows\n  cannot be read: " in out
    assert "no timestamp column" in out
    assert "bad rows: 1 of 8" in out
    assert "single.csv, line 3: 'soon' is not a timestamp" in out
    assert "columns.timestamp  timestamp,time,datetime" in out


def test_options_say_what_the_columns_are(tmp_path: Path) -> None:
    rows = "".join(f"{i % 2};2024-01-0{1 + i} 00:00:00;1,5\n" for i in range(6))
    folder = files(tmp_path, a=f"rack;when;load\n{rows}")
    choice = ColumnChoice.parse("rack", "when", None, "comma")
    code, out = shown(Settings(), data=folder, columns=choice)
    assert code == 0
    assert "entity    rack\n  time      when (ISO 8601)\n  metrics   load\n" in out
    assert "load=1.5" in out
    assert "--entity           rack\n  --time             when\n" in out
    with pytest.raises(ConfigError, match="--entity describes columns of files"):
        shown(Settings(), topic=OWN, columns=choice)


def test_files_as_json(tmp_path: Path) -> None:
    code, out = shown(
        Settings(), data=files(tmp_path, a="timestamp,cpu\n2024-01-01 00:00:00,1\n"), as_json=True
    )
    document = json.loads(out)
    assert (code, document["kind"], document["rows"], document["readings"][0]["metrics"]) == (
        0,
        "row",
        1,
        ["cpu"],
    )


def test_files_of_which_none_can_be_read(tmp_path: Path) -> None:
    folder = files(tmp_path, a="when,cpu\n1,1\n", b="timestamp,note\n2024-01-01 00:00:00,up\n")
    assert shown(Settings(), data=folder)[0] == 1


def test_settings_that_predictors_could_not_read_the_replay_with(tmp_path: Path) -> None:
    folder = files(tmp_path, a="timestamp,cpu\n2024-01-01 00:00:00,1\n")
    settings = load_settings({"input": {"entity_fields": "device"}}, environ={})
    code, out = shown(settings, data=folder)
    assert code == 1
    assert "predictors with these settings: lapwing.MetricEvent has no field 'device'" in out
