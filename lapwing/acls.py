"""The least rights of each service on the broker (``lapwing topics acls``), from the settings.

Invariant: a service works with exactly these rights and stops with ``NotAuthorized`` without any
           one of them; rows of the fault table check both on a broker with an authorizer. A right
           that another one implies is not listed: Read and Write imply Describe.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.errors import ConfigError
from shared.kafka import TopicSpec, topic_specs
from shared.settings import Settings

Resource = Literal["topic", "group", "transactional-id"]
_STRIMZI_TYPES = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}


@dataclass(frozen=True, slots=True)
class Right:
    """What a principal may do with a resource.

    name       : of the resource, or the beginning of its names with ``is_prefix``
    operations : by the names of Kafka's authorizer
    why        : what the service does with it
    """

    resource: Resource
    name: str
    operations: tuple[str, ...]
    why: str
    is_prefix: bool = False

    @property
    def shown(self) -> str:
        """The name, with a star behind a prefix."""
        return f"{self.name}*" if self.is_prefix else self.name

    def command(self, principal: str) -> str:
        """Return the command of Kafka's own tool that grants it."""
        words = ["kafka-acls.sh", "--bootstrap-server", "BROKER", "--add"]
        words += ["--allow-principal", principal]
        for operation in self.operations:
            words += ["--operation", operation]
        words += [f"--{self.resource}", self.name]
        if self.is_prefix:
            words += ["--resource-pattern-type", "prefixed"]
        return shlex.join(words)


def _topic(name: str, why: str, *operations: str) -> Right:
    return Right("topic", name, operations, why)


def _member(group: str) -> Right:
    return Right("group", group, ("Read",), "member of the group, commits its positions")


def _transactions(settings: Settings, beginning: str, *, is_prefix: bool = True) -> list[Right]:
    if settings.predict.delivery == "at-least-once":
        return []
    why = "results and positions in one transaction"
    return [Right("transactional-id", beginning, ("Write",), why, is_prefix)]


def _setup(settings: Settings) -> list[Right]:
    why = "`lapwing topics ensure`: create or compare"
    return [
        _topic(spec.name, why, "Create", "Describe", "DescribeConfigs")
        for spec in topic_specs(settings)
    ]


def _producer(settings: Settings) -> list[Right]:
    return [_topic(settings.topics.input, "records", "Write")]


def _training(settings: Settings) -> list[Right]:
    topics = settings.topics
    return [
        _topic(topics.input, "records to train on", "Read"),
        _topic(topics.activations, "models that retained records were scored with", "Read"),
    ]


def _predictor(settings: Settings) -> list[Right]:
    topics, group = settings.topics, settings.predict.group
    return [
        _topic(topics.input, "records to score", "Read"),
        _topic(topics.scores, "scores", "Write"),
        _topic(topics.anomalies, "anomalies", "Write"),
        _topic(topics.dead_letters, "records that cannot be read", "Write"),
        _topic(topics.activations, "models and settings by offset", "Read", "Write"),
        _member(group),
        *_transactions(settings, f"{group}-"),
    ]


def _dashboard(settings: Settings) -> list[Right]:
    topics = settings.topics
    return [
        _topic(topics.input, "lag and latency", "Read"),
        _topic(topics.scores, "charts", "Read"),
        _topic(topics.anomalies, "anomalies", "Read"),
        _topic(topics.incidents, "incidents", "Read"),
        _topic(topics.activations, "models", "Read"),
        _topic(topics.dead_letters, "records that could not be read", "Read"),
        _topic(
            topics.feedback,
            "feedback on incidents",
            *(("Read",) if settings.dashboard.read_only else ("Read", "Write")),
        ),
        Right("group", settings.predict.group, ("Describe",), "lag of the predictors"),
    ]


def _incidents(settings: Settings) -> list[Right]:
    topics, group = settings.topics, settings.incidents.group
    return [
        _topic(topics.anomalies, "anomalies", "Read"),
        _topic(topics.incidents, "incidents, and the state to continue from", "Read", "Write"),
        _member(group),
        *_transactions(settings, group, is_prefix=False),
    ]


def _notify(settings: Settings) -> list[Right]:
    topics = settings.topics
    return [
        _topic(topics.incidents, "incidents", "Read"),
        _topic(topics.unsent, "notices that could not be sent", "Write"),
        _member(settings.notify.group),
    ]


def _route(settings: Settings) -> list[Right]:
    route = settings.route
    if not route.source:
        return []
    return [
        _topic(route.source, "records to route", "Read"),
        _topic(settings.topics.input, "metric events", "Write"),
        _topic(route.dead_letters, "rows that cannot be read", "Write"),
        _member(route.group),
        *_transactions(settings, f"{route.group}-"),
    ]


def _dlq(settings: Settings) -> list[Right]:
    topics = settings.topics
    return [
        _topic(topics.dead_letters, "`lapwing dlq list` and `show`", "Read"),
        _topic(topics.input, "`lapwing dlq replay`, which sends no record twice", "Read", "Write"),
    ]


def _feedback(settings: Settings) -> list[Right]:
    topics = settings.topics
    return [
        _topic(topics.incidents, "the incidents that feedback is about", "Read"),
        _topic(topics.feedback, "feedback", "Read", "Write"),
    ]


SERVICES = {
    "setup": _setup,
    "producer": _producer,
    "training": _training,
    "predictor": _predictor,
    "dashboard": _dashboard,
    "incidents": _incidents,
    "notify": _notify,
    "route": _route,
    "dlq": _dlq,
    "feedback": _feedback,
}
"""Services, and commands that write, by name."""


def rights_of(settings: Settings, services: Sequence[str] = ()) -> dict[str, list[Right]]:
    """Return the rights of these services, or of all; route has some with route.source only.

    raises : ConfigError for an unknown service
    """
    for name in services:
        if name not in SERVICES:
            raise ConfigError(f"{name}: no such service; allowed are {', '.join(SERVICES)}")
    return {name: SERVICES[name](settings) for name in services or SERVICES}


def principals_of(pattern: str, services: Sequence[str]) -> dict[str, str]:
    """Return each service's principal; ``{service}`` in the pattern is its name.

    raises : ConfigError where it has no type, as in User:NAME
    """
    if not pattern.partition(":")[2]:
        raise ConfigError(
            f"--principal {pattern}: write TYPE:NAME, e.g. User:lapwing-{{service}} or"
            " User:CN={service}"
        )
    return {name: pattern.replace("{service}", name) for name in services}


Form = Literal["table", "commands", "json"]


def print_acls(
    settings: Settings, services: Sequence[str], principal: str, form: Form = "table"
) -> None:
    """Print the rights.

    raises : ConfigError
    """
    rights = rights_of(settings, services)
    principals = principals_of(principal, list(rights))
    if form == "json":
        _print(json.dumps(_document(rights, principals)))
    elif form == "commands":
        for name, granted in rights.items():
            _print(f"# {name}")
            for right in granted:
                _print(right.command(principals[name]))
    else:
        _print_table(rights)
    if not settings.route.source and "route" in rights:
        message = "route has no rights, because route.source (LAPWING_ROUTE__SOURCE) is empty"
        print(f"lapwing: {message}", file=sys.stderr)  # noqa: T201


def print_strimzi(
    settings: Settings, services: Sequence[str], principal: str, cluster: str
) -> None:
    """Print the topics and users as resources of Strimzi's operators, one list for kubectl.

    cluster : name of the Kafka resource
    raises  : ConfigError
    """
    rights = rights_of(settings, services)
    principals = principals_of(principal, list(rights))
    items = [_kafka_topic(spec, cluster) for spec in topic_specs(settings)]
    for name, granted in rights.items():
        if granted:
            items.append(_kafka_user(principals[name].partition(":")[2], granted, cluster))
    _print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2))


def _kafka_topic(spec: TopicSpec, cluster: str) -> dict[str, object]:
    # Names of resources have no underscores and capitals; topicName has any.
    name = re.sub(r"[^a-z0-9.-]", "-", spec.name.lower())
    return _resource("KafkaTopic", name, cluster) | {
        "spec": {
            "topicName": spec.name,
            "partitions": spec.partitions,
            "replicas": spec.replication,
            "config": dict(spec.config),
        }
    }


def _kafka_user(name: str, granted: Sequence[Right], cluster: str) -> dict[str, object]:
    acls = [
        {
            "resource": {
                "type": _STRIMZI_TYPES[right.resource],
                "name": right.name,
                "patternType": "prefix" if right.is_prefix else "literal",
            },
            "operations": list(right.operations),
        }
        for right in granted
    ]
    return _resource("KafkaUser", name, cluster) | {
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        }
    }


def _resource(kind: str, name: str, cluster: str) -> dict[str, object]:
    labels = {"strimzi.io/cluster": cluster}
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
    }


def _document(
    rights: Mapping[str, Sequence[Right]], principals: Mapping[str, str]
) -> dict[str, object]:
    return {
        name: {
            "principal": principals[name],
            "rights": [
                {
                    "resource": right.resource,
                    "name": right.name,
                    "pattern": "prefixed" if right.is_prefix else "literal",
                    "operations": right.operations,
                    "why": right.why,
                }
                for right in granted
            ],
        }
        for name, granted in rights.items()
    }


def _print_table(rights: Mapping[str, Sequence[Right]]) -> None:
    lines = [("service", "resource", "name", "operations", "why")]
    for name, granted in rights.items():
        for number, right in enumerate(granted):
            operations = ", ".join(right.operations)
            service = "" if number else name
            lines.append((service, right.resource, right.shown, operations, right.why))
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        _print("  ".join(cells).rstrip())


def _print(text: str) -> None:
    print(text)  # noqa: T201 - this is the command's output
