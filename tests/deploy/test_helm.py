"""The chart, linted and rendered by the real helm, checked against Kubernetes's own schemas."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from elanus.config.loading import load_settings
from elanus.config.settings import Settings
from elanus.roles.tls import internal_tls, public_tls
from tests.services.fixtures import require_tool
from tests.services.packages import PROJECT
from tests.services.tools import HELM, KUBERNETES_SCHEMAS

pytestmark = pytest.mark.services

CHART = PROJECT / "deploy" / "helm" / "elanus"
KUBERNETES_VERSION = "1.30"
FOR_VERSION = ("--kube-version", f"{KUBERNETES_VERSION}.0")
RELEASE = "test"
ROLES = {"proxy", "coordinator", "streaming", "query", "data"}
TIMEOUT_S = 120.0

KEYS = {"accessKeyID": "access-word", "secretAccessKey": "secret-word"}
SASL = {"userName": "user", "password": "secret-word", "mechanism": "SCRAM-SHA-512"}
VALUES: dict[str, dict[str, Any]] = {
    "woodpecker": {"objectStore": KEYS},
    "kafka": {
        "objectStore": {"existingSecret": "store"},
        "wal": {"type": "kafka", "kafka": {"brokers": ["k1:9092", "k2:9092"], "sasl": SASL}},
    },
    "pulsar": {
        "objectStore": {"useIAM": True, "address": "", "port": 443, "useSSL": True},
        "wal": {
            "type": "pulsar",
            "pulsar": {"authPlugin": "token", "authParams": "token:secret-word"},
        },
        "etcd": {
            "endpoints": ["e1:2379", "e2:2379"],
            "auth": {"userName": "root", "password": "secret-word"},
            "ssl": {"enabled": True, "secretName": "etcd-tls", "clientCertificate": True},
        },
    },
    "everything": {
        "objectStore": {"cloudProvider": "gcp", "gcpCredentialJSON": '{"key": "secret-word"}'},
        "service": {
            "type": "LoadBalancer",
            "nodePort": 30530,
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "annotations": {"a": "b"},
        },
        "ingress": {"enabled": True, "tlsSecretName": "tls"},
        "tls": {
            "mode": 1,
            "secretName": "public-tls",
            "internal": {"enabled": True, "secretName": "roles-tls", "sni": "elanus"},
        },
        "networkPolicy": {"enabled": True, "monitoringFrom": [{"namespaceSelector": {}}]},
        "query": {"autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80}},
        "config": {"queryNode": {"filterCacheSize": 1_000_000}, "log": {"level": "debug"}},
        "drainTimeoutSeconds": 120,
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "nodeSelector": {"disk": "ssd"},
        "imagePullSecrets": [{"name": "registry"}],
        "extraEnvironment": [{"name": "ELANUS_LOG_LEVEL", "value": "warning"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "priorityClassName": "high",
    },
}


def helm(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    require_tool(HELM)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [str(HELM.program), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
    )


@pytest.fixture(scope="module", params=VALUES)
def values(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("values") / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump(VALUES[request.param]))
    return path


@pytest.fixture(scope="module")
def manifests(values: Path) -> list[dict[str, Any]]:
    chart = (RELEASE, str(CHART), "--values", str(values), "--namespace", "databases")
    result = helm("template", *chart, *FOR_VERSION, folder=values.parent)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def of_kind(manifests: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workloads(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Role → Deployment or StatefulSet."""
    label = "app.kubernetes.io/component"
    found = of_kind(manifests, "Deployment", "StatefulSet")
    return {workload["metadata"]["labels"][label]: workload for workload in found}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_lint(values: Path) -> None:
    result = helm("lint", "--strict", str(CHART), "--values", str(values), folder=values.parent)
    assert result.returncode == 0, result.stdout


def test_manifests_fit_the_schemas(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    require_tool(KUBERNETES_SCHEMAS)
    files = []
    for number, manifest in enumerate(manifests):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(manifest))
    options = ["--strict", "--kubernetes-version", KUBERNETES_VERSION, *map(str, files)]
    program = "import kubernetes_validate.__main__ as checker; raise SystemExit(checker.main())"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            *options,
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(KUBERNETES_SCHEMAS.directory)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("passed") == len(files), result.stdout


def test_every_role_finds_its_settings(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    """What a container is given is what the server's own loader takes."""
    (config,) = of_kind(manifests, "ConfigMap")
    path = tmp_path / "elanus.yaml"
    path.write_text(config["data"]["elanus.yaml"])
    assert set(workloads(manifests)) == ROLES
    for role, workload in workloads(manifests).items():
        pod = container(workload)
        assert pod["args"][:2] == ["run", role]
        variables = {variable["name"]: variable.get("value", "1") for variable in pod["env"]}
        variables["ELANUS_CLUSTER_ADVERTISEHOST"] = "10.1.2.3"
        settings = load_settings(path, variables, {})
        assert settings.cluster.advertise_host == "10.1.2.3"
        assert _shared(settings)
        ports = {port["name"]: port["containerPort"] for port in pod["ports"]}
        assert ports["internal"] == settings.cluster.port
        assert ports["management"] == settings.metrics.port
        assert ports.get("public", settings.proxy.port) == settings.proxy.port
        assert ("public" in ports) == (role == "proxy")
        grace_s = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace_s >= settings.cluster.drain_timeout + 30


def _shared(settings: Settings) -> bool:
    return (settings.metastore.type, settings.common.storage_type) == ("etcd", "remote") and (
        settings.mq.type != "local"
    )


def test_certificates_lie_where_the_settings_say(
    manifests: list[dict[str, Any]], tmp_path: Path
) -> None:
    (config,) = of_kind(manifests, "ConfigMap")
    path = tmp_path / "elanus.yaml"
    path.write_text(config["data"]["elanus.yaml"])
    settings = load_settings(path, {}, {})
    for role, workload in workloads(manifests).items():
        volumes = workload["spec"]["template"]["spec"]["volumes"]
        secrets = {
            each["name"]: each["secret"]["secretName"] for each in volumes if "secret" in each
        }
        mounts = container(workload)["volumeMounts"]
        places = {
            secrets[mount["name"]]: mount["mountPath"]
            for mount in mounts
            if mount["name"] in secrets
        }
        public, internal = public_tls(settings), internal_tls(settings)
        assert ("public-tls" in places) == (role == "proxy" and public is not None)
        assert ("roles-tls" in places) == (internal is not None)
        if internal is not None:
            assert str(internal.certificate) == f"{places['roles-tls']}/tls.crt"
            assert str(internal.key) == f"{places['roles-tls']}/tls.key"
            assert str(internal.authority) == f"{places['roles-tls']}/ca.crt"
        if "public-tls" in places and public is not None:
            assert str(public.certificate) == f"{places['public-tls']}/tls.crt"
    for ingress in of_kind(manifests, "Ingress"):
        protocol = ingress["metadata"]["annotations"].get(
            "nginx.ingress.kubernetes.io/backend-protocol", ""
        )
        assert protocol.endswith("S") == bool(settings.common.security.tls_mode)


def test_credentials_are_in_secrets_only(manifests: list[dict[str, Any]]) -> None:
    public = json.dumps([manifest for manifest in manifests if manifest["kind"] != "Secret"])
    assert "secret-word" not in public
    assert "access-word" not in public
    offered = {
        secret["metadata"]["name"]: set(secret["data"]) for secret in of_kind(manifests, "Secret")
    }
    for workload in workloads(manifests).values():
        for variable in container(workload)["env"]:
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            if wanted is not None and wanted["name"].startswith(RELEASE):
                assert wanted["key"] in offered[wanted["name"]]
    for secret in of_kind(manifests, "Secret"):
        for value in secret["data"].values():
            assert base64.b64decode(value)


def test_selectors_and_ports_meet(manifests: list[dict[str, Any]]) -> None:
    pods = [workload["spec"]["template"] for workload in workloads(manifests).values()]

    def chosen(selector: dict[str, str]) -> list[dict[str, Any]]:
        return [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]

    for service in of_kind(manifests, "Service"):
        found = chosen(service["spec"]["selector"])
        assert len(found) == (5 if service["spec"].get("clusterIP") == "None" else 1)
        for port in service["spec"]["ports"]:
            for pod in found:
                names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
                assert port["targetPort"] in names
    for manifest in of_kind(manifests, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        assert len(chosen(manifest["spec"]["selector"]["matchLabels"])) == 1
    names = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    assert len(names) == len(manifests)
    (streaming,) = of_kind(manifests, "StatefulSet")
    assert ("Service", streaming["spec"]["serviceName"]) in names
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in names
        (scaled,) = [m for m in manifests if m["metadata"]["name"] == target["name"]][:1]
        assert "replicas" not in scaled["spec"]
    for ingress in of_kind(manifests, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert ("Service", backend["name"]) in names


def test_pods_have_no_more_rights_than_they_need(manifests: list[dict[str, Any]]) -> None:
    for workload in workloads(manifests).values():
        pod, only = workload["spec"]["template"]["spec"], container(workload)
        # Or a Service's name would make variables that are no settings.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        security = only["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        writable = {m["mountPath"] for m in only["volumeMounts"] if not m.get("readOnly")}
        assert writable == {"/var/lib/elanus", "/tmp"}
        assert {m["name"] for m in only["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert only["resources"]["limits"]["memory"]
        assert only["startupProbe"]["httpGet"]["path"] == "/healthz"
        assert only["livenessProbe"]["httpGet"]["path"] == "/livez"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "objectStore needs accessKeyID, existingSecret or useIAM"),
        ({"objectStore": KEYS, "wal": {"type": "local"}}, "choose woodpecker, kafka or pulsar"),
        ({"objectStore": KEYS, "tls": {"mode": 2}}, "tls.mode needs tls.secretName"),
        (
            {"objectStore": KEYS, "tls": {"internal": {"enabled": True}}},
            "tls.internal needs secretName",
        ),
        (
            {"objectStore": KEYS, "etcd": {"auth": {"userName": "root"}}},
            "etcd.auth needs password or existingSecret",
        ),
    ],
)
def test_what_is_missing_is_said(given: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(given))
    chart = (RELEASE, str(CHART), "--values", str(path))
    result = helm("template", *chart, *FOR_VERSION, folder=tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr
