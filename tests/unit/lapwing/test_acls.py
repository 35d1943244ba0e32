"""``lapwing topics acls``: rights follow from the settings."""

from __future__ import annotations

import json
import shlex

import pytest

from lapwing.acls import SERVICES, principals_of, print_acls, print_strimzi, rights_of
from shared.errors import ConfigError
from shared.kafka import topic_specs
from shared.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "topics": {"dataset": "plant"},
        "predict": {"group": "judges"},
        "route": {"source": "telegraf.raw"},
    }
)


def test_each_service_has_rights_and_none_to_change_or_delete_anything() -> None:
    rights = rights_of(SETTINGS)
    assert set(rights) == set(SERVICES)
    for granted in rights.values():
        assert granted
        allowed = {"Read", "Write", "Describe", "Create", "DescribeConfigs"}
        assert {operation for right in granted for operation in right.operations} <= allowed
        assert len({(right.resource, right.name) for right in granted}) == len(granted)


def test_names_are_those_of_the_settings() -> None:
    predictor = {(r.resource, r.name): r for r in rights_of(SETTINGS, ["predictor"])["predictor"]}
    assert predictor["topic", "metrics.plant.raw"].operations == ("Read",)
    assert predictor["topic", "models.plant.activations"].operations == ("Read", "Write")
    assert predictor["group", "judges"].operations == ("Read",)
    assert predictor["transactional-id", "judges-"].is_prefix
    setup = {right.name for right in rights_of(SETTINGS, ["setup"])["setup"]}
    assert setup == {spec.name for spec in topic_specs(SETTINGS)}


def test_at_least_once_needs_no_transactions() -> None:
    given = SETTINGS.model_copy(
        update={"predict": SETTINGS.predict.model_copy(update={"delivery": "at-least-once"})}
    )
    for granted in rights_of(given).values():
        assert all(right.resource != "transactional-id" for right in granted)


def test_a_page_that_only_shows_writes_nothing() -> None:
    given = SETTINGS.model_copy(
        update={"dashboard": SETTINGS.dashboard.model_copy(update={"read_only": True})}
    )
    assert all("Write" not in right.operations for right in rights_of(given)["dashboard"])


def test_commands_are_those_of_kafkas_tool(capsys: pytest.CaptureFixture[str]) -> None:
    print_acls(SETTINGS, ["incidents", "predictor"], "User:CN={service}", "commands")
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["#", "incidents"]
    assert lines[4] == [
        *("kafka-acls.sh", "--bootstrap-server", "BROKER", "--add"),
        *("--allow-principal", "User:CN=incidents", "--operation", "Write"),
        *("--transactional-id", "lapwing-incidents"),
    ]
    assert lines[-1][-2:] == ["--resource-pattern-type", "prefixed"]


def test_json_has_principal_and_rights(capsys: pytest.CaptureFixture[str]) -> None:
    print_acls(SETTINGS, ["notify"], "User:{service}", "json")
    found = json.loads(capsys.readouterr().out)["notify"]
    assert found["principal"] == "User:notify"
    assert found["rights"][2] == {
        "resource": "group",
        "name": "lapwing-notify",
        "pattern": "literal",
        "operations": ["Read"],
        "why": "member of the group, commits its positions",
    }


def test_strimzi_gets_the_topics_and_a_user_for_each_service(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_strimzi(SETTINGS, [], "User:lapwing-{service}", "lapwing")
    items = json.loads(capsys.readouterr().out)["items"]
    topics = [item for item in items if item["kind"] == "KafkaTopic"]
    users = {item["metadata"]["name"]: item for item in items if item["kind"] == "KafkaUser"}
    specs = topic_specs(SETTINGS)
    assert [item["spec"]["topicName"] for item in topics] == [spec.name for spec in specs]
    assert set(users) == {f"lapwing-{name}" for name in SERVICES}
    assert {item["metadata"]["labels"]["strimzi.io/cluster"] for item in items} == {"lapwing"}
    acls = users["lapwing-predictor"]["spec"]["authorization"]["acls"]
    transactional = {"type": "transactionalId", "name": "judges-", "patternType": "prefix"}
    assert acls[-1] == {"resource": transactional, "operations": ["Write"]}


def test_without_a_source_route_has_no_rights(capsys: pytest.CaptureFixture[str]) -> None:
    print_acls(Settings(), ["route"], "User:x", "table")
    assert "route.source" in capsys.readouterr().err


def test_unknown_services_and_principals_without_a_type_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"brewer: no such service; allowed are setup, producer"):
        rights_of(SETTINGS, ["brewer"])
    with pytest.raises(ConfigError, match=r"--principal joe: write TYPE:NAME"):
        principals_of("joe", ["producer"])
