"""Models on the volume as the page shows them, whatever lies there."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from starlette.testclient import TestClient

from dashboard.history.queries import History
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.model_reports import ModelReports, read_bounded, with_age
from dashboard.server import history_file, make_app
from shared.settings import load_settings
from tests.support.page_records import activation


def publish(folder, age_s=0, **facts):
    """A published model with a report; returns its SHA-256."""
    manifest = json.dumps({"detector": "one_class_svm", "version": "2014-04-16", **facts}).encode()
    sha256 = hashlib.sha256(manifest).hexdigest()
    report = folder / sha256 / "report"
    report.mkdir(parents=True)
    (folder / sha256 / "manifest.json").write_bytes(manifest)
    per_entity = {
        "quiet": {"peak_severity": 0.1, "test": {"alarms": 0}},
        "loud": {"peak_severity": 0.9, "test": {"alarms": 3}},
    }
    pictures = {"loud": "loud.svg", "quiet": "../../../secret.svg"}
    text = json.dumps({"per_entity": per_entity, "pictures": pictures})
    (report / "report.json").write_text(text)
    (report / "loud.svg").write_text("<svg/>")
    os.utime(folder / sha256, (1_700_000_000 - age_s,) * 2)
    return sha256


def test_models_are_listed_newest_first_with_the_current_one(tmp_path):
    old, new = publish(tmp_path, age_s=60, seed=1), publish(tmp_path, seed=2)
    (tmp_path / "CURRENT").write_text(f"{old}\n")
    (tmp_path / ".half.tmp").mkdir()
    found = ModelReports(tmp_path).summary()
    assert (found["current"], found["problem"]) == (old, "")
    assert [one["sha256"] for one in found["models"]] == [new, old]
    assert found["models"][0]["published_ms"] == 1_700_000_000_000
    assert found["models"][0]["has_report"] is True


def test_a_report_names_its_entities_and_only_pictures_of_its_own_folder(tmp_path):
    sha256 = publish(tmp_path)
    (tmp_path / "secret.svg").write_text("secret")
    reports = ModelReports(tmp_path)
    found = reports.model(sha256)
    assert [row["entity"] for row in found["entities"]] == ["loud", "quiet"]
    assert found["pictures"] == {"loud": "loud.svg"}
    assert reports.picture(sha256, "loud.svg") == b"<svg/>"
    for name in ("../../../secret.svg", "..%2fsecret.svg", "report.json", ".svg", "none.svg"):
        assert reports.picture(sha256, name) is None
    assert reports.picture("..", "secret.svg") is None


def test_a_changed_manifest_is_not_shown(tmp_path):
    sha256 = publish(tmp_path)
    (tmp_path / sha256 / "manifest.json").write_text('{"detector": "forged"}')
    (model,) = ModelReports(tmp_path).summary()["models"]
    assert "detector" not in model
    assert "SHA-256" in model["problem"]


def test_what_cannot_be_read_is_said(tmp_path):
    missing = ModelReports(tmp_path / "nowhere").summary()
    assert missing["models"] == []
    assert missing["problem"] == f"{tmp_path / 'nowhere'}: No such file or directory"
    sha256 = publish(tmp_path)
    (tmp_path / sha256 / "manifest.json").unlink()
    os.mkfifo(tmp_path / sha256 / "manifest.json")
    (model,) = ModelReports(tmp_path).summary()["models"]
    assert "not a regular file" in model["problem"]
    (tmp_path / sha256 / "report" / "report.json").write_text("[]")
    assert ModelReports(tmp_path).model(sha256)["entities"] == []
    assert ModelReports(tmp_path).model("0" * 64) is None


def test_a_file_beyond_its_bound_is_refused(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="11 bytes, at most 10"):
        read_bounded(tmp_path / "large", 10)


def test_models_that_scored_have_a_version_and_an_age(tmp_path):
    sha256 = publish(tmp_path)
    elsewhere = activation(0, 0, "ab" * 32)
    scored = [{"model_id": sha256[:16]}, {"model_id": "ab" * 8}, {"model_id": None}]
    rows = with_age(scored, [elsewhere], ModelReports(tmp_path).summary()["models"])
    assert [(row["version"], row["published_ms"]) for row in rows] == [
        ("2014-04-16", 1_700_000_000_000),
        ("2014-04-16T00:00:00Z", None),
        (None, None),
    ]


def test_the_api_gives_models_and_pictures_that_can_do_nothing(tmp_path):
    sha256 = publish(tmp_path / "models")
    hostile = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    (tmp_path / "models" / sha256 / "report" / "loud.svg").write_text(hostile)
    settings = load_settings({"state_dir": tmp_path, "models_dir": tmp_path / "models"}, environ={})
    store = Store(history_file(settings), Retention(30, 10**9))
    app = make_app(settings, History(store.path, store), Hub(1), dict, lambda: "")
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    assert client.get("/v1/models").json()["models"][0]["sha256"] == sha256
    shown = client.get(f"/v1/models/{sha256}").json()
    assert (shown["partitions"], shown["pictures"]) == ([], {"loud": "loud.svg"})
    picture = client.get(f"/v1/models/{sha256}/pictures/loud.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    policy = picture.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith("sandbox")
    for path in (f"{sha256}/pictures/none.svg", f"{'0' * 64}", f"{sha256}/pictures/..%2fx.svg"):
        assert client.get(f"/v1/models/{path}").status_code == 404
    for path in ("/models", f"/model/{sha256}", "/incidents", f"/incident/{'0' * 32}"):
        assert "<main" in client.get(path).text
