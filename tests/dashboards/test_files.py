"""The dashboards as files: written from the code, and each panel with everything that a person needs to read it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from control_plane.errors import ERRORS
from control_plane.metrics import create_metrics
from dashboards.boards.__main__ import BOARDS, FOLDER
from dashboards.boards.board import Source
from dashboards.boards.customers import STATEMENT
from dashboards.boards.grafana import SCHEMA_VERSION, TAG, written
from dashboards.boards.traffic import OUR_FAULT, ROUTES
from dashboards.look.ask import panels_of
from tests.conftest import ROOT

Json = dict[str, Any]

_FILES: dict[str, Json] = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in BOARDS}
_PANELS = [(name, panel) for name, board in _FILES.items() for panel in panels_of(board)]
_GRAFANA = ROOT / "deploy" / "grafana"
# Units of Grafana that say what a number is; "none" and "string" are for scores and names.
_UNITS = {"short", "percent", "percentunit", "ms", "s", "locale", "none", "string", "celsius", "watt", "hertz", "reqps"}
_COUNTERS = re.compile(r"\b(vla_\w+_total|vla_\w+_(?:bucket|sum|count)|nv_inference_(?!pending)\w+)\b")
_WRAPPED = re.compile(r"\b(?:rate|increase)\((\w+)")

_SAYS_ITS_WINDOW = {"Errors (last hour)", "Usage events that wait", "Changes of the last XID error, 10 min"}

each_panel = pytest.mark.parametrize(("name", "panel"), _PANELS, ids=[f"{name}: {panel['title']}" for name, panel in _PANELS])


@pytest.mark.parametrize("name", BOARDS)
def test_a_file_is_what_the_code_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == written(BOARDS[name])


def test_there_is_no_file_that_no_code_writes() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(BOARDS)


def test_uids_and_titles_are_stable_and_unique_and_the_dashboards_link_to_each_other() -> None:
    assert [board["uid"] for board in _FILES.values()] == [f"vlaapi-{name}" for name in BOARDS]
    assert len({board["title"] for board in _FILES.values()}) == len(BOARDS)
    for board in _FILES.values():
        assert board["tags"] == [TAG]
        assert [link["tags"] for link in board["links"]] == [[TAG]]
        assert (board["editable"], board["schemaVersion"]) == (False, SCHEMA_VERSION)
        assert board["schemaVersion"] <= 42, "the newer format is refused by file provisioning"
        assert board["refresh"] in board["timepicker"]["refresh_intervals"]


def test_titles_within_a_dashboard_are_unique() -> None:
    for board in _FILES.values():
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles)


@each_panel
def test_a_panel_says_what_it_means_in_which_unit_range_and_colours(name: str, panel: Json) -> None:
    field = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 10
    assert field["unit"] in _UNITS
    assert field["noValue"]
    assert field["thresholds"]["steps"][0]["value"] is None
    values = [step["value"] for step in field["thresholds"]["steps"][1:]]
    assert values == sorted(values)
    if panel["type"] != "table":
        assert "min" in field or panel["title"].startswith("MRR"), "its axis would begin anywhere"
    if field["unit"] == "percentunit":
        assert field["max"] == 1.0
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]
        assert panel["options"]["legend"]["calcs"]
        assert all(target.get("legendFormat") != "__auto" for target in panel["targets"])


@each_panel
def test_a_panel_asks_a_provisioned_source(name: str, panel: Json) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
    provisioned = yaml.safe_load((_GRAFANA / "provisioning/datasources/vlaapi.yaml").read_text())["datasources"]
    assert panel["datasource"] in [{"type": source["type"], "uid": source["uid"]} for source in provisioned]
    assert panel["datasource"]["uid"] in set(Source)


@each_panel
def test_a_panel_takes_the_rate_of_counters_over_a_window_that_grafana_chooses(name: str, panel: Json) -> None:
    for target in panel["targets"]:
        expr = target.get("expr", "")
        assert set(_COUNTERS.findall(expr)) <= set(_WRAPPED.findall(expr)), expr
        windows = set(re.findall(r"\[([^\]]+)\]", expr))
        assert windows <= {"$__rate_interval"} or panel["title"] in _SAYS_ITS_WINDOW


def test_every_name_of_ours_in_a_panel_is_exported_or_recorded() -> None:
    exported = {name for metric in create_metrics().registry.collect() for name in (metric.name, *_with_suffixes(metric.name))}
    rules = "\n".join(file.read_text() for file in (ROOT / "deploy/prometheus/rules").glob("*.yml"))
    recorded = set(re.findall(r'record: "?([A-Za-z_:0-9]+)', rules))
    asked = {name for expr in _expressions() for name in re.findall(r"\b(?:vla_[a-z0-9_:]+|slo:[a-z_:0-9]+)\b", expr)}
    assert asked - exported - recorded == set()


def _with_suffixes(name: str) -> Iterator[str]:
    yield from (f"{name}{suffix}" for suffix in ("_total", "_bucket", "_sum", "_count"))


def _expressions() -> Iterator[str]:
    for _, panel in _PANELS:
        yield from (target["expr"] for target in panel["targets"] if "expr" in target)


def test_what_counts_as_our_fault_is_what_the_service_says_is() -> None:
    assert set(OUR_FAULT) - {"cancelled"} == {code for code, kind in ERRORS.items() if kind.status >= 500}


def test_the_dashboards_and_the_rules_mean_the_same_by_a_request_and_by_our_fault() -> None:
    rules = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    doors = {frozenset(found.split("|")) for found in re.findall(r'route=~"([^"]+)"', rules)}
    assert doors == {frozenset(ROUTES)}
    failed = {frozenset(found.split("|")) for found in re.findall(r'outcome=~"([^"]+)"', rules)}
    assert frozenset(OUR_FAULT) in failed


def test_the_customers_table_is_the_statement_of_the_guide() -> None:
    (table,) = [panel for panel in panels_of(_FILES["customers"]) if panel["title"].startswith("Usage of the month")]
    assert table["targets"][0]["rawSql"] == " ".join(STATEMENT.split())


def test_the_provisioning_holds_no_secret_and_lets_nobody_in_without_one() -> None:
    sources = yaml.safe_load((_GRAFANA / "provisioning/datasources/vlaapi.yaml").read_text())["datasources"]
    for source in sources:
        assert source["editable"] is False
        assert all(re.fullmatch(r"\$[A-Z_]+", value) for value in source.get("secureJsonData", {}).values())
    (provider,) = yaml.safe_load((_GRAFANA / "provisioning/dashboards/vlaapi.yaml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    settings = (_GRAFANA / "grafana.ini").read_text()
    assert "[auth.anonymous]\nenabled = false" in settings
    assert not re.search(r"^(admin_password|secret_key|password)\b", settings, re.M)
