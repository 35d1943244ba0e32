"""The table of all judges, the floors, and the build of another revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import builds, judges
from benchmarks.builds import Alarm, Build, BuildError, backtest, installed_build, read_alarms
from benchmarks.fleet.hosts import generate
from benchmarks.operator.report import Totals
from benchmarks.quality import __main__ as quality
from benchmarks.quality import parts, revisions
from benchmarks.quality.parts import Inputs, Sizes, Skipped, by_fortnight
from benchmarks.quality.series import fleet_scene, healthy_scene, write_parts
from benchmarks.traces.judging import Figures
from tests.support.backtests import wave, write_series

TOTALS = Totals(46, 49, 789, 797, 26, 4000.0, ("pod-churn", "jitter-and-missing"))
TRACES = {"hosts": Figures(92, 50, 31, 490.0), "ms": Figures(40, 20, 15, 300.0)}

# -- floors ----------------------------------------------------------------------------------------


def test_what_was_reached_keeps_its_own_floors():
    floors = judges.floors_of(TOTALS, 0, TRACES)
    assert floors["operator"] == {"seed": 0, "passed": 46, "failing": list(TOTALS.failing)}
    assert judges.compare_operator(TOTALS, floors["operator"]).kept
    assert all(one.kept for one in judges.compare_traces(TRACES, floors["traces"]))


@pytest.mark.parametrize(
    ("group", "worse", "missed"),
    [
        ("hosts", Figures(92, 49, 31, 490.0), "traces hosts: F1"),
        ("ms", Figures(40, 21, 16, 300.0), "traces ms: false a day"),
    ],
)
def test_fewer_hits_or_more_false_alarms_are_missed(group, worse, missed):
    floors = judges.floors_of(TOTALS, 0, TRACES)["traces"]
    found = judges.compare_traces(TRACES | {group: worse}, floors)
    assert [one.name for one in found if not one.kept] == [missed]
    assert "MISSED" in str(next(one for one in found if not one.kept))


def test_one_situation_less_is_missed():
    fewer = Totals(45, 49, 789, 797, 26, 4000.0, TOTALS.failing)
    floor = judges.floors_of(TOTALS, 0, None)["operator"]
    assert not judges.compare_operator(fewer, floor).kept


def test_the_committed_floors_can_be_compared():
    floors = json.loads(judges.FLOORS.read_text("utf-8"))
    assert judges.compare_operator(TOTALS, floors["operator"]).limit <= 49
    assert len(judges.compare_traces(TRACES, floors["traces"])) == 4


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """Runs the command on given results; returns exit code and the floors it wrote."""

    def run(totals, figures, *words, floors=None):
        path = tmp_path / "floors.json"
        path.write_text(json.dumps(floors or judges.floors_of(TOTALS, 0, TRACES)))
        monkeypatch.setattr(judges, "FLOORS", path)
        monkeypatch.setattr(judges, "run_operator", lambda seed, jobs: totals)
        monkeypatch.setattr(judges, "run_sets", lambda build, folder, jobs: figures)
        folder = None if figures is None else tmp_path
        monkeypatch.setattr(judges, "find_folder", lambda given: (folder, "no folder of traces"))
        monkeypatch.setattr(sys, "argv", ["benchmarks.judges", *words])
        return judges.main(), json.loads(path.read_text())

    return run


def test_the_judges_pass_fail_and_write(judged, capsys):
    assert judged(TOTALS, TRACES)[0] == 0
    worse = Totals(45, 49, 780, 797, 30, 4000.0, (*TOTALS.failing, "blips"))
    assert judged(worse, TRACES)[0] == 1
    out = capsys.readouterr().out
    assert "operator: situations passed       45  at least 46      MISSED" in out
    assert "other situations fail than written down: blips" in out
    code, written = judged(worse, TRACES, "--write")
    assert (code, written["operator"]["passed"]) == (0, 45)


def test_without_traces_the_judges_say_so_and_keep_their_floor(judged, capsys):
    assert judged(TOTALS, None)[0] == 0
    assert "SKIPPED traces: no folder of traces" in capsys.readouterr().err
    code, written = judged(TOTALS, None, "--write")
    assert code == 0
    assert written["traces"] == judges.floors_of(TOTALS, 0, TRACES)["traces"]


# -- a build ---------------------------------------------------------------------------------------

OLD = "time,entity,kind,metric,expected,cold_start,reason\n"
NEW = "time,entity,kind,metric,expected,cold_start,reason,phase\n"


def test_alarms_of_builds_with_and_without_episodes_are_read(tmp_path):
    path = tmp_path / "alarms.csv"
    path.write_text(OLD + "2025-01-06 00:05,a,anomaly,cpu,5.5,True,why\n")
    (alarm,) = read_alarms(path)
    assert alarm == Alarm(1_736_121_900.0, "a", "anomaly", "cpu", 5.5, "why", "", True)
    path.write_text(NEW + "2025-01-06 00:05:30,a,gap,,,False,why,worse\n")
    (alarm,) = read_alarms(path)
    assert alarm == Alarm(1_736_121_930.0, "a", "gap", None, None, "why", "worse")
    assert not alarm.is_anomaly


def test_a_build_that_ends_with_an_error_is_named(tmp_path):
    command = (sys.executable, "-c", "import sys; sys.exit('no such thing')")
    with pytest.raises(BuildError, match="old: lapwing backtest ended with 1: no such thing"):
        backtest(Build("old", command, sys.executable), tmp_path, tmp_path)
    with pytest.raises(BuildError, match="there is no such file"):
        installed_build(tmp_path / "lapwing")


def test_an_answer_that_does_not_come_is_an_error(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    done = builds.call(Build("slow", (), sys.executable), command, tmp_path, limit_s=0.2)
    assert (done.code, done.err) == (builds.NO_ANSWER, "no answer within 0.2 s")


def test_commands_in_the_process_are_those_of_a_process_of_their_own(tmp_path, monkeypatch):
    write_series(tmp_path / "data", "a", wave())
    words = ["backtest", "--data", "data", "--json", "--out"]
    monkeypatch.setattr(sys, "argv", ["pytest", "untouched"])
    before = dict(os.environ)
    warm = {"LAPWING_DETECTION__WARMUP_DAYS": "0.2"}
    results = []
    for in_process in (False, True):
        build = builds.this_build(in_process=in_process)
        command = [*build.command, *words, f"out-{in_process}"]
        results.append(builds.call(build, command, tmp_path, warm))
    assert [done.code for done in results] == [0, 0]
    assert results[0].out == results[1].out
    assert json.loads(results[0].out)["configuration"]["detection"]["warmup_days"] == 0.2
    alarms = [(tmp_path / f"out-{name}" / "alarms.csv").read_text() for name in (False, True)]
    assert alarms[0] == alarms[1]
    assert (sys.argv, dict(os.environ)) == (["pytest", "untouched"], before)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["backtest", "--data", "nowhere"], 2, "nowhere: no such file or folder"),
        (["backtest", "--no-such-option"], 2, "No such option"),
    ],
)
def test_refusals_in_the_process_have_their_exit_code(words, code, message, tmp_path):
    build = builds.this_build(in_process=True)
    done = builds.call(build, [*build.command, *words], tmp_path)
    assert done.code == code
    assert message in done.err


def test_a_crash_in_the_process_is_an_exit_code_too(tmp_path, monkeypatch):
    def crash():
        raise RuntimeError("a bug")

    monkeypatch.setattr("lapwing.app.run", crash)
    build = builds.this_build(in_process=True)
    done = builds.call(build, [*build.command, "version"], tmp_path)
    assert (done.code, done.err.splitlines()[-1]) == (1, "RuntimeError: a bug")


# -- the table -------------------------------------------------------------------------------------


def test_fortnights_begin_after_the_warm_up_and_only_whole_ones_count():
    days = [1.0, 3.0, 16.9, 17.0, 30.9, 31.0, 33.0]
    assert by_fortnight(days, hosts=2, length=34) == [2 / 28, 2 / 28]
    assert by_fortnight([], hosts=2, length=17) == [0.0]
    with pytest.raises(BuildError, match="16 days hold no fortnight"):
        by_fortnight([], hosts=2, length=16)


def test_hosts_are_written_once_in_several_folders(tmp_path):
    fleet = generate(5, 3, 0, anomalies=False)
    folders = write_parts(fleet_scene(fleet), tmp_path, 2)
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names == [[f"host-000{n}.csv" for n in (0, 2, 4)], [f"host-000{n}.csv" for n in (1, 3)]]
    rows = np.genfromtxt(folders[0] / "host-0002.csv", delimiter=",", skip_header=1)[:, 1:]
    assert np.allclose(rows, fleet.values[2], rtol=1e-6, equal_nan=True)


def test_healthy_series_have_one_noise_each_and_no_incident():
    scene = healthy_scene(20, 0)
    assert len({host.name for host in scene.hosts}) == 192
    assert scene.must_alarm == []
    other = healthy_scene(20, 1)
    assert not (scene.hosts[0].columns["value"] == other.hosts[0].columns["value"]).any()


@pytest.fixture
def inputs(tmp_path):
    return Inputs(tmp_path, None, None, 0, Sizes(4, 28, 2, 34, 34))


def test_the_fleet_is_compared_at_one_rate_of_false_alarms(inputs, monkeypatch):
    thresholds = []

    def pretend(build, folders, options):
        threshold = float(options[1]) if options else 1.0
        thresholds.append(threshold)
        number = round(40 * max(0.0, 1.3 - threshold))
        made = parts._fleet(4, 28, 0)
        times = [float(made.time_ms[-2 - 20 * k]) / 1000 for k in range(number)]
        false = [Alarm(moment, "host-0000", "anomaly", "cpu", None, "why") for moment in times]
        event = made.events[0]
        hit = Alarm(made.time_ms[event.first] / 1000, "host-0000", "anomaly", "cpu", None, "why")
        return {"threshold": threshold}, [*false, hit]

    monkeypatch.setattr(parts, "_run_folders", pretend)
    found = parts.fleet(Build("fake", (), ""), inputs)
    assert thresholds[0] == 1.0
    assert len(thresholds) == 1 + parts.SEARCH_STEPS
    assert found["default: false a day"] > parts.FALSE_PER_DAY
    assert 1.2 < found["at 0.03 a day: threshold"] < 1.35
    assert found["at 0.03 a day: recall"] == pytest.approx(1 / 20, abs=0.06)


def test_the_budget_counts_openings_after_the_warm_up(inputs, monkeypatch):
    start = float(generate(2, 34, 0, anomalies=False).time_ms[0]) / 1000

    def pretend(build, folders, options):
        asked = float(options[1])
        moments = [start + (3 + day) * 86_400 for day in range(int(asked * 28))]
        shape = ("host-0000", "anomaly", "cpu", None, "why")
        alarms = [Alarm(moment, *shape, "open") for moment in moments]
        alarms += [Alarm(moment, *shape, "worse") for moment in moments]
        alarms += [Alarm(moment, *shape, "open", True) for moment in moments]
        return {}, alarms

    monkeypatch.setattr(parts, "_run_folders", pretend)
    found = parts.budget(Build("fake", (), ""), inputs)
    assert found["asked 1: given"] == pytest.approx(0.5)
    assert found["asked 0.5: first fortnight"] == pytest.approx(0.5)


def test_healthy_series_are_counted_by_noise(inputs, monkeypatch):
    scene = healthy_scene(34, 0)

    def pretend(build, folders, options):
        assert sum(len(list(folder.iterdir())) for folder in folders) == 192
        moment = scene.at(20)
        return {}, [Alarm(moment, "laplace-0-0", "anomaly", "value", None, "why", "open")]

    monkeypatch.setattr(parts, "_run_folders", pretend)
    found = parts.healthy(Build("fake", (), ""), inputs)
    assert found["laplace: last fortnight"] == pytest.approx(1 / 672)
    assert {name for name, rate in found.items() if rate} == {
        "laplace: last fortnight",
        "laplace: all",
    }


def test_parts_without_data_are_skipped_with_what_to_do(inputs, monkeypatch):
    monkeypatch.delenv("LAPWING_TRACES_DIR", raising=False)
    for part, message in ((parts.traces, "LAPWING_TRACES_DIR"), (parts.nab, "LAPWING_NAB_DIR")):
        with pytest.raises(Skipped, match=message):
            part(builds.this_build(), inputs)


def test_two_builds_stand_side_by_side_and_problems_are_named(monkeypatch, inputs, capsys):
    def first(build, given):
        return {"recall": 0.8 if build.name == "new" else 0.5, "only here": 1.0}

    def skipped(build, given):
        raise Skipped("no data")

    def broken(build, given):
        raise BuildError("it ended with 1")

    monkeypatch.setattr(quality, "PARTS", {"fleet": first, "traces": skipped, "nab": broken})
    names = ["fleet", "traces", "nab"]
    columns = [quality.measure(Build(name, (), ""), inputs, names) for name in ("v1", "new")]
    text = quality.table(columns, names)
    (line,) = [line for line in text.splitlines() if "recall" in line]
    assert line.split() == ["fleet", "recall", "0.5", "0.8"]
    assert "new, traces: SKIPPED: no data" in text
    assert "v1, nab: FAILED: it ended with 1" in text
    assert "new, nab: FAILED" in capsys.readouterr().err


# -- another revision ------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with the lock file in two commits."""
    root = tmp_path / "clone"
    (root / "requirements").mkdir(parents=True)
    for text in ("old", "new"):
        (root / revisions.LOCK).write_text(text)
        (root / "version.txt").write_text(text)
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", text]):
            identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
            subprocess.run(["git", *identity, *words], cwd=root, check=True)
    monkeypatch.setattr(revisions, "ROOT", root)
    return root


def test_a_revision_is_checked_out_and_removed_again(repository, monkeypatch):
    commands = []
    done = builds.Finished(0, "", "")
    monkeypatch.setattr(revisions, "call", lambda *words: commands.append(words[1]) or done)
    with revisions.revision("HEAD") as build:
        assert build.root is not None
        assert (build.root / "version.txt").read_text() == "new"
        assert (build.name, build.python) == ("HEAD", sys.executable)
        assert build.environment == {"PYTHONPATH": str(build.root)}
    assert not build.root.exists()
    assert commands == [[sys.executable, "-m", "shared.kernels"]]
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert listed.stdout.count("\n") == 1


def test_a_revision_with_other_packages_gets_its_own(repository, monkeypatch):
    ran = []
    original = revisions._run

    def keep(words, folder):
        return original(words, folder) if words[0] == "git" else ran.append(words)

    monkeypatch.setattr(revisions, "_run", keep)
    with revisions.revision("HEAD~1") as build:
        assert build.root is not None
        assert build.python == str(build.root / ".venv" / "bin" / "python")
    assert ran == [["make", "install"]]


def test_a_revision_that_git_does_not_know_is_refused(repository):
    message = pytest.raises(BuildError, match="--against nothing: git knows no such revision")
    with message, revisions.revision("nothing"):
        pass


def test_kernels_that_do_not_compile_are_said(repository, monkeypatch):
    monkeypatch.setattr(revisions, "call", lambda *words: builds.Finished(1, "", "broken kernel"))
    message = pytest.raises(BuildError, match="HEAD: its kernels cannot be compiled: broken kernel")
    with message, revisions.revision("HEAD"):
        pass
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert listed.stdout.count("\n") == 1
