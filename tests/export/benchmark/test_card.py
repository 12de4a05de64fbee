"""The model card reads what a benchmark writes: the one JSON in two rooms."""

import shutil
from pathlib import Path

from export.card import text_of
from export.contract.manifest import load_manifest
from tests.export.benchmark.making import level, result

BUNDLE = Path("model_repository/tabletop")


def test_the_card_shows_what_a_benchmark_wrote(tmp_path: Path) -> None:
    manifest = load_manifest(BUNDLE)
    shutil.copy(BUNDLE / "manifest.json", tmp_path)
    whole = result(level(1), level(8, count=300), policy=manifest.policy, version=manifest.version)
    (tmp_path / "benchmark.json").write_text(whole.json())
    text = text_of(tmp_path)
    assert "a processor (2 cores)" in text
    assert "| 8 clients | 300.0 | 2.00 | 2.00 | 2.00 | yes |" in text
