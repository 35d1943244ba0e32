"""Settings: precedence of sources, and errors of wrong values."""

import ast
import re

import pytest

from shared.errors import ConfigError
from shared.settings import load_settings
from shared.settings.names import RENAMED, SECRETS, variable_of


def test_flags_win_over_environment_over_file_over_default(tmp_path):
    file = tmp_path / "lapwing.toml"
    file.write_text(
        'detector = "one_class_svm"\n[predict]\ngroup = "file"\ncommit_interval_ms ='
        " 7\n[train]\ntrees = 9\n"
    )
    environ = {
        "LAPWING_PREDICT__GROUP": "environment",
        "LAPWING_PREDICT__COMMIT_INTERVAL_MS": "8",
        "LAPWING_CONFIG": str(file),
    }
    settings = load_settings({"predict": {"commit_interval_ms": 9}}, environ=environ)
    assert settings.predict.commit_interval_ms == 9
    assert settings.predict.group == "environment"
    assert settings.train.trees == 9
    assert settings.detector == "one_class_svm"
    assert settings.train.samples == 4096


def test_overrides_win_over_the_environment_and_flags_over_them(tmp_path):
    file = tmp_path / "lapwing.toml"
    file.write_text("[train]\ntrees = 1\nsamples = 2\nseed = 3\n")
    settings = load_settings(
        {"train": {"trees": 1000}},
        file,
        {"LAPWING_TRAIN__SAMPLES": "20", "KAFKA_BOOTSTRAP_SERVERS": "environment:1"},
        {
            "train.trees": "100",
            "train.samples": "200",
            "input.include": "cpu,mem",
            "kafka.bootstrap.servers": "override:1",
            "kafka.sasl.mechanism": "PLAIN",
        },
    )
    assert (settings.train.trees, settings.train.samples, settings.train.seed) == (1000, 200, 3)
    assert settings.input.include == ("cpu", "mem")
    assert settings.kafka == {"bootstrap.servers": "override:1", "sasl.mechanism": "PLAIN"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("train.trees", "LAPWING_TRAIN__TREES"),
        ("detector", "LAPWING_DETECTOR"),
        ("kafka.sasl.mechanism", "LAPWING_KAFKA__SASL_MECHANISM"),
    ],
)
def test_variables_of_settings(name, wanted):
    assert variable_of(name) == wanted


def test_names_of_the_field_are_understood_and_ours_win():
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "a:1", "SCHEMA_REGISTRY_URL": "http://r:2"}
    settings = load_settings(environ=environ)
    assert (settings.bootstrap, settings.registry.url) == ("a:1", "http://r:2")
    assert (
        load_settings(environ=environ | {"LAPWING_KAFKA__BOOTSTRAP_SERVERS": "b:1"}).bootstrap
        == "b:1"
    )


def test_any_librdkafka_setting_passes_through():
    settings = load_settings(environ={"LAPWING_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert settings.kafka == {
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "SASL_SSL",
    }


def test_polls_gather_within_the_commit_interval():
    waits = [
        load_settings(environ={}, flags={"predict": predict}).predict.gather_s
        for predict in (
            {},
            {"coalesce_ms": 7},
            {"coalesce_ms": 50, "commit_interval_ms": 200},
            {"commit_interval_ms": 5},
            {"coalesce_ms": 0},
            {"delivery": "at-least-once"},
        )
    ]
    assert waits == pytest.approx([0.095, 0.007, 0.05, 0.00475, 0.0, 0.0])


def test_topics_follow_the_dataset():
    topics = load_settings({"topics": {"dataset": "fleet", "anomalies": "mine"}}, environ={}).topics
    assert topics.input == "metrics.fleet.raw"
    assert topics.dead_letters == "metrics.fleet.raw.dlq"
    assert topics.anomalies == "mine"


def test_lists_may_be_written_with_commas():
    settings = load_settings(
        environ={
            "LAPWING_INPUT__ENTITY_FIELDS": "region, host",
            "LAPWING_INPUT__INCLUDE": "cpu,disk",
        }
    )
    assert settings.input.entity_fields == ("region", "host")
    assert settings.input.include == ("cpu", "disk")
    assert load_settings(environ={"LAPWING_INPUT__INCLUDE": '["cpu"]'}).input.include == ("cpu",)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"LAPWING_NONSENSE": "1"}, "LAPWING_NONSENSE: no such setting"),
        (
            {"LAPWING_PREDICT__NONSENSE": "1"},
            r"predict.nonsense \(LAPWING_PREDICT__NONSENSE\): no such setting",
        ),
        (
            {"LAPWING_PREDICT__OUTAGE_DEADLINE_S": "9"},
            r"it is called outage_deadline_s \(LAPWING_OUTAGE_DEADLINE_S\) now",
        ),
        ({"LAPWING_PREDICT__MAX_BATCH_RECORDS": "0"}, "greater than or equal to 1; got '0'"),
        ({"LAPWING_FEATURES__TIMEZONE": "Mars"}, "IANA time zone"),
        ({"LAPWING_FEATURES__BUSINESS_START": "8"}, "features.business_start"),
        ({"LAPWING_DETECTOR": "oracle"}, "isolation_forest"),
        ({"LAPWING_TRAIN__EVERY": "often"}, "train.every"),
        ({"LAPWING_TRAIN__GAMMA": "-1"}, "gamma must be > 0"),
        ({"LAPWING_TRAIN__EVERY": "1h", "LAPWING_TRAIN__CRON": "* * * * *"}, "exclude each other"),
        ({"LAPWING_INPUT__MIN_TIME": "2101-01-01"}, "input.min_time must be before"),
        ({"LAPWING_INPUT": "x"}, "valid dictionary"),
        (
            {"SCHEMA_REGISTRY_URL": "me:pw@localhost:8081"},
            r"registry.url \(LAPWING_REGISTRY__URL\): 'localhost:8081' is not a URL such as \S+$",
        ),
        ({"LAPWING_REGISTRY__URL": "http://a:1,b:2"}, "'b:2' is not a URL"),
        (
            {"LAPWING_INPUT__ENTITY_FIELD": "device"},
            r"no such setting; did you mean input.entity_fields \(LAPWING_INPUT__ENTITY_FIELDS\)",
        ),
        (
            {"LAPWING_TOPIC__PARTITIONS": "3"},
            r"no such setting; did you mean topics.partitions \(LAPWING_TOPICS__PARTITIONS\)",
        ),
        ({"LAPWING_CONFIG": "/nowhere.toml"}, "/nowhere.toml does not exist"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(environ, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(environ=environ)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("former", RENAMED)
def test_a_former_name_is_refused_with_the_present_one(former, tmp_path):
    section, name = former.split(".")
    present = RENAMED[former]
    assert load_settings(environ={variable_of(present): "77"})
    file = tmp_path / "lapwing.toml"
    file.write_text(f"[{section}]\n{name} = 77\n")
    for given in (
        {"environ": {variable_of(former): "77"}},
        {"flags": {section: {name: 77}}, "environ": {}},
    ):
        with pytest.raises(
            ConfigError, match=rf"{former} \({variable_of(former)}\): it is called {present} "
        ):
            load_settings(**given)
    with pytest.raises(ConfigError, match=f"it is called {present}"):
        load_settings(file=file, environ={})


@pytest.mark.parametrize("text", ["", "none", "None", " none "])
def test_what_may_be_left_out_can_be_said_to_be(text, tmp_path):
    plain = load_settings(environ={}).model_dump()
    optional = [
        f"{section}.{name}"
        for section, values in plain.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if value is None
    ]
    assert {"train.window_days", "detection.alarms_per_day"} <= set(optional)
    assert (
        load_settings(environ={variable_of(name): text for name in optional}).model_dump() == plain
    )
    file = tmp_path / "lapwing.toml"
    file.write_text("".join(f'{name} = "{text}"\n' for name in optional))
    assert load_settings(file=file, environ={}).model_dump() == plain


def test_the_example_of_flags_is_accepted():
    (example,) = re.findall(r"e\.g\. (\{.*\}); wins", load_settings.__doc__)
    assert load_settings(ast.literal_eval(example), environ={}).slot == "1"


def test_a_file_that_is_no_toml_is_named(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("a = = b")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_settings(file=file, environ={})


def test_settings_cannot_be_changed():
    settings = load_settings(environ={})
    with pytest.raises(Exception, match="frozen"):
        settings.predict.group = "other"


# --- secrets by file ------------------------------------------------------------------------------


def test_a_secret_may_come_from_a_file(tmp_path):
    for name in SECRETS:
        file = tmp_path / name
        file.write_text(f"user:secret of {name}\n")
        variable = variable_of(name)
        if name == "dashboard.token":
            file.write_text("t" * 20)
        by_file = load_settings(environ={f"{variable}_FILE": str(file)})
        given = load_settings(environ={variable: file.read_text().strip()})
        assert by_file.model_dump() == given.model_dump() != load_settings(environ={}).model_dump()


def test_a_flag_wins_over_a_secret_in_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("from the file")
    environ = {"LAPWING_KAFKA__SASL_PASSWORD_FILE": str(file)}
    settings = load_settings(environ=environ, overrides={"kafka.sasl.password": "given"})
    assert settings.kafka["sasl.password"] == "given"


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (None, {}, "cannot be read: No such file"),
        (b"", {}, "has 0 lines; a secret is one line"),
        (b"hush\nhush\n", {}, "has 2 lines; a secret is one line"),
        (b"\n", {}, "has 1 lines; a secret is one line"),
        (b"hush\xff", {}, "cannot be read: it is not UTF-8"),
        (b"hush", {"LAPWING_REGISTRY__BASIC_AUTH": "hush"}, "are both set: set one of them"),
    ],
)
def test_a_secret_in_a_file_that_cannot_be_used(tmp_path, content, more, message):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"LAPWING_REGISTRY__BASIC_AUTH_FILE": str(file), **more})
    assert message in str(caught.value)
    assert "LAPWING_REGISTRY__BASIC_AUTH_FILE" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_other_settings_do_not_come_from_files(tmp_path):
    with pytest.raises(ConfigError, match="no such setting"):
        load_settings(environ={"LAPWING_REGISTRY__URL_FILE": str(tmp_path)})
