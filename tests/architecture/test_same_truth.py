"""Where the same thing must be true in two places that may not import each other, they are compared here."""

import export.contract.facts
import safety.action_space


def test_the_guard_and_the_manifest_name_the_same_action_kinds() -> None:
    manifest = {kind.value for kind in export.contract.facts.ActionKind}
    guard = {kind.value for kind in safety.action_space.ActionKind}
    assert guard == manifest


def test_the_guard_and_the_manifest_name_the_same_gripper_polarities() -> None:
    manifest = {kind.value for kind in export.contract.facts.GripperPolarity}
    guard = {kind.value for kind in safety.action_space.GripperPolarity}
    assert guard == manifest
