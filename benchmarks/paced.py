"""Sends a fleet's records at a steady rate, from a process of its own, and notes when.

Invariant: a record's time is taken just before it is queued; all processes of a machine share the
clock.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import schemas
from benchmarks.fleet.hosts import METRICS, generate
from shared.batch import Blob, Outgoing
from shared.encode.avro_columns import encode_flat, select
from shared.kafka.client import client_config
from shared.kafka.engine import ENGINES
from shared.kernels.hashing import murmur2_partitions
from shared.registry import Registry
from shared.settings import Settings, load_settings

TICK_S = 0.001
TUNING = {"linger.ms": "5", "batch.num.messages": "10000", "partitioner": "murmur2_random"}


class Sent(NamedTuple):
    """Records in the order in which they were sent.

    at_s      : float64 (n,)  monotonic seconds
    partition : int64 (n,)    of the topic
    entity    : int64 (n,)    number of its host
    late_s    : longest time that the sender was behind its rate
    """

    at_s: npt.NDArray[np.float64]
    partition: npt.NDArray[np.int64]
    entity: npt.NDArray[np.int64]
    late_s: float


class Sender:
    """A process that sends records of the same hosts to any topic; each has its own next row.

    hosts : each sends a record every five minutes of event time
    days  : after so many there are no more records
    """

    def __init__(self, hosts: int, days: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, hosts, days), daemon=True)
        self._process.start()

    def send(self, environ: dict[str, str], rate: int, seconds: float) -> None:
        """Begin to send to the input topic of an environment; ``sent`` waits for the end."""
        self._pipe.send((environ, rate, seconds))

    def sent(self) -> Sent:
        """Return what was sent.

        raises : RuntimeError where records were not acknowledged, or there are no more
        """
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return Sent(*answer)

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)


class _Records:
    """The rows of a fleet, step by step, all hosts of a step after one another."""

    def __init__(self, hosts: int, days: int) -> None:
        self.fleet = generate(hosts, days, seed=0, anomalies=False)
        self.hosts = hosts
        self.names = Blob.join([f"host-{number}".encode() for number in range(hosts)])
        self.next_row: dict[str, int] = {}

    def take(self, topic: str, schema_id: int, count: int) -> tuple[Blob, Blob, Any]:
        """Return the next values and keys of a topic, and their hosts."""
        rows = np.arange(count) + self.next_row.get(topic, 0)
        self.next_row[topic] = int(rows[-1]) + 1
        step, host = np.divmod(rows, self.hosts)
        if step[-1] >= len(self.fleet.time_ms):
            raise RuntimeError("there are no more records: more days or hosts are needed")
        values = np.ascontiguousarray(self.fleet.values[host, step][:, : len(METRICS)])
        encoded = encode_flat(schema_id, self.names, host, self.fleet.time_ms[step], values)
        return encoded, select(self.names, host), host


def _serve(pipe: Connection, hosts: int, days: int) -> None:
    records = _Records(hosts, days)
    producers: dict[str, Any] = {}
    while (asked := pipe.recv()) is not None:
        environ, rate, seconds = asked
        settings = load_settings(environ=environ)
        try:
            pipe.send(tuple(_send(records, producers, settings, rate, seconds)))
        except RuntimeError as error:
            pipe.send(str(error))


def _send(
    records: _Records, producers: dict[str, Any], settings: Settings, rate: int, seconds: float
) -> Sent:
    topic, text = settings.topics.input, schemas.text(schemas.METRIC_EVENT)
    if topic not in producers:
        config = client_config(settings, "producer", tuning=TUNING | {"acks": "all"})
        producers[topic] = ENGINES["native"]().producer(config, print, None)
    producer = producers[topic]
    schema_id = Registry(settings.registry).register(f"{topic}-value", text, "BACKWARD")
    count = int(rate * seconds)
    values, keys, host = records.take(topic, schema_id, count)
    partition = np.empty(count, np.int64)
    data = np.frombuffer(keys.data, np.uint8)
    murmur2_partitions(data, keys.bounds, settings.topics.partitions, partition)
    at_s, row, late_s = np.empty(count), 0, 0.0
    outgoing = Outgoing(topic, values, keys)
    began_s = time.monotonic()
    for tick in range(1, int(seconds / TICK_S) + 1):
        due_s = began_s + tick * TICK_S
        if (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        now_s = time.monotonic()
        late_s = max(late_s, now_s - due_s)
        stop = min(count, int(tick * TICK_S * rate))
        if stop > row:
            at_s[row:stop] = now_s
            row = _put(producer, outgoing, row, stop)
    if producer.flush(30.0):
        raise RuntimeError(f"{topic}: records were not acknowledged")
    return Sent(at_s, partition, host, late_s)


def _put(producer: Any, outgoing: Outgoing, row: int, stop: int) -> int:
    """Queue rows up to stop."""
    low, high = outgoing.values.bounds[row], outgoing.values.bounds[stop]
    first, last = outgoing.keys.bounds[row], outgoing.keys.bounds[stop]
    part = Outgoing(
        outgoing.topic,
        Blob(outgoing.values.data[low:high], outgoing.values.bounds[row : stop + 1] - low),
        Blob(outgoing.keys.data[first:last], outgoing.keys.bounds[row : stop + 1] - first),
    )
    done = 0
    while done < len(part):
        done, error = producer.put(part, done)
        if error is not None:
            raise RuntimeError(error.text)
        producer.poll(0.0)
    return stop
