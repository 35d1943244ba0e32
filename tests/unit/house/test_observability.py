"""deploy/ against the product: each metric and label that it names is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.operations.counters import CATALOGUE, Metric

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
OF_PROMETHEUS = {"job", "instance", "service", "le", "up"}
"""Labels that scraping adds, and the metric that it writes."""

PROMTOOL = shutil.which("promtool")
COMPOSE = shutil.which("docker-compose")

_NAMES = re.compile(r"\b(lapwing_[a-z_]+)\b(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"by \(([^)]*)\)\s*\(", re.DOTALL)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def alerts() -> dict[str, dict[str, Any]]:
    [group] = loaded(PROMETHEUS / "alerts.yml")["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in BOARDS}


def expressions() -> dict[str, str]:
    """Every expression of the rules and the dashboards, by where it stands."""
    found = {name: rule["expr"] for name, rule in alerts().items()}
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                found[f"{name}, {panel['title']}, {target['refId']}"] = target["expr"]
    return found


def exported(name: str) -> Metric | None:
    """The metric that a name in an expression stands for."""
    by_name = {metric.name: metric for metric in CATALOGUE}
    for suffix in ("_bucket", "_count", "_sum"):
        metric = by_name.get(name.removesuffix(suffix))
        if name.endswith(suffix) and metric is not None and metric.kind == "histogram":
            return metric
    metric = by_name.get(name)
    return metric if metric is not None and metric.kind != "histogram" else None


def unknown(expression: str) -> list[str]:
    """Metrics of an expression that no service exports, and labels that they do not have."""
    metrics = {name: exported(name) for name, _ in _NAMES.findall(expression)}
    found = [name for name, metric in metrics.items() if metric is None]
    labels = OF_PROMETHEUS.union(*(metric.labels for metric in metrics.values() if metric))
    for _, matchers in _NAMES.findall(expression):
        found += [name for name in re.findall(r"(\w+)\s*[=!]", matchers) if name not in labels]
    for group in _GROUPED.findall(expression):
        found += [name for name in re.findall(r"\w+", group) if name not in labels]
    return found


@pytest.mark.parametrize("where", sorted(expressions()))
def test_an_expression_names_what_services_export(where: str) -> None:
    assert unknown(expressions()[where]) == []


def test_unknown_names_are_found() -> None:
    assert unknown("sum(rate(lapwing_batch_seconds_bucket[5m]))") == []
    assert unknown("lapwing_batch_seconds") == ["lapwing_batch_seconds"], "a histogram has parts"
    assert unknown("sum by (host) (lapwing_consumer_lag_records)") == ["host"]
    assert unknown('lapwing_commits_total{reason="x"}') == ["reason"]
    assert unknown("lapwing_lag") == ["lapwing_lag"]


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    named = {name for text in expressions().values() for name, _ in _NAMES.findall(text)}
    shown = {metric.name for name in named if (metric := exported(name)) is not None}
    assert shown == {metric.name for metric in CATALOGUE}


def test_legends_name_labels_that_the_expression_keeps() -> None:
    for board in boards().values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                kept = {
                    name
                    for group in _GROUPED.findall(target["expr"])
                    for name in re.findall(r"\w+", group)
                }
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_alerts_say_what_happened_and_the_document_knows_each() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    for name, rule in alerts().items():
        assert f"`{name}`" in text, name
        assert rule["labels"]["severity"] in ("minor", "major", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
    assert set(re.findall(r"`(Lapwing[A-Z]\w+)`", text)) == set(alerts())


def test_dashboards_are_laid_out_on_their_grid() -> None:
    assert set(boards()) == {"pipeline", "detection"}
    uids = [board["uid"] for board in boards().values()]
    assert len(set(uids)) == len(uids)
    [source] = loaded(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    for board in boards().values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24
            assert not taken & cells, f"{panel['title']} lies on another panel"
            taken |= cells
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


def test_the_scraped_services_are_those_of_the_compose_file() -> None:
    services = loaded(ROOT / "docker-compose.yml")["services"]
    [job] = loaded(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    [names] = job["dns_sd_configs"]
    port = loaded(ROOT / "docker-compose.yml")["x-settings"]["LAPWING_TELEMETRY__PORT"]
    assert names["port"] == port
    once = {"topics", "backfill"}
    ours = {name for name, service in services.items() if "lapwing" in service["image"]}
    assert set(names["names"]) == ours - once


def test_the_profile_mounts_what_is_there() -> None:
    services = loaded(ROOT / "docker-compose.yml")["services"]
    observing = {
        name: service
        for name, service in services.items()
        if "observability" in service.get("profiles", ())
    }
    assert set(observing) == {"prometheus", "grafana"}
    for service in observing.values():
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
        mounts = [mount.split(":")[0] for mount in service["volumes"] if mount.startswith("./")]
        assert mounts
        assert all((ROOT / mount).exists() for mount in mounts)
    [provider] = loaded(DEPLOY / "grafana/provisioning/dashboards/lapwing.yml")["providers"]
    assert any(
        mount == f"./deploy/grafana/dashboards:{provider['options']['path']}:ro"
        for mount in observing["grafana"]["volumes"]
    )


@pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")
def test_compose_accepts_the_profile() -> None:
    done = subprocess.run(
        [str(COMPOSE), "--profile", "observability", "config"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]


# -- by Prometheus' own tool -----------------------------------------------------------------------

with_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)"
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], capture_output=True, text=True, timeout=60, cwd=PROMETHEUS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@with_promtool
def test_promtool_accepts_configurations_and_rules() -> None:
    for name in ("prometheus.yml", "local.yml"):
        assert "SUCCESS" in promtool("check", "config", name)


@with_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    tested = (PROMETHEUS / "alerts_test.yml").read_text("utf-8")
    assert all(name in tested for name in alerts()), "each alert has a scene"


@with_promtool
def test_promtool_parses_each_expression_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"test:{number}", "expr": text.replace("$__rate_interval", "1m")}
        for number, text in enumerate(expressions().values())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
