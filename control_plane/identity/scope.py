"""What a key may be used for: refusals that name the field, before anything is counted and whatever exists. Fails closed.

A name outside the scope gets the same answer whether there is such a policy or not, so a scoped key learns nothing of the others.
Asked by the pipeline, the dry run and whatever changes something of the account.
"""

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal


def require_in_scope(principal: Principal, policy: str | None, robot: str | None) -> None:
    """Raises policy_out_of_scope or robot_out_of_scope. None: this request is about none."""
    scope = principal.scope
    if scope.policies is not None and policy is not None and policy not in scope.policies:
        raise ApiError("policy_out_of_scope", _refusal("model", policy), param="model")
    if scope.robots is not None and robot is not None and robot not in scope.robots:
        raise ApiError("robot_out_of_scope", _refusal("robot", robot), param="robot_type")


def is_in_scope(principal: Principal, policy: str) -> bool:
    """Whether lists show this policy to the key."""
    return principal.scope.policies is None or policy in principal.scope.policies


def is_restricted(principal: Principal) -> bool:
    """Whether the key is only for asking for motions: a test key, or one for some robots or policies."""
    return principal.is_test or principal.scope.robots is not None or principal.scope.policies is not None


def require_unrestricted(principal: Principal) -> None:
    """For what changes the account: else a key for one robot could make itself a key for all. Raises key_restricted."""
    if is_restricted(principal):
        raise ApiError("key_restricted")


def _refusal(what: str, name: str) -> str:
    return f"This API key is not for {what} '{name[:128]}'."
