"""The topics of a dataset as they should be.

Invariant: each names the setting that changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import TopicMismatch
from shared.kernels.units import HOUR_MS
from shared.settings.loading import Settings
from shared.settings.names import variable_of

HEADER_ROOM_BYTES = 65_536
"""Bytes reserved for the headers that a dead letter adds to a record."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    setting : the setting that names it
    exact   : the partition count is required; False = it is only used to create the topic
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)
    setting: str = "topics.input"
    exact: bool = True


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the topics of one dataset, the input first.

    With ``route.source``, also the dead letters of `lapwing route`; the source is its writer's.

    Anomalies and dead letters are retained as long as the input, which explains them. Activations
    are retained without limit: compaction would delete those that an older snapshot needs.
    Incidents are compacted: the newest record of each is the state that their service continues
    from. So is feedback. A dead letter may exceed the largest input record by its additional
    headers.
    """
    topics = settings.topics
    as_input = {"cleanup.policy": "delete", "retention.ms": _hours(topics.input_retention_hours)}
    forever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    # Who tells people about incidents needs each change, not only the newest.
    incidents = {"cleanup.policy": "compact", "min.compaction.lag.ms": _hours(7 * 24)}
    as_scores = {"cleanup.policy": "delete", "retention.ms": _hours(topics.scores_retention_hours)}
    input_limit = {"max.message.bytes": str(input_limit_bytes(settings))}
    dead_letter_limit = {"max.message.bytes": str(dead_letter_limit_bytes(settings))}
    many = (topics.partitions, topics.replication)
    one = (1, topics.replication)
    route = settings.route
    dead_letters = as_input | dead_letter_limit
    letters_of_route = TopicSpec(
        route.dead_letters, *many, dead_letters, "route.dead_letters", exact=False
    )
    return [
        TopicSpec(topics.input, *many, as_input | input_limit),
        TopicSpec(topics.scores, *many, as_scores, "topics.scores", exact=False),
        TopicSpec(topics.anomalies, *one, as_input, "topics.anomalies"),
        TopicSpec(topics.activations, *one, forever, "topics.activations"),
        TopicSpec(topics.incidents, *one, incidents, "topics.incidents"),
        TopicSpec(topics.feedback, *one, {"cleanup.policy": "compact"}, "topics.feedback"),
        TopicSpec(topics.unsent, *one, as_input, "topics.unsent"),
        TopicSpec(
            topics.dead_letters,
            *many,
            dead_letters,
            "topics.dead_letters",
            exact=False,
        ),
        *([letters_of_route] if route.source else []),
    ]


def wrong_count(spec: TopicSpec, found: int) -> TopicMismatch:
    """Return the error for a topic with a wrong partition count; it says what to set.

    found : its partition count
    """
    if spec.setting == "topics.input":
        message = (
            f"{spec.name} has {found} partitions, topics.partitions says {spec.partitions}: set"
            f" topics.partitions ({variable_of('topics.partitions')}) to {found}"
        )
    else:
        message = (
            f"{spec.name} has {found} partitions and must have {spec.partitions}: name another"
            f" topic in {spec.setting} ({variable_of(spec.setting)}), or delete it if nothing needs"
            " it"
        )
    return TopicMismatch(message.replace(" has 1 partitions", " has 1 partition"))


def _hours(hours: float) -> str:
    return str(round(hours * HOUR_MS))


def input_limit_bytes(settings: Settings) -> int:
    """Return max.message.bytes of the input topic: Kafka's default, or more if settings need it."""
    return max(1_048_588, settings.input.max_record_bytes + HEADER_ROOM_BYTES)


def source_limit_bytes(settings: Settings) -> int:
    """Return the size from which records of route.source are truncated in dead letters."""
    return settings.route.max_record_bytes + HEADER_ROOM_BYTES if settings.route.source else 0


def dead_letter_limit_bytes(settings: Settings) -> int:
    """Return max.message.bytes of the dead-letter topics: the largest record's, and the headers."""
    return max(input_limit_bytes(settings), source_limit_bytes(settings)) + HEADER_ROOM_BYTES
