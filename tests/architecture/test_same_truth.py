"""Where the same thing must be true in two places that may not import each other, they are compared here."""

import tomllib

import export.contract.facts
import safety.action_space
from tests.architecture.source_files import ROOT


def test_the_guard_and_the_manifest_name_the_same_action_kinds() -> None:
    manifest = {kind.value for kind in export.contract.facts.ActionKind}
    guard = {kind.value for kind in safety.action_space.ActionKind}
    assert guard == manifest


def test_the_guard_and_the_manifest_name_the_same_gripper_polarities() -> None:
    manifest = {kind.value for kind in export.contract.facts.GripperPolarity}
    guard = {kind.value for kind in safety.action_space.GripperPolarity}
    assert guard == manifest


def test_the_extra_for_exporting_names_what_the_export_environment_holds() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    environment = (ROOT / "requirements" / "export.in").read_text().splitlines()
    assert set(extras["export"]) - {"torch"} <= set(environment)  # torch has a file of its own
