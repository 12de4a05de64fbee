"""Settings: all faults at once, nothing taken from anywhere but what was given, no secret in any text."""

import pytest

from control_plane.settings import Settings, SettingsError, load_settings, load_store_settings

STORES = {
    "VLA_DATABASE_URL": "postgresql://vla:pw@127.0.0.1:5432/vla",
    "VLA_REDIS_URL": "redis://:pw@127.0.0.1:6379/0",
    "VLA_KEY_PEPPER": "p" * 32,
}
ALL = STORES | {"VLA_TRITON_URL": "127.0.0.1:8001", "VLA_MODEL_REPOSITORY": "/models", "VLA_SPOOL_DIR": "/spool"}


def faults(environment: dict[str, str]) -> list[str]:
    """The lines of a refusal."""
    with pytest.raises(SettingsError) as refusal:
        load_settings(environment)
    return str(refusal.value).splitlines()


def test_what_is_needed_is_enough() -> None:
    settings = load_settings(ALL)
    assert settings.key_cache_s == 5
    assert str(settings.database_url) == ALL["VLA_DATABASE_URL"]


def test_every_fault_is_listed_at_once() -> None:
    wrong = ALL | {"VLA_KEY_CACHE_S": "6", "VLA_LOG_LEVEL": "loud", "VLA_TYPO": "1"}
    del wrong["VLA_SPOOL_DIR"]
    assert {line.partition(":")[0] for line in faults(wrong)} == {
        "VLA_KEY_CACHE_S",
        "VLA_LOG_LEVEL",
        "VLA_TYPO",
        "VLA_SPOOL_DIR",
    }


def test_this_processs_own_environment_is_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_LOG_LEVEL", "debug")
    monkeypatch.setenv("VLA_TRITON_URL", "elsewhere:1")
    assert load_settings(ALL).log_level == "info"
    assert faults(STORES | {"VLA_MODEL_REPOSITORY": "/m", "VLA_SPOOL_DIR": "/s"}) == ["VLA_TRITON_URL: Field required"]


def test_names_of_other_rooms_may_be_declared_known() -> None:
    assert load_settings(ALL | {"VLA_NGINX_BIN": "/nginx"}, also_known={"VLA_NGINX_BIN"}).robot_type == "franka_panda"


def test_a_secret_is_in_no_text() -> None:
    assert "p" * 32 not in repr(load_settings(ALL)) + str(load_settings(ALL))
    assert not any("hunter2" in line for line in faults(ALL | {"VLA_KEY_PEPPER": "hunter2"}))
    assert not any("hunter2" in line for line in faults(ALL | {"VLA_DATABASE_URL": "mysql://u:hunter2@h/d"}))


def test_the_stores_can_be_reached_without_the_rest() -> None:
    settings = load_store_settings(STORES | {"VLA_SOMETHING_ELSE": "1"})
    assert settings.key_pepper.get_secret_value() == "p" * 32
    assert not isinstance(settings, Settings)
