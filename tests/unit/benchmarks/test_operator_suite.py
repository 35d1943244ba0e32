"""The situations themselves: the judge of the judge, variants, and how a build is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.builds import Build
from benchmarks.operator import __main__ as suite
from benchmarks.operator import report
from benchmarks.operator.baseline import detect
from benchmarks.operator.criteria import Criteria
from benchmarks.operator.generators.rhythm import Incidents, plain
from benchmarks.operator.judging import Alert, Check, Output, Verdict, judge
from benchmarks.operator.oracles import judge_oracles
from benchmarks.operator.running import (
    Request,
    Result,
    build_scene,
    load_situations,
    name_after_hosts,
    run,
)
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import DAY, Noise, daily_at, draw_noise
from benchmarks.operator.situations import SITUATIONS, Situation
from benchmarks.operator.variants import ALL, INTERVALS_S, Variant, undecidable

WITH_ROWS = [situation for situation in SITUATIONS if situation.make is not None]
BY_NAME = {situation.name: situation for situation in SITUATIONS}


def test_names_and_seeds_are_unique():
    assert len(BY_NAME) == len(SITUATIONS) == 49
    assert len({situation.seed for situation in WITH_ROWS}) == len(WITH_ROWS)


@pytest.mark.parametrize("situation", WITH_ROWS, ids=lambda situation: situation.name)
def test_only_perfect_alarms_pass(situation):
    verdicts = judge_oracles(situation)
    assert {name for name, verdict in verdicts.items() if verdict.passed} == {"perfect"}
    assert verdicts["perfect"].incidents >= 2


def digest(situation, seed, folder):
    scene = build_scene(situation, seed)
    scene.write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["two-hour-gap", "decoupled", "clock-ahead", "second-time-column"])
def test_a_seed_gives_the_same_files_and_another_seed_others(name, tmp_path):
    first, again, other = (
        digest(BY_NAME[name], seed, tmp_path / str(number)) for number, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert first != other


@pytest.mark.parametrize("family", Noise)
def test_every_noise_has_mean_0_and_deviation_1(family):
    drawn = draw_noise(np.random.default_rng(0), 200_000, family)
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert drawn.std() == pytest.approx(1, abs=0.03)
    memory = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert memory == pytest.approx(0.8 if family is Noise.AUTOCORRELATED else 0, abs=0.02)


def test_variants_change_interval_and_noise_alone():
    assert [str(variant) for variant in ALL] == [
        *INTERVALS_S,
        "laplace",
        "lognormal",
        "autocorrelated",
    ]
    situation = BY_NAME["level-shift"]
    hourly = build_scene(situation, 0, Variant("1h"))
    assert {int(np.diff(host.time).min()) for host in hourly.hosts} == {3600}
    original = build_scene(situation, 0)
    assert hourly.must_alarm == original.must_alarm
    laplace = build_scene(situation, 0, Variant(noise=Noise.LAPLACE))
    assert (laplace.hosts[0].time == original.hosts[0].time).all()
    assert not (laplace.hosts[0].columns["value"] == original.hosts[0].columns["value"]).any()
    assert len(build_scene(situation, 0, Variant("10s")).hosts) == 2


@pytest.mark.parametrize(
    ("name", "variant", "why"),
    [
        ("one-second", Variant("1h"), "interval of its own"),
        ("compact-hours", Variant("1h"), "interval of its own"),
        ("avro-event-time", Variant("1h"), "interval of its own"),
        ("sparse-counts", Variant(noise=Noise.LAPLACE), "noise of its own"),
        ("hourly", Variant(noise=Noise.LAPLACE), ""),
        ("level-shift", Variant("1h", Noise.LAPLACE), ""),
    ],
)
def test_what_has_no_variant_says_why(name, variant, why):
    message = variant.inapplicable(BY_NAME[name])
    assert (why in message) if why else message == ""


def test_an_incident_between_two_rows_cannot_be_judged():
    scene = Scene(0, 3, 3600)
    time = scene.clock()
    scene.add("a", time, cpu=np.zeros(len(time)))
    scene.expect("a", scene.at(1, 2.0), scene.at(1, 2.25))
    assert undecidable(scene) == ""
    scene.expect("a", scene.at(1, 2.1), scene.at(1, 2.35), kinds=("gap",))
    assert undecidable(scene) == ""
    scene.expect("a", scene.at(1, 2.1), scene.at(1, 2.35))
    assert "incident of a lies between two rows" in undecidable(scene)


def test_the_baseline_finds_surges_and_says_what_is_usual():
    scene = plain(0, hosts=1, days=23, step_s=900)
    scene.must_alarm[0].usual = daily_at(scene.must_alarm[0].start)
    verdict = judge(scene, Criteria(usual_within=0.1), detect(scene))
    assert [check.measured for check in verdict.checks[:3]] == ["3 of 3", "3 of 3", "1 of 1"]
    assert verdict.passed


def test_the_baseline_looks_at_earlier_days_only():
    scene = plain(0, hosts=1, days=18, step_s=900, incidents=Incidents(first_day=12))
    border = scene.at(14)
    before = [vars(alert) for alert in detect(scene).alerts if alert.time < border]
    assert before
    for host in scene.hosts:
        host.columns["value"][host.time >= border] *= 3
    after = [vars(alert) for alert in detect(scene).alerts]
    assert [alert for alert in after if alert["time"] < border] == before
    assert len(after) > len(before)


def test_an_entity_may_be_named_after_its_file_and_its_key():
    alerts = [Alert(0, "sensors/101"), Alert(0, "101"), Alert(0, "other/7")]
    name_after_hosts(alerts, ["101", "102"])
    assert [alert.entity for alert in alerts] == ["101", "101", "other/7"]


# -- running a build -------------------------------------------------------------------------------

FAKE = """
import csv, json, sys
from pathlib import Path
words = sys.argv[1:]
assert words[:1] == ["backtest"], words
out = Path(words[words.index("--out") + 1])
out.mkdir()
files = sorted(path.stem for path in Path(words[words.index("--data") + 1]).glob("*.csv"))
with (out / "alarms.csv").open("w") as lines:
    writer = csv.writer(lines)
    writer.writerow("time entity kind metric expected cold_start reason".split())
    for name in files:
        writer.writerow(["2025-01-20 10:00", name, "anomaly", "cpu", "5", "False", "why"])
figures = {"records": 3, "entities": len(files), "rejected": {}, "late": 0, "entities_warming": 0,
           "first_event": "x", "last_event": "y"}
print(json.dumps({"first": figures}))
"""
OWN = """
from benchmarks.operator.criteria import Criteria
from benchmarks.operator.scene import Scene
from benchmarks.operator.situations import Situation
import numpy as np

def make(seed):
    scene = Scene(0, 20)
    time = scene.clock()
    scene.add("a", time, cpu=np.zeros(len(time)))
    scene.expect("a", scene.at(14, 9), scene.at(14, 11), "cpu", usual=5.0)
    return scene

SITUATIONS = [Situation("own", "is it found?", make)]
"""


@pytest.fixture
def fake(tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return Build("fake", (sys.executable, str(script)), sys.executable)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own_situations.py"
    path.write_text(OWN)
    return path


def test_a_build_is_run_by_its_command_line_on_own_situations(fake, own, tmp_path):
    result = run(Request("own", source=own, build=fake, keep=tmp_path / "kept"))
    assert result.verdict is not None
    assert [(check.passed, check.measured) for check in result.verdict.checks] == [
        (True, "1 of 1"), (True, "1 of 1"), (True, "1 of 1"), (True, "0 (0.000)"),
    ]  # fmt: skip
    assert (tmp_path / "kept" / "own" / "data" / "a.csv").read_text().startswith("timestamp,cpu\n")


def test_a_build_that_fails_is_a_failure_with_its_words(own):
    command = (sys.executable, "-c", "import sys; sys.exit('broken pipe of tests')")
    result = run(Request("own", source=own, build=Build("broken", command, sys.executable)))
    assert result.verdict is not None
    assert [check.measured for check in result.verdict.checks] == ["1: broken pipe of tests"]


def test_the_decoder_of_this_clone_is_asked_for_the_event_time():
    result = run(Request("avro-event-time", build=suite.this_build()))
    assert result.verdict is not None
    assert [check.passed for check in result.verdict.checks] == [True, True, True]


def test_the_command(own, fake, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(suite, "this_build", lambda in_process: fake)
    document = tmp_path / "all.json"
    words = ["--situations", str(own), "--json", str(document), "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmarks.operator", *words])
    assert suite.main() == 0
    assert "1 of 1 situations pass; incidents found 1 of 1" in capsys.readouterr().out
    (listed,) = json.loads(document.read_text())["situations"]
    assert (listed["name"], listed["passed"], listed["found"]) == ("own", True, 1)
    assert listed["checks"][0] == {
        "required": "incidents found >= 90%", "measured": "1 of 1", "passed": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nothing-like-it"], "no situation is called so; there are bogus-reading"),
        (["--lapwing", "/nowhere/lapwing"], "--lapwing /nowhere/lapwing: there is no such file"),
    ],
)
def test_what_the_command_refuses(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.operator", *words])
    assert suite.main() == 2
    assert message in capsys.readouterr().err


def test_what_was_not_judged_is_named_and_not_counted():
    results = [
        Result("a", Verdict([Check("x", "1", True)], 1, 1, 0, DAY), "", 1.0),
        Result("b", Verdict([Check("x", "1", False)], 0, 1, 2, DAY), "", 1.0),
        Result("c", None, "has no rows", 1.0),
    ]
    totals = report.totals(results)
    assert (totals.passed, totals.judged, totals.failing) == (1, 2, ("b",))
    assert report.show(results[2]).split() == ["c", "n/a", "has", "no", "rows"]
    assert report.show(results[1]).split()[:3] == ["b", "FAIL", "!"]
    situations = [Situation(name, "?") for name in "abc"]
    assert report.document(results, situations)["situations"][2]["why_not"] == "has no rows"
    assert report.table(situations).count("\n") == 4


def test_the_readme_names_every_module():
    folder = Path(suite.__file__).parent
    text = (folder / "README.md").read_text("utf-8")
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {name for name in modules if name not in text} == set()
    assert load_situations(None) is SITUATIONS
    assert Output().count("records") == 0
