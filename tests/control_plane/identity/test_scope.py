"""What a scoped key may be used for, and what its refusals give away."""

from dataclasses import replace

import pytest

from control_plane.errors import ApiError
from control_plane.identity.principal import Scope
from control_plane.identity.scope import is_restricted, require_in_scope, require_unrestricted
from tests.control_plane.fakes import principal

ONE_ARM = replace(principal(), scope=Scope(robots=frozenset({"ur5e"}), policies=frozenset({"tabletop"})))


def refusal(policy: str | None, robot: str | None) -> tuple[str, str | None]:
    """Code and field."""
    with pytest.raises(ApiError) as refused:
        require_in_scope(ONE_ARM, policy, robot)
    assert refused.value.kind.status == 403
    return refused.value.kind.code, refused.value.param


def test_a_key_without_a_scope_is_for_everything() -> None:
    require_in_scope(principal(), "anything", "any_robot")
    require_unrestricted(principal())


def test_a_scoped_key_is_for_what_it_names() -> None:
    require_in_scope(ONE_ARM, "tabletop", "ur5e")
    require_in_scope(ONE_ARM, None, None)
    assert refusal("openvla-7b", "ur5e") == ("policy_out_of_scope", "model")
    assert refusal("tabletop", "franka_panda") == ("robot_out_of_scope", "robot_type")


def test_the_refusal_is_the_same_for_a_policy_that_exists_and_one_that_does_not() -> None:
    messages = []
    for name in ("secret-policy", "no-such-thing"):
        with pytest.raises(ApiError) as refused:
            require_in_scope(ONE_ARM, name, "ur5e")
        messages.append(refused.value.message.replace(name, "…"))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "changes",
    [{"is_test": True}, {"scope": Scope(robots=frozenset({"ur5e"}))}, {"scope": Scope(policies=frozenset({"tabletop"}))}],
)
def test_a_restricted_key_changes_nothing_of_the_account(changes: dict[str, object]) -> None:
    restricted = replace(principal(), **changes)  # type: ignore[arg-type]  # each of its own type
    assert is_restricted(restricted)
    with pytest.raises(ApiError) as refused:
        require_unrestricted(restricted)
    assert refused.value.kind.code == "key_restricted"
