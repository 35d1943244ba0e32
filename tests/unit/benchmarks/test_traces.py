"""The protocol of labelled traces, and how its folder is found."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.builds import Build
from benchmarks.traces import __main__ as command
from benchmarks.traces.judging import Figures, Trace, add, judge, read_set
from benchmarks.traces.running import find_folder, run_sets
from shared.errors import DataError

START = datetime(2030, 1, 7, tzinfo=UTC)
DAY, HOUR, MINUTE = 86_400.0, 3600.0, 60.0


def trace(windows=(), days=10.0, interval=300.0, begin=0.0):
    return Trace("a", 0.0, interval, begin * DAY, days * DAY, tuple(windows))


def at(day, minutes=0.0):
    return day * DAY + minutes * MINUTE


@pytest.mark.parametrize(
    ("minutes", "hits", "false"), [(0, 1, 0), (60, 1, 0), (61, 0, 1), (-1, 0, 1)]
)
def test_a_window_is_hit_by_an_alarm_in_it_edges_included(minutes, hits, false):
    found = judge(trace([(at(5), at(5, 60))]), [at(5, minutes)])
    assert (found.windows, found.hits, found.false_events) == (1, hits, false)


def test_alarms_an_hour_or_six_intervals_apart_are_one_event():
    alarms = [at(5), at(5, 60), at(5, 120), at(5, 181)]
    assert judge(trace(), alarms).false_events == 2
    assert judge(trace(interval=HOUR), [at(5), at(5, 360), at(5, 721)]).false_events == 2


def test_an_event_that_touches_a_window_is_not_false():
    windows = [(at(5, 60), at(5, 70))]
    assert judge(trace(windows), [at(5, 30), at(5, 80)]).false_events == 0
    assert judge(trace(windows), [at(5, 80)]).false_events == 1


def test_nothing_before_the_fourth_day_or_the_labelled_period_counts():
    windows = [(at(2), at(2, 60)), (at(2.9), at(3.1)), (at(9), at(9, 60))]
    alarms = [at(2, 10), at(2.95), at(9, 10)]
    found = judge(trace(windows), alarms)
    assert (found.windows, found.hits, found.days) == (2, 1, 7.0)
    late = judge(trace(windows, begin=8.0), alarms)
    assert (late.windows, late.hits, late.days) == (1, 1, 2.0)


def test_delays_count_from_the_window_or_the_first_judged_moment():
    found = judge(trace([(at(2.9), at(3.1)), (at(5), at(6))]), [at(3, 5), at(5, 30), at(5, 300)])
    assert found.delays_min == (5.0, 30.0)
    assert found.delay_min == 30.0


def test_figures_of_several_are_those_of_their_sums():
    total = add([Figures(4, 2, 1, 10.0, (1.0, 2.0)), Figures(2, 1, 2, 20.0, (9.0,))])
    assert (total.windows, total.hits, total.false_events, total.days) == (6, 3, 3, 30.0)
    assert (total.precision, total.recall, total.f1) == (0.5, 0.5, 0.5)
    assert total.false_per_day == pytest.approx(0.1)
    assert total.delay_min == 2.0
    empty = add([])
    assert (empty.f1, empty.false_per_day, empty.delay_min) == (0.0, 0.0, None)


def write_set(folder, rows=2000, period=None):
    (folder / "data").mkdir(parents=True)
    stamps = [START + timedelta(minutes=5 * row) for row in range(rows)]
    lines = "".join(f"{stamp:%Y-%m-%dT%H:%M:%SZ},1\n" for stamp in stamps)
    (folder / "data" / "a.csv").write_text(f"timestamp,cpu\n{lines}")
    labels = {"a": [["2030-01-12T00:00:00Z", "2030-01-12T01:00:00Z"]]}
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "period.json").write_text(json.dumps({"a": period}))
    return folder


def test_a_set_is_read_from_its_folder(tmp_path):
    (read,) = read_set(write_set(tmp_path / "ms"))
    start = START.timestamp()
    assert (read.name, read.first, read.interval) == ("a", start, 300.0)
    assert (read.begin, read.end) == (start, start + 1999 * 300)
    assert read.windows == ((start + 5 * DAY, start + 5 * DAY + HOUR),)
    period = ["2030-01-11T00:00:00Z", "2030-01-12T12:00:00Z"]
    (given,) = read_set(write_set(tmp_path / "js2", period=period))
    assert (given.begin, given.end) == (start + 4 * DAY, start + 5.5 * DAY)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.json", "{", "labels.json: Expecting"),
        ("period.json", "[]", "period.json: expected an object"),
        ("data/a.csv", "timestamp,cpu\nnever,1\n", "a.csv: Invalid isoformat"),
        ("data/a.csv", "timestamp,cpu\n", "a.csv: fewer than two rows"),
    ],
)
def test_a_broken_set_names_its_file(name, text, message, tmp_path):
    folder = write_set(tmp_path / "ms")
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_set(folder)


def test_an_empty_set_is_refused(tmp_path):
    folder = write_set(tmp_path / "ms")
    (folder / "data" / "a.csv").unlink()
    with pytest.raises(DataError, match="there is no CSV file"):
        read_set(folder)


def test_the_folder_is_named_or_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("LAPWING_TRACES_DIR", raising=False)
    folder, why_not = find_folder(None)
    assert folder is None
    assert "set LAPWING_TRACES_DIR" in why_not
    monkeypatch.setenv("LAPWING_TRACES_DIR", str(tmp_path))
    folder, why_not = find_folder(None)
    assert folder is None
    assert f"{tmp_path}: none of the sets asd, js2, js3, ms" in why_not
    write_set(tmp_path / "ms")
    assert find_folder(None) == (tmp_path, "")
    assert find_folder(tmp_path) == (tmp_path, "")


FAKE = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
head = "time,entity,kind,metric,expected,cold_start,reason\\n"
rows = "2030-01-12 00:30,a,anomaly,cpu,5,False,why\\n2030-01-11 00:00,a,gap,,,False,why\\n"
(out / "alarms.csv").write_text(head + rows * ("--threshold" not in words))
print(json.dumps({"first": {}}))
"""


@pytest.fixture
def fake(tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return Build("fake", (sys.executable, str(script)), sys.executable)


def test_a_builds_anomalies_are_judged_and_options_passed_on(fake, tmp_path):
    write_set(tmp_path / "ms")
    figures = run_sets(fake, tmp_path, ["ms"])
    assert set(figures) == {"ms", "all"}
    assert (figures["ms"].hits, figures["ms"].false_events) == (1, 0)
    assert run_sets(fake, tmp_path, ["ms"], ["--threshold", "9"])["ms"].hits == 0


def test_the_command_prints_figures_or_says_that_it_is_skipped(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LAPWING_TRACES_DIR", raising=False)
    monkeypatch.setattr(command, "this_build", lambda: fake)
    monkeypatch.setattr(sys, "argv", ["benchmarks.traces"])
    assert command.main() == 0
    assert "SKIPPED: no folder of traces" in capsys.readouterr().err
    write_set(tmp_path / "ms")
    document = tmp_path / "figures.json"
    words = [str(tmp_path), "--sets", "ms", "--json", str(document)]
    monkeypatch.setattr(sys, "argv", ["benchmarks.traces", *words])
    assert command.main() == 0
    assert "ms     hit   1 of 1    false   0 in" in capsys.readouterr().out
    assert json.loads(document.read_text())["ms"]["f1"] == 1.0
    monkeypatch.setattr(sys, "argv", ["benchmarks.traces", *words, "--", "--threshold", "9"])
    assert command.main() == 0
    assert "hit   0 of 1" in capsys.readouterr().out
    (tmp_path / "ms" / "labels.json").write_text("{")
    assert command.main() == 2
    assert "labels.json: Expecting" in capsys.readouterr().err
