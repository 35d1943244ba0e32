"""deploy/kubernetes: Kubernetes' own schemas accept it, and it names what exists in the product."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from lapwing.acls import SERVICES
from shared.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
COMPLETE = [path for path in MANIFESTS if path.parent.name != "secrets"]
"""Those that are no patches."""

OLDEST, NEWEST = "1.29", "1.34"


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text("utf-8")) if found]


def all_of(kind: str) -> list[dict[str, Any]]:
    return [one for path in COMPLETE for one in documents(path) if one["kind"] == kind]


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec = workload["spec"]
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] = spec["template"]["spec"]
    return found


WORKLOADS = [
    one for kind in ("StatefulSet", "Deployment", "CronJob", "Job") for one in all_of(kind)
]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_schemas_of_kubernetes_accept_it(path: Path, version: str) -> None:
    try:
        import kubernetes_validate
    except ModuleNotFoundError:
        message = "MANIFESTS NOT CHECKED: kubernetes-validate is not installed (make install)"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    for document in documents(path):
        if document["apiVersion"].startswith("keda.sh/"):
            continue  # a resource of KEDA's; see test_the_scaler_names_what_the_settings_say
        kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_is_refused() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    [_, predictor, _] = documents(FOLDER / "base" / "predictor.yaml")
    predictor["spec"]["replicsa"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(predictor, NEWEST, strict=True)


def test_kustomizations_name_what_is_there() -> None:
    for path in sorted(FOLDER.rglob("kustomization.yaml")):
        [found] = documents(path)
        named = [*found.get("resources", ()), *(one["path"] for one in found.get("patches", ()))]
        beside = {one.name for one in path.parent.glob("*.yaml")} - {path.name}
        assert set(named) == beside, path


def test_patches_are_about_what_the_base_has() -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in WORKLOADS}
    [secrets] = documents(FOLDER / "components" / "secrets" / "kustomization.yaml")
    for patch in secrets["patches"]:
        [found] = documents(FOLDER / "components" / "secrets" / patch["path"])
        target = (found["kind"], found["metadata"]["name"])
        assert target in names
        assert target == (patch["target"]["kind"], patch["target"]["name"])
        user = pod_of(found)["containers"][0]["env"][0]["value"]
        assert user.removeprefix("lapwing-") in SERVICES


def test_settings_are_accepted() -> None:
    [shared] = all_of("ConfigMap")
    for workload in WORKLOADS:
        container = pod_of(workload)["containers"][0]
        given = dict(shared["data"])
        for variable in container.get("env", ()):
            if not variable["name"].endswith("_FILE") and variable["name"] != "LAPWING_CONFIG":
                given[variable["name"]] = variable.get("value", "lapwing-predictor-0")
        load_settings(environ=given)
    [secrets] = documents(FOLDER / "components" / "secrets" / "kustomization.yaml")
    literals = dict(one.split("=", 1) for one in secrets["configMapGenerator"][0]["literals"])
    password = literals.pop("LAPWING_KAFKA__SASL_PASSWORD_FILE")
    assert load_settings(environ=literals).kafka["security.protocol"] == "SASL_SSL"
    assert password.startswith("/secrets/kafka/")


def test_the_slot_is_the_pods_own_name() -> None:
    [predictor] = all_of("StatefulSet")
    [slot] = pod_of(predictor)["containers"][0]["env"]
    assert slot["name"] == "LAPWING_SLOT"
    assert slot["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    name = f"{predictor['metadata']['name']}-0"
    assert load_settings(environ={"LAPWING_SLOT": name}).slot == name


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])
def test_containers_may_do_little(workload: dict[str, Any]) -> None:
    pod = pod_of(workload)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = re.search(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text("utf-8"))
    assert user is not None
    assert pod["securityContext"]["runAsUser"] == int(user[1])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["args"][0] == "lapwing"
        assert {"requests", "limits"} <= set(container["resources"])
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in mounted
        names = {volume["name"] for volume in pod["volumes"]}
        templates = workload["spec"].get("volumeClaimTemplates", ())
        names |= {one["metadata"]["name"] for one in templates}
        assert {mount["name"] for mount in container["volumeMounts"]} == names


def test_services_are_probed_where_they_listen() -> None:
    [shared] = all_of("ConfigMap")
    port = int(shared["data"]["LAPWING_TELEMETRY__PORT"])
    serving = [one for one in WORKLOADS if one["kind"] in ("StatefulSet", "Deployment")]
    assert len(serving) == 4
    for workload in serving:
        container = pod_of(workload)["containers"][0]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports["metrics"] == port
        paths = {
            kind: container[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        }
        live = "/health/live"
        assert paths == {"startup": live, "liveness": live, "readiness": "/health/ready"}
        for kind in paths:
            assert container[f"{kind}Probe"]["httpGet"]["port"] == "metrics"


def test_the_scaler_names_what_the_settings_say() -> None:
    [scaler] = documents(FOLDER / "components" / "keda" / "scaledobject.yaml")
    [shared] = all_of("ConfigMap")
    settings = load_settings(environ=shared["data"])
    trigger = scaler["spec"]["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == settings.bootstrap
    assert trigger["consumerGroup"] == settings.predict.group
    assert trigger["topic"] == settings.topics.input
    assert scaler["spec"]["maxReplicaCount"] == settings.topics.partitions
    [predictor] = all_of("StatefulSet")
    assert scaler["spec"]["scaleTargetRef"]["name"] == predictor["metadata"]["name"]


def test_the_image_is_that_of_this_version() -> None:
    from lapwing import __version__

    [base] = documents(FOLDER / "base" / "kustomization.yaml")
    assert base["images"] == [{"name": "lapwing", "newTag": __version__}]


def test_kustomize_builds_base_and_components(tmp_path: Path) -> None:
    tool = shutil.which("kustomize")
    if tool is None:
        message = "KUSTOMIZATIONS NOT BUILT: there is no kustomize on the PATH"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    whole = tmp_path / "kubernetes" / "whole"
    whole.mkdir()
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../base"],
        "components": [f"../components/{name}" for name in ("notify", "secrets", "keda")],
    }
    (whole / "kustomization.yaml").write_text(json.dumps(content), "utf-8")
    ran = subprocess.run([tool, "build", str(whole)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    built = [one for one in yaml.safe_load_all(ran.stdout) if one]
    [predictor] = [one for one in built if one["kind"] == "StatefulSet"]
    mounts = {one["name"] for one in pod_of(predictor)["containers"][0]["volumeMounts"]}
    assert {"kafka-ca", "kafka-password", "state", "models", "tmp"} == mounts
    [shared] = [one for one in built if one["kind"] == "ConfigMap"]
    assert shared["data"]["LAPWING_KAFKA__SECURITY_PROTOCOL"] == "SASL_SSL"
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in built:
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, NEWEST, strict=True)
