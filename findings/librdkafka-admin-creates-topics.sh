#!/usr/bin/env bash
# Asking the admin client about a topic that does not exist creates it.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1
#   (auto.create.topics.enable at its default, true).
#
# Expected: AdminClient.list_topics("name") reads metadata, so it is safe in a health check or a
#   "does it exist?" before a deploy; Java's admin client never creates a topic by asking, and a
#   Consumer of the same library does not either.
# Instead: librdkafka's admin client is a producer inside, and `allow.auto.create.topics` is true
#   for producers. The metadata request asks the broker to create the topic: with one partition
#   and the broker's settings, in place of what the deploy would have made. The answer shows it as
#   if it had always been there, so the check "it exists" passes from the first time on.
#   describe_topics, list_topics() without a name, or "allow.auto.create.topics": False do not
#   create.
#
# Seen:
#   Consumer.list_topics("a"): UNKNOWN_TOPIC_OR_PART; the cluster has: nothing
#   AdminClient.describe_topics(["b"]): UNKNOWN_TOPIC_OR_PART; the cluster has: nothing
#   AdminClient.list_topics("c"), auto-create off: UNKNOWN_TOPIC_OR_PART; the cluster has: nothing
#   AdminClient.list_topics("d"): 1 partition; the cluster has: d
#
# Source: librdkafka, CONFIGURATION.md, allow.auto.create.topics (C) and its remark on producers;
#   confluentinc/confluent-kafka-dotnet issue 2001; apache/kafka pull request 3098 (Java's way).

source "$(dirname "$0")/lib/setup.sh"

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
py - "127.0.0.1:$KAFKA_PORT" <<'PY'
import sys, time
from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

kafka = {"bootstrap.servers": sys.argv[1]}
consumer = Consumer(kafka | {"group.id": "check"})
admin = AdminClient(kafka)
careful = AdminClient(kafka | {"allow.auto.create.topics": False})


def listed(client, name):
    """Return what the client says once the broker has had time to create the topic."""
    client.list_topics(name, timeout=20)
    time.sleep(1)
    topic = client.list_topics(name, timeout=20).topics[name]
    return topic.error.name() if topic.error else f"{len(topic.partitions)} partition"


def described(name):
    try:
        return len(admin.describe_topics(TopicCollection([name]))[name].result(20).partitions)
    except KafkaException as error:
        return error.args[0].name()


asked = {
    'Consumer.list_topics("a")': lambda: listed(consumer, "a"),
    'AdminClient.describe_topics(["b"])': lambda: described("b"),
    'AdminClient.list_topics("c"), auto-create off': lambda: listed(careful, "c"),
    'AdminClient.list_topics("d")': lambda: listed(admin, "d"),
}
for question, ask in asked.items():
    answer = ask()
    topics = sorted(name for name in careful.list_topics(timeout=20).topics if name[:2] != "__")
    print(f"{question}: {answer}; the cluster has: {' '.join(topics) or 'nothing'}")
assert topics == ["d"], "changed"
consumer.close()
PY
