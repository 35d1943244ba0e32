#!/usr/bin/env bash
# One Kafka node that is broker and controller, killed after a commit, may never finish that commit.
#
# Software: Apache Kafka 4.3.1 (KRaft, process.roles=broker,controller), confluent-kafka 2.16.1.
#
# Expected: commit_transaction() has returned, so the decision is in the transaction log; a broker
#   that is killed then writes the missing markers when it is back. Whether its controller runs in
#   the same process makes no difference to that.
# Instead: the node starts with itself still fenced in its own metadata, and as the coordinator that
#   it was. It loads the transactions, finds no leader for their partitions, takes these for
#   deleted, leaves the markers out and goes on to write CompleteCommit. A moment later its role is
#   taken from it and given back. Where CompleteCommit is in the log by then, nobody ever writes the
#   markers: the partition keeps an open transaction, readers of committed data wait there for ever,
#   while writers go on. A further restart does not help. A controller in a process of its own that
#   is not killed along avoids it; `kafka-transactions.sh abort` ends such a transaction (and so
#   turns the commit into an abort).
#
# Seen (a proxy loses the markers before the kill, which otherwise must come within milliseconds;
# which partition it is, and whether there are several, differs):
#   attempt 1: 20 commits, killed, back; standing still: 2
#   transaction log on the first: CompleteCommit; 20 s and one more restart later: 2
#   broker's log: Couldn't find leader endpoint for partitions ... while trying to send transaction
#   markers for attempt-1-2, these partitions are likely deleted already and hence can be skipped
#
# Source: kafka.coordinator.transaction.TransactionMarkerChannelManager,
#   addTxnMarkersToBrokerQueue. Met in Lapwing's fault table, docs/faults.md.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/proxy.py" <<'PY'
"""Pass everything on to the broker, but lose WriteTxnMarkers while the file `lose` exists."""

import asyncio, os, sys

listen, kafka, lose = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
WRITE_TXN_MARKERS = 27


async def answers(broker, client):
    while piece := await broker.read(1 << 16):
        client.write(piece)
    client.close()


async def requests(client, to_client):
    try:
        from_broker, broker = await asyncio.open_connection("127.0.0.1", kafka)
    except OSError:
        to_client.close()
        return
    back = asyncio.create_task(answers(from_broker, to_client))
    try:
        while True:
            size = await client.readexactly(4)
            request = await client.readexactly(int.from_bytes(size, "big"))
            markers = int.from_bytes(request[:2], "big") == WRITE_TXN_MARKERS
            if not (markers and os.path.exists(lose)):
                broker.write(size + request)
    except (asyncio.IncompleteReadError, OSError):
        pass
    back.cancel()
    broker.close()
    to_client.close()


async def main():
    async with await asyncio.start_server(requests, "127.0.0.1", listen) as server:
        await server.serve_forever()


asyncio.run(main())
PY

cat >"$WORK/commit.py" <<'PY'
"""Commit 20 transactions, each in a partition of its own; kill the node once all have returned."""

import logging, os, signal, sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

kafka, node, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
settings = {"bootstrap.servers": kafka, "logger": logging.Logger("silent", logging.CRITICAL + 1)}
admin = AdminClient(settings)
admin.create_topics([NewTopic(name, 20, 1)])[name].result(20)
producers = [Producer(settings | {"transactional.id": f"{name}-{n}"}) for n in range(20)]
for partition, producer in enumerate(producers):
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, "record", partition=partition)
    producer.flush()
for producer in producers:
    producer.commit_transaction()
os.kill(node, signal.SIGKILL)
PY

cat >"$WORK/stand_still.py" <<'PY'
"""Print which partitions are not readable to their end, after at most so many seconds."""

import logging, sys, time
from confluent_kafka import Consumer, KafkaException, TopicPartition

kafka, name, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
settings = {"bootstrap.servers": kafka, "group.id": "look"}
settings["logger"] = logging.Logger("silent", logging.CRITICAL + 1)
committed, all_records = (
    Consumer(settings | {"isolation.level": level})
    for level in ("read_committed", "read_uncommitted")
)


def stands_still(partition):
    place = TopicPartition(name, partition)
    ends = [reader.get_watermark_offsets(place, 10)[1] for reader in (committed, all_records)]
    assert ends[1] >= 1, "a record is gone"
    return ends[0] < ends[1]


deadline, standing = time.monotonic() + patience, None
while standing is None or (standing and time.monotonic() < deadline):
    time.sleep(1)
    try:
        standing = [partition for partition in range(20) if stands_still(partition)]
    except KafkaException as error:
        if time.monotonic() > deadline + 30:
            raise error
print(*standing)
PY

standing() {
    py "$WORK/stand_still.py" "127.0.0.1:$KAFKA_PORT" "$1" "$2"
}

JAVA_FLAGS+=(-Dorg.slf4j.simpleLogger.log.kafka.coordinator.transaction=info)
python_packages confluent-kafka==2.16.1
proxy_port=$(free_port)
prepare_kafka "$proxy_port"
python3 "$WORK/proxy.py" "$proxy_port" "$KAFKA_PORT" "$WORK/lose" &
started $!
wait_for_port "$proxy_port" $! /dev/null
run_kafka
for attempt in 1 2 3 4 5 6 7 8; do
    name=attempt-$attempt
    touch "$WORK/lose"
    py "$WORK/commit.py" "127.0.0.1:$KAFKA_PORT" "$KAFKA_PID" "$name"
    gone "$KAFKA_PID"
    rm "$WORK/lose"
    run_kafka
    forgotten=$(standing "$name" 8)
    echo "attempt $attempt: 20 commits, killed, back; standing still: ${forgotten:-none}"
    [[ -z $forgotten ]] || break
done
[[ -n $forgotten ]] || { echo "changed: no commit was forgotten" >&2; exit 1; }

one=$name-${forgotten%% *}
state=$(java "${JAVA_FLAGS[@]}" -cp "$WORK/kafka/*" org.apache.kafka.tools.TransactionsCommand \
    --bootstrap-server "127.0.0.1:$KAFKA_PORT" describe --transactional-id "$one" 2>/dev/null |
    grep -o 'Complete[A-Za-z]*')
kill -9 "$KAFKA_PID"
gone "$KAFKA_PID"
run_kafka
later=$(standing "$name" 20)
echo "transaction log on the first: $state; 20 s and one more restart later: $later"
grep -om 1 "Couldn't find leader endpoint for .*markers for $one,.*" "$WORK/kafka.log" |
    sed -E "s/partitions .*\(.*\)/partitions .../; s/^/broker's log: /"
[[ $state == CompleteCommit && $later == "$forgotten" ]] || { echo "changed" >&2; exit 1; }
