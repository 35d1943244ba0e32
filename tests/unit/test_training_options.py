"""The trainer's command line, and the writer schemas that it asks the registry for."""

from __future__ import annotations

from pathlib import Path

import pytest

import schemas
from consumer_training import topic
from consumer_training.__main__ import _flags, _parser, main
from consumer_training.topic import RegistrySchemas, schema_sha256
from shared.codec import SchemaUnfit, WriterPlan
from shared.errors import TransportError
from shared.settings import Settings, load_settings

UNFIT = '{"type": "record", "name": "R", "fields": [{"name": "host", "type": "string"}]}'


def test_options_become_settings(tmp_path: Path) -> None:
    given = _parser().parse_args(
        ["--detector", "one_class_svm", "--cron", "0 3 * * *", "--window-days", "7.5", "--models-dir", str(tmp_path)]
    )
    settings = load_settings(_flags(given), environ={"LAPWING_TRAIN__SEED": "5"})
    assert settings.detector == "one_class_svm"
    assert settings.models_dir == tmp_path
    assert (settings.train.cron, settings.train.window_days, settings.train.seed) == ("0 3 * * *", 7.5, 5)
    assert _flags(_parser().parse_args(["--once"])) == {}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--every", "soon"], "train.every"),
        (["--every", "1h", "--cron", "* * * * *"], "train.every and train.cron exclude each other"),
        (["--window-days", "-1"], "train.window_days"),
        (["--cron", "at dawn"], "train.cron: 'at dawn' is not a cron line"),
        (["--labels", "nowhere.json"], "nowhere.json: it cannot be read"),
        (["--config", "nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_two(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("shared.telemetry.configure", lambda *_: None)
    assert main(options) == 2
    said = capsys.readouterr().err
    assert said.startswith("lapwing train: ")
    assert complaint in said


class FakeRegistry:
    def __init__(self, *_: object) -> None:
        self.asked: list[int] = []

    def schema(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        if schema_id == 3:
            raise TransportError("registry does not answer")
        return {1: schemas.text(schemas.METRIC_EVENT), 2: UNFIT}.get(schema_id)


@pytest.fixture
def writer_schemas(monkeypatch: pytest.MonkeyPatch) -> RegistrySchemas:
    monkeypatch.setattr(topic, "Registry", FakeRegistry)
    return RegistrySchemas(Settings())


def test_each_schema_is_asked_for_and_compiled_once(writer_schemas: RegistrySchemas) -> None:
    first, again = writer_schemas.plans([1, 2, 9]), writer_schemas.plans([9, 1])
    assert isinstance(first[1], WriterPlan)
    assert isinstance(first[2], SchemaUnfit)
    assert first[9] is None
    assert again == {9: None, 1: first[1]}
    assert writer_schemas._registry.asked == [1, 2, 9]


def test_outage_is_no_unknown_schema(writer_schemas: RegistrySchemas) -> None:
    with pytest.raises(TransportError):
        writer_schemas.plans([1, 3])
    assert set(writer_schemas.plans([1])) == {1}


def test_fingerprint_ignores_docs_and_spaces(writer_schemas: RegistrySchemas) -> None:
    plain = '{"name":"R","type":"record","fields":[{"name":"host","type":"string"}]}'
    documented = UNFIT.replace('"type": "string"', '"type": "string", "doc": "who"')
    assert schema_sha256(plain) == schema_sha256(documented) == writer_schemas.fingerprints([2, 9])[0]
    assert schema_sha256(plain) != schema_sha256(plain.replace("string", "bytes"))
    assert len(schema_sha256("not avro")) == 64
