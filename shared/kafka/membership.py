"""Whether this process still speaks for the group when it commits, and whether the group has shared
out all partitions.

Law: positions are committed in the name of a member and its generation, or not at all.
"""

from __future__ import annotations

import struct
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

ANSWER_S = 2.0


def is_member(metadata: Any) -> bool:
    """Tell whether serialised group metadata speaks for a member that holds a generation.

    metadata : what ``Consumer.consumer_group_metadata`` returned: "CGMDv2:", int32 generation,
               group, 0, member, 0, ...
    """
    if not isinstance(metadata, bytes) or not metadata.startswith(b"CGMDv2:"):
        return True
    (generation,) = struct.unpack_from("=i", metadata, 7)
    fields = metadata[11:].split(b"\0")
    return generation >= 0 and len(fields) > 1 and bool(fields[1])


def unowned(client: AdminClient, group: str, topic: str) -> set[int]:
    """Return the partitions that nobody in a settled group has; none while it is being shared out
    or nobody answers.
    """
    try:
        count = len(client.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)
        described = client.describe_consumer_groups([group], request_timeout=ANSWER_S)[
            group
        ].result(ANSWER_S)
    except (KafkaException, TimeoutError):
        return set()
    if described.state != ConsumerGroupState.STABLE:
        return set()
    places = [place for member in described.members for place in member.assignment.topic_partitions]
    return set(range(count)) - {place.partition for place in places if place.topic == topic}
