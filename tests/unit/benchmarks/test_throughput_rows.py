"""The rows of the throughput benchmark, and what it writes of them."""

import pytest

from benchmarks.throughput import ROWS, Bench, Run, _selected


def test_every_base_is_a_row():
    assert {row.base for row in ROWS.values()} <= set(ROWS)


def test_a_selection_contains_the_bases():
    assert set(_selected("predict.ensemble.native.metrics10")) == {
        "predict.ensemble.native",
        "predict.ensemble.native.metrics10",
    }


def bench() -> Bench:
    made = Bench.__new__(Bench)
    made.totals = {3: 100, 10: 50}
    return made


def test_ratios_are_those_of_the_same_repeat():
    runs = {
        "echo_sized.python": [Run(100.0, 1.0, 100, "e"), Run(200.0, 1.0, 100, "e")],
        "predict.ensemble.native": [Run(50.0, 4.0, 100, "p"), Run(50.0, 2.0, 100, "p")],
    }
    echo, ensemble = bench().document(runs)["rows"]
    assert ensemble["id"] == "throughput.predict.ensemble.native"
    assert ensemble["base"] == "throughput.echo_sized.python"
    assert ensemble["ratio"] == pytest.approx((0.5 + 0.25) / 2)
    assert ensemble["cpu_ratio"] == pytest.approx(3.0)
    assert echo["correct"]
    assert ensemble["correct"]


@pytest.mark.parametrize(
    ("results", "digest", "is_correct"), [(100, "p", True), (99, "p", False), (100, "q", False)]
)
def test_a_row_is_correct_if_complete_and_equal_to_the_other_client(results, digest, is_correct):
    runs = {
        "predict.ensemble.python": [Run(1.0, 1.0, 100, "p")],
        "predict.ensemble.native": [Run(1.0, 1.0, results, digest)],
        "predict.isolation_forest.native": [Run(1.0, 1.0, 100, "f")],
    }
    rows = {row["id"]: row["correct"] for row in bench().document(runs)["rows"]}
    assert rows["throughput.predict.ensemble.native"] == is_correct
    assert rows["throughput.predict.isolation_forest.native"]
