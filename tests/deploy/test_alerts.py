"""The rules as Prometheus itself judges them: every alert fires, every alert can be quiet, and what to do is written down."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from control_plane.cli import app as control
from control_plane.errors import ERRORS
from control_plane.inference.account import CANCELLED
from control_plane.protocols import act, actions, openpi, rest, stream
from deploy.embedded.__main__ import app as embedded
from deploy.embedded.figures import FAULTS, GOOD, MOTIONS
from deploy.embedded.settings import ROOT
from tests.deploy.alert_cases import CASES, Case, together

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

# What the rules use of others: Triton, DCGM, node, PostgreSQL, Redis and Alertmanager, each from its exporter's own list.
OTHERS = {
    "up",
    "nv_gpu_utilization",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_XID_ERRORS",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "pg_up",
    "pg_stat_activity_count",
    "pg_settings_max_connections",
    "nginx_up",
    "redis_up",
    "redis_memory_used_bytes",
    "redis_memory_max_bytes",
    "alertmanager_notifications_failed_total",
}


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def run(program: Path, *words: str) -> str:
    """What a checking program says; it must be content."""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_whole(promtool: Path) -> None:
    assert "valid prometheus config" in run(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.parametrize("path", [path for path in RULES if path.stem != "recording"], ids=lambda path: path.stem)
def test_every_alert_fires_and_can_be_quiet(path: Path, promtool: Path, tmp_path: Path) -> None:
    """Labels are compared, texts are not: promtool wants them whole. They are seen in the test of the running service."""
    needed = [path, *([path.with_name("recording.yml")] if path.stem == "api" else [])]
    for source in needed:
        (tmp_path / source.name).write_text(json.dumps(bare(source)))
    names = {rule.get("alert") for group in bare(path)["groups"] for rule in group["rules"]}
    tests = {
        "rule_files": [source.name for source in needed],
        "evaluation_interval": "1m",
        "tests": [as_promtool(run) for run in together([case for case in CASES if case.alert in names])],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    run(promtool, "test", "rules", str(tmp_path / "tests.yml"))


def bare(path: Path) -> dict[str, Any]:
    """The rules of a file without their texts, and without the long windows, which no alert of another file looks at."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    for group in found["groups"]:
        short = [rule for rule in group["rules"] if not re.search(r"ratio_rate(30m|\d+[hd])", rule.get("record", ""))]
        group["rules"] = [{key: value for key, value in rule.items() if key != "annotations"} for rule in short]
    return found


def as_promtool(cases: Sequence[Case]) -> dict[str, Any]:
    """One test of promtool's."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for case in cases for name, values in case.series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected(case)} for case in cases],
    }


def expected(case: Case) -> list[dict[str, Any]]:
    """The alert with its labels, or none."""
    if case.firing is None:
        return []
    return [{"exp_labels": {"severity": ALERTS[case.alert]["labels"]["severity"], **case.firing}}]


def test_no_alert_lacks_either_test() -> None:
    fires = {case.alert for case in CASES if case.firing is not None}
    quiet = {case.alert for case in CASES if case.firing is None}
    assert fires == quiet == set(ALERTS)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
    for name, rule in ALERTS.items():
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n"), name
        assert re.findall(r"^## (.+)$", page, re.M) == HEADINGS, name
        assert "\n    " in page, f"{name}: no command"
        assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.docs_url }}}}/runbooks/{name}/"


def test_the_commands_in_the_runbooks_exist() -> None:
    known = words_of(get_command(control), "") | words_of(get_command(embedded), "")
    pages = {path.name: path.read_text() for path in RUNBOOKS.glob("*.md")}
    used = {
        (name, found) for name, text in pages.items() for found in re.findall(r"vlaapi ([a-z]+(?: [a-z]+(?:-[a-z]+)*)?)", text)
    }
    missing = {(name, words) for name, words in used if words not in known and words.partition(" ")[0] not in {"logs"}}
    assert missing == set()


def words_of(command: Any, before: str) -> set[str]:
    """Every command of a program with its words, such as `usage retry`."""
    found = set()
    for name, inner in getattr(command, "commands", {}).items():
        words = f"{before} {name}".strip()
        found |= {words} | words_of(inner, words)
    return found


def test_every_alert_says_who_is_told_and_what_happened() -> None:
    for name, rule in ALERTS.items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["labels"]["severity"] in {"page", "ticket", "none"}, name


def test_every_series_in_the_rules_exists() -> None:
    documented = (ROOT / "docs" / "METRICS.md").read_text()
    ours = set(re.findall(r"^\| `(vla_\w+)`", documented, re.M))
    for name in list(ours):
        ours |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if f"`{name}` | histogram" in documented else set()
    used = {name for rule in rules() for name in series_in(rule["expr"])}
    assert used - ours - RECORDED - OTHERS == set()
    assert OTHERS - used == set()


def series_in(expression: str) -> set[str]:
    """Names of series: words with a selector, a range or nothing behind them, that are no function, label or keyword."""
    bare = re.sub(r'"[^"]*"|\b(by|on|without|ignoring)\s*\([^)]*\)|\[[^\]]*\]|\{[^}]*\}', " ", expression)
    words = re.findall(r"[A-Za-z_][\w:]*\b(?!\s*\()", bare)
    return {word for word in words if word not in {"and", "or", "unless", "by", "on", "bool", "offset", "h", "m", "d"}}


def test_the_rules_know_every_door_and_every_fault_of_ours() -> None:
    text = "".join(path.read_text() for path in RULES)
    doors = "|".join([rest.PATH, act.PATH, actions.PATH, *openpi.PATHS, stream.PATH])
    assert set(re.findall(r'route=~"([^"]*)"', text)) == {doors}
    faults = "|".join([*(code for code, kind in ERRORS.items() if kind.status >= 500), str(CANCELLED)])
    answered = f"success|refused|replayed|{faults}"
    assert set(re.findall(r'outcome=~"([^"]*)"', text)) == {faults, answered}
    assert set(doors.split("|")) == MOTIONS
    assert set(answered.split("|")) == GOOD | FAULTS


@pytest.mark.parametrize("factor", ["14.4", "6", "3", "1"])
def test_the_burn_rates_are_those_of_a_month(factor: str) -> None:
    text = (PROMETHEUS / "rules" / "slo.yml").read_text()
    for budget in ("0.001", "0.01"):
        assert text.count(f"({factor} * {budget})") == 2


def test_pages_reach_the_pager_and_the_watchdog_its_listener(amtool: Path, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text()
    path = tmp_path / "alertmanager.yml"
    path.write_text(text.replace("url_file: /etc/alertmanager/secrets/webhook_url", "url: http://127.0.0.1:1/"))
    run(amtool, "check-config", str(path))
    routed = {
        s: run(amtool, "config", "routes", "test", f"--config.file={path}", f"severity={s}") for s in ("page", "ticket", "none")
    }
    assert {severity: name.strip() for severity, name in routed.items()} == {
        "page": "pages",
        "ticket": "tickets",
        "none": "deadman",
    }
    named = {name for pattern in re.findall(r'alertname=~?"([^"]*)"', text) for name in pattern.split("|")}
    assert named - set(ALERTS) == set()
