"""schemathesis over the served OpenAPI document, through nginx, with real stores and a real model.

Every operation, good data and bad, with the key, with a wrong one and without: nothing unmapped, nothing undeclared. Operations
that land later are covered by being in the document.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.stack import Stack, new_customer

CASES = 2000
CONFIG = Path(__file__).with_name("schemathesis.toml")
PLACEHOLDER = "anything"
PHASES = ("examples", "coverage", "fuzzing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What schemathesis did: its exit status and words, cases per operation and phase, statuses, and 429s per operation."""

    exit_status: int
    said: str
    cases: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def run(stack: Stack, url: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run over the whole document, by a customer of its own: it finds keys in a list and may revoke them."""
    key, folder = new_customer(stack.environment, email="fuzz@example.com"), tmp_path_factory.mktemp("fuzz")
    argv = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--no-color"]
    argv += [
        "-H",
        f"Authorization: Bearer {key}",
        "--report",
        "ndjson",
        "--report-dir",
        str(folder),
        "--workers",
        "1",
    ]  # threads: CPython 3.11 loses count in its parser
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    run = Run(exit_status=done.returncode, said=done.stdout[-20_000:] + done.stderr[-2_000:])
    (report,) = folder.glob("*.ndjson")
    for recorder in _recorders(report):
        for case in recorder.get("cases", {}).values():
            run.cases[recorder["label"], case["value"]["meta"]["phase"]["name"]] += 1
        for interaction in recorder.get("interactions", {}).values():
            status = (interaction.get("response") or {}).get("status_code", 0)
            run.statuses[status] += 1
            run.limited[recorder["label"]] += status == 429
    return run


def _recorders(report: Path) -> Iterator[dict[str, Any]]:
    for line in report.read_text().splitlines():
        event = json.loads(line)
        if "ScenarioFinished" in event:
            yield event["ScenarioFinished"]["recorder"]


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    """What is served."""
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the name that schemathesis gives them."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in {"get", "put", "post", "delete", "patch"}
    }


@pytest.mark.timeout(900)  # some 70 s on a quiet machine
def test_no_case_of_thousands_finds_a_fault(run: Run) -> None:
    assert run.exit_status == 0, run.said
    assert sum(run.cases.values()) >= CASES, run.cases
    assert run.statuses[500] == run.statuses[502] == 0


def test_no_operation_is_left_out_and_limits_hide_nothing(run: Run, document: dict[str, Any]) -> None:
    assert {label for label, _ in run.cases} == set(operations(document))
    assert run.limited["POST /v1/inference"] == 0
    assert [label for label, count in run.limited.items() if count == sum(run.cases[label, name] for name in PHASES)] == []
    assert run.statuses[200] > 0
    assert run.statuses[422] > 0


def test_what_says_it_needs_a_key_needs_one(url: str, document: dict[str, Any]) -> None:
    needing = {name: operation for name, operation in operations(document).items() if operation.get("security")}
    assert len(needing) >= 7
    for name, operation in needing.items():
        method, _, path = name.partition(" ")
        for parameter in operation.get("parameters", []):
            path = path.replace(f"{{{parameter['name']}}}", PLACEHOLDER)
        for headers in ({}, {"Authorization": "Bearer vla_live_wrong"}, {"Authorization": "Basic Og=="}):
            answer = httpx.request(method, f"{url}{path}", headers=headers)
            assert answer.status_code == 401, (name, headers, answer.text)
            assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
