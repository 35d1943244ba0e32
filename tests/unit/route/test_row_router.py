"""Rows become metric events: entities, metrics, times, refusals, schemas and bytes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.route.label_template import LabelTemplate
from lapwing.route.row_records import (
    Series,
    avro_long,
    avro_string,
    field_name,
    long_schema,
    wide_schema,
)
from lapwing.route.row_router import KEPT_REFUSALS, NAME_RULE, Routed, RouteRules, valid_name
from lapwing.route.rows import Sample
from shared.encode.records import encode_records
from shared.errors import ConfigError, TransportError
from shared.kernels.text import is_name
from shared.settings import Settings
from tests.support.routing import new_router, plain, routed

T0 = 1_700_000_000


def telegraf(*metrics: dict) -> bytes:
    return json.dumps({"metrics": list(metrics)}).encode()


def cpu(host: object = "web-1", time: object = T0, **fields: object) -> dict:
    return {"name": "cpu", "tags": {"host": host}, "fields": fields, "timestamp": time}


def test_a_row_is_one_event_with_all_its_numbers_in_the_order_of_their_names():
    events, refusals, counts = routed(telegraf(cpu(user=2, idle=97.5, text="x", up=True)))
    assert events == [{"host": "web-1", "timestamp": T0 * 1000, "cpu_idle": 97.5, "cpu_user": 2.0}]
    assert list(events[0]) == ["host", "timestamp", "cpu_idle", "cpu_user"]
    assert (refusals, counts.rows, counts.left_out, counts.refused) == ([], 1, 0, 0)


def test_in_long_form_each_number_is_an_event():
    events, refusals, counts = routed(telegraf(cpu(user=2, idle=97.5, steal=None)), long=True)
    assert events == [
        {"host": "web-1", "metric": metric, "timestamp": T0 * 1000, "value": value}
        for metric, value in (("cpu_user", 2.0), ("cpu_idle", 97.5))
    ]
    assert (refusals, counts.rows) == ([], 1)


def test_a_bad_row_in_a_batch_of_100_leaves_99_events():
    rows = [cpu(f"web-{k}", v=k) for k in range(100)]
    rows[37] = cpu("", v=1)
    events, refusals, counts = routed(telegraf(*rows))
    assert [event["host"] for event in events] == [f"web-{k}" for k in range(100) if k != 37]
    assert [(row, code) for row, code, _ in refusals] == [(37, "label_missing")]
    assert (counts.rows, counts.refused) == (100, 1)


@pytest.mark.parametrize(
    ("row", "code", "sentence"),
    [
        (cpu("h" * 257, v=1), "entity_invalid", NAME_RULE),
        (cpu("a\nb", v=1), "entity_invalid", "a\\nb"),
        (cpu(["a"], v=1), "label_missing", "label host is missing (labels: host); route.entity is"),
        (cpu(v=1, time=T0 * 1000), "time_out_of_range", "check the unit, route.time_unit"),
        (cpu(v=1, time=-(2**62)), "time_out_of_range", "ms lies outside input.min_time"),
        (cpu(v=1, time="now"), "time_invalid", 'timestamp is the text "now"'),
        (cpu(**{"a.b": 1, "a_b": 2}), "metric_invalid", "would be the field cpu_a_b"),
        (cpu(**{"x" * 300: 1}), "metric_invalid", NAME_RULE),
        ({"name": "cpu", "fields": 3, "timestamp": T0}, "row_unfit", "fields is the number 3"),
        (7, "row_unfit", "it is the number 7, not an object"),
    ],
)
def test_a_refusal_names_what_is_wrong_and_what_is_allowed(row, code, sentence):
    events, refusals, _ = routed(telegraf(cpu("a", v=1), row, cpu("b", v=2)))
    assert [event["host"] for event in events] == ["a", "b"]
    [(number, found, detail)] = refusals
    assert (number, found) == (1, code)
    assert sentence in detail
    assert detail.isprintable()


def test_only_the_first_refusals_of_a_record_are_kept_but_all_are_counted():
    router, _ = new_router()
    out = Routed()
    refusals = router.route(telegraf(*[cpu("", v=1)] * 100), out)
    assert (len(refusals.first), refusals.total, out.refused) == (KEPT_REFUSALS, 100, 100)


def test_a_record_that_is_refused_whole_gives_no_event():
    for value, code, sentence in (
        (b"", "empty", "no value"),
        (b"x" * 2_000, "too_large", "route.max_record_bytes is 1500"),
        (b'{"metrics":[', "malformed", "it is not JSON: unexpected end of data"),
        (b"3", "malformed", "it is the number 3"),
        (telegraf(*[cpu("a", v=1)] * 12), "too_many_rows", "more than 11 rows"),
    ):
        events, refusals, counts = routed(value, max_record_bytes=1_500, max_rows=11)
        assert events == []
        assert [refusal[:2] for refusal in refusals] == [(-1, code)]
        assert sentence in refusals[0][2]
        assert (counts.rows, counts.refused) == (1, 1)


def test_rows_without_a_number_are_left_out():
    events, refusals, counts = routed(telegraf(cpu(a="x"), cpu(a=None), cpu(), cpu(a=1)))
    assert len(events) == 1
    assert (refusals, counts.rows, counts.left_out) == ([], 4, 3)


def test_a_time_by_its_name_is_no_metric_as_for_predictors():
    events, refusals, counts = routed(telegraf(cpu(created_at=5), cpu(created_at=5, v=1)))
    assert [list(event) for event in events] == [["host", "timestamp", "cpu_v"]]
    assert (refusals, counts.left_out) == ([], 1)
    assert len(routed(telegraf(cpu(created_at=5)), long=True)[0]) == 1


def test_null_is_a_missing_value_beside_numbers():
    events, _, _ = routed(telegraf(cpu(a=None, b=1), cpu(a=2, b=3)))
    assert [(event["cpu_a"], event["cpu_b"]) for event in events] == [(None, 1.0), (2.0, 3.0)]


def test_the_template_joins_labels_and_leaves_optional_parts_out():
    rows = telegraf(
        {"name": "disk", "tags": {"host": "a", "disk": "sda"}, "fields": {"v": 1}, "timestamp": T0},
        {"name": "mem", "tags": {"host": "a"}, "fields": {"v": 1}, "timestamp": T0},
    )
    events, _, _ = routed(rows, entity="{host}[/{disk}]", metric="m.{__name__}[.{disk}]")
    assert [event["host"] for event in events] == ["a/sda", "a"]
    assert [list(event)[2] for event in events] == ["m_disk_sda_v", "m_mem_v"]
    events, refusals, _ = routed(rows, entity="{host}/{disk}")
    assert len(events) == 1
    assert refusals[0][2] == "label disk is missing (labels: host); route.entity is {host}/{disk}"


@pytest.mark.parametrize("text", ["host", "{host", "[{host}", "{a}[{b}[{c}]]", "{}", "a]{b}"])
def test_a_template_that_cannot_be_meant_is_refused(text):
    with pytest.raises(ConfigError, match=r"route\.entity"):
        LabelTemplate(text, "route.entity")


def test_more_sets_of_metrics_than_allowed_are_refused_and_long_form_is_named():
    rows = telegraf(*[cpu(**{f"f{k}": 1}) for k in range(5)])
    events, refusals, _ = routed(rows, max_schemas=3)
    assert len(events) == 3
    assert [code for _, code, _ in refusals] == ["too_many_schemas"] * 2
    assert "set input.metric_field and input.value_field" in refusals[0][2]
    assert len(routed(rows, long=True, max_schemas=3)[0]) == 5


def test_a_registry_that_does_not_answer_leaves_nothing_behind():
    router, schemas = new_router()
    answers = [TransportError("no answer"), None]

    def schema_id(metrics):
        if (error := answers.pop(0)) is not None:
            raise error
        return schemas(metrics)

    router._schema_id = schema_id
    with pytest.raises(TransportError):
        router.route(telegraf(cpu(v=1)), Routed())
    out = Routed()
    assert router.route(telegraf(cpu(v=1)), out) is None
    assert len(out.values) == 1


def test_infinite_values_are_refused():
    router, _ = new_router()
    router.decoder = _Rows(
        Sample("m", {"host": "a"}, T0 * 1000, {"x": 1.0, "y": math.inf}),
        Sample("m", {"host": "a"}, T0 * 1000, {"x": 1e308, "y": 1e308}),
        Sample("m", {"host": "a"}, T0 * 1000, {"x": None, "y": math.nan}),
    )
    out = Routed()
    refusals = router.route(b"x", out)
    assert [(row, code) for row, code, _ in plain(refusals)] == [
        (0, "not_finite"),
        (2, "not_finite"),
    ]
    assert len(out.values) == 1


class _Rows:
    format = "rows"

    def __init__(self, *rows):
        self._rows = rows

    def where(self, row):
        return f"row {row}"

    def rows(self, value):
        return self._rows


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.text(min_size=1, max_size=20),
    st.integers(-(2**62), 2**62),
    st.lists(st.none() | finite, min_size=1, max_size=5),
)
def test_records_have_the_bytes_of_fastavro(entity, time_ms, values):
    names = [f"m{k}" for k in range(len(values))]
    event = {"host": entity, "timestamp": time_ms, **dict(zip(names, values, strict=True))}
    try:
        expected = encode_records(wide_schema("host", names), 7, [event])[0]
    except ValueError:  # a lone surrogate
        return
    series = Series(7, b"", len(values))
    made = series.record_with_nulls(entity.encode(), avro_long(time_ms), values)
    assert made == expected
    if None not in values:
        assert series.record(entity.encode(), avro_long(time_ms), values) == expected


def test_records_in_long_form_have_the_bytes_of_fastavro():
    event = {"host": "a", "timestamp": 5, "metric": "m.n", "value": 2.5}
    expected = encode_records(long_schema("host", "metric", "value"), 7, [event])[0]
    assert Series(7, avro_string(b"m.n"), 1).record(b"a", avro_long(5), [2.5]) == expected


@given(st.text(max_size=10))
def test_a_name_is_valid_here_where_predictors_accept_it(text):
    data = np.frombuffer(text.encode("utf-8", "surrogatepass") or b"\0", np.uint8)
    is_accepted = bool(text) and bool(is_name(data, 0, len(data)))
    assert (valid_name(text) is not None) == is_accepted


def test_names_in_avro():
    assert [field_name(name) for name in ("a.b", "9x", "größe", "a_b")] == [
        "a_b",
        "_9x",
        "gr__e",
        "a_b",
    ]


def test_settings_that_no_record_could_meet_are_refused():
    for given_, sentence in (
        ({"format": "json", "time_field": "t", "time_unit": "s"}, "input.format=avro"),
        ({"entity_fields": ["a", "b"]}, "one entity field"),
        ({"time_field": "ts"}, "leave input.time_field empty"),
        ({"entity_fields": ["tags.host"]}, "a name in Avro has letters"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            RouteRules.of(Settings.model_validate({"input": given_}))
