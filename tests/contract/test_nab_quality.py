"""The ensemble on the Numenta Anomaly Benchmark: a change that costs quality is seen before it lands."""

import json
import sys

import numpy as np
import pytest

from benchmarks.nab import __main__ as benchmark
from benchmarks.nab.corpus import read_corpus
from benchmarks.nab.results import read_scores


@pytest.fixture(scope="module")
def run(tmp_path_factory, nab_dir):
    out = tmp_path_factory.mktemp("nab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmarks.nab", "--data", str(nab_dir), "--out", str(out)])
        assert benchmark.main() == 0
    return out, json.loads((out / "summary.json").read_text("utf-8"))


def test_scores_at_the_default_threshold_keep_their_bounds(run):
    _, summary = run
    assert summary["threshold"] == 1.3
    assert summary["profiles"]["standard"] >= 78
    assert summary["by_category"]["standard"]["realAWSCloudwatch"] >= 74.5
    assert summary["vus_pr"]["2022"] >= 0.40
    assert summary["events"]["recall"] >= 0.85


def test_result_files_hold_what_was_scored(run, nab_dir):
    out, summary = run
    corpus = read_corpus(nab_dir)
    scores = read_scores(out, benchmark.DETECTOR, corpus)
    assert len(scores) == summary["series"] == 28
    alarms = [int((one >= benchmark.ALARM).sum()) for one in scores]
    assert 30 <= sum(alarms) <= 120
    assert all(np.isfinite(one).all() for one in scores)


def test_a_wrong_folder_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.nab", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    assert benchmark.main() == 2
    assert "nowhere" in capsys.readouterr().err
