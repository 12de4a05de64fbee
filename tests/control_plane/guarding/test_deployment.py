"""The deployment's file: what the docs show holds, and what cannot be read stops the start."""

import re
from pathlib import Path

import pytest

from control_plane.guarding.deployment import load_deployment
from control_plane.guarding.fields import Settings
from control_plane.guarding.guards import check_settings
from control_plane.settings import SettingsError
from safety.profile import Preset, load_profiles
from tests.control_plane.fakes import ROOT


def test_without_a_file_there_is_no_layer() -> None:
    assert load_deployment(None) == Settings()


def test_the_example_in_the_docs_holds(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", (ROOT / "docs/OPERATIONS.md").read_text(), re.S)
    assert found is not None
    file = tmp_path / "limits.toml"
    file.write_text(found[1])
    settings = load_deployment(file)
    assert settings.robots is not None
    assert settings.robots["franka_panda"].linear_speed_m_per_s == 0.2
    check_settings(settings, load_profiles(), Preset.REDUCED, path="")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"limits = 1", b"[limits]\nspeed = 1", b"[limits]\nmin_prefix = true", b"a = "])
def test_what_is_no_such_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "limits.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="VLA_SAFETY_LIMITS_FILE"):
        load_deployment(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VLA_SAFETY_LIMITS_FILE"):
        load_deployment(tmp_path / "none.toml")
