"""The page of metrics says what the code exports, labels included."""

import re

from control_plane.metrics import REQUEST_EDGES_S, create_metrics
from tests.control_plane.fakes import ROOT


def test_the_page_lists_every_series_with_its_labels_and_no_other() -> None:
    rows = re.findall(r"^\| `(vla_\w+)` \| (\w+) \| ([^|]*)\|", (ROOT / "docs/METRICS.md").read_text(), re.M)
    documented = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    collectors = create_metrics().registry._collector_to_names
    exported = set()
    for collector in collectors:
        (family,) = collector.collect()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exported.add((name, family.type, tuple(collector._labelnames)))  # type: ignore[attr-defined]  # every one of ours has them
    assert documented == exported


def test_the_objective_and_the_alert_line_are_edges() -> None:
    assert {0.2, 0.5} <= set(REQUEST_EDGES_S)
