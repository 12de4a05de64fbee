"""The card shows measured numbers of this very graph, or says that there are none."""

import json
from pathlib import Path

from export.card import Card
from export.contract.manifest import load_manifest
from export.parity import Agreement

BUNDLE = Path("model_repository/tabletop")
MANIFEST = load_manifest(BUNDLE)
AGREEMENTS = (Agreement(tensor="action", max_abs_difference=2e-7, atol=1e-4),)


def _card(evaluation: Path) -> str:
    return Card(manifest=MANIFEST, agreements=AGREEMENTS, evaluation=evaluation).text()


def _evaluation(path: Path, model_sha256: str) -> Path:
    row = {"name": "state sent", "episodes": 10, "lifted_named": 9, "lifted_wrong": 0, "mean_steps": 21.5}
    found = {
        "model_sha256": model_sha256,
        "first_seed": 9,
        "max_steps": 120,
        "closed_loop": [row],
        "first_motion": [{"name": "no state", "right": 29, "asked": 30}],
        "training": ["So many steps."],
        "limits": ["Three cubes."],
    }
    path.write_text(json.dumps(found))
    return path


def test_measured_numbers_of_this_graph_are_shown(tmp_path: Path) -> None:
    text = _card(_evaluation(tmp_path / "e.json", MANIFEST.source.sha256["1/model.onnx"]))
    assert "| state sent | 9 / 10 | 0 | 21.5 |" in text
    assert "| no state | 29 / 30 |" in text
    assert "- Three cubes." in text


def test_numbers_of_another_graph_are_not_shown(tmp_path: Path) -> None:
    text = _card(_evaluation(tmp_path / "e.json", "0" * 64))
    assert "Not measured for this graph." in text
    assert "9 / 10" not in text


def test_without_an_evaluation_it_says_so(tmp_path: Path) -> None:
    assert "Not measured for this graph." in _card(tmp_path / "none.json")


def test_a_benchmark_of_another_graph_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_text(json.dumps({"served_sha256": "0" * 64}))
    card = Card(
        manifest=MANIFEST, agreements=AGREEMENTS, evaluation=tmp_path / "none.json", benchmark=tmp_path / "benchmark.json"
    )
    assert "## Speed\n\nNot measured for this graph." in card.text()
    assert "## Speed" not in _card(tmp_path / "none.json")


def test_facts_parity_and_hashes_come_from_their_sources(tmp_path: Path) -> None:
    text = _card(tmp_path / "none.json")
    assert "| `action` | 2.0e-07 | 1e-04 |" in text
    assert MANIFEST.source.licence in text
    assert all(digest in text for digest in MANIFEST.source.sha256.values())


def test_the_committed_card_was_measured() -> None:
    assert "## Closed loop" in (BUNDLE / "MODEL_CARD.md").read_text()
    assert "Not measured" not in (BUNDLE / "MODEL_CARD.md").read_text()
