"""docker-compose.yml: what the real Compose reads is hardened, closed, complete, and refuses to start without its secrets."""

import json
import re
from typing import Any

import asyncpg
import pytest
import yaml

from control_plane.settings import Settings, variable
from deploy.embedded.api import socket_options
from deploy.embedded.settings import ROOT
from deploy.nginx.__main__ import production
from tests.deploy import compose_file

# Who may be root, with what, and why.
_ROOT = {
    "dcgm-exporter": ["SYS_ADMIN"],  # NVIDIA's image: profiling counters ask for it
    "objects-owner": ["CHOWN"],  # runs once, without a network, to give a new volume to its user
}
_CANNOT_ASK = {"redis-exporter", "nginx-exporter", "dcgm-exporter"}  # images without a shell or a client; Prometheus asks them
_ONE_SHOT = {"migrate", "grafana-login", "objects-owner", "export"}
_PUBLISHED = {"nginx"}
_WRITES = {("export", "/opt/vlaapi/model_repository")}  # the one bind mount that a container may write: what it exports
_MADE_BY_INSTALL = ("site/", "build/site")
_SECRET = re.compile("PASSWORD|SECRET|PEPPER|ACCESS_KEY|BACKUP_KEY")
_UNMASKED = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
_GIVEN = {"checkpoints"}  # what somebody wants exported


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """The whole file, merged and filled in."""
    return compose_file.as_read()


@pytest.fixture(scope="module")
def services(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its services by name."""
    found: dict[str, dict[str, Any]] = model["services"]
    return found


def test_it_is_what_was_reviewed() -> None:
    assert compose_file.GOLDEN.read_text() == compose_file.golden()


def test_every_server_of_the_service_is_there(model: dict[str, Any], services: dict[str, Any]) -> None:
    assert model["name"] == "vlaapi"
    assert set(services) >= {"nginx", "api", "worker", "migrate", "triton", "triton-cpu", "export", "postgres", "pgbouncer"}
    assert set(services) >= {"valkey", "seaweedfs", "prometheus", "alertmanager", "grafana"}
    assert set(services) >= {f"{name}-exporter" for name in ("node", "postgres", "redis", "nginx", "dcgm")}
    assert services["api"]["deploy"]["replicas"] == 3
    assert {name: one["profiles"] for name, one in services.items() if "profiles" in one} == {
        "triton": ["gpu"],
        "dcgm-exporter": ["gpu"],
        "triton-cpu": ["cpu"],
        "export": ["export"],
    }


@pytest.mark.parametrize("name", compose_file.required())
def test_it_does_not_start_without(name: str) -> None:
    refused = compose_file.ask({**compose_file.values(), name: ""}, "-q")  # the same to Compose as not to have it at all
    assert refused.returncode != 0
    assert f"required variable {name} is missing a value" in refused.stderr


def test_no_secret_has_a_default() -> None:
    defaulted = set(re.findall(r"\$\{([A-Z0-9_]+):-", compose_file.COMPOSE.read_text()))
    assert {name for name in defaulted if re.search("PASSWORD|SECRET|PEPPER|ACCESS_KEY|BACKUP_KEY|TOKEN", name)} == set()
    assert defaulted & set(compose_file.required()) == set()


def test_no_secret_is_in_a_command_line_or_a_label(services: dict[str, Any]) -> None:
    """What the engine shows to whoever may list processes: secrets go by the environment, and from there into files in memory."""
    secret = {value for name, value in compose_file.values().items() if _SECRET.search(name)}
    assert len(secret) >= 10
    for name, one in services.items():
        shown = json.dumps([one.get(key) for key in ("command", "entrypoint", "labels", "build")])
        asked = json.dumps(one.get("healthcheck", {}))
        assert [value for value in secret if value in shown + asked] == [], name


def test_what_the_api_writes_is_where_the_worker_ships_it_from(services: dict[str, Any]) -> None:
    """Usage events that wait for Redis, captured frames that wait for the object store."""
    api, worker = services["api"], services["worker"]
    assert api["environment"]["VLA_SPOOL_DIR"] == worker["environment"]["VLA_SPOOL_DIR"] == "/var/lib/vlaapi/spool"
    places = [[m["source"] for m in one["volumes"] if m["target"] == "/var/lib/vlaapi"] for one in (api, worker)]
    assert places == [["state"], ["state"]]
    assert api["user"] == worker["user"]


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one.get("cap_add", []) == _ROOT.get(name, []), name
        assert not one.get("privileged"), name
        assert int(one["mem_limit"]) > 0, name
        assert one["pids_limit"] > 0, name
        assert one["logging"]["options"]["max-size"], name
        assert one["restart"] == ("no" if name in _ONE_SHOT else "unless-stopped"), name
        user = one["user"].split(":")[0]
        assert (user == "0") == (name in _ROOT), name
        assert user.isdigit(), name


def test_every_service_says_whether_it_is_well(services: dict[str, Any]) -> None:
    for name, one in services.items():
        if name in _CANNOT_ASK or name == "export":
            assert one["healthcheck"] == {"disable": True}
        elif name not in _ONE_SHOT:
            assert one["healthcheck"]["test"], name


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "https://api.example.com/docs"), ({"VLA_DOCS_URL": "https://d"}, "https://d")]
)
def test_alerts_and_e_mails_link_to_this_installation_s_own_pages(given: dict[str, str], expected: str) -> None:
    found = compose_file.ask({**compose_file.values(), **given}, "--format", "json")
    services = json.loads(found.stdout)["services"]
    assert services["prometheus"]["environment"]["DOCS_URL"] == expected
    assert services["worker"]["environment"]["VLA_DOCS_URL"] == expected
    labels = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["external_labels"]
    assert labels == {"docs_url": "${DOCS_URL}"}


def test_who_needs_another_waits_until_it_is_well(services: dict[str, Any]) -> None:
    for name, one in services.items():
        for other, how in one.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in _ONE_SHOT else "service_healthy"
            assert how["condition"] == expected, f"{name} on {other}"
            assert how.get("required", True) or other in {"triton", "triton-cpu"}
    assert set(services["api"]["depends_on"]) == {"migrate", "pgbouncer", "valkey", "triton", "triton-cpu"}


def test_only_nginx_is_published(services: dict[str, Any]) -> None:
    for name, one in services.items():
        for port in one.get("ports", []):
            assert name in _PUBLISHED or port["host_ip"] == "127.0.0.1", name


def test_nobody_shares_the_machine_s_own_things(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one.get("network_mode", "none") == "none", name
        assert one.get("ipc") is None, name
        assert name == "node-exporter" or one.get("pid") is None
        for mount in one.get("volumes", []):
            assert "docker.sock" not in mount["source"], name
            if mount["type"] == "bind":
                assert mount.get("read_only") or (name, mount["target"]) in _WRITES, name


def test_triton_is_asked_by_the_api_and_measured_by_prometheus(services: dict[str, Any]) -> None:
    for triton in ("triton", "triton-cpu"):
        shared = {
            name
            for name, one in services.items()
            if set(one.get("networks", {})) & set(services[triton]["networks"]) and name not in {"triton", "triton-cpu"}
        }
        assert shared == {"api", "prometheus"}
        assert "ports" not in services[triton]


def _together(services: dict[str, Any], network: str) -> set[str]:
    return {name for name, one in services.items() if network in one.get("networks", {})}


def test_nobody_but_nginx_can_say_whose_request_it_is(model: dict[str, Any], services: dict[str, Any]) -> None:
    """The API believes addresses of one network: nginx reaches it over that one and no other, and nobody else is there."""
    (trusted,) = [one["subnet"] for one in model["networks"]["edge"]["ipam"]["config"]]
    assert services["api"]["environment"]["VLA_TRUSTED_PROXIES"] == trusted
    assert _together(services, "edge") == {"nginx", "api"}
    assert set(services["nginx"]["networks"]) & set(services["api"]["networks"]) == {"edge"}
    assert _together(services, "nginx-metrics") == {"nginx", "nginx-exporter"}
    assert _together(services, "public") == {"nginx"}


def test_networks_with_data_have_no_way_out(model: dict[str, Any]) -> None:
    """Nor those that only publish ports: whoever is there has an answer for who asks, and asks nobody."""
    outside = {name for name, network in model["networks"].items() if not network.get("internal")}
    assert outside == {"public", "loopback", "outside"}
    for name, one in model["services"].items():
        assert len(outside & set(one.get("networks", {}))) <= 1, f"{name}: which of them leads out is the engine's choice"
    masked = {name for name in outside if model["networks"][name].get("driver_opts") != _UNMASKED}
    assert masked == {"outside"}
    reach = {name for name, one in model["services"].items() if "outside" in one.get("networks", {})}
    assert reach == {"worker", "alertmanager", "export"}


def test_images_are_named_in_one_place(services: dict[str, Any]) -> None:
    images, text = compose_file.images(), compose_file.COMPOSE.read_text()
    named = set(re.findall(r"\$\{([A-Z_]+_IMAGE):\?", text))
    assert named == set(images)
    for image in images.values():
        tag = image.partition("@")[0].rpartition(":")[2]
        assert re.search(r"\d", tag), image
        assert "latest" not in tag
    pinned = {name for name, image in images.items() if re.fullmatch("sha256:[0-9a-f]{64}", image.partition("@")[2])}
    assert set(images) - pinned <= {"TRITON_IMAGE"}
    for name, one in services.items():
        assert one["image"].startswith("vlaapi/") == ("build" in one), name
        assert one["image"].startswith("vlaapi/") or one["image"] in images.values(), name


def test_every_mounted_file_is_there_or_made_by_install(services: dict[str, Any]) -> None:
    for name, one in services.items():
        for mount in one.get("volumes", []):
            source = mount["source"].removeprefix("./")
            if mount["type"] == "bind" and source != "/" and not source.startswith(_MADE_BY_INSTALL) and source not in _GIVEN:
                assert (ROOT / source).exists(), f"{name}: {source}"


def test_the_control_plane_gets_settings_that_it_knows(services: dict[str, Any]) -> None:
    known = {variable(name) for name in Settings.model_fields}
    for name in ("api", "worker", "migrate", "grafana-login"):
        assert {key for key in services[name]["environment"] if key.startswith("VLA_")} - known == set(), name


def test_the_api_process_is_started_as_by_make_up(services: dict[str, Any]) -> None:
    command = " ".join(services["api"]["command"]).replace("=", " ").split()
    for word in socket_options(production({}).limits.max_body_bytes):
        assert word in command
    for word in ("--no-proxy-headers", "--no-access-log", "--no-server-header", "--timeout-keep-alive"):
        assert word in command


def test_the_api_goes_through_pgbouncer_and_who_keeps_a_session_does_not(services: dict[str, Any]) -> None:
    """The recorder has a temporary table, migrations hold locks of a session: a pool of transactions would lose them."""
    hosts = {
        name: services[name]["environment"]["VLA_DATABASE_URL"].partition("@")[2]
        for name in ("api", "worker", "migrate", "grafana-login")
    }
    direct = "postgres:5432/vlaapi"
    assert hosts == {"api": "pgbouncer:6432/vlaapi", "worker": direct, "migrate": direct, "grafana-login": direct}


async def test_postgres_knows_its_options(services: dict[str, Any], postgres_url: str) -> None:
    options = dict(word.removeprefix("-c").split("=") for word in services["postgres"]["command"] if word.startswith("-c"))
    connection = await asyncpg.connect(postgres_url)
    try:
        known = {row["name"].lower() for row in await connection.fetch("SELECT name FROM pg_settings")}
    finally:
        await connection.close()
    assert set(options) - known == set()
    assert options["password_encryption"] == "scram-sha-256"
