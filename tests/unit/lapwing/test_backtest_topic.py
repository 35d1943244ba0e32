"""A range of a topic, on the embedded broker and registry, against the same series from files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapwing.backtest.command import BacktestOptions, backtest, merged
from lapwing.backtest.feeds import InputOptions
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from producer.catalogue import load_catalogue, read_folder
from producer.records import RecordMaker, event_schema
from producer.replay import merge
from shared.batch import Blob, Outgoing
from shared.errors import DataError
from shared.kafka import Publisher
from shared.registry import Registry
from shared.settings import load_settings
from shared.wording import second

PARTITIONS = 3
START_MS, STEP_MS, ROWS = 1_699_999_800_000, 1_800_000, 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    for number, name in enumerate(("a", "b", "c")):
        row = np.arange(ROWS)
        values = 10 + np.sin(row / 7 + number) + 0.3 * np.sin(row * 2.399963)
        values[80 + 10 * number] = 90
        lines = [
            f"{second(START_MS + place * STEP_MS)},{value:.6f}"
            for place, value in enumerate(values)
        ]
        (folder / f"{name}_cpu_utilization.csv").write_text(
            "\n".join(["timestamp,value", *lines]) + "\n"
        )
    return folder


@pytest.fixture(scope="module")
def flags(folder: Path) -> Iterator[dict[str, Any]]:
    """Settings of a broker whose topic holds the folder's series and one undecodable record."""
    topics = {"metrics.cloudwatch.raw": PARTITIONS, "metrics.empty.raw": 1}
    with EmbeddedBroker(topics) as broker, serve("127.0.0.1", 0) as registry:
        flags: dict[str, Any] = {"kafka": broker.client_settings, "registry": {"url": registry.url}}
        settings = load_settings(flags, environ={})
        stream = merge(read_folder(folder, load_catalogue())[0])
        schema_id = Registry(settings.registry).register(
            f"{settings.topics.input}-value", event_schema(stream.metrics), "BACKWARD"
        )
        publisher = Publisher(settings)
        publisher.send(RecordMaker(settings.topics.input, schema_id, stream.entities)(stream))
        publisher.send(
            Outgoing(
                settings.topics.input, Blob.join([b"not avro"]), Blob.join([b"a_cpu_utilization"])
            )
        )
        assert publisher.flush(10) == 0
        publisher.close()
        yield flags


def run(flags: dict[str, Any], **source: Any) -> dict[str, Any]:
    def load(more: Any) -> Any:
        return load_settings(
            merged(merged(flags, {"detection": {"warmup_days": 0.2, "threshold": 0.7}}), more),
            environ={},
        )

    return backtest(load, BacktestOptions(InputOptions(**source)), io.StringIO())["first"]


def alarms(figures: dict[str, Any]) -> list[tuple[Any, ...]]:
    return sorted(
        (one["entity"], one["time"], one["severity"], one["reason"])
        for one in figures["top_alarms"]
    )


def test_a_topic_says_what_its_files_say(flags: dict[str, Any], folder: Path) -> None:
    of_topic, of_files = (
        run(flags, topic_range=".."),
        run(flags, data=folder, partitions=PARTITIONS),
    )
    assert alarms(of_topic) == alarms(of_files)
    assert of_topic["alarms"]["count"] >= 3
    assert (of_topic["records"], of_topic["rejected"]) == (3 * ROWS, {"not_avro": 1})
    assert of_files["rejected"] == {}


def test_a_range_of_times_takes_the_records_in_it(flags: dict[str, Any]) -> None:
    start, stop = (second(START_MS + row * STEP_MS).replace(" ", "T") for row in (10, 70))
    figures = run(flags, topic_range=f"{start}..{stop}")
    assert (figures["records"], figures["rejected"]) == (3 * 60, {})
    assert figures["first_event"] == start[:16].replace("T", " ")


def test_a_range_of_offsets_takes_them_from_every_partition(flags: dict[str, Any]) -> None:
    of_first = run(flags, topic_range="0..30")
    assert 30 <= of_first["records"] <= PARTITIONS * 30
    assert {one["records"] <= 30 for one in of_first["per_entity"]} == {True}


def test_an_empty_topic_is_said(flags: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"metrics\.empty\.raw \.\.: there is no record to score"):
        run(flags | {"topics": {"dataset": "empty"}}, topic_range="..")
