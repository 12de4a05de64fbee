"""The operators' pages name commands, options and services that there are."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml

from control_plane.cli import app as control_plane
from deploy.embedded.__main__ import app as embedded
from tests.architecture.source_files import ROOT

PAGES = ("DEPLOYMENT_AND_OPERATIONS.md", "BACKUPS.md", "OPERATIONS.md")
EXPORT = {"export", "tabletop"}  # rooms with an environment of their own; what they take is tested there

_OURS = re.compile(r"(?:^|[\s`;&])vlaapi ([a-z][a-z-]*(?: [^`#|;&\n]*)?)")
_COMPOSE = re.compile(r"docker compose ((?:up|run|exec|stop|start|restart|logs|ps)\b[^`#|;&\n\"]*)")


def text_of(page: str) -> str:
    """The page, with lines that go on joined."""
    return (ROOT / "docs" / page).read_text().replace("\\\n", " ")


def trees() -> dict[str, Any]:
    """Every word of the command line that is tested here."""
    found: dict[str, Any] = {}
    for app in (control_plane, embedded):
        group: Any = typer.main.get_command(app)
        found |= group.commands
    return found


def faults(page: str) -> Iterator[str]:
    """What is wrong with the commands of a page."""
    known = trees()
    for words in (found.split() for found in _OURS.findall(text_of(page))):
        if words[0] in EXPORT:
            continue
        command: Any = known.get(words[0])
        rest = words[1:]
        is_group = hasattr(command, "commands")
        if is_group and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
            command, rest, is_group = command.commands.get(rest[0]), rest[1:], False
        if command is None:
            yield f"there is no `vlaapi {' '.join(words[:2])}`"
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        yield from (
            f"`vlaapi {' '.join(words)}` has no {word}"
            for word in rest
            if word.startswith("--") and not is_group and word.rstrip("].") not in options
        )


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page: str) -> None:
    assert list(faults(page)) == []


def test_the_pages_do_name_commands() -> None:
    assert len(_OURS.findall(text_of("DEPLOYMENT_AND_OPERATIONS.md"))) > 40


def test_every_service_that_is_named_to_compose_is_in_it() -> None:
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    named = {
        word
        for words in _COMPOSE.findall(text_of("DEPLOYMENT_AND_OPERATIONS.md"))
        for word in words.partition(" vlaapi ")[0].split()[1:]
        if re.fullmatch(r"[a-z][a-z-]+", word)
    }
    assert named - services == set()
    assert {"api", "worker", "migrate"} <= named


def test_every_item_of_the_three_checklists_is_there() -> None:
    """The guide that the product was asked for with names them; each has a line that does it."""
    manual = text_of("DEPLOYMENT_AND_OPERATIONS.md")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", manual, re.M | re.S))
    wanted = {
        "3. Before launch": ("/ready", "migrate", "redis", "TLS", "Grafana", "docs/", "verify"),
        "4. The first customer": ("customers create", "invoices close", "invoices send"),
        "Every week": ("compose ps", "logs", "replicas list", "customers list", "invoices", "GPU"),
        "Every month": ("revenue report", "backup create", "costs", "GPU", "customers"),
    }
    missing = {title: [item for item in items if item not in sections.get(title, "")] for title, items in wanted.items()}
    assert {title: items for title, items in missing.items() if items} == {}
