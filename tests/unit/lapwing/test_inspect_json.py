"""Reports of ``lapwing inspect`` and ``lapwing dlq`` on JSON records."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lapwing.embedded.broker import EmbeddedBroker
from lapwing.inspect.command import inspect
from lapwing.inspect.json_records import inspect_json
from lapwing.inspect.reading import Inspection
from lapwing.inspect.records import Record, Sample
from shared.batch import Blob, Outgoing
from shared.errors import ConfigError
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.records import T0
from tests.support.dead_letter_site import DLQ, INPUT, PARTITIONS, Site

NOW = T0 + 5_000
HOSTS = [{"host": f"h{i % 3}", "ts": T0 + i, "cpu": i, "zone": "eu"} for i in range(30)]


def seen(values: list[Any], **given: Any) -> Inspection:
    written = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in values]
    records = [
        Record(partition=0, offset=i, broker_ms=NOW + i, key=b"k", value=value)
        for i, value in enumerate(written)
    ]
    settings = {"format": "json", "time_field": "ts", "time_unit": "ms"} | given
    return inspect_json(Sample("t: the newest", "t", records, {}), InputSettings(**settings))


def test_good_records() -> None:
    newest = {"HOST": "h1", "ts": T0 + 99, "load": {"one": 2}, "created_at": 1, "up": None}
    found = seen([*HOSTS, newest])
    (reading,) = found.readings
    assert (found.rows, found.read, found.dead, found.warnings) == (31, 31, (), ())
    assert (reading.entity, reading.time) == (("HOST",), "ts")
    assert reading.time_by == "a number, ms by input.time_unit"
    assert reading.metrics == ("load.one", "cpu")
    assert reading.left_out == (
        ("up", "always null"),
        ("created_at", "a time by its name: input.include takes it"),
        ("zone", "text"),
    )
    assert reading.examples[0].values == {"load.one": 2.0, "cpu": None}
    assert reading.warnings == ()
    assert found.settings["input.format"] == "json"


def test_records_that_cannot_be_read_are_grouped_by_reason() -> None:
    found = seen([b"{", b"[]", {"ts": 1}, HOSTS[0], {"host": "a", "ts": T0, "cpu": "1"}])
    assert (found.rows, found.read) == (5, 1)
    assert [(one.reason, one.count, one.place) for one in found.dead] == [
        ("not_json", 2, "t[0]@1"),
        ("record_unfit", 2, "t[0]@4"),
    ]
    assert found.dead[0].why == f"{Reason.NOT_JSON.sentence}: it is an array, not one object"
    assert found.dead[1].why.endswith('left out: cpu (the text "1")')


def test_nothing_can_be_read() -> None:
    found = seen([HOSTS[0] | {"ts": "now"}])
    (reading,) = found.readings
    assert reading.unfit.endswith('ts is the text "now", input.time_unit is ms')
    assert (reading.read, found.dead[0].reason) == (0, "time_invalid")
    assert seen([]).readings == ()


def test_likely_misreadings() -> None:
    def warned(records: list[dict[str, Any]], **given: Any) -> str:
        found = seen(records, **given)
        return "\n".join([*found.warnings, *found.readings[0].warnings])

    assert "load is a number in quotes, which is text" in warned([HOSTS[0] | {"load": "0.5"}])
    assert "input.time_unit=s reads them so" in warned(
        [{"host": "a", "ts": T0 // 1000, "cpu": 1}], min_time="1970-01-01T00:00:00Z"
    )
    assert "input.include names 'mem', which is in none" in warned(HOSTS, include="cpu,mem")
    long = [{"host": "a", "ts": T0 + i, "name": f"m{i % 2}", "value": i} for i in range(30)]
    assert "if name names the metric, these series are mixed" in warned(long)


def test_long_form_is_read_with_its_settings() -> None:
    long = [
        {"host": "a", "ts": T0 + i, "name": f"m{i % 2}", "value": i, "unit": "s"} for i in range(4)
    ]
    found = seen([*long, long[0] | {"name": ""}], metric_field="name", value_field="value")
    (reading,) = found.readings
    assert (found.read, reading.metrics, reading.warnings) == (4, ("m1", "m0"), ())
    assert dict(reading.left_out) == {
        "name": "the metric's name by input.metric_field",
        "unit": "long form: one metric per record",
    }
    assert found.dead[0].reason == "metric_invalid"
    assert found.dead[0].why.endswith(': name is the text ""')


# -- on a broker, without a registry ---------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    before = dict(os.environ)
    patch = pytest.MonkeyPatch()
    with EmbeddedBroker({INPUT: PARTITIONS, DLQ: PARTITIONS}) as broker:
        site = Site(broker, "http://127.0.0.1:9", patch, has_registry=False)
        for name, value in {"FORMAT": "json", "TIME_FIELD": "ts", "TIME_UNIT": "ms"}.items():
            patch.setenv(f"LAPWING_INPUT__{name}", value)
        yield site
        site.close()
    patch.undo()
    os.environ.clear()
    os.environ.update(before)


def test_a_topic_is_inspected_without_a_registry(site: Site) -> None:
    values = [json.dumps(one).encode() for one in HOSTS]
    keys = [one["host"].encode() for one in HOSTS]
    site.send(Outgoing(INPUT, Blob.join(values), Blob.join(keys), {}))
    read = InputSettings(format="json", time_field="ts", time_unit="ms")
    settings = site.settings.model_copy(update={"input": read})
    out = io.StringIO()
    assert inspect(settings, topic=None, data=None, limit=1000, as_json=False, out=out) == 0
    text = out.getvalue()
    assert "JSON objects: 30 records\n" in text
    assert "  metrics   cpu\n" in text
    assert "input.format         json" in text


def test_a_dead_letter_is_shown_and_corrected(site: Site, tmp_path: Path) -> None:
    bad = json.dumps({"host": "h1", "ts": 5, "cpu": 1.5}).encode()
    place = site.kill(b"h1", bad, Reason.TIME_OUT_OF_RANGE)
    shown = site.dlq("show", *place)
    assert "ts is the number 5, input.time_unit is ms" in shown
    assert "  cpu = 1.5\n" in shown
    fields = json.loads(site.dlq("show", *place, "--json"))["fields"]
    file = tmp_path / "fixed.json"
    file.write_text(json.dumps(fields | {"ts": T0}))
    site.dlq("replay", *place, "--json-file", str(file), "--yes")
    values = [json.loads(value) for _, _, value, headers in site.input() if headers]
    assert values == [{"host": "h1", "ts": T0, "cpu": 1.5}]
    with pytest.raises(ConfigError, match=r"records of input\.format=json have no schema"):
        site.dlq("replay", *place, "--json-file", str(file), "--schema-id", "1")


def test_a_dead_letter_that_is_no_json_is_shown(site: Site) -> None:
    for value in (b"{", b'{"a":' * 30 + b"1" + b"}" * 30, b'{"a":"\\ud800"}'):
        place = site.kill(b"h1", value, Reason.NOT_JSON)
        assert "headers\n" in site.dlq("show", *place)
