"""What the docs list is what the code has: settings, metrics, errors, routes, commands and make targets."""

import re

from control_plane.errors import ERRORS
from control_plane.metrics import create_metrics
from tests.architecture import settings_page
from tests.architecture.source_files import ROOT
from vlaapi.__main__ import WORDS


def test_the_page_and_the_example_of_settings_are_written_from_the_settings() -> None:
    assert settings_page.DOCS.read_text() == settings_page.docs()
    assert settings_page.EXAMPLE.read_text() == settings_page.example()


def test_every_metric_is_in_the_docs() -> None:
    registered = {metric.name for metric in create_metrics().registry.collect()}
    documented = (ROOT / "docs/METRICS.md").read_text()
    assert [name for name in sorted(registered) if f"`{name}" not in documented] == []


def test_every_error_code_is_in_the_docs() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/ERRORS.md").read_text()))
    assert set(ERRORS) - documented == set()


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [word for word in WORDS if f"vlaapi {word}" not in readme] == []


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    mentioned = {name for page in pages for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert mentioned - targets == set()


def test_no_page_links_to_a_file_that_is_not_there() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    missing = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert missing == []
