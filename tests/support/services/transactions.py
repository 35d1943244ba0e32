"""Whether a transaction is still open: the last stable offset is then before the end offset."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from tests.support.services.broker import SILENT

OFFSETS_TOPIC = "__consumer_offsets"


def open_transactions(bootstrap: str, topics: Sequence[str], wait_s: float = 15.0) -> list[str]:
    """Return the partitions of topics and group positions with a transaction open after a wait."""
    readers = [_reader(bootstrap, level) for level in ("read_committed", "read_uncommitted")]
    deadline = time.monotonic() + wait_s
    try:
        while True:
            found = []
            for topic in (*topics, OFFSETS_TOPIC):
                for partition in readers[0].list_topics(topic, timeout=10).topics[topic].partitions:
                    stable, end = (
                        reader.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
                        for reader in readers
                    )
                    if stable < end:
                        found.append(f"{topic}[{partition}]: stable up to {stable}, ends at {end}")
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)
    finally:
        for reader in readers:
            reader.close()


def _reader(bootstrap: str, level: str) -> Consumer:
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "open-transactions",
        "isolation.level": level,
        "logger": SILENT,
    }
    return Consumer(config)
