#!/usr/bin/env bash
# A late commit request commits the next transaction, although the client aborts that one.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: brokers since 4.0 guard transactions against old requests (KIP-890: each transaction
#   has an epoch of its own, a request of an earlier one is refused), and `transaction.version` 2
#   is what a new cluster has. So a producer on such a broker is safe.
# Instead: the guard works only for clients that speak the new version of EndTxn. librdkafka sends
#   version 1 and keeps one epoch for all transactions of a producer. Where a connection breaks,
#   it repeats the request by itself; if the first copy is only late, the broker takes it for the
#   end of the transaction that is open by then. Readers of committed data get what that one has
#   sent so far, before its producer has decided, and keep it when it aborts. Sent again, it is
#   there twice. Safe: give up a producer whose call took so long that it may have been repeated,
#   and take a new one of the same transactional.id (which gets a new epoch).
#
# Seen (a proxy breaks the connection at EndTxn, and delivers it during the next transaction):
#   EndTxn version 1 held back, connection broken
#   first transaction: committed
#   late EndTxn delivered
#   second transaction: abort refused, INVALID_TXN_STATE
#   readers of committed data see: first-0 first-1 first-2 second-0 second-1 second-2
#
# Source: confluentinc/librdkafka issue 5423 (KIP-890 is asked for, not there); KIP-890,
#   "Transactions Server-Side Defense".

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/proxy.py" <<'PY'
"""Pass everything on; the first EndTxn only once the file `release` exists."""

import asyncio, os, sys

listen, kafka, release = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
END_TXN = 26
held = False


async def answers(broker, client):
    while piece := await broker.read(1 << 16):
        client.write(piece)
    client.close()


async def requests(client, to_client):
    global held
    from_broker, broker = await asyncio.open_connection("127.0.0.1", kafka)
    back = asyncio.create_task(answers(from_broker, to_client))
    try:
        while True:
            size = await client.readexactly(4)
            request = await client.readexactly(int.from_bytes(size, "big"))
            if not held and int.from_bytes(request[:2], "big") == END_TXN:
                held = True
                version = int.from_bytes(request[2:4], "big")
                print(f"EndTxn version {version} held back, connection broken", flush=True)
                to_client.transport.abort()
                while not os.path.exists(release):
                    await asyncio.sleep(0.05)
                broker.write(size + request)
                await asyncio.sleep(1)
                print("late EndTxn delivered", flush=True)
                os.remove(release)
                break
            broker.write(size + request)
    except (asyncio.IncompleteReadError, OSError):
        pass
    back.cancel()
    broker.close()


async def main():
    async with await asyncio.start_server(requests, "127.0.0.1", listen) as server:
        await server.serve_forever()


asyncio.run(main())
PY

cat >"$WORK/producer.py" <<'PY'
import logging, os, sys, time
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

kafka, release = sys.argv[1:]
silent = logging.Logger("silent", logging.CRITICAL + 1)
producer = Producer({"bootstrap.servers": kafka, "transactional.id": "sink", "logger": silent})
producer.init_transactions(30)


def send(name):
    producer.begin_transaction()
    for number in range(3):
        producer.produce("results", f"{name}-{number}")
    producer.flush()


send("first")
producer.commit_transaction()
print("first transaction: committed", flush=True)
send("second")
open(release, "w").close()
while os.path.exists(release):
    time.sleep(0.05)
try:
    producer.abort_transaction()
    outcome = "aborted"
except KafkaException as error:
    outcome = f"abort refused, {error.args[0].name()}"
print("second transaction:", outcome)

reader = Consumer({"bootstrap.servers": kafka, "group.id": "reader", "enable.partition.eof": True,
                   "isolation.level": "read_committed"})
reader.assign([TopicPartition("results", 0, 0)])
read = []
while (message := reader.poll(10)) and not message.error():
    read.append(message.value().decode())
reader.close()
print("readers of committed data see:", *read)
assert "second-2" in read, "changed: the late request had no effect"
PY

python_packages confluent-kafka==2.16.1
proxy_port=$(free_port)
prepare_kafka "$proxy_port"
run_kafka
python3 "$WORK/proxy.py" "$proxy_port" "$KAFKA_PORT" "$WORK/release" &
started $!
wait_for_port "$proxy_port" $! /dev/null
py "$WORK/producer.py" "127.0.0.1:$proxy_port" "$WORK/release"
