"""A small run of the fuzz benchmark: damaged records and models, none a surprise."""

from __future__ import annotations

import random

import pytest
from numba import config

from lapwing.route import row_router
from shared.columns import Columns
from shared.events import Reason
from tests.fuzz import json_text
from tests.fuzz import records as fuzz
from tests.fuzz.fuzz_damages import FORGED, PLACES, PLAIN, SIGNATURES
from tests.fuzz.fuzz_models import MOST_BYTES, fuzz_models
from tests.fuzz.json_text import fuzz_json
from tests.fuzz.records import TWIN_EVERY, fuzz_records, mutate, valid_records
from tests.fuzz.route_rows import DAMAGES, LONGEST_S, fuzz_format

SLOW = bool(config.DISABLE_JIT)


def test_damaged_records_are_records_or_named_rejects() -> None:
    found = fuzz_records(2_000 if SLOW else 20_000, seed=1)
    assert found.surprises == []
    assert found.accepted + found.rejected.total() == found.records == (2_000 if SLOW else 20_000)
    assert found.twin >= found.records // TWIN_EVERY
    assert found.accepted > found.records // 20
    usual = {
        Reason.MALFORMED,
        Reason.TRUNCATED,
        Reason.TRAILING_BYTES,
        Reason.NOT_AVRO,
        Reason.UNKNOWN_SCHEMA,
    }
    assert {reason.code for reason in usual} <= found.rejected.keys()


@pytest.mark.parametrize("world", ["nested", "long"])
def test_damaged_records_of_other_kinds_are_read_as_by_the_reference(world: str) -> None:
    count = 2_000 if SLOW else 10_000
    found = fuzz_records(count, seed=1, world=world)
    assert found.surprises == []
    assert found.accepted + found.rejected.total() == found.records == count
    assert found.accepted > count // 40
    assert found.twin >= count // TWIN_EVERY


def test_damaged_json_is_read_as_by_the_reference() -> None:
    found = fuzz_json(1_000, seed=1)
    assert found.surprises == []
    assert found.accepted + found.rejected.total() == found.records == 1_000
    assert found.accepted > 100
    usual = {Reason.NOT_JSON, Reason.RECORD_UNFIT, Reason.TIME_INVALID, Reason.NOT_FINITE}
    assert {reason.code for reason in usual} <= found.rejected.keys()


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damaged_records_of_route_become_events_or_named_refusals(name: str) -> None:
    found = fuzz_format(name, 600, seed=1)
    assert found.surprises == []
    assert (found.records, found.slowest_s < LONGEST_S) == (600, True)
    assert found.events > 40
    assert found.refused["malformed"] > 40


def test_an_event_that_predictors_reject_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_router, "valid_name", lambda text: text.encode())
    assert fuzz_format("telegraf", 3_000, seed=1).surprises


def test_another_answer_on_json_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "read_row", lambda value, settings: Reason.NOT_FINITE)
    assert fuzz_json(100, seed=2).surprises


def test_most_mutations_change_a_record() -> None:
    rng = random.Random(0)
    pool = valid_records(rng, 20)
    assert (
        len({mutate(rng.choice(pool), rng.choice(pool), rng) for _ in range(1000)} - set(pool))
        > 800
    )


@pytest.mark.parametrize("wrong", ["a neighbour", "a lost row", "another answer"])
def test_a_surprise_is_seen(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = fuzz._decoded

    def changed(*arguments):
        columns, entities, metrics = decoded(*arguments)
        return damaged(columns), entities, metrics

    def damaged(columns):
        if len(columns) < 100:
            return columns
        if wrong == "a neighbour":
            columns.values[0] += 1.0
        elif wrong == "a lost row":
            kept = [
                getattr(columns, name)[:-1] for name in ("accepted", "entity", "time_ms", "values")
            ]
            return Columns(*kept, columns.rejected, columns.reasons)
        else:
            columns.reasons[columns.reasons == Reason.TRUNCATED] = Reason.MALFORMED
        return columns

    monkeypatch.setattr(fuzz, "_decoded", changed)
    assert fuzz_records(2_000, seed=2).surprises


def test_damaged_models_are_refused() -> None:
    found = fuzz_models(60, seed=1)
    assert (found.loaded, found.crashed, found.others) == ([], [], [])
    assert found.refused + found.valid.total() == found.models == 60
    assert found.refused >= 50
    assert not found.failed
    assert 0 < found.idle_bytes < found.peak_bytes <= found.idle_bytes + MOST_BYTES
    assert len(found.kinds) > len([*PLAIN, *FORGED, *PLACES, *SIGNATURES]) // 3
