"""What the docs list is what the code has: settings, metrics, errors, routes, commands and make targets."""

import re

from control_plane.errors import ERRORS
from control_plane.metrics import create_metrics
from control_plane.settings import PREFIX, Settings
from tests.architecture.source_files import ROOT
from vlaapi.__main__ import WORDS


def test_every_setting_is_in_the_example_and_in_the_docs() -> None:
    names = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    example = set(re.findall(r"^#? ?(VLA_[A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
    documented = set(re.findall(r"`(VLA_[A-Z0-9_]+)`", (ROOT / "docs/SETTINGS.md").read_text()))
    assert example == names
    assert names <= documented


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
