"""The chart: what it renders is safe and whole, its values are the service's settings, and wrong values are refused by name.

What is rendered is read from the golden files, always; that a real helm renders exactly those, and that Kubernetes' own schemas
take them, is tested where `make chart-tools` has been run.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.protocols.openapi import document
from control_plane.settings import Settings
from tests.deploy.chart import CHART, GOLDEN, INPUTS, NAMES, OWN, SECRET, helm, rendered, settings_of_the_chart, tool

Json = dict[str, Any]

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())
SOCKETS = {"/", "/openpi/policy", "/v1/stream"}

needs_helm = pytest.mark.skipif(tool("helm") is None, reason="no helm: `make chart-tools` brings one")


def manifests(name: str) -> list[Json]:
    """The objects of a golden file."""
    return [one for one in yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()) if one]


def of_kind(name: str, *kinds: str) -> list[Json]:
    """Those of one kind."""
    return [one for one in manifests(name) if one["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[str, Json]]:
    """Every pod that is made, with the name of what makes it."""
    for one in of_kind(name, "StatefulSet", "Deployment", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]


def test_every_setting_is_a_value_a_secret_or_the_charts_own() -> None:
    assert SCHEMA["properties"]["settings"]["properties"] == settings_of_the_chart(), "run `python -m tests.deploy.chart`"
    assert set(Settings.model_fields) >= SECRET | OWN
    secret_fields = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert secret_fields <= SECRET


def test_no_object_of_the_schema_takes_names_that_it_does_not_know() -> None:
    def loose(schema: Any, where: str) -> Iterator[str]:
        if isinstance(schema, dict):
            if schema.get("type") == "object" and schema.get("properties") and schema.get("additionalProperties") is not False:
                yield where
            for name, inner in schema.items():
                yield from loose(inner, f"{where}/{name}")
        elif isinstance(schema, list):
            for inner in schema:
                yield from loose(inner, where)

    assert list(loose(SCHEMA, "")) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_container_is_closed(name: str) -> None:
    for maker, pod in pods(name):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, maker
        assert spec["securityContext"]["runAsNonRoot"] is True, maker
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, maker
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            closed = container["securityContext"]
            assert closed == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, maker
            assert "memory" in container["resources"]["limits"], maker
            assert not container["image"].endswith((":latest", ":")), maker
            literal = {one["name"] for one in container.get("env", ()) if "value" in one}
            assert not literal & {f"VLA_{secret.upper()}" for secret in SECRET}, maker


@pytest.mark.parametrize("name", NAMES)
def test_what_serves_is_probed_drained_and_protected_from_evictions(name: str) -> None:
    budgets = [one["spec"]["selector"]["matchLabels"] for one in of_kind(name, "PodDisruptionBudget")]
    for one in of_kind(name, "StatefulSet", "Deployment"):
        assert one["spec"]["selector"]["matchLabels"] in budgets
    for one in of_kind(name, "StatefulSet"):
        spec = one["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        command = container["lifecycle"]["preStop"]["exec"]["command"][-1]
        (slept,) = re.findall(r"sleep (\d+)", command)
        assert int(slept) + 15 < spec["terminationGracePeriodSeconds"]
    (api,) = [one for one in of_kind(name, "StatefulSet") if one["metadata"]["name"].endswith("-api")]
    (container,) = api["spec"]["template"]["spec"]["containers"]
    assert (container["readinessProbe"]["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]) == (
        "/ready",
        "/health",
    )
    assert "kill -USR2 1" in container["lifecycle"]["preStop"]["exec"]["command"][-1]


@pytest.mark.parametrize("name", NAMES)
def test_triton_is_reached_by_the_api_alone_and_reaches_nobody(name: str) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(name, "NetworkPolicy")}
    assert policies["vla-vlaapi-nobody"]["ingress"] == []
    triton = policies["vla-vlaapi-triton"]
    assert triton["egress"] == []
    api, monitoring = triton["ingress"]
    assert api["ports"] == [{"protocol": "TCP", "port": "grpc"}]
    (source,) = api["from"]
    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api"
    assert monitoring["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    tritons = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(name, "StatefulSet")]
    wanted = triton["podSelector"]["matchLabels"].items()
    assert sum(wanted <= labels.items() for labels in tritons) == len(tritons) - 1  # all but the api


@pytest.mark.parametrize("name", NAMES)
def test_what_an_api_process_captures_is_shipped_from_its_own_disk(name: str) -> None:
    """No worker reaches a pod's disk, so a sidecar ships: it has the same volume, and ends after who writes there."""
    (api,) = [one for one in of_kind(name, "StatefulSet") if one["metadata"]["name"].endswith("-api")]
    spec = api["spec"]["template"]["spec"]
    (writes,), (ships,) = spec["containers"], spec["initContainers"]
    assert ships["restartPolicy"] == "Always"
    assert ships["args"][-5:] == ["worker", "--only", "capture", "--only", "watch-disk"]
    (policy,) = [one["spec"] for one in of_kind(name, "NetworkPolicy") if one["metadata"]["name"].endswith("-api")]
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert ports == ["http", *(port["containerPort"] for port in ships["ports"])]
    (claim,) = api["spec"]["volumeClaimTemplates"]
    for container in (writes, ships):
        mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        given = {one["name"]: one.get("value") for one in container["env"]}
        assert mounted["/var/lib/vlaapi"] == claim["metadata"]["name"]
        assert str(given["VLA_SPOOL_DIR"]).startswith("/var/lib/vlaapi/")
        assert {"secretRef": {"name": "vlaapi"}} in container["envFrom"]
    size_bytes = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30
    assert size_bytes >= Settings.model_fields["capture_spool_bytes"].default + 2**30


def test_the_api_knows_every_triton_that_there_may_be() -> None:
    for name in NAMES:
        most = {
            one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
        }
        expected = set()
        for one in of_kind(name, "StatefulSet"):
            group, spec = one["metadata"]["name"], most.get(one["metadata"]["name"], {})
            if "-triton-" in group:
                count = spec.get("maxReplicas") or spec.get("maxReplicaCount") or one["spec"]["replicas"]
                expected |= {f"{group}-{n}.{group}.vla.svc:8001" for n in range(count)}
        for _, pod in pods(name):
            for container in pod["spec"]["containers"]:
                given = {one["name"]: one.get("value") for one in container.get("env", ())}
                if "VLA_TRITON_URL" in given:
                    assert set(given["VLA_TRITON_URL"].split(",")) == expected


def test_customers_reach_every_address_but_metrics_and_the_operators() -> None:
    customers, operators = of_kind("production", "Ingress")
    paths = customers["spec"]["rules"][0]["http"]["paths"]
    addresses = {*document()["paths"], *SOCKETS, "/openapi.json", "/healthz"} - {"/metrics"}

    def is_let_in(address: str) -> bool:
        return any(
            address == one["path"] if one["pathType"] == "Exact" else f"{address}/".startswith(f"{one['path']}/") for one in paths
        )

    outside = {address for address in addresses if not is_let_in(address)}
    assert outside == {address for address in addresses if address.startswith("/admin/")}
    assert not is_let_in("/metrics")
    assert [one["path"] for one in operators["spec"]["rules"][0]["http"]["paths"]] == ["/admin/v1"]


def test_scaling_asks_for_a_series_that_a_rule_makes() -> None:
    (rule,) = of_kind("production", "PrometheusRule")
    made = {one["record"] for group in rule["spec"]["groups"] for one in group["rules"]}
    (scaled,) = of_kind("production", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert set(re.findall(r"sum\((\w+)", trigger["metadata"]["query"])) <= made
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    pods_metrics = {
        one["pods"]["metric"]["name"]
        for scaler in of_kind("production", "HorizontalPodAutoscaler")
        for one in scaler["spec"]["metrics"]
        if one["type"] == "Pods"
    }
    assert pods_metrics <= made


@needs_helm
@pytest.mark.parametrize("name", NAMES)
def test_a_real_helm_takes_the_chart_and_renders_what_was_looked_at(name: str, tmp_path: Path) -> None:
    linted = helm("lint", "--strict", str(CHART), "--values", str(INPUTS / f"{name}.yaml"), home=tmp_path)
    assert linted.returncode == 0, linted.stdout
    assert rendered(name, home=tmp_path) == (GOLDEN / f"{name}.yaml").read_text(), "run `python -m tests.deploy.chart`"


@needs_helm
@pytest.mark.parametrize(("wrong", "named"), [
    ("settings.default_polcy=x", "default_polcy"),
    ("settings.key_pepper=x", "key_pepper"),
    ("settings.max_body_bytes=20000000", "/settings/max_body_bytes"),
    ("image.tag=latest,image.digest=", "/image/tag"),
    ("existingSecret=", "/existingSecret"),
    ("api.spool.size=2Gi", "api.spool.size: 2Gi does not hold capture_spool_bytes (2000000000)"),
    ("api.spool.size=4000M", "/api/spool/size"),
    ("api.replica=3", "replica"),
    ("api.drainSeconds=1", "/api/drainSeconds"),
    ("triton.prometheusAddress=", "/triton/prometheusAddress"),
    ("triton.policies[0].autoscaling.kind=vpa", "/triton/policies/0/autoscaling"),
    ("ingress.host=api", "/ingress/host"),
])  # fmt: skip
def test_wrong_values_are_refused_by_name(wrong: str, named: str, tmp_path: Path) -> None:
    done = helm("template", "vla", str(CHART), "--values", str(INPUTS / "production.yaml"), "--set", wrong, home=tmp_path)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.skipif(tool("kubernetes-validate") is None, reason="no schemas: `make chart-tools` brings them")
@pytest.mark.parametrize("name", NAMES)
def test_the_schemas_of_kubernetes_take_every_object(name: str) -> None:
    """Strictly: a field that they do not know is refused. They lack those of KEDA and of the Prometheus operator."""
    program = tool("kubernetes-validate")
    assert program is not None
    argv = [program, "--strict", "-k", "1.35", str(GOLDEN / f"{name}.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    unknown = set(re.findall(r"Couldn't find schema for kind (\w+)", done.stdout + done.stderr))
    assert unknown <= {"PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
