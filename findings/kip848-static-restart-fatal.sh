#!/usr/bin/env bash
# Under the new group protocol a killed static member cannot come back before its session ends.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: `group.instance.id` is for quick restarts: a process with the same id takes
#   over the partitions of its predecessor at once, and a predecessor that still lives is fenced
#   (KIP-345). Classic groups do so, killed or not. Moving on to `group.protocol=consumer` keeps
#   that.
# Instead: the newcomer is refused, not the predecessor, until the broker's session timeout has
#   passed since the last heartbeat: 45 s by default, which a client can no longer set. For
#   librdkafka the refusal is fatal, so a supervisor restarts the process over and over. Only a
#   member that was shut down cleanly can come back at once.
#
# Seen (broker with group.consumer.session.timeout.ms=10000, so that this ends soon):
#   classic, killed   back after 0.2 s, refused 0 times
#   consumer, closed  back after 0.2 s, refused 0 times
#   consumer, killed  back after 10.5 s, refused 9 times
#     _FATAL, Fatal error: Broker: The instance ID is still used by another member in the consumer
#     group: ...
#
# Source: confluentinc/librdkafka pull request 4994; PostHog/posthog pull request 65809 (what it
#   does to a service); KIP-848 and KIP-345, static membership.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/member.py" <<'PY'
"""Join a group under a fixed id and say how that went; then close, or stay until killed."""

import sys, time
from confluent_kafka import Consumer

kafka, group, protocol, then = sys.argv[1:]
member = Consumer({"bootstrap.servers": kafka, "group.id": group, "group.protocol": protocol,
                   "group.instance.id": "the-one"})
member.subscribe(["metrics"])
outcome, deadline = "no answer", time.monotonic() + 30
while outcome == "no answer" and time.monotonic() < deadline:
    message = member.poll(0.05)
    if member.assignment():
        outcome = "joined"
    elif message is not None and message.error():
        outcome = f"{message.error().name()}, {message.error().str()}"
print(outcome, flush=True)
while then == "stay":
    member.poll(0.5)
member.close()
PY

cat >"$WORK/restart.py" <<'PY'
import subprocess, sys, time
from confluent_kafka.admin import AdminClient, NewTopic

kafka, program = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": kafka})
admin.create_topics([NewTopic("metrics", 2, 1)])["metrics"].result(20)


def member(group, protocol, then):
    command = [sys.executable, program, kafka, group, protocol, then]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def come_back(protocol, ended):
    group = f"{protocol}-{ended}"
    first = member(group, protocol, "stay" if ended == "killed" else "close")
    assert first.stdout.readline() == "joined\n"
    if ended == "killed":
        first.kill()
    first.wait()
    began, refusals = time.monotonic(), []
    while (said := (again := member(group, protocol, "close")).stdout.readline()) != "joined\n":
        again.wait()
        refusals.append(said.strip())
        time.sleep(1)
        assert time.monotonic() < began + 40
    waited = time.monotonic() - began
    again.wait()
    print(f"{protocol}, {ended}".ljust(17), f"back after {waited:.1f} s,",
          f"refused {len(refusals)} times", flush=True)
    for refusal in refusals[:1]:
        print(" ", refusal)
    return waited, refusals


for protocol, ended in (("classic", "killed"), ("consumer", "closed")):
    waited, refusals = come_back(protocol, ended)
    assert waited < 5 and not refusals, "changed"
waited, refusals = come_back("consumer", "killed")
assert waited > 4 and "instance ID is still used" in refusals[0], "changed"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
cat >>"$WORK/kafka.properties" <<'PROPERTIES'
group.consumer.min.session.timeout.ms=10000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.heartbeat.interval.ms=2000
PROPERTIES
run_kafka
py "$WORK/restart.py" "127.0.0.1:$KAFKA_PORT" "$WORK/member.py"
