"""The embedded settings: every wrong value is named, paths are made whole."""

from pathlib import Path

import pytest

from control_plane.settings import Settings, SettingsError
from deploy.embedded.settings import EmbeddedSettings, load_embedded


def test_the_defaults_are_valid() -> None:
    settings = load_embedded({})
    assert EmbeddedSettings.model_validate(settings.model_dump()) == settings


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_embedded({"VLA_PORT": "70000", "VLA_POSTGRES_PORT": "none", "VLA_LISTEN_ADDRESS": "everywhere"})
    assert {line.partition(":")[0] for line in str(refusal.value).splitlines()} == {
        "VLA_PORT",
        "VLA_POSTGRES_PORT",
        "VLA_LISTEN_ADDRESS",
    }


def test_a_relative_path_is_made_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_embedded({"VLA_STATE_DIR": "here"}).state_dir == tmp_path / "here"


def test_no_name_is_both_ours_and_the_control_planes() -> None:
    assert not EmbeddedSettings.model_fields.keys() & Settings.model_fields.keys()
