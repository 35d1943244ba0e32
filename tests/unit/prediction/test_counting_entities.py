"""What is counted of entities that leave, and of metrics that are not scored."""

from __future__ import annotations

from consumer_prediction.health.counting import count_committed
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import flat_schema
from shared.features.kernels.places import EVICTED, EVICTIONS_PER_STEP, EXPIRED, FORGOTTEN
from shared.operations.counters import DATA_QUALITY, ENTITIES_DROPPED, METRICS_IGNORED, Counters
from shared.settings import InputSettings
from tests.support.pods import START_MS, Record, batch_of, churn, run


def test_entities_that_leave_are_counted_by_reason() -> None:
    result = run(batch_of(churn(3, 120)), 4)
    counters = Counters()
    count_committed(counters, result.outcomes, START_MS)
    dropped = result.dropped()
    assert dropped.count(EVICTED) > 0
    want = {"evicted": EVICTED, "expired": EXPIRED, "forgotten": FORGOTTEN}
    for name, reason in want.items():
        assert counters.value(ENTITIES_DROPPED, name) == dropped.count(reason)
    assert counters.value(DATA_QUALITY, "evicted") == dropped.count(EVICTED)


def test_evictions_that_are_not_said_are_counted_all_the_same() -> None:
    log = [Record(f"pod-{k}", START_MS + k, {"cpu": 1.0}, 3) for k in range(300)]
    counters = Counters()
    count_committed(counters, run(batch_of(log), 10).outcomes, START_MS)
    assert counters.value(ENTITIES_DROPPED, "evicted") == 290
    assert counters.value(DATA_QUALITY, "evicted") == EVICTIONS_PER_STEP
    assert counters.value(METRICS_IGNORED) == 0


def test_values_beyond_the_256th_metric_are_counted() -> None:
    names = [f"m{k}" for k in range(260)]
    text = flat_schema("lapwing.Wide", "host", names)
    decoder = AvroDecoder.of_schemas({1: text}, InputSettings())
    log = [Record("wide", START_MS + k * 1000, dict.fromkeys(names, 1.0 + k)) for k in range(3)]
    counters = Counters()
    result = run(batch_of(log, decoder_text=text), 10, decoder=decoder)
    count_committed(counters, result.outcomes, START_MS)
    assert counters.value(METRICS_IGNORED) == 3 * 4
    assert counters.value(DATA_QUALITY, "too_many_metrics") == 1
