#!/usr/bin/env bash
# A transaction that outlasts its own timeout ends the producer as if a second one had started.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: `_FENCED` ("fenced by a newer instance") means that another process has taken over the
#   `transactional.id`, so a service that gets it ends and names the second process. A transaction
#   that the broker has aborted because it was open for longer than `transaction.timeout.ms` is an
#   error of that transaction: abort it, and begin the next one.
# Instead: the coordinator aborts such a transaction by raising the producer's epoch, as a new
#   producer would. The client reports both by the same fatal error, with the same text. Only the
#   age of the transaction tells them apart. A new producer with the same id continues.
#
# Seen (transaction.timeout.ms=3000, sweep every second):
#   open for .1 s                    committed
#   open for 6 s                     _FENCED, fatal: Failed to end transaction: Local: This instance
#                                    has been fenced by a newer instance
#   open for .1 s, second producer   the same
#   a new producer with the same id  committed
#
# Source: KIP-588 (the Java client tells them apart); librdkafka's INTRODUCTION.md, "Transactional
#   Producer", says that fencing is fatal, and nothing about timeouts.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/transactions.py" <<'PY'
import sys, time
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

kafka = sys.argv[1]
admin = AdminClient({"bootstrap.servers": kafka})
admin.create_topics([NewTopic("metrics", 1, 1)])["metrics"].result(20)


def producer():
    made = Producer({"bootstrap.servers": kafka, "transactional.id": "the-one", "log_level": 0,
                     "transaction.timeout.ms": 3000, "socket.timeout.ms": 3000})
    made.init_transactions(30)
    return made


def outcome(name, made, between):
    made.begin_transaction()
    made.produce("metrics", b"1")
    made.flush(10)
    between()
    try:
        made.commit_transaction(60)
        said = "committed"
    except KafkaException as failure:
        error = failure.args[0]
        said = f"{error.name()}, {'fatal' if error.fatal() else 'not fatal'}: {error.str()}"
    print(name.ljust(32), said, flush=True)
    return said


short = outcome("open for .1 s", producer(), lambda: time.sleep(0.1))
long = outcome("open for 6 s", producer(), lambda: time.sleep(6))
others = []
second = outcome("open for .1 s, second producer", producer(), lambda: others.append(producer()))
again = outcome("a new producer with the same id", producer(), lambda: None)
assert short == again == "committed", "a short transaction was not committed"
assert second.startswith("_FENCED, fatal"), "a second producer does not fence the first"
assert long == second, "changed: a timeout can be told from a second producer"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
echo transaction.abort.timed.out.transaction.cleanup.interval.ms=1000 >>"$WORK/kafka.properties"
run_kafka
py "$WORK/transactions.py" "127.0.0.1:$KAFKA_PORT"
